#!/usr/bin/env bash
# Attaches pods by the plugins in one folder, also by processes killed in the
# middle, and has those in another folder check, delete and collect them:
# scripts/upgrade.sh OLD [NEW], where NEW is built if it is not given. Further
# arguments go to go test. It takes some minutes, needs no root, and does not
# touch the machine's network.
#
# For the plugins of an earlier commit:
#
#	git worktree add /tmp/earlier COMMIT && make -C /tmp/earlier build
#	scripts/upgrade.sh /tmp/earlier/bin
#
# To write what a release leaves behind into the archives of records (which they
# are is told in hack/stress/release_test.go):
#
#	scripts/upgrade.sh OLD -outputdir "$PWD/internal/record/testdata/first-release" -args -write
set -euo pipefail
old=$(realpath -e "${1:?folder of the plugins to replace}")
shift
new=
if [ -d "${1:-}" ]; then
	new=$(realpath -e "$1")
	shift
fi
cd "$(dirname "$0")/.."
. scripts/need.sh
need go ip namespaces
has strace || lacks "strace: apt-get install strace"

if [ -z "$new" ]; then
	new=$PWD/bin/stress
	BIN_DIR=$new scripts/build_linux.sh
fi
# Inside the namespaces there is no network to download modules from.
scripts/build_upstream.sh
export CGO_ENABLED=0 STRESS_BUILT=1 UPGRADE_FROM=$old UPGRADE_TO=$new
export PATH=$PATH:$new:$old # what is on it is seen in the namespaces, below /tmp as well
go test -v -count=1 -timeout 1h -tags upgrade -run '^TestUpgrade$' ./hack/stress "$@"
