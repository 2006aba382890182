package netops

import (
	"context"
	"errors"
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
	if err := c.manageable(); err != nil {
		return nil, err
	}
	var done []operation
	left, failed := n.make(ctx, c, &done, lenient)
	if len(failed) == 0 && ctx.Err() == nil {
		return left, nil
	}
	_, told := split(failed, func(e *OpError) bool { return errors.Is(e.Err, errNotTried) })
	if err = join(told); err == nil {
		err = context.Cause(ctx)
	}
	ctx = context.WithoutCancel(ctx)
	undo := changed(done)
	if kinds != nil {
		kinds.remember(&c, &undo)
	}
	if back := n.Rescue(ctx, n.Undo(ctx, undo)); back != nil {
		err = &NotRestoredError{err, back}
	}
	return nil, err
}

// make makes a change in its order, up to the first part in which something
// fails. Where it is lenient, routes that could not be added are left out.
func (n *Netns) make(ctx context.Context, c Change, done *[]operation, lenient bool) (left, failed []*OpError) {
	parts := c.parts()
	for _, at := range c.order() {
		switch at {
		case dropRoutes:
			failed = n.delete(ctx, parts.del, done)
		case swapRoutes:
			failed = n.swap(ctx, parts.swaps, nil, done, false)
		case addRoutes:
			failed = n.run(ctx, additions(parts.add), done, lenient)
			if lenient {
				left, failed = split(failed, func(e *OpError) bool { return refused(e.Err) && !errors.Is(e.Err, errNotTried) })
			}
		default:
			failed = n.makeObjects(ctx, &c, at, done)
		}
		if len(failed) > 0 {
			break
		}
	}
	return left, failed
}

// delete deletes routes that a snapshot has listed. That the kernel finds one
// no more counts only when it is not listed any more, either.
func (n *Netns) delete(ctx context.Context, routes []*Route, done *[]operation) []*OpError {
	earlier := len(*done)
	failed := n.remove(ctx, routes, done, false)
	made := (*done)[earlier:]
	if len(failed) > 0 || len(made) == len(routes) {
		return failed
	}
	deleted := make(map[*Route]bool, len(made))
	for _, op := range made {
		deleted[op.route] = true
	}
	_, missed := split(routes, func(r *Route) bool { return deleted[r] })
	have, err := n.around(ctx, missed)
	if err != nil {
		return failures(deletions(missed), err)
	}
	ix := newIndex(have)
	there, _ := split(missed, func(r *Route) bool { return ix.find(r, r.SameRoute) != none })
	return failures(deletions(there), ErrStillThere)
}

// remove deletes routes, each the one that is meant: where others had the slot
// of one, the kernel may take one of these for it.
func (n *Netns) remove(ctx context.Context, routes []*Route, done *[]operation, goOn bool) []*OpError {
	company, alone := split(routes, func(r *Route) bool { return len(r.Siblings) > 0 && !r.Is6() })
	failed := n.run(ctx, deletions(alone), done, goOn)
	if len(company) == 0 || (len(failed) > 0 && !goOn) {
		return failed
	}
	have, err := n.around(ctx, company)
	if err != nil {
		return append(failed, failures(deletions(company), err)...)
	}
	inOrder, hidden := orderly(company, have)
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
	have, err := n.around(ctx, []*Route{r})
	if err != nil {
		return failures(deletions([]*Route{r}), err)
	}
	inTheWay, behind := cover(r, have)
	if !n.accepts(ctx, inTheWay) {
		return failures(deletions([]*Route{r}), ErrCannotDelete)
	}
	// A rotation deletes what stands first, which is what is in the way.
	if failed := n.rotate(ctx, inTheWay); len(failed) > 0 {
		return failed
	}
	if failed := n.run(ctx, deletions([]*Route{r}), done, false); len(failed) > 0 {
		return failed
	}
	if n.accepts(ctx, behind) {
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
		case e.Key() != r.Key():
		case r.SameRoute(e):
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
	if p, ok := ops[0].object.(performer); ok { // a stage has no others beside them
		return p.perform(n, ops[:min(limit, len(ops))])
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
