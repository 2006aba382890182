# shellcheck shell=bash
# Sourced by what builds programs that go out: sets build_flags for go build.
# VERSION is stamped into them. FLAVOUR=verbose makes plugins that log everything
# below /var/log/cni.

export CGO_ENABLED=0
# A binary follows from its sources, its version and the version of Go, not from
# the shell that it is built in. These are the processors that Go assumes by
# default; on arm, older ones too.
export GOAMD64=v1 GOARM64=v8.0 GOARM=6 GO386=sse2 GOPPC64=power8 GORISCV64=rva20u64 GOMIPS64=hardfloat GOEXPERIMENT=

ldflags="-s -w"
if [ -n "${VERSION:-}" ]; then
	ldflags+=" -X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=$VERSION"
fi
if [ "${FLAVOUR:-}" = verbose ]; then
	ldflags+=" -X github.com/cni-netops/plugins/internal/cni.verboseLogs=/var/log/cni"
fi
# shellcheck disable=SC2034 # it is for the scripts that source this
build_flags=(-trimpath -buildvcs=false -ldflags "$ldflags")
