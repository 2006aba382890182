package netops

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Apply makes the change. It is all of it or nothing: after a refusal, or
// when ctx ends, what was done is taken back. The error tells every operation
// that was refused; where not everything could be taken back it is also
// ErrNotRestored.
func (n *Netns) Apply(ctx context.Context, c Change) error {
	_, err := n.apply(ctx, c, false)
	return err
}

// Try makes the change, but goes on where a route cannot be added. It returns
// these failures. Everything else is as in Apply.
func (n *Netns) Try(ctx context.Context, c Change) (failed []*OpError, err error) {
	return n.apply(ctx, c, true)
}

func (n *Netns) apply(ctx context.Context, c Change, lenient bool) (left []*OpError, err error) {
	var done []operation
	parts := c.parts()
	failed := n.delete(ctx, parts.del, &done)
	if len(failed) == 0 {
		failed = n.swap(ctx, parts.swaps, nil, &done, false)
	}
	if len(failed) == 0 {
		failed = n.run(ctx, additions(parts.add), &done, lenient)
		if lenient {
			left, failed = split(failed, func(e *OpError) bool { return refused(e.Err) && !errors.Is(e.Err, errNotTried) })
		}
	}
	if len(failed) == 0 && ctx.Err() == nil {
		return left, nil
	}
	_, told := split(failed, func(e *OpError) bool { return errors.Is(e.Err, errNotTried) })
	if err = join(told); err == nil {
		err = context.Cause(ctx)
	}
	ctx = context.WithoutCancel(ctx)
	if back := n.Rescue(ctx, n.Undo(ctx, changed(done))); back != nil {
		err = &NotRestoredError{err, back}
	}
	return nil, err
}

// delete deletes routes that a snapshot has listed. That the kernel finds one
// no more counts only when it is not listed any more, either.
func (n *Netns) delete(ctx context.Context, routes []*Route, done *[]operation) []*OpError {
	failed := n.remove(ctx, routes, done, false)
	if len(failed) > 0 || len(*done) == len(routes) {
		return failed
	}
	deleted := make(map[*Route]bool, len(*done))
	for _, op := range *done {
		deleted[op.route] = true
	}
	_, missed := split(routes, func(r *Route) bool { return deleted[r] })
	have, err := n.Snapshot(ctx, Query{Tables: Change{Del: State{Routes: values(missed)}}.Tables(), To: destinations(missed)})
	if err != nil {
		return failures(deletions(missed), err)
	}
	ix := newIndex(have.Routes)
	there, _ := split(missed, func(r *Route) bool { return ix.find(r, r.Is) != none })
	return failures(deletions(there), ErrStillThere)
}

// remove deletes routes, each the one that is meant: where others had the slot
// of one, the kernel may take one of these for it.
func (n *Netns) remove(ctx context.Context, routes []*Route, done *[]operation, goOn bool) []*OpError {
	company, alone := split(routes, func(r *Route) bool { return len(r.Peers) > 0 && !r.is6() })
	failed := n.run(ctx, deletions(alone), done, goOn)
	if len(company) == 0 || (len(failed) > 0 && !goOn) {
		return failed
	}
	have, err := n.Snapshot(ctx, Query{Tables: Change{Del: State{Routes: values(company)}}.Tables(), To: destinations(company)})
	if err != nil {
		return append(failed, failures(deletions(company), err)...)
	}
	inOrder, hidden := orderly(company, have.Routes)
	failed = append(failed, n.run(ctx, deletions(inOrder), done, goOn)...)
	for _, r := range hidden {
		if len(failed) == 0 || goOn {
			failed = append(failed, n.uncover(ctx, r, done)...)
		}
	}
	return failed
}

// uncover deletes a route that stands behind others which the kernel would
// delete for it: these go to the end first, and after it all of the slot come
// into their old order again.
func (n *Netns) uncover(ctx context.Context, r *Route, done *[]operation) []*OpError {
	have, err := n.Snapshot(ctx, Query{Tables: []uint32{r.Table}, To: destinations([]*Route{r})})
	if err != nil {
		return failures(deletions([]*Route{r}), err)
	}
	inTheWay, behind := cover(r, have.Routes)
	if !n.wouldTake(ctx, inTheWay) {
		return failures(deletions([]*Route{r}), ErrCannotDelete)
	}
	// A rotation deletes what stands first, which is what is in the way.
	if failed := n.rotate(ctx, inTheWay); len(failed) > 0 {
		return failed
	}
	if failed := n.run(ctx, deletions([]*Route{r}), done, false); len(failed) > 0 {
		return failed
	}
	if n.wouldTake(ctx, behind) {
		return n.rotate(ctx, behind)
	}
	return nil
}

// cover is what stands before r and would be deleted for it, and all others of
// the slot that stand behind the first of these.
func cover(r *Route, have []Route) (inTheWay, behind []*Route) {
	met := false
	for i := range have {
		switch e := &have[i]; {
		case e.Slot() != r.Slot():
		case r.Is(e):
			met = true
		case !met && e.takenFor(r):
			if inTheWay != nil {
				behind = append(behind, e)
			}
			inTheWay = append(inTheWay, e)
		case inTheWay != nil:
			behind = append(behind, e)
		}
	}
	return inTheWay, behind
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
		if !f.Adds || f.swap || !unreachable(f.Err) || !n.rescued(ctx, &f.Route) {
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

// Undo takes back what was done, as far as it is still there: what is gone
// already is fine, and so is an interface that is gone with its routes. It
// goes on after a failure; the error joins an OpError for each.
func (n *Netns) Undo(ctx context.Context, done Change) error {
	if done.IsZero() {
		return nil
	}
	touched := append(pointers(done.Del.Routes), pointers(done.Add.Routes)...)
	have, err := n.Snapshot(ctx, Query{Tables: done.Tables(), To: destinations(touched)})
	if err != nil {
		return err
	}
	todo, _ := done.Reverse().Needed(have.State)
	todo.standBeside(have.State)
	parts := todo.parts()
	failed := n.remove(ctx, parts.del, nil, true)
	// What is left of a route stays where the whole cannot come back.
	swaps, _ := split(parts.swaps, func(s swap) bool { return n.possible(s.in) })
	failed = append(failed, n.swap(ctx, swaps, have.Routes, nil, true)...)
	back, _ := split(parts.add, n.possible)
	return join(append(failed, n.putBack(ctx, back)...))
}

// swap gives routes the places of others. In a list of routes of one slot, a
// deletion may hit one that has only the first of its ways; so the new one is
// appended, and the old one, which stands before it, deleted: there is no
// moment without either. Where others stand behind the old one it goes first,
// and comes back if the new one is refused.
func (n *Netns) swap(ctx context.Context, swaps []swap, have []Route, done *[]operation, goOn bool) (failed []*OpError) {
	for _, s := range swaps {
		first, second := s.operations(have)
		refusals := n.step(ctx, first, done, goOn)
		if len(refusals) == 0 {
			refusals = n.step(ctx, second, done, goOn)
			if len(refusals) > 0 && goOn && first.typ == unix.RTM_DELROUTE {
				back := operation{typ: unix.RTM_NEWROUTE, flags: second.flags, route: s.out}
				refusals = append(refusals, n.run(ctx, []operation{back}, nil, true)...)
			}
		}
		for _, r := range refusals {
			r.swap = true
		}
		if failed = append(failed, refusals...); len(failed) > 0 && !goOn {
			return failed
		}
	}
	return failed
}

// step is one half of a swap.
func (n *Netns) step(ctx context.Context, op operation, done *[]operation, goOn bool) []*OpError {
	if op.typ == unix.RTM_DELROUTE {
		return n.remove(ctx, []*Route{op.route}, done, goOn)
	}
	return n.run(ctx, []operation{op}, done, goOn)
}

// putBack adds routes that were removed: exclusively, or in their place among
// those that were there beside them.
func (n *Netns) putBack(ctx context.Context, routes []*Route) []*OpError {
	among, exclusive := split(routes, func(r *Route) bool { return r.Peers != nil })
	failed := n.run(ctx, additions(exclusive), nil, true)
	if len(among) == 0 {
		return failed
	}
	tables := Change{Add: State{Routes: values(among)}}.Tables()
	have, err := n.Snapshot(ctx, Query{Tables: tables, To: destinations(among)})
	if err != nil {
		return append(failed, failures(additions(among), err)...)
	}
	for _, r := range among {
		have.Routes = n.insert(ctx, r, have.Routes, &failed)
	}
	return failed
}

// insert puts a route back among the others of its slot, and returns the
// routes with it. IPv4 prepends or appends: for a place in between, those that
// follow are taken out and appended again. IPv6 keeps no order.
func (n *Netns) insert(ctx context.Context, r *Route, have []Route, failed *[]*OpError) []Route {
	at, followers := place(r, have)
	op := operation{typ: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE, route: r}
	if !r.is6() && !at.first {
		op.flags |= unix.NLM_F_APPEND
	}
	if refusals := n.run(ctx, []operation{op}, nil, true); len(refusals) > 0 {
		*failed = append(*failed, refusals...)
		return have
	}
	if at.between && !r.is6() && n.wouldTake(ctx, followers) {
		*failed = append(*failed, n.rotate(ctx, followers)...)
	}
	return slices.Insert(slices.Clone(have), at.index, *r)
}

// wouldTake reports whether the kernel would take routes again that it has: it
// may not, where an interface route behind a gateway has gone. It is asked by
// way of a table that no rule leads to.
func (n *Netns) wouldTake(ctx context.Context, routes []*Route) bool {
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
		for range maxDumps {
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
func (c *Change) standBeside(have State) {
	deleted, ix := newIndex(c.Del.Routes), newIndex(have.Routes)
	for i := range c.Add.Routes {
		r := &c.Add.Routes[i]
		if r.Peers != nil || r.Type.Rejects() {
			continue
		}
		var peers []Route
		for at := range ix.slots.All(r.Slot()) {
			there := &ix.routes[at]
			if there.Type.Rejects() || shareDevice(r, there) {
				peers = nil
				break
			}
			if deleted.find(there, there.Is) == none {
				peers = append(peers, there.identity())
			}
		}
		r.Peers, r.Rank = peers, len(peers)
	}
}

func shareDevice(a, b *Route) bool {
	return slices.ContainsFunc(a.Ways(), func(h NextHop) bool {
		return slices.ContainsFunc(b.Ways(), func(o NextHop) bool { return h.Dev == o.Dev })
	})
}

// possible reports whether the interfaces of a route are there.
func (n *Netns) possible(r *Route) bool {
	_, err := deviceIndexes(r, n.index)
	return !errors.Is(err, ErrNoLink)
}

func pointers(routes []Route) []*Route {
	list := make([]*Route, len(routes))
	for i := range routes {
		list[i] = &routes[i]
	}
	return list
}

func values(routes []*Route) []Route {
	list := make([]Route, len(routes))
	for i, r := range routes {
		list[i] = *r
	}
	return list
}

func destinations(routes []*Route) map[netip.Prefix]bool {
	to := make(map[netip.Prefix]bool, len(routes))
	for _, r := range routes {
		to[r.Dst] = true
	}
	return to
}

// split parts a list in two by a predicate.
func split[T any](list []T, first func(T) bool) (yes, no []T) {
	for _, x := range list {
		if first(x) {
			yes = append(yes, x)
		} else {
			no = append(no, x)
		}
	}
	return yes, no
}

// run sends operations in order, in batches whose answers are all read before
// the next is sent. It notes in done, where that is given, what was done or may
// have been. Unless it is to go on, it stops after a batch in which something
// failed; operations that were not tried fail with errNotTried. To delete what
// is gone already is no failure.
func (n *Netns) run(ctx context.Context, ops []operation, done *[]operation, goOn bool) (failed []*OpError) {
	if done != nil {
		*done = slices.Grow(*done, len(ops))
	}
	for len(ops) > 0 {
		if ctx.Err() != nil || (len(failed) > 0 && !goOn) {
			return append(failed, failures(ops, errNotTried)...)
		}
		began := time.Now()
		errs := n.batch(ctx, ops)
		took := time.Since(began)
		for i, err := range errs {
			op := ops[i]
			if n.OnSend != nil {
				n.OnSend(op.String(), took, err)
			}
			if done != nil && !refused(err) {
				*done = append(*done, op)
			}
			if err != nil && !op.gone(err) {
				failed = append(failed, op.failure(err))
			}
		}
		ops = ops[len(errs):]
	}
	return failed
}

// batch sends as many operations as fit and returns the error of each.
func (n *Netns) batch(ctx context.Context, ops []operation) []error {
	fault := faultOf(ctx)
	limit := maxBatch
	if fault != nil {
		limit = 1
		if err := fault(ctx, "before", ops[0].String()); err != nil {
			return []error{err}
		}
		defer func() { _ = fault(ctx, "after", ops[0].String()) }()
	}
	sent := 0
	for sent < min(limit, len(ops)) && len(n.conn.send) < maxBatchBytes {
		last := len(n.conn.send)
		if err := n.encode(ops[sent]); err != nil {
			n.conn.unsend(last)
			if sent == 0 {
				return []error{err}
			}
			break // by itself, when its turn comes
		}
		sent++
	}
	return n.conn.execute(sent)
}
