#!/usr/bin/env bash
# Prints the sizes of the plugins in BIN_DIR, default bin/, and refuses one that
# is larger than 6.5 MB: nodes without much memory run them, and what is large
# starts slowly. GOARCH is read from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=6500000
case "$(go env GOARCH)" in
s390x | mips64le) limit=7500000 ;; # their instructions take a tenth more room
esac
too_large=
for plugin in "${BIN_DIR:-bin}"/*; do
	[ -f "$plugin" ] || continue
	size=$(stat -c %s "$plugin")
	printf '  %-22s %7d bytes\n' "$(basename "$plugin")" "$size"
	if [ "$size" -gt $limit ]; then
		echo "$(basename "$plugin") may have $limit bytes at most" >&2
		too_large=yes
	fi
done
[ -z "$too_large" ]
