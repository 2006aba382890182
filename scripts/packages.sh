#!/usr/bin/env bash
# Installs the Debian packages of the commands that are its arguments, where they
# are missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

declare -A package=([ip]=iproute2 [ping]=iputils-ping [qemu-s390x]=qemu-user [busybox]=busybox-static
	[nft]=nftables [sysctl]=procps [wine]="wine wine64" [x86_64-w64-mingw32-gcc]=gcc-mingw-w64-x86-64-win32)
missing=''
for command in "$@"; do
	has "$command" || missing+=" ${package[$command]:-$command}"
done
# Containers have nothing but busybox, which must not need a library there.
if [[ " $* " = *" busybox "* ]] && ldd "$(command -v busybox)" &>/dev/null; then missing+=' busybox-static'; fi
if [ -n "$missing" ]; then
	has apt-get || lacks "apt-get, to install$missing"
	apt-get update -qq
	# shellcheck disable=SC2086 # each is a package
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
fi
