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
	_, told := netops.Partition(failed, func(e *netops.OpError) bool { return errors.Is(e.Err, errNotTried) })
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
			failed = n.rearrange(ctx, routes, done)
		case netops.AddRoutes:
			failed = n.run(ctx, netops.Additions(routes.Add), done, lenient)
			if lenient {
				left, failed = netops.Partition(failed, func(e *netops.OpError) bool { return certainlyNotDone(e.Err) && !errors.Is(e.Err, errNotTried) })
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
	failed := n.run(ctx, netops.OperationsOn(netops.Delete, routes), done, false)
	made := (*done)[earlier:]
	if len(failed) > 0 || len(made) == len(routes) {
		return failed
	}
	deleted := make(map[netops.Object]bool, len(made))
	for _, op := range made {
		deleted[op.Object] = true
	}
	_, missed := netops.Partition(routes, func(r *netops.Route) bool { return deleted[r] })
	return n.stillThere(ctx, missed, (*netops.Route).SameRoute)
}

// stillThere are those of some routes that the kernel lists, although it did not find
// all of them when they were to be deleted.
func (n *Netns) stillThere(ctx context.Context, routes []*netops.Route, same func(r, have *netops.Route) bool) []*netops.OpError {
	have, err := n.around(ctx, routes)
	if err != nil {
		return failures(netops.OperationsOn(netops.Delete, routes), err)
	}
	ix := netops.IndexRoutes(have)
	there, _ := netops.Partition(routes, func(r *netops.Route) bool { return ix.Find(r, same) != nil })
	return failures(netops.OperationsOn(netops.Delete, there), netops.ErrStillThere)
}

// rearrange deletes IPv4 routes that have siblings, of which the kernel may take
// one for them, and gives routes the places of others.
func (n *Netns) rearrange(ctx context.Context, steps netops.RouteSteps, done *[]netops.Operation) []*netops.OpError {
	routes := steps.Leaving()
	if len(routes) == 0 {
		return nil
	}
	have, err := n.around(ctx, routes)
	if err != nil {
		return failures(netops.OperationsOn(netops.Delete, routes), err)
	}
	all := netops.Arrange(have, steps)
	earlier := len(*done)
	if failed := n.makeArranged(ctx, all, done, false); len(failed) > 0 {
		return failed
	}
	var leaving []*netops.Route
	for _, a := range all {
		leaving = append(leaving, a.Leaving()...)
	}
	if gone, _ := netops.Partition((*done)[earlier:], netops.Operation.Deletes); len(gone) == len(leaving) {
		return nil
	}
	return n.stillThere(ctx, leaving, (*netops.Route).SameAttributes)
}
