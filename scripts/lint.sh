#!/usr/bin/env bash
# Looks at the code without running it, the quickest first.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go

# As plugins and tests are built: what was compiled for these serves here.
export CGO_ENABLED=0 GOFLAGS=-trimpath

unformatted=$(gofmt -l hack images internal plugins)
if [ -n "$unformatted" ]; then
	printf 'run gofmt -w on:\n%s\n' "$unformatted" >&2
	exit 1
fi

go vet -tags faults,podman,qemu,strace,upgrade ./...
# flannel runs on Windows too.
GOOS=windows GOARCH=amd64 go vet ./plugins/main/flannel
GOOS=windows GOARCH=amd64 go build -o /dev/null ./plugins/main/flannel

if has shellcheck; then
	shellcheck -x scripts/*.sh .ci/run
else
	echo "shellcheck was left out: apt-get install shellcheck"
fi

# Built once: from nothing that takes minutes, and go tool would link it anew
# for every run.
linter=bin/tools/golangci-lint
if [ ! "$linter" -nt hack/tools/go.mod ]; then
	echo "building golangci-lint, the first time takes some minutes"
	mkdir -p bin/tools
	GOFLAGS="" go build -C hack/tools -o "$PWD/bin/tools/" github.com/golangci/golangci-lint/v2/cmd/golangci-lint
fi
top=$PWD
for module in . hack/e2e hack/manifests; do
	(cd "$module" && "$top/$linter" run --allow-parallel-runners ./...)
done
