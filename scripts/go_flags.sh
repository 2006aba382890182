# shellcheck shell=bash
# Sourced by what builds programs that go out: sets build_flags for go build, and
# small_flags that a program which would be too large has as well.
# VERSION is stamped into them. FLAVOUR=verbose makes plugins that log everything
# below /var/log/cni.

export CGO_ENABLED=0
# A binary follows from its sources, its version and the version of Go, not from
# the shell that it is built in. These are the processors that Go assumes by
# default; on arm, older ones too.
export GOAMD64=v1 GOARM64=v8.0 GOARM=6 GO386=sse2 GOPPC64=power8 GORISCV64=rva20u64 GOMIPS64=hardfloat GOEXPERIMENT=

frame=github.com/cni-netops/plugins/internal/plugin
ldflags="-s -w"
if [ -n "${VERSION:-}" ]; then
	ldflags+=" -X $frame.buildVersion=$VERSION -X main.buildVersion=$VERSION"
fi
if [ "${FLAVOUR:-}" = verbose ]; then
	ldflags+=" -X $frame.verboseLogs=/var/log/cni"
fi
build_flags=(-trimpath -buildvcs=false -ldflags "$ldflags")

# What evaluates expressions is a third of host-routes, and runs for moments, as
# what logs and prints does: without inlining that is 230 KB smaller.
for package in github.com/itchyny/... math/big regexp/... log/slog/... time fmt github.com/containernetworking/...; do
	build_flags+=("-gcflags=$package=-l")
done

# Another 60 KB, for 2 to 8 percent of its time.
small_flags=()
for package in encoding/base64 encoding/json math sync syscall strings sort unicode/utf8 bytes reflect strconv os io/fs path/filepath text/... github.com/cni-netops/plugins/internal/netops; do
	small_flags+=("-gcflags=$package=-l")
done
