#!/usr/bin/env bash
# Runs the tests as test.sh does, and tells which part of the statements of each
# package has run, in the processes that tests start too, and of all together.
# What it goes by is left in bin/cover.txt, for go tool cover -html.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go

dir=$PWD/bin/cover
rm -rf "$dir"
mkdir -p "$dir"
module=$(go list -m)
# What tests build, they build with these flags too.
export GOCOVERDIR=$dir GOFLAGS="${GOFLAGS:-} -cover -coverpkg=$module/internal/...,$module/plugins/...,$module/images/..."
scripts/test.sh "$@" -args -test.gocoverdir="$dir"
unset GOFLAGS
go tool covdata textfmt -i="$dir" -o bin/cover.txt
go tool covdata percent -i="$dir"
go tool cover -func bin/cover.txt | tail -1
