# shellcheck shell=bash
# Sourced by the other scripts: says in one line what the machine lacks.

need() {
	local what
	for what in "$@"; do
		case $what in
		go) has go || lacks "go, 1.26 or later: https://go.dev/dl" ;;
		ip) has ip || lacks "ip: apt-get install iproute2" ;;
		iptables) has iptables-restore || lacks "iptables-restore: apt-get install iptables" ;;
		ping) has ping || lacks "ping: apt-get install iputils-ping" ;;
		image-builder) has buildah || has podman || lacks "buildah or podman: apt-get install buildah" ;;
		namespaces)
			unshare --user --map-root-user --mount --net true 2>/dev/null || lacks "user namespaces:" \
				"set the sysctl user.max_user_namespaces above 0, on Ubuntu kernel.apparmor_restrict_unprivileged_userns to 0"
			;;
		esac
	done
}

has() { command -v "$1" >/dev/null; }

lacks() {
	echo "$(basename "$0"): missing: $*" >&2
	exit 1
}
