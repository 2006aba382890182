#!/usr/bin/env bash
# Runs every fuzz test for FUZZTIME, one after the other: go test takes one at
# a time. What is found stays below testdata/fuzz, for go test to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go ip namespaces

# go test -list tells the names of a package, then "ok" and the package.
listed=$(go test -list '^Fuzz' ./...)
targets=$(awk '/^Fuzz/ { name[n++] = $1 } /^ok/ { for (i = 0; i < n; i++) print $2, name[i]; n = 0 }' <<<"$listed")
if [ -z "$targets" ]; then
	echo "no fuzz tests"
	exit
fi

while read -r package name; do
	echo "== $package $name"
	go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-20s}" -fuzzminimizetime 5x "$package" </dev/null
done <<<"$targets"
