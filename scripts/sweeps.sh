#!/usr/bin/env bash
# Runs what scripts/test.sh leaves out: the whole of each sweep over many like
# cases, of which it has a sample, and the tests that build manifests, releases and
# the image. Of the environment it reads
#
#	SKIP  which sweeps to leave out, as go test's -skip does; default none
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go ip iptables namespaces
. scripts/go_test.sh

tags=
built=(./hack/release)
if has strace; then tags+=,strace; else echo "system calls are not refused: apt-get install strace"; fi
if has qemu-s390x; then tags+=,qemu; else echo "plugins for other processors are not run: apt-get install qemu-user"; fi
if has podman && has runc && [ "$(id -u)" = 0 ]; then
	tags+=,podman
	built+=(./images/installer/container)
else
	echo "the image is not run: as root, apt-get install podman runc"
fi
# Inside the namespaces there is no network to download modules from.
scripts/build_linux.sh
scripts/build_upstream.sh
(cd hack/manifests && go_test ./...)
go_test -tags "${tags#,}" "${built[@]}"

export SWEEPS=whole
mapfile -t packages < <(grep -rl '^func TestSweep' --include='*_test.go' ./hack ./images ./internal ./plugins | xargs dirname | sort -u)
# Long load is make stress's. The tests of hack/stress share a node, one after another:
# half of them runs beside the rest, when what both run is built.
half='^TestSweep(Operations|SystemCalls)$'
go_test -run '^$' ./hack/stress
skip=${SKIP:-^$}
go_test -tags "${tags#,}" -run "$half" -skip "$skip" ./hack/stress &
swept=0
go_test -tags "${tags#,}" -p "$(nproc)" -run '^TestSweep' -skip "$half|^TestSweepLoad\$|$skip" "${packages[@]}" || swept=$?
wait $!
exit "$swept"
