#!/usr/bin/env bash
# Runs the tests; arguments go to go test. The tests enter namespaces of their
# own: they need no root and do not touch the machine's network. With "unit" as
# the first argument only packages are tested that need none.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go

packages=(./...)
if [ "${1:-}" = unit ]; then
	shift
	mapfile -t packages < <(go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... |
		awk '!/netopstest|plugintest/ { print $1 }')
else
	need ip namespaces
	# Inside the namespaces there is no network to download modules from.
	scripts/build_linux.sh
	scripts/size.sh
	scripts/build_upstream.sh
fi

# As they are released.
export CGO_ENABLED=0
# What passed before says nothing about the kernel of today.
go test -count=1 "$@" "${packages[@]}"
