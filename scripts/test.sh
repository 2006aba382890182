#!/usr/bin/env bash
# Runs the tests; arguments go to go test. The tests enter namespaces of their
# own: they need no root and do not touch the machine's network or files. Of each
# sweep over many like cases there is a sample: scripts/sweeps.sh does the rest.
# With "unit" as the first argument only packages are tested that need no
# namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go
. scripts/go_test.sh

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
	mapfile -t packages < <(go list ./... | grep -v '/hack/release$')
	if has strace; then tags=strace; else echo "sockets are not counted: apt-get install strace"; fi
fi

# The sweep over system calls has no sample.
go_test -tags "$tags" -skip '^TestSweepSystemCalls$' "${packages[@]}" "$@"
