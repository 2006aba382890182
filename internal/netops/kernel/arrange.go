package kernel

import (
	"context"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
)

// makeArranged makes arrangements.
func (n *Netns) makeArranged(ctx context.Context, all []netops.Arrangement, done *[]netops.Operation, continueOnError bool) (failed []*netops.OpError) {
	for _, a := range all {
		if len(failed) > 0 && !continueOnError {
			break
		}
		ops, moved := a.Operations()
		if len(moved) > 0 && n.accepts(ctx, append(moved, a.Coming()...)) {
			made, refused := n.runMoving(ctx, ops, moved)
			arranged := len(refused) == 0 || n.arrangeAgain(ctx, a, !continueOnError)
			if len(refused) > 0 && (!arranged || !continueOnError) {
				failed = append(failed, refused...)
			}
			// What is taken back already is not taken back again: an undo would meet
			// others that look like it.
			if done != nil && (len(refused) == 0 || !arranged) {
				*done = append(*done, made...)
			}
			continue
		}
		var stuck []*netops.Route
		if len(moved) > 0 || ops == nil {
			ops, stuck = a.WithoutMoving()
		}
		failed = append(failed, failures(netops.OperationsOn(netops.Delete, stuck), netops.ErrCannotDelete)...)
		if len(stuck) == 0 || continueOnError {
			failed = append(failed, n.addThenDelete(ctx, a, ops, done, continueOnError)...)
		}
	}
	return failed
}

// addThenDelete runs operations that move no route: what is deleted goes when the
// rest is there.
func (n *Netns) addThenDelete(ctx context.Context, a netops.Arrangement, ops []netops.Operation, done *[]netops.Operation, continueOnError bool) []*netops.OpError {
	deletions, additions := netops.Partition(ops, netops.Operation.Deletes)
	failed := n.run(ctx, additions, done, continueOnError)
	if len(failed) > 0 {
		if !continueOnError {
			return failed
		}
		deletions = slices.DeleteFunc(deletions, func(op netops.Operation) bool { return a.IsRest(op.Object.(*netops.Route)) })
	}
	return append(failed, n.run(ctx, deletions, done, continueOnError)...)
}

// arrangeAgain makes an arrangement, or takes it back, after an operation that moves
// a route was refused: those after it, in the same send, have met other routes than
// they were meant for.
func (n *Netns) arrangeAgain(ctx context.Context, a netops.Arrangement, back bool) (made bool) {
	have, err := n.around(ctx, a.Listed())
	if err != nil {
		return false
	}
	again := a.Again(have, back)
	ops, _ := again.Operations()
	return again.Made() || len(ops) > 0 && len(n.run(ctx, ops, nil, true)) == 0
}

// runMoving runs operations of which some only move routes: these are no change,
// and go in one send with all others, so that nothing comes between. A route that
// does not come back at once is tried again. It returns the changes that were made.
func (n *Netns) runMoving(ctx context.Context, ops []netops.Operation, moved []*netops.Route) (changes []netops.Operation, failed []*netops.OpError) {
	moves := func(op netops.Operation) bool { return slices.Contains(moved, op.Object.(*netops.Route)) }
	var made []netops.Operation
	for _, f := range n.run(ctx, ops, &made, true) {
		again := moves(f.Operation) && f.Adds() && !f.Exists()
		for range maxTries {
			if !again || len(n.run(ctx, []netops.Operation{f.Operation}, nil, true)) == 0 {
				break
			}
		}
		if !again || !n.lists(ctx, f.Object.(*netops.Route)) {
			failed = append(failed, f)
		}
	}
	return slices.DeleteFunc(made, moves), failed
}

// lists reports whether the kernel has a route.
func (n *Netns) lists(ctx context.Context, r *netops.Route) bool {
	have, err := n.around(ctx, []*netops.Route{r})
	return err == nil && netops.IndexRoutes(have).Find(r, (*netops.Route).SameAttributes) != nil
}

// unusedTable is one that no rule leads to.
const unusedTable uint32 = 1<<32 - netops.Protocol

// accepts reports whether the kernel would take routes again that it has: it
// may not, where an interface route behind a gateway has gone. It is asked by
// way of unusedTable.
func (n *Netns) accepts(ctx context.Context, routes []*netops.Route) bool {
	taken := true
	for _, r := range routes {
		probe := r.InTable(unusedTable)
		add := netops.Operation{Verb: netops.Append, Object: &probe}
		del := netops.Operation{Verb: netops.Delete, Object: &probe}
		n.run(ctx, []netops.Operation{del}, nil, true) // what a killed process has left
		refused := n.run(ctx, []netops.Operation{add, del}, nil, true)
		for range maxTries {
			if !slices.ContainsFunc(refused, func(f *netops.OpError) bool { return f.Deletes() }) {
				break
			}
			refused = n.run(ctx, []netops.Operation{del}, nil, true)
		}
		taken = len(refused) == 0 && taken
	}
	return taken
}
