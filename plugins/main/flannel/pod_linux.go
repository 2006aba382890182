package main

import (
	"context"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/show"
)

// requirePod fails unless CNI_NETNS is a network namespace that a delegate may
// work in.
func requirePod(r *cni.Request) error { return attach.RequirePod(r) }

// showAll lists what every plugin has made on the node.
func showAll(ctx context.Context, q show.Query) ([]show.Record, error) { return attach.Show(ctx, q) }
