#!/usr/bin/env bash
# Runs the benchmarks; further arguments go to go test, -count=10 for benchstat
# say.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go ip namespaces

scripts/build_linux.sh
go test -run '^$' -bench "${BENCH:-.}" -benchtime "${BENCHTIME:-1s}" -benchmem "$@" ./...
