package netops

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Undo takes back what was done, as far as it is still there: what is gone
// already is fine, and so is an interface that is gone with its routes. It
// goes on after a failure; the error joins an OpError for each.
func (n *Netns) Undo(ctx context.Context, done Change) error {
	if done.IsZero() {
		return nil
	}
	if err := done.manageable(); err != nil {
		return err
	}
	q := Query{To: map[netip.Prefix]bool{}}
	q.Cover(done)
	have, err := n.Snapshot(ctx, q)
	if err != nil {
		return err
	}
	todo, _ := done.Reverse().Needed(have.State)
	todo.standBeside(have.Routes)
	parts := todo.parts()
	failed := n.undoObjects(ctx, &todo, []stage{setSysctls})
	if done.AddFirst { // no moment without a way on the way back, either
		failed = append(failed, n.restore(ctx, parts, have.Routes)...)
	}
	failed = append(failed, n.undoObjects(ctx, &todo, []stage{dropRules, addRules})...)
	failed = append(failed, n.remove(ctx, parts.del, nil, true)...)
	if !done.AddFirst {
		failed = append(failed, n.restore(ctx, parts, have.Routes)...)
	}
	// A new hardware address takes neighbours away, and to switch IPv6 off again
	// flushes the interface's routes and addresses.
	return join(append(failed, n.undoObjects(ctx, &todo, []stage{dropNeighs, setLinks, restoreNeighs, addNeighs, switchIPv6})...))
}

// undoObjects takes stages back. What an interface that is gone had went with
// it.
func (n *Netns) undoObjects(ctx context.Context, todo *Change, stages []stage) (failed []*OpError) {
	for _, s := range stages {
		failed = append(failed, n.makeObjects(ctx, todo, s, nil)...)
	}
	return slices.DeleteFunc(failed, (*OpError).Missing)
}

// restore puts back routes that had to go. What is left of one stays where the
// whole cannot come back.
func (n *Netns) restore(ctx context.Context, p parts, have []Route) []*OpError {
	swaps, _ := split(p.swaps, func(s swap) bool { return n.possible(s.in) })
	failed := n.swap(ctx, swaps, have, nil, true)
	back, _ := split(p.add, n.possible)
	return append(failed, n.putBack(ctx, back)...)
}

// Rescue tries once more what an Undo could not put back because its gateway
// was out of reach: others that came back since may lead there, and if not, it
// goes back as an on-link route by the same way. It returns what is left of
// the error.
func (n *Netns) Rescue(ctx context.Context, err error) error {
	var failures Failures
	if !errors.As(err, &failures) {
		return err
	}
	var left []*OpError
	for _, f := range failures {
		if !f.Adds || f.swap || f.object != nil || !unreachable(f.Err) || !n.rescued(ctx, &f.Route) {
			left = append(left, f)
		}
	}
	return join(left)
}

// rescued puts a route back after others, in the end as an on-link one. What a
// multipath route has of others is not made so.
func (n *Netns) rescued(ctx context.Context, r *Route) bool {
	if len(n.putBack(ctx, []*Route{r})) == 0 {
		return true
	}
	onLink := r.asOnLink()
	return r.single() && len(n.putBack(ctx, []*Route{&onLink})) == 0
}

// unreachable reports whether the kernel refused a gateway.
func unreachable(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH)
}

// putBack adds routes that were removed: exclusively, or in their place among
// those that were there beside them.
func (n *Netns) putBack(ctx context.Context, routes []*Route) []*OpError {
	among, exclusive := split(routes, func(r *Route) bool { return r.Siblings != nil })
	failed := n.run(ctx, additions(exclusive), nil, true)
	if len(among) == 0 {
		return failed
	}
	have, err := n.around(ctx, among)
	if err != nil {
		return append(failed, failures(additions(among), err)...)
	}
	for _, r := range among {
		have = n.insert(ctx, r, have, &failed)
	}
	return failed
}

// insert puts a route back among the others of its slot, and returns the
// routes with it. IPv4 prepends or appends: for a place in between, those that
// follow are taken out and appended again. IPv6 keeps no order.
func (n *Netns) insert(ctx context.Context, r *Route, have []Route, failed *[]*OpError) []Route {
	at, followers := place(r, have)
	op := operation{typ: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE, route: r}
	if !r.Is6() && !at.first {
		op.flags |= unix.NLM_F_APPEND
	}
	if refusals := n.run(ctx, []operation{op}, nil, true); len(refusals) > 0 {
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
func (n *Netns) accepts(ctx context.Context, routes []*Route) bool {
	const nowhere = 1<<32 - Protocol
	taken := true
	for _, r := range routes {
		probe := r.inTable(nowhere)
		add := operation{typ: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_APPEND, route: &probe}
		del := deletions([]*Route{&probe})
		n.run(ctx, del, nil, true) // what a killed process has left
		taken = len(n.run(ctx, append([]operation{add}, del...), nil, true)) == 0 && taken
	}
	return taken
}

// rotate takes routes out and appends them again, each in one send, so that
// nothing comes between. One that does not come back at once is tried again.
func (n *Netns) rotate(ctx context.Context, routes []*Route) (failed []*OpError) {
	for _, r := range routes {
		back := operation{typ: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_APPEND, route: r}
		refusals := n.run(ctx, append(deletions([]*Route{r}), back), nil, true)
		if len(refusals) > 0 && !refusals[0].Adds {
			failed = append(failed, refusals[0]) // it was not even taken out
			continue
		}
		for range maxTries {
			if len(refusals) == 0 {
				break
			}
			refusals = n.run(ctx, []operation{back}, nil, true)
		}
		failed = append(failed, refusals...)
	}
	return failed
}

// standBeside lets a route go back beside one of its slot that has come on
// another interface: that is another attachment's, put back before it, not
// somebody in its place.
func (c *Change) standBeside(have []Route) {
	deleted, ix := newIndex(c.Del.Routes), newIndex(have)
	for i := range c.Add.Routes {
		r := &c.Add.Routes[i]
		if r.Siblings != nil || r.Type.Rejects() {
			continue
		}
		var peers []Route
		for at := range ix.slots.All(r.Key()) {
			there := &ix.routes[at]
			if there.Type.Rejects() || shareDevice(r, there) {
				peers = nil
				break
			}
			if deleted.find(there, there.SameRoute) == none {
				peers = append(peers, there.identity())
			}
		}
		r.Siblings, r.Position = peers, len(peers)
	}
}

func shareDevice(a, b *Route) bool {
	return slices.ContainsFunc(a.NextHops(), func(h NextHop) bool {
		return slices.ContainsFunc(b.NextHops(), func(o NextHop) bool { return h.Dev == o.Dev })
	})
}

// possible reports whether the interfaces of a route are there.
func (n *Netns) possible(r *Route) bool {
	_, err := deviceIndexes(r, n.index)
	return !errors.Is(err, ErrNoLink)
}
