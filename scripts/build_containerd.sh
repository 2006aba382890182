#!/usr/bin/env bash
# Builds containerd 2 into bin/containerd-2. The first time it takes some minutes;
# Go's cache keeps the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go

# go install knows no other folder for programs of another processor.
CGO_ENABLED=0 GOBIN=$PWD/bin/containerd-2 GOFLAGS=-trimpath nice go install -tags no_btrfs,no_zfs,no_devmapper -ldflags "-s -w" \
	github.com/containerd/containerd/v2/cmd/{containerd,containerd-shim-runc-v2,ctr}@v2.2.9
