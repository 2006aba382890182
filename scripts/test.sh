#!/usr/bin/env bash
# Runs the tests; arguments go to go test. The tests enter namespaces of their
# own: they need no root and do not touch the machine's network. With -short as
# the first argument those are left out.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go

if [ "${1:-}" != -short ]; then
	need ip namespaces
	# Inside the namespaces there is no network to download modules from.
	scripts/build_linux.sh
	scripts/build_upstream.sh
fi

# What passed before says nothing about the kernel of today.
go test -count=1 "$@" ./...
