#!/usr/bin/env bash
# Runs the tests; arguments go to go test. The tests enter namespaces of their
# own: they need no root and do not touch the machine's network or files. Of each
# sweep over many like cases there is a sample; with SWEEPS=whole there is all of
# it, and what builds images and releases, and their manifests, is tested too.
# With "unit" as the first argument only packages are tested that need no
# namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go

tags=
if [ "${1:-}" = unit ]; then
	shift
	mapfile -t packages < <(go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... |
		awk '!/netopstest|plugintest/ { print $1 }')
else
	need ip iptables namespaces
	# Inside the namespaces there is no network to download modules from.
	scripts/build_linux.sh
	scripts/build_upstream.sh
	mapfile -t packages < <(go list ./...)
	if has strace; then tags+=,strace; else echo "sockets are not counted: apt-get install strace"; fi
fi

# As they are released.
export CGO_ENABLED=0
if [ "${SWEEPS:-}" = whole ]; then
	# What some tests run, not every machine has; CI has it.
	if has qemu-s390x; then tags+=,qemu; else echo "plugins for other processors are not run: apt-get install qemu-user"; fi
	if has podman && has runc && [ "$(id -u)" = 0 ]; then
		tags+=,podman
	else
		echo "the image is not run: as root, apt-get install podman runc"
	fi
	go test -C hack/manifests -count=1 ./...
	mapfile -t packages < <(go list -tags "${tags#,}" ./...)
else
	mapfile -t packages < <(printf '%s\n' "${packages[@]}" | grep -v '/hack/release$')
fi

# What passed before says nothing about the kernel of today. Tests wait for
# processes and for the kernel now and then: one package more than there are
# processors keeps these busy, and two more cost more than they bring. With -trimpath
# packages are not compiled anew that the plugins were built from; go vet is
# scripts/lint.sh's. The sweep over system calls has no sample.
skip='^TestEverySystemCall$'
if [ "${SWEEPS:-}" = whole ]; then skip='^$'; fi
go test -count=1 -timeout 40m -trimpath -vet=off -p "$(($(nproc) + 1))" -tags "${tags#,}" -skip "$skip" "${packages[@]}" "$@"
