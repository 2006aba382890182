#!/usr/bin/env bash
# Has a hundred attachments of all plugins come and go at once, beside others'
# changes and killed now and then, for DURATION; says in the end how it went.
# It needs no root, and does not touch the machine's network.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
. scripts/go_test.sh
need go ip namespaces

export SWEEPS=whole DURATION=${DURATION:-30m}
go_test -v -timeout 0 -run '^TestSweepLoad$' "$@" ./hack/stress
