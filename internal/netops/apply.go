package netops

import (
	"context"
	"errors"
	"fmt"
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
	var done Change
	failed := n.run(ctx, operations(unix.RTM_DELROUTE, c.Del.Routes), &done, false)
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
	if back := n.Undo(context.WithoutCancel(ctx), done); back != nil {
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
	have, err := n.Snapshot(ctx, Query{Tables: done.Tables()})
	if err != nil {
		return err
	}
	todo, _ := done.Reverse().Needed(have.State)
	failed := n.run(ctx, operations(unix.RTM_DELROUTE, todo.Del.Routes), nil, true)
	failed = append(failed, n.addAll(ctx, n.possible(todo.Add.Routes), nil, true)...)
	return join(failed)
}

// possible drops routes over interfaces that are gone.
func (n *Netns) possible(routes []Route) []Route {
	var left []Route
	for _, r := range routes {
		if _, err := deviceIndexes(r, n.index); !errors.Is(err, ErrNoLink) {
			left = append(left, r)
		}
	}
	return left
}

// addAll adds routes in the order of their dependencies: exclusively, or in
// their place among those that the plan expects there.
func (n *Netns) addAll(ctx context.Context, routes []Route, done *Change, goOn bool) []*OpError {
	among, exclusive := split(byDependency(routes), func(r Route) bool { return r.Peers != nil })
	failed := n.run(ctx, operations(unix.RTM_NEWROUTE, exclusive), done, goOn)
	if len(among) == 0 || (len(failed) > 0 && !goOn) {
		return failed
	}
	have, err := n.Snapshot(ctx, Query{Tables: Change{Add: State{Routes: among}}.Tables()})
	if err != nil {
		return append(failed, failures(operations(unix.RTM_NEWROUTE, among), err)...)
	}
	return append(failed, n.run(ctx, insertions(among, have.Routes), done, goOn)...)
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

// operation is one message to the kernel.
type operation struct {
	typ   uint16 // RTM_NEWROUTE or RTM_DELROUTE
	flags uint16
	route Route
	// rotated marks a route of somebody else that is taken out and appended
	// again, so that one before it gets its place back.
	rotated bool
}

func (o operation) String() string {
	verb := "add"
	switch {
	case o.typ == unix.RTM_DELROUTE:
		verb = "del"
	case o.flags&unix.NLM_F_APPEND != 0:
		verb = "append"
	case o.flags&unix.NLM_F_EXCL == 0:
		verb = "prepend"
	}
	return o.route.command(verb)
}

func operations(typ uint16, routes []Route) []operation {
	flags := uint16(0)
	if typ == unix.RTM_NEWROUTE {
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	ops := make([]operation, len(routes))
	for i, r := range routes {
		ops[i] = operation{typ: typ, flags: flags, route: r}
	}
	return ops
}

// insertions puts routes back among the others of their slots, of which have
// lists what is there now. IPv4 prepends or appends: for a place in between,
// those that follow are taken out and appended again. IPv6 keeps no order.
func insertions(routes, have []Route) []operation {
	var ops []operation
	now := map[Slot][]Route{}
	for _, h := range have {
		now[h.Slot()] = append(now[h.Slot()], h)
	}
	for _, r := range routes {
		list := now[r.Slot()]
		at := place(r, list)
		flags := uint16(unix.NLM_F_CREATE)
		if at > 0 || len(list) == 0 {
			flags |= unix.NLM_F_APPEND
		}
		if r.is6() {
			flags, at = unix.NLM_F_CREATE, len(list)
		}
		ops = append(ops, operation{typ: unix.RTM_NEWROUTE, flags: flags, route: r})
		if at > 0 {
			for _, f := range list[at:] {
				f.Peers, f.Rank = []Route{r.identity()}, 1 // should it be left out: last
				ops = append(ops, operation{typ: unix.RTM_DELROUTE, route: f, rotated: true},
					operation{typ: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_APPEND, route: f, rotated: true})
			}
		}
		list = append(list[:at:at], append([]Route{r}, list[at:]...)...)
		now[r.Slot()] = list
	}
	return ops
}

// place is where in list r goes: before the first that stood after it.
func place(r Route, list []Route) int {
	for i, have := range list {
		for _, follower := range r.Peers[r.Rank:] {
			if follower.Is(have) && follower.Protocol == have.Protocol {
				return i
			}
		}
	}
	return len(list)
}

// run sends operations in order, in batches whose answers are all read before
// the next is sent. It notes in done, where that is given, what was done or may
// have been. Unless it is to go on, it stops after a batch in which something
// failed; operations that were not tried fail with errNotTried. To delete what
// is gone already is no failure.
func (n *Netns) run(ctx context.Context, ops []operation, done *Change, goOn bool) (failed []*OpError) {
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
				op.note(done)
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
	sent, last := 0, 0
	for sent < min(limit, len(ops)) && len(n.conn.send) < maxBatchBytes {
		last = len(n.conn.send)
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

// encode writes the operation's message into the send buffer.
func (n *Netns) encode(op operation) (err error) {
	c := n.conn
	start := c.message(op.typ, op.flags)
	if c.send, err = appendRoute(c.send, op.route, n.index); err == nil {
		c.finish(start)
	}
	return err
}

// note keeps what the operation did.
func (o operation) note(done *Change) {
	switch {
	case o.typ == unix.RTM_DELROUTE:
		done.Del.Routes = append(done.Del.Routes, o.route)
	case o.rotated:
		done.Del.Routes = done.Del.Routes[:len(done.Del.Routes)-1] // it is back
	default:
		done.Add.Routes = append(done.Add.Routes, o.route)
	}
}

// gone reports whether what was to be deleted is not there.
func (o operation) gone(err error) bool {
	return o.typ == unix.RTM_DELROUTE &&
		(errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) || errors.Is(err, ErrNoLink))
}

func (o operation) failure(err error) *OpError {
	return &OpError{Op: o.String(), Err: err, Route: o.route}
}

func failures(ops []operation, err error) []*OpError {
	failed := make([]*OpError, len(ops))
	for i, op := range ops {
		failed[i] = op.failure(err)
	}
	return failed
}

// join is one error for all. Operations of one send whose answers were lost
// share their error, which is told once.
func join(failed []*OpError) error {
	var errs []error
	for i, e := range failed {
		if lost := new(lostError); i > 0 && errors.As(e.Err, &lost) && e.Err == failed[i-1].Err {
			continue
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}
