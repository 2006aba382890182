#!/usr/bin/env bash
# Builds what there is for Windows, flannel, into bin/windows-amd64. VERSION and
# BIN_DIR are read from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/go_flags.sh

[ -f plugins/main/flannel/main.go ] || exit 0
export GOOS=windows GOARCH=amd64
mkdir -p "${BIN_DIR:=bin/windows-amd64}"
echo "  flannel.exe"
go build "${build_flags[@]}" -o "$BIN_DIR/flannel.exe" ./plugins/main/flannel
