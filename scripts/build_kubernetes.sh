#!/usr/bin/env bash
# Builds the programs of a Kubernetes node and its etcd, of the versions in
# hack/e2e/kubernetes/hyperkube/go.mod, into bin/kubernetes. The first time it takes
# ten minutes on two processors; Go's cache keeps the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need go

out=$PWD/bin/kubernetes
mkdir -p "$out"
module=hack/e2e/kubernetes/hyperkube
version=$(cd "$module" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
export CGO_ENABLED=0
# A kubelet refuses an API server without a version.
nice go build -C "$module" -trimpath -buildvcs=false -o "$out/hyperkube" \
	-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/client-go/pkg/version.gitVersion=$version"
for name in etcd kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet; do
	ln -sf hyperkube "$out/$name"
done
