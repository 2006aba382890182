package kernel

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

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
	there, hidden := aimed(ops, have.State)
	return append(n.run(ctx, there, done, true), failures(hidden, netops.ErrCannotDelete)...)
}

// about asks for what has the places of the objects of operations.
func about(ops []netops.Operation) (q netops.Query) {
	for _, op := range ops {
		op.Object.Cover(&q)
	}
	return q
}

// aimed puts deletions of rules and neighbours into an order in which each hits
// what it means, and tells which are hidden behind objects that stay. What is not
// there is left out.
func aimed(ops []netops.Operation, have netops.State) (inOrder, hidden []netops.Operation) {
	there := slices.Collect(have.All())
	hidden = ops
	for before := -1; before != len(inOrder); {
		before = len(inOrder)
		var pending []netops.Operation
		for _, op := range hidden {
			meant := func(have netops.Object) bool { return means(op.Object, have) }
			at := slices.IndexFunc(there, func(have netops.Object) bool { return hits(op.Object, have) })
			switch {
			case !slices.ContainsFunc(there, meant):
			case !meant(there[at]):
				pending = append(pending, op)
			default:
				inOrder = append(inOrder, op)
				there = slices.Delete(there, at, at+1)
			}
		}
		hidden = pending
	}
	return inOrder, hidden
}

// hits reports whether the kernel, asked to delete o, may take have.
func hits(o, have netops.Object) bool {
	switch o := o.(type) {
	case *netops.Rule:
		h, ok := have.(*netops.Rule)
		return ok && ruleHits(o, h)
	case *netops.Neigh:
		h, ok := have.(*netops.Neigh)
		return ok && o.Dev == h.Dev && o.IP == h.IP
	}
	return false
}

// means reports whether have is the object that a deletion of o is about.
func means(o, have netops.Object) bool {
	switch o := o.(type) {
	case *netops.Rule:
		h, ok := have.(*netops.Rule)
		return ok && o.SameRule(h)
	case *netops.Neigh:
		h, ok := have.(*netops.Neigh)
		return ok && hits(o, h) && o.SatisfiedBy(h)
	}
	return false
}

// addNeighs adds entries exclusively. One that the kernel has learnt gives way:
// it is replaced, since it might come back between a deletion and an addition.
// The kernel knows no "replace if learnt", so that an entry which another
// process made permanent since it was looked at a moment ago would be lost; all
// that can be done is to ask for a replacement only where it was seen, and at
// once.
func (n *Netns) addNeighs(ctx context.Context, ops []netops.Operation, done *[]netops.Operation) []*netops.OpError {
	failed := n.run(ctx, ops, done, true)
	taken, failed := partition(failed, (*netops.OpError).Exists)
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
		if slices.ContainsFunc(have.Neighs, func(h netops.Neigh) bool { return h.Learnt && hits(ops[i].Object, &h) }) {
			ops[i].Verb = netops.Replace
		}
	}
	return append(failed, n.run(ctx, ops, done, true)...)
}

// lookAtOthers finds what a snapshot has beside links by name, addresses and
// routes.
func (n *Netns) lookAtOthers(ctx context.Context, q netops.Query, s *netops.Snapshot) error {
	if q.EveryLink { // which is not slower than to ask for two
		links, err := n.Links(ctx)
		if err != nil {
			return err
		}
		for _, l := range links {
			addLink(s, l)
		}
	}
	if q.Rules {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			if err := n.whole(ctx, "rules", &s.State, func(s *netops.State) (int, error) { return n.dumpRules(s, family) }); err != nil {
				return err
			}
		}
	}
	if err := n.neighs(ctx, q, s); err != nil {
		return err
	}
	keys := slices.Clone(q.Sysctls)
	for _, pattern := range q.LinkSysctls {
		for _, name := range s.Links {
			keys = append(keys, strings.Replace(pattern, "*", name, 1))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return n.readSysctls(distinct(keys), &s.State)
}

func (n *Netns) neighs(ctx context.Context, q netops.Query, s *netops.Snapshot) error {
	for _, dev := range distinct(q.Neighs) {
		index, err := n.index(dev)
		if errors.Is(err, netops.ErrNoLink) {
			continue
		}
		if err == nil {
			err = n.whole(ctx, "neighbours", &s.State, func(s *netops.State) (int, error) { return n.dumpNeighs(s, index) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func distinct(list []string) []string {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// whole adds to the state what a dump lists. One that needs several batches can
// miss what stays while other processes change the list, and the kernel does not
// always say so: it counts once two in a row agree.
func (n *Netns) whole(ctx context.Context, what string, s *netops.State, dump func(*netops.State) (batches int, err error)) error {
	var before, now netops.State
	err := n.repeat(ctx, what, func() error {
		now = netops.State{}
		batches, err := dump(&now)
		if err == nil && batches > wholeBatches && !sameObjects(&before, &now) {
			before, err = now, netops.ErrInterrupted
		}
		return err
	})
	s.Append(now)
	return err
}

func sameObjects(a, b *netops.State) bool {
	return slices.Equal(a.Rules, b.Rules) && slices.Equal(a.Neighs, b.Neighs)
}
