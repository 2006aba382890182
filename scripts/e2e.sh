#!/usr/bin/env bash
# Has container runtimes call the plugins, as users do, and strace hinder them at
# every system call; arguments go to go test.
# It is for root on Debian, and installs the packages that it needs.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go ip ping
if [ "$(id -u)" != 0 ]; then lacks "root: containers are started"; fi
packages=()
has podman || packages+=(podman)
has containerd || packages+=(containerd)
has runc || packages+=(runc)
has wine || packages+=(wine wine64)
has x86_64-w64-mingw32-gcc || packages+=(gcc-mingw-w64-x86-64-win32)
has strace || packages+=(strace)
has sysctl || packages+=(procps)
# Containers have nothing but busybox, which must not need a library there.
if [ ! -x /bin/busybox ] || ldd /bin/busybox &>/dev/null; then packages+=(busybox-static); fi
if [ ${#packages[@]} -gt 0 ]; then
	has apt-get || lacks "${packages[*]}"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}"
fi

scripts/build_linux.sh
scripts/build_windows.sh
scripts/build_upstream.sh
export PATH=$PWD/bin/upstream:$PATH
CGO_ENABLED=0 go test -C hack/e2e -count=1 "$@"
CGO_ENABLED=0 go test -count=1 -tags strace -run '^TestEverySystemCall$' -v "$@" ./hack/stress
