#!/usr/bin/env bash
# Runs a command on a machine that is played for it, which has pods, routes and
# parameters of its own, and fails if the command does not leave that as it was,
# or leaves a process or a temporary file. With --ordinary as the first argument
# it is a user other than root who runs the command. What the command needs has
# been downloaded before: the machine has no network.
set -euo pipefail
cd "$(dirname "$0")/.."

# play mounts what the machine has over what this one has. Changes of files go to
# $work/changed; the sources and Go's caches stay what they are.
play() {
	mount --make-rprivate /
	mount -t tmpfs -o mode=0755 harmless "$work"
	mkdir "$work/real" "$work/changed"
	mount --rbind / "$work/real"
	local dir
	for dir in etc opt usr var; do
		[ -d "/$dir" ] || continue
		mkdir -p "$work/changed/$dir" "$work/overlay/$dir"
		mount -t overlay -o "userxattr,lowerdir=/$dir,upperdir=$work/changed/$dir,workdir=$work/overlay/$dir" harmless "/$dir"
	done
	for dir in "$PWD" "$TMPDIR" "$(go env GOCACHE)" "$(go env GOMODCACHE)"; do
		case $dir in
		/etc/* | /opt/* | /usr/* | /var/*)
			mkdir -p "$dir"
			mount --rbind "$work/real$dir" "$dir"
			;;
		esac
	done
	mount -t tmpfs -o mode=0755 harmless /run
	mount -t tmpfs -o mode=1777 harmless /dev/shm
	furnish_files
	furnish_network
}

# put writes a file, and what is not there of the folders that it lies in.
put() {
	mkdir -p "${1%/*}"
	echo "${2:-this is the machine\'s}" >"$1"
}

furnish_files() {
	put /etc/cni/net.d/10-machine.conflist '{ "cniVersion": "1.0.0", "name": "machine", "plugins": [ { "type": "bridge" } ] }'
	put /var/lib/cni/networks/machine/10.99.0.2 'pod eth0'
	put /var/lib/cni/networks/cbr0/10.1.17.2 'pod eth0'
	put /var/lib/cni/flannel/pod '{ "type": "bridge" }'
	put /run/flannel/subnet.env 'FLANNEL_SUBNET=10.99.0.1/24'
	local plugin
	for plugin in bridge flannel host-routes route-override router seamless; do
		put "/opt/cni/bin/$plugin"
		put "/run/cni/$plugin/net/pod:eth0/1.finished"
		put "/var/log/cni/$plugin.log"
	done
}

furnish_network() {
	ip link set lo up
	ip netns add machine
	ip link add cni0 type veth peer name up0
	local link
	# Without a link-local address nothing changes by itself later.
	for link in cni0 up0; do ip link set "$link" addrgenmode none up; done
	ip -batch - <<-LINES
		addr add 10.99.0.1/24 dev cni0
		addr add 192.0.2.10/24 dev up0
		route add default via 192.0.2.1
		route add 10.98.0.0/16 via 10.99.0.2 proto 77
		route add default via 10.99.0.2 table 100
		rule add pref 31000 to 10.244.0.0/16 lookup 100 protocol 77
		neigh add 10.99.0.2 dev cni0 lladdr 02:00:00:00:00:99 protocol 77 nud permanent
	LINES
	ip -6 -batch - <<-LINES
		addr add fd99::1/64 dev cni0 nodad
		route add default via fd99::2
		route add fd98::/64 via fd99::2 proto 77
		rule add pref 31000 from fd98::/64 lookup 100
	LINES
	echo 2 >/proc/sys/net/ipv4/conf/cni0/rp_filter
	echo 1 >/proc/sys/net/ipv4/ip_forward
}

# state is all that has to be as it was.
state() {
	local family
	echo '# files'
	find /run /dev/shm "$work/changed" "$TMPDIR" -printf '%p %y %m %U:%G %l\n' | sort
	find /run /dev/shm "$work/changed" -type f -exec cksum {} + | sort
	echo '# mounts'
	cut -d' ' -f 3- /proc/self/mountinfo | sort
	echo '# network'
	ip netns list
	for family in -4 -6; do
		ip "$family" -batch - <<<$'link show\naddr show\nroute show table all\nrule show\nneigh show nud permanent'
	done
	# A secret that is not set cannot be read.
	{ find /proc/sys/net /proc/sys/fs/inotify -type f ! -name '*_count' -exec grep -Hs . {} + || true; } | sort
}

# running lists the processes that the command has left.
running() {
	local dir
	for dir in /proc/[0-9]*; do
		[ "${dir#/proc/}" -eq $$ ] || [ "${dir#/proc/}" -eq "$BASHPID" ] || tr '\0' ' ' 2>/dev/null <"$dir/cmdline" || true
	done
}

# unhurt fails unless all is as it was before.
unhurt() {
	# A process that has been told to end takes a moment.
	local i left
	for ((i = 0; i < 50; i++)); do
		left=$(running)
		[ -n "$left" ] || break
		sleep 0.1
	done
	if [ -n "$left" ]; then
		echo "harmless: left running: $left" >&2
		return 1
	fi
	state >"$work/after"
	if ! diff -U0 "$work/before" "$work/after" >&2; then
		echo "harmless: the machine was changed by $*" >&2
		return 1
	fi
}

if [ "${1:-}" = --inside ]; then
	work=$2 uid=$3
	shift 3
	play
	state >"$work/before"
	command=("$@")
	if [ "$uid" != 0 ]; then command=(unshare --user --map-user="$uid" --map-group="$uid" -- "$@"); fi
	status=0
	"${command[@]}" || status=$?
	unhurt "$@"
	exit "$status"
fi

. scripts/need.sh
need go ip namespaces
uid=$(id -u)
if [ "${1:-}" = --ordinary ]; then
	shift
	if [ "$uid" = 0 ]; then uid=1000; fi
fi
namespaces=(--mount --net --pid --fork --kill-child --mount-proc)
if [ "$(id -u)" != 0 ]; then namespaces+=(--user --map-root-user); fi
work=$(mktemp -d)
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$work" "$TMPDIR"' EXIT
unshare "${namespaces[@]}" scripts/harmless.sh --inside "$work" "$uid" "$@"
