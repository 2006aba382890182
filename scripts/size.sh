#!/usr/bin/env bash
# Refuses binaries that are larger than they may be: nodes without much memory
# run them, and what is large starts slowly.
set -euo pipefail
cd "$(dirname "$0")/.."

too_large=
while read -r plugin limit; do
	size=$(stat -c %s "${BIN_DIR:-bin}/$plugin")
	if [ "$size" -gt "$limit" ]; then
		echo "$plugin has $size bytes, $limit at most" >&2
		too_large=yes
	fi
done <<-EOF
	route-override 4200000
	host-routes 4800000
	router 4200000
	seamless 4200000
	router 4200000
	flannel 4200000
EOF
[ -z "$too_large" ]
