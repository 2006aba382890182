#!/usr/bin/env bash
# Builds the plugins as static binaries into bin/. Further arguments go to
# go build; GOARCH and VERSION are read from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."

export CGO_ENABLED=0 GOOS=linux
flags="-s -w"
if [ -n "${VERSION:-}" ]; then
	flags+=" -X github.com/cni-netops/plugins/internal/plugin.buildVersion=$VERSION"
fi

# What evaluates expressions is a third of host-routes, and runs for moments, as
# what logs and prints does: without inlining that is 230 KB smaller.
compact=()
for package in github.com/itchyny/... math/big regexp/... log/slog/... time fmt github.com/containernetworking/...; do
	compact+=("-gcflags=$package=-l")
done

mkdir -p "${BIN_DIR:=bin}"
for dir in plugins/meta/* plugins/main/*; do
	[ -d "$dir" ] || continue
	plugin=$(basename "$dir")
	echo "  $plugin"
	go build -trimpath -ldflags "$flags" "${compact[@]}" "$@" -o "$BIN_DIR/$plugin" "./$dir"
done
# Configurations of its predecessor call seamless so.
cp "$BIN_DIR/seamless" "$BIN_DIR/seamless-static-route"
