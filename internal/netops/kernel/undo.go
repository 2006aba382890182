package kernel

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

// Undo takes back what was done, as far as it is still there: what is gone
// already is fine, and so is an interface that is gone with its routes. It
// goes on after a failure; the error joins an OpError for each.
func (n *Netns) Undo(ctx context.Context, done netops.Change) error {
	if done.IsZero() {
		return nil
	}
	q := netops.Query{To: map[netip.Prefix]bool{}}
	q.Cover(done)
	have, err := n.Snapshot(ctx, q)
	if err != nil {
		return err
	}
	todo, _ := done.Reverse().Needed(have.State)
	standBeside(&todo, have.Routes)
	routes := todo.RouteSteps()
	failed := n.undoStages(ctx, &todo, []netops.Stage{netops.SetSysctls})
	if done.AddFirst { // no moment without a way on the way back, either
		failed = append(failed, n.restore(ctx, routes, have.Routes)...)
	}
	failed = append(failed, n.undoStages(ctx, &todo, []netops.Stage{netops.DropRules, netops.AddRules})...)
	failed = append(failed, n.remove(ctx, routes.Del, nil, true)...)
	if !done.AddFirst {
		failed = append(failed, n.restore(ctx, routes, have.Routes)...)
	}
	// A new hardware address takes neighbours away, and to switch IPv6 off again
	// flushes the interface's routes and addresses.
	return join(append(failed, n.undoStages(ctx, &todo, []netops.Stage{netops.DropNeighs, netops.SetLinks, netops.RestoreNeighs, netops.AddNeighs, netops.SwitchIPv6})...))
}

// undoStages takes stages back. What an interface that is gone had went with
// it.
func (n *Netns) undoStages(ctx context.Context, todo *netops.Change, stages []netops.Stage) (failed []*netops.OpError) {
	for _, s := range stages {
		failed = append(failed, n.makeAt(ctx, todo, s, nil)...)
	}
	return slices.DeleteFunc(failed, (*netops.OpError).Missing)
}

// restore puts back routes that had to go. What is left of one stays where the
// whole cannot come back.
func (n *Netns) restore(ctx context.Context, s netops.RouteSteps, have []netops.Route) []*netops.OpError {
	exchanges, _ := partition(s.Exchanges, func(x netops.Exchange) bool { return n.possible(x.In) })
	failed := n.exchange(ctx, exchanges, have, nil, true)
	back, _ := partition(s.Add, n.possible)
	return append(failed, n.putBack(ctx, back)...)
}

// Rescue tries once more what an Undo could not put back because its gateway
// was out of reach: others that came back since may lead there, and if not, it
// goes back as an on-link route by the same way. It returns what is left of
// the error.
func (n *Netns) Rescue(ctx context.Context, err error) error {
	var failures netops.Failures
	if !errors.As(err, &failures) {
		return err
	}
	var left []*netops.OpError
	for _, f := range failures {
		r := routeOf(f)
		if !f.Adds() || f.Exchange || r == nil || !unreachable(f.Err) || !n.rescued(ctx, r) {
			left = append(left, f)
		}
	}
	return join(left)
}

// rescued puts a route back after others, in the end as an on-link one. What a
// multipath route has of others is not made so.
func (n *Netns) rescued(ctx context.Context, r *netops.Route) bool {
	if len(n.putBack(ctx, []*netops.Route{r})) == 0 {
		return true
	}
	onLink := r.AsOnLink()
	return len(r.Hops) == 0 && len(n.putBack(ctx, []*netops.Route{&onLink})) == 0
}

// unreachable reports whether the kernel refused a gateway.
func unreachable(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH)
}

// putBack adds routes that were removed: exclusively, or in their place among
// those that were there beside them.
func (n *Netns) putBack(ctx context.Context, routes []*netops.Route) []*netops.OpError {
	among, exclusive := partition(routes, func(r *netops.Route) bool { return r.Siblings != nil })
	failed := n.run(ctx, netops.Additions(exclusive), nil, true)
	if len(among) == 0 {
		return failed
	}
	have, err := n.around(ctx, among)
	if err != nil {
		return append(failed, failures(netops.Additions(among), err)...)
	}
	for _, r := range among {
		have = n.insert(ctx, r, have, &failed)
	}
	return failed
}

// insert puts a route back among the others of its slot, and returns the
// routes with it. IPv4 prepends or appends: for a place in between, those that
// follow are taken out and appended again. IPv6 keeps no order.
func (n *Netns) insert(ctx context.Context, r *netops.Route, have []netops.Route, failed *[]*netops.OpError) []netops.Route {
	at, followers := placeOf(r, have)
	op := netops.Operation{Verb: netops.Append, Object: r}
	if at.first && !r.Is6() {
		op.Verb = netops.Prepend
	}
	if refusals := n.run(ctx, []netops.Operation{op}, nil, true); len(refusals) > 0 {
		*failed = append(*failed, refusals...)
		return have
	}
	if at.between && !r.Is6() && n.accepts(ctx, followers) {
		*failed = append(*failed, n.rotate(ctx, followers)...)
	}
	return slices.Insert(slices.Clone(have), at.index, *r)
}

// wouldTake reports whether the kernel would take routes again that it has: it
// may not, where an interface route behind a gateway has gone. It is asked by
// way of a table that no rule leads to.
func (n *Netns) accepts(ctx context.Context, routes []*netops.Route) bool {
	const nowhere = 1<<32 - netops.Protocol
	taken := true
	for _, r := range routes {
		probe := r.InTable(nowhere)
		add := netops.Operation{Verb: netops.Append, Object: &probe}
		del := netops.Operations(netops.Delete, []*netops.Route{&probe})
		n.run(ctx, del, nil, true) // what a killed process has left
		taken = len(n.run(ctx, append([]netops.Operation{add}, del...), nil, true)) == 0 && taken
	}
	return taken
}

// rotate takes routes out and appends them again, each in one send, so that
// nothing comes between. One that does not come back at once is tried again.
func (n *Netns) rotate(ctx context.Context, routes []*netops.Route) (failed []*netops.OpError) {
	for _, r := range routes {
		back := netops.Operation{Verb: netops.Append, Object: r}
		refusals := n.run(ctx, append(netops.Operations(netops.Delete, []*netops.Route{r}), back), nil, true)
		if len(refusals) > 0 && !refusals[0].Adds() {
			failed = append(failed, refusals[0]) // it was not even taken out
			continue
		}
		for range maxTries {
			if len(refusals) == 0 {
				break
			}
			refusals = n.run(ctx, []netops.Operation{back}, nil, true)
		}
		failed = append(failed, refusals...)
	}
	return failed
}

// standBeside lets a route go back beside a sibling that has come on another
// interface: that is another attachment's, put back before it, not a route in its
// place.
func standBeside(c *netops.Change, have []netops.Route) {
	deleted, ix := netops.IndexRoutes(c.Del.Routes), netops.IndexRoutes(have)
	for i := range c.Add.Routes {
		r := &c.Add.Routes[i]
		if r.Siblings != nil || r.Type.Rejects() {
			continue
		}
		var siblings []netops.Route
		for there := range ix.Siblings(r) {
			if there.Type.Rejects() || shareDevice(r, there) {
				siblings = nil
				break
			}
			if deleted.Find(there, (*netops.Route).SameRoute) == nil {
				siblings = append(siblings, there.Identity())
			}
		}
		r.Siblings, r.Position = siblings, len(siblings)
	}
}

func shareDevice(a, b *netops.Route) bool {
	return slices.ContainsFunc(a.NextHops(), func(h netops.NextHop) bool {
		return slices.ContainsFunc(b.NextHops(), func(o netops.NextHop) bool { return h.Dev == o.Dev })
	})
}

// possible reports whether the interfaces of a route are there.
func (n *Netns) possible(r *netops.Route) bool {
	_, err := deviceIndexes(r, n.index)
	return !errors.Is(err, netops.ErrNoLink)
}
