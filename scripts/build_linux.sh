#!/usr/bin/env bash
# Builds the plugins as static binaries into bin/. Further arguments go to
# go build; GOARCH, VERSION, FLAVOUR and BIN_DIR are read from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/go_flags.sh

export GOOS=linux
plugins=()
for dir in plugins/meta/* plugins/main/*; do
	[ -f "$dir/main.go" ] && plugins+=("./$dir")
done
mkdir -p "${BIN_DIR:=bin}"
go build "${build_flags[@]}" "$@" -o "$BIN_DIR/" "${plugins[@]}"
# Configurations of its predecessor call seamless so. What runs cannot be written to.
cmp -s "$BIN_DIR/seamless" "$BIN_DIR/seamless-static-route" ||
	cp "$BIN_DIR/seamless" "$BIN_DIR/seamless-static-route"
scripts/size.sh
