package main

import (
	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
)

// requirePod fails unless CNI_NETNS is a network namespace that a delegate may
// work in.
func requirePod(r *cni.Request) error { return attach.RequirePod(r) }
