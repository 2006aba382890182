#!/usr/bin/env bash
# Builds the upstream plugins and cnitool, which tests and the demo run beside
# ours, into bin/upstream, from the versions in hack/tools/go.mod.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${UPSTREAM_DIR:-$PWD/bin/upstream}
mkdir -p "$out"
cd hack/tools
CGO_ENABLED=0 go build -trimpath -o "$out" \
	github.com/containernetworking/cni/cnitool \
	github.com/containernetworking/plugins/plugins/{main/{bridge,loopback,macvlan,ptp},meta/portmap,ipam/{host-local,static}}
