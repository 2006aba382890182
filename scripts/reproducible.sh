#!/usr/bin/env bash
# Makes the release of the last commit twice, in two clones, the second time
# compiling everything anew, and compares. VERSION and ARCHES as for release.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone -q . "$work/one"
git clone -q . "$work/another/place"
export VERSION=${VERSION:-v0.0.0}
"$work/one/scripts/release.sh"
GOCACHE=$work/cache "$work/another/place/scripts/release.sh" >/dev/null
diff -r "$work/one/dist" "$work/another/place/dist"
echo "both are the same: $(find "$work/one/dist" -type f | wc -l) files, $(du -sh "$work/one/dist" | cut -f1)"
