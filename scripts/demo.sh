#!/usr/bin/env bash
# Builds everything and runs the demo; arguments are the scenarios to show.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go ip ping namespaces

scripts/build_linux.sh
scripts/build_upstream.sh
CGO_ENABLED=0 go build -trimpath -o bin/tools/demo ./hack/demo

export CNI_PATH=$PWD/bin:$PWD/bin/upstream
exec bin/tools/demo "$@"
