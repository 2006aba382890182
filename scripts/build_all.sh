#!/usr/bin/env bash
# Builds the plugins for every platform, each into a folder of its own in
# BIN_DIR, default bin/. ARCHES are the processors for Linux; VERSION and FLAVOUR
# are read from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go

bin=${BIN_DIR:-bin}
for arch in ${ARCHES:-amd64 arm64 arm 386 ppc64le riscv64 s390x mips64le loong64}; do
	echo "linux-$arch"
	GOARCH=$arch BIN_DIR=$bin/linux-$arch scripts/build_linux.sh
done
# What the verbose flavour writes to, Windows does not have.
if [ -f plugins/main/flannel/main.go ] && [ "${FLAVOUR:-}" != verbose ]; then
	echo "windows-amd64"
	BIN_DIR=$bin/windows-amd64 scripts/build_windows.sh
fi
