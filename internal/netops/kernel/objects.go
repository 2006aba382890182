package kernel

import (
	"context"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
)

// makeAt makes what of a change belongs to a stage and is no route. It continues
// after a failure. Nothing is deleted that was not looked at just before: a
// deletion of a neighbour names no hardware address, and one of a rule is for
// the first that has what it names.
func (n *Netns) makeAt(ctx context.Context, c *netops.Change, at netops.Stage, done *[]netops.Operation) []*netops.OpError {
	ops := c.At(at)
	switch {
	case len(ops) == 0:
		return nil
	case at == netops.DropNeighs || at == netops.DropRules:
		return n.drop(ctx, ops, done)
	case at == netops.AddNeighs:
		return n.addNeighs(ctx, ops, done)
	case at == netops.RestoreNeighs: // their owner may have been quicker
		return slices.DeleteFunc(n.addNeighs(ctx, ops, nil), (*netops.OpError).Exists)
	}
	return n.run(ctx, ops, done, true)
}

// drop deletes those objects that are there as they are meant.
func (n *Netns) drop(ctx context.Context, ops []netops.Operation, done *[]netops.Operation) []*netops.OpError {
	have, err := n.Snapshot(ctx, about(ops))
	if err != nil {
		return failures(ops, err)
	}
	there, hidden := netops.Aim(ops, have.State)
	return append(n.run(ctx, there, done, true), failures(hidden, netops.ErrCannotDelete)...)
}

// about asks for what has the places of the objects of operations.
func about(ops []netops.Operation) (q netops.Query) {
	for _, op := range ops {
		op.Object.Cover(&q)
	}
	return q
}

// addNeighs adds entries exclusively. One that the kernel has learnt gives way:
// it is replaced, since it might come back between a deletion and an addition.
// The kernel knows no "replace if learnt", so that an entry which another
// process made permanent since it was looked at a moment ago would be lost; all
// that can be done is to ask for a replacement only where it was seen, and at
// once.
func (n *Netns) addNeighs(ctx context.Context, ops []netops.Operation, done *[]netops.Operation) []*netops.OpError {
	failed := n.run(ctx, ops, done, true)
	taken, failed := netops.Partition(failed, (*netops.OpError).Exists)
	if len(taken) == 0 {
		return failed
	}
	ops = nil
	for _, t := range taken {
		ops = append(ops, t.Operation)
	}
	have, err := n.Snapshot(ctx, about(ops))
	if err != nil {
		return append(failed, failures(ops, err)...)
	}
	for i := range ops {
		if slices.ContainsFunc(have.Neighs, func(h netops.Neigh) bool { return h.Learnt && netops.SameKey(ops[i].Object, &h) }) {
			ops[i].Verb = netops.Replace
		}
	}
	return append(failed, n.run(ctx, ops, done, true)...)
}
