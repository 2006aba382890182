#!/usr/bin/env bash
# Copies the built plugins to $DESTDIR$CNI_BIN_DIR. It builds nothing, so that
# root needs no Go.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${DESTDIR:-}${CNI_BIN_DIR:-/opt/cni/bin}
new=
trap 'rm -f "$new"' EXIT

found=
for plugin in "${BIN_DIR:-bin}"/*; do
	[ -f "$plugin" ] || continue
	found=yes
	name=$(basename "$plugin")
	mkdir -p "$dir"
	# A runtime may run the plugin at any moment: it finds the old file or the
	# new one, never half of it, and a running one is not written to.
	new=$(mktemp "$dir/.$name.XXXXXX")
	cat "$plugin" >"$new"
	chmod 0755 "$new"
	mv -fT "$new" "$dir/$name"
	echo "$dir/$name"
done

if [ -z "$found" ]; then
	echo "$(basename "$0"): nothing is built yet: run make build" >&2
	exit 1
fi
