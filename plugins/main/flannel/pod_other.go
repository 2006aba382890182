//go:build !linux

package main

import (
	"context"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/show"
)

// requirePod leaves the judgement to the delegate: only Linux tells whether a
// path leads to a namespace without entering it.
func requirePod(*cni.Request) error { return nil }

// showAll lists what every plugin has made on the node: there is no other one.
func showAll(_ context.Context, q show.Query) ([]show.Record, error) {
	return show.ListKept(q.DataDir)
}
