#!/usr/bin/env bash
# Runs the tests; arguments go to go test. The tests enter namespaces of their
# own: they need no root and do not touch the machine's network. With "unit" as
# the first argument only packages are tested that need none.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go

packages=(./...)
tags=
if [ "${1:-}" = unit ]; then
	shift
	mapfile -t packages < <(go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... |
		awk '!/netopstest|plugintest/ { print $1 }')
else
	need ip namespaces
	# Inside the namespaces there is no network to download modules from.
	scripts/build_linux.sh
	scripts/build_upstream.sh
	# What some tests run, not every machine has; CI has it.
	if has qemu-s390x; then tags+=,qemu; else echo "plugins for other processors are not run: apt-get install qemu-user"; fi
	if has strace; then tags+=,strace; else echo "sockets are not counted: apt-get install strace"; fi
	if has podman && has runc && [ "$(id -u)" = 0 ]; then
		tags+=,podman
	else
		echo "the image is not run: as root, apt-get install podman runc"
	fi
fi

# As they are released.
export CGO_ENABLED=0
# What passed before says nothing about the kernel of today.
run=(go test -count=1 -tags "${tags#,}" "$@")
if [ "${packages[*]}" = ./... ]; then
	# What builds releases and images keeps the machine busy, and other tests mind
	# how long something takes.
	go test -C hack/manifests -count=1 "$@" ./...
	mapfile -t rest < <(go list -tags "${tags#,}" ./hack/... ./images/... | grep -v '/hack/stress$')
	"${run[@]}" "${rest[@]}"
	# The sweeps tell how much they cover. That over system calls is e2e.sh's.
	"${run[@]}" -v -skip '^TestEverySystemCall$' ./hack/stress | grep -v '^ *=== '
	packages=(./internal/... ./plugins/...)
fi
"${run[@]}" "${packages[@]}"
