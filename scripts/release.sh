#!/usr/bin/env bash
# Makes the archives of a release, VERSION, in dist/: for each platform, and for
# Linux in the verbose flavour too, with checksums and an SBOM. What was made is
# then checked. ARCHES and DIST_DIR are read from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go

# It becomes part of names of files, and of a link-time flag.
if [[ ! ${VERSION:-} =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]]; then
	echo "$(basename "$0"): VERSION=v0.1.0, say, is needed, not \"${VERSION:-}\"" >&2
	exit 1
fi
export VERSION
# The one time that all copies of a commit agree on.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
BIN_DIR=$built/plain scripts/build_all.sh
echo "verbose:"
BIN_DIR=$built/verbose FLAVOUR=verbose scripts/build_all.sh

go run -trimpath ./hack/release -version "$VERSION" -built "$built" -out "${DIST_DIR:-dist}"
