package kernel

import (
	"context"
	"errors"

	"github.com/cni-netops/plugins/internal/netops"
)

// Apply makes the change. It is all of it or nothing: after a refusal, or
// when ctx ends, what was done is taken back. The error tells every operation
// that was refused; where not everything could be taken back it is also
// ErrNotRestored.
func (n *Netns) Apply(ctx context.Context, c netops.Change) error {
	_, err := n.apply(ctx, c, false)
	return err
}

// Try makes the change, but goes on where a route cannot be added. It returns
// these failures. Everything else is as in Apply.
func (n *Netns) Try(ctx context.Context, c netops.Change) (failed []*netops.OpError, err error) {
	return n.apply(ctx, c, true)
}

func (n *Netns) apply(ctx context.Context, c netops.Change, lenient bool) (left []*netops.OpError, err error) {
	var done []netops.Operation
	left, failed := n.make(ctx, c, &done, lenient)
	if len(failed) == 0 && ctx.Err() == nil {
		return left, nil
	}
	_, told := partition(failed, func(e *netops.OpError) bool { return errors.Is(e.Err, errNotTried) })
	if err = join(told); err == nil {
		err = context.Cause(ctx)
	}
	ctx = context.WithoutCancel(ctx)
	undo := changed(done)
	c.Remember(&undo)
	if back := n.Rescue(ctx, n.Undo(ctx, undo)); back != nil {
		err = &netops.NotRestoredError{Err: err, Back: back}
	}
	return nil, err
}

// make makes a change in its order, up to the first part in which something
// fails. Where it is lenient, routes that could not be added are left out.
func (n *Netns) make(ctx context.Context, c netops.Change, done *[]netops.Operation, lenient bool) (left, failed []*netops.OpError) {
	routes := c.RouteSteps()
	for _, at := range c.Order() {
		switch at {
		case netops.DropRoutes:
			failed = n.delete(ctx, routes.Del, done)
		case netops.ExchangeRoutes:
			failed = n.exchange(ctx, routes.Exchanges, nil, done, false)
		case netops.AddRoutes:
			failed = n.run(ctx, netops.Additions(routes.Add), done, lenient)
			if lenient {
				left, failed = partition(failed, func(e *netops.OpError) bool { return refused(e.Err) && !errors.Is(e.Err, errNotTried) })
			}
		default:
			failed = n.makeAt(ctx, &c, at, done)
		}
		if len(failed) > 0 {
			break
		}
	}
	return left, failed
}

// delete deletes routes that a snapshot has listed. That the kernel finds one
// no more counts only when it is not listed any more, either.
func (n *Netns) delete(ctx context.Context, routes []*netops.Route, done *[]netops.Operation) []*netops.OpError {
	earlier := len(*done)
	failed := n.remove(ctx, routes, done, false)
	made := (*done)[earlier:]
	if len(failed) > 0 || len(made) == len(routes) {
		return failed
	}
	deleted := make(map[netops.Object]bool, len(made))
	for _, op := range made {
		deleted[op.Object] = true
	}
	_, missed := partition(routes, func(r *netops.Route) bool { return deleted[r] })
	have, err := n.around(ctx, missed)
	if err != nil {
		return failures(netops.Operations(netops.Delete, missed), err)
	}
	ix := netops.IndexRoutes(have)
	there, _ := partition(missed, func(r *netops.Route) bool { return ix.Find(r, (*netops.Route).SameRoute) != nil })
	return failures(netops.Operations(netops.Delete, there), netops.ErrStillThere)
}

// remove deletes routes, each the one that is meant: where others had the slot
// of one, the kernel may take one of these for it.
func (n *Netns) remove(ctx context.Context, routes []*netops.Route, done *[]netops.Operation, continueOnError bool) []*netops.OpError {
	company, alone := partition(routes, func(r *netops.Route) bool { return len(r.Siblings) > 0 && !r.Is6() })
	failed := n.run(ctx, netops.Operations(netops.Delete, alone), done, continueOnError)
	if len(company) == 0 || (len(failed) > 0 && !continueOnError) {
		return failed
	}
	have, err := n.around(ctx, company)
	if err != nil {
		return append(failed, failures(netops.Operations(netops.Delete, company), err)...)
	}
	inOrder, hidden := orderly(company, have)
	failed = append(failed, n.run(ctx, netops.Operations(netops.Delete, inOrder), done, continueOnError)...)
	for _, r := range hidden {
		if len(failed) == 0 || continueOnError {
			failed = append(failed, n.uncover(ctx, r, done)...)
		}
	}
	return failed
}

// uncover deletes a route that stands behind others which the kernel would
// delete for it: these go to the end first, and after it all of the slot come
// into their old order again.
func (n *Netns) uncover(ctx context.Context, r *netops.Route, done *[]netops.Operation) []*netops.OpError {
	have, err := n.around(ctx, []*netops.Route{r})
	if err != nil {
		return failures(netops.Operations(netops.Delete, []*netops.Route{r}), err)
	}
	inTheWay, behind := inTheWayOf(r, have)
	if !n.accepts(ctx, inTheWay) {
		return failures(netops.Operations(netops.Delete, []*netops.Route{r}), netops.ErrCannotDelete)
	}
	// A rotation deletes what stands first, which is what is in the way.
	if failed := n.rotate(ctx, inTheWay); len(failed) > 0 {
		return failed
	}
	if failed := n.run(ctx, netops.Operations(netops.Delete, []*netops.Route{r}), done, false); len(failed) > 0 {
		return failed
	}
	if n.accepts(ctx, behind) {
		return n.rotate(ctx, behind)
	}
	return nil
}

// exchange gives routes the places of others: there is no moment without either,
// unless siblings stand behind the old one; then it goes first, and comes back if
// the new one is refused.
func (n *Netns) exchange(ctx context.Context, list []netops.Exchange, have []netops.Route, done *[]netops.Operation, continueOnError bool) (failed []*netops.OpError) {
	for _, x := range list {
		first, second := x.Operations(have)
		refusals := n.half(ctx, first, done, continueOnError)
		if len(refusals) == 0 {
			refusals = n.half(ctx, second, done, continueOnError)
			if len(refusals) > 0 && continueOnError && first.Deletes() {
				back := netops.Operation{Verb: second.Verb, Object: x.Out}
				refusals = append(refusals, n.run(ctx, []netops.Operation{back}, nil, true)...)
			}
		}
		for _, r := range refusals {
			r.Exchange = true
		}
		if failed = append(failed, refusals...); len(failed) > 0 && !continueOnError {
			return failed
		}
	}
	return failed
}

// half is one of the two operations of an exchange.
func (n *Netns) half(ctx context.Context, op netops.Operation, done *[]netops.Operation, continueOnError bool) []*netops.OpError {
	if r, ok := op.Object.(*netops.Route); ok && op.Deletes() {
		return n.remove(ctx, []*netops.Route{r}, done, continueOnError)
	}
	return n.run(ctx, []netops.Operation{op}, done, continueOnError)
}
