#!/usr/bin/env bash
# Puts up a cluster of one node, in namespaces of its own, and has it call the
# plugins, by containerd 2 and then by Debian's. Arguments go to the tests:
# -test.run TestServices, say. It is for root on Debian, and installs the packages
# that it needs. Of the environment it reads
#
#	MULTUS      binary of thin Multus; default a stand-in
#	CONTAINERD  2 or 1, for that one alone
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go ip ping
if [ "$(id -u)" != 0 ]; then lacks "root: containers are started"; fi
scripts/packages.sh buildah containerd runc nft sysctl busybox

scripts/build_kubernetes.sh
scripts/build_upstream.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The images are the run's, too.
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/images"\nrunroot = "%s/run"\n' "$work" "$work" >"$work/storage.conf"
export CONTAINERS_STORAGE_CONF=$work/storage.conf
image=docker.io/cni-netops/installer
IMAGE=$image VERSION=e2e scripts/image.sh
buildah push --quiet "$image:e2e" "docker-archive:$work/installer.tar:$image:e2e"
sed "s|image: cni-netops/installer:.*|image: cni-netops/installer:e2e|" images/cni-netops.yaml >"$work/installer.yaml"

CGO_ENABLED=0 go test -C hack/e2e -c -o "$work/kubernetes.test" ./kubernetes
export INSTALLER=$work PATH=$PWD/bin/kubernetes:$PATH
for version in ${CONTAINERD:-2 1}; do
	echo "containerd $version"
	path=$PATH
	if [ "$version" = 2 ]; then
		scripts/build_containerd.sh
		path=$PWD/bin/containerd-2:$PATH
	fi
	(cd hack/e2e/kubernetes && PATH=$path "$work/kubernetes.test" -test.timeout 60m "$@")
done
