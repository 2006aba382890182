package netops

import (
	"context"
	"errors"
	"fmt"
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
	failed := n.run(ctx, operations(unix.RTM_DELROUTE, pointers(c.Del.Routes)), &done, false)
	if len(failed) == 0 {
		failed = n.addAll(ctx, c.Add.Routes, &done, lenient)
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
	if back := n.Undo(context.WithoutCancel(ctx), changed(done)); back != nil {
		err = fmt.Errorf("%w; %w: %w", err, ErrNotRestored, back)
	}
	return nil, err
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
	failed := n.run(ctx, operations(unix.RTM_DELROUTE, pointers(todo.Del.Routes)), nil, true)
	failed = append(failed, n.addAll(ctx, n.possible(todo.Add.Routes), nil, true)...)
	return join(failed)
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

// possible drops routes over interfaces that are gone.
func (n *Netns) possible(routes []Route) []Route {
	var left []Route
	for i := range routes {
		if _, err := deviceIndexes(&routes[i], n.index); !errors.Is(err, ErrNoLink) {
			left = append(left, routes[i])
		}
	}
	return left
}

// addAll adds routes in the order of their dependencies: exclusively, or in
// their place among those that the plan expects there.
func (n *Netns) addAll(ctx context.Context, routes []Route, done *[]operation, goOn bool) []*OpError {
	among, exclusive := split(byDependency(routes), func(r *Route) bool { return r.Peers != nil })
	failed := n.run(ctx, operations(unix.RTM_NEWROUTE, exclusive), done, goOn)
	if len(among) == 0 || (len(failed) > 0 && !goOn) {
		return failed
	}
	have, err := n.Snapshot(ctx, Query{Tables: Change{Add: State{Routes: routes}}.Tables(), To: destinations(among)})
	if err != nil {
		return append(failed, failures(operations(unix.RTM_NEWROUTE, among), err)...)
	}
	return append(failed, n.run(ctx, insertions(among, have.Routes), done, goOn)...)
}

func pointers(routes []Route) []*Route {
	list := make([]*Route, len(routes))
	for i := range routes {
		list[i] = &routes[i]
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
