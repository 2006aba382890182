#!/usr/bin/env bash
# Puts up a cluster of one node, in namespaces of its own, and has it call the
# plugins, by containerd 2 and then by Debian's. Arguments go to the tests:
# -test.run TestServices, say. It is for root on Debian, and installs the packages
# that it needs. Of the environment it reads
#
#	OLD         tree of another version, which it exchanges the plugins for, and
#	            back; default the release before, if its tag is here
#	MULTUS      binary of thin Multus; default a stand-in
#	CONTAINERD  2 or 1, for that one alone
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go ip ping
if [ "$(id -u)" != 0 ]; then lacks "root: containers are started"; fi
scripts/packages.sh buildah containerd runc nft sysctl busybox

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work # interrupted, go and buildah leave files
scripts/build_kubernetes.sh
scripts/build_upstream.sh

# The images are the run's, too.
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/images"\nrunroot = "%s/run"\n' "$work" "$work" >"$work/storage.conf"
export CONTAINERS_STORAGE_CONF=$work/storage.conf
image=docker.io/cni-netops/installer
# pack TREE NAME makes the image of a tree, and its manifest.
pack() {
	IMAGE=$image VERSION=$2 "$1/scripts/image.sh"
	buildah push --quiet "$image:$2" "docker-archive:$work/$2.tar:$image:$2"
	sed "s|image: cni-netops/installer:.*|image: cni-netops/installer:$2|" "$1/images/cni-netops.yaml" >"$work/$2.yaml"
}
pack . installer
old=${OLD:-}
if [ -z "$old" ] && tag=$(git describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null); then
	old=$work/$tag
	mkdir "$old"
	git archive "$tag" | tar -x -C "$old"
fi
if [ -z "$old" ]; then
	echo "no release is tagged here: the plugins will be exchanged for this tree's own. For those of another version," \
		"git worktree add /tmp/earlier COMMIT, and OLD=/tmp/earlier" >&2
fi
pack "${old:-.}" other

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
