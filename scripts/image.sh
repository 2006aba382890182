#!/usr/bin/env bash
# Builds the installer's image, IMAGE:VERSION, by buildah or podman, which need no
# daemon. ARCHES are the processors, default this machine's; with several of them
# it is one name for all. Nothing is pulled, and nothing of it runs.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go image-builder
. scripts/go_flags.sh

image=${IMAGE:-cni-netops/installer}:${VERSION:-latest}
read -ra arches <<<"${ARCHES:-$(go env GOARCH)}"
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

for arch in "${arches[@]}"; do
	echo "linux-$arch"
	root=$context/linux-$arch
	GOARCH=$arch BIN_DIR=$root/plugins scripts/build_linux.sh
	GOOS=linux GOARCH=$arch go build "${build_flags[@]}" -o "$root/installer" ./images/installer
	install -m 0644 LICENSE "$root/LICENSE"
done
chmod -R a+rX,u+w,go-w "$context" # whatever the umask

build=(--file images/installer/Dockerfile --label "org.opencontainers.image.title=cni-netops installer"
	--label "org.opencontainers.image.licenses=Apache-2.0" --label "org.opencontainers.image.version=${VERSION:-devel}"
	--timestamp "${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}")
tool=(podman build)
if has buildah; then tool=(buildah bud); fi
if [ ${#arches[@]} -eq 1 ]; then
	"${tool[@]}" "${build[@]}" --platform "linux/${arches[0]}" --tag "$image" "$context"
	exit
fi
# A list of before would keep what was in it.
"${tool[0]}" manifest rm "$image" 2>/dev/null || true
for arch in "${arches[@]}"; do
	"${tool[@]}" "${build[@]}" --platform "linux/$arch" --manifest "$image" "$context"
done
