#!/usr/bin/env bash
# Has container runtimes call the plugins, as users do; arguments go to go test.
# It is for root on Debian, and installs the packages that it needs. Of the
# environment it reads
#
#	CONTAINERD  2, or 1 for Debian's; default 1
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
. scripts/go_test.sh
need go ip ping
if [ "$(id -u)" != 0 ]; then lacks "root: containers are started"; fi
scripts/packages.sh podman containerd runc wine x86_64-w64-mingw32-gcc strace sysctl busybox

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOTMPDIR=$work # interrupted, go leaves files
scripts/build_linux.sh
scripts/build_windows.sh
scripts/build_upstream.sh
export PATH=$PWD/bin/upstream:$PATH
if [ "${CONTAINERD:-}" = 2 ]; then
	scripts/build_containerd.sh
	export PATH=$PWD/bin/containerd-2:$PATH
fi
cd hack/e2e
go_test "$@"
