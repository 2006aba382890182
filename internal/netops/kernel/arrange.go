package kernel

import (
	"context"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
)

// An arrangement is the IPv4 routes of one key, which the kernel keeps in an
// order: as they are, and as they are to be. It knows what the kernel does:
// routes are put first or last, and a deletion takes the first route that has
// what it names. Routes that stay are the same pointers in both lists.
type arrangement struct {
	have, target []*netops.Route
	// rest are routes that are left of others: they stay where the whole cannot
	// come back.
	rest []*netops.Route
}

// operations are those that make an arrangement; moved are the routes that have to
// be taken out and put back for it, which stay all the same. To move none
// goes before all else, and to add before to delete, so that there is no moment
// without a route. There are no operations where the target cannot be reached.
func (a arrangement) operations() (ops []netops.Operation, moved []*netops.Route) {
	for _, plan := range []func() []netops.Operation{a.aroundCore, a.anew} {
		if ops = plan(); slices.Equal(simulate(a.have, ops), a.target) {
			break
		}
		ops = nil
	}
	for _, r := range a.target {
		if slices.ContainsFunc(ops, func(op netops.Operation) bool { return op.Deletes() && op.Object == netops.Object(r) }) {
			moved = append(moved, r)
		}
	}
	return ops, moved
}

// without is the arrangement as far as it can be made without moving a route: new
// routes come last, and what the kernel would delete another route for stays.
func (a arrangement) without() (ops []netops.Operation, stuck []*netops.Route) {
	for _, r := range a.target {
		if !slices.Contains(a.have, r) {
			ops = append(ops, netops.Operation{Verb: netops.Append, Object: r})
		}
	}
	deletions, stuck := deleteEach(simulate(a.have, ops), a.leaving())
	return append(ops, deletions...), stuck
}

// leaving are the routes that are to be deleted.
func (a arrangement) leaving() []*netops.Route {
	leaving, _ := partition(a.have, func(r *netops.Route) bool { return !slices.Contains(a.target, r) })
	return leaving
}

// aroundCore leaves as many neighbouring routes of the target as are in the right
// order where they are, puts the others around them, and then deletes.
func (a arrangement) aroundCore() (ops []netops.Operation) {
	first, end := a.core()
	put := func(verb netops.Verb, r *netops.Route) {
		if slices.Contains(a.have, r) {
			ops = append(ops, netops.Operation{Verb: netops.Delete, Object: r})
		}
		ops = append(ops, netops.Operation{Verb: verb, Object: r})
	}
	for _, r := range slices.Backward(a.target[:first]) {
		put(netops.Prepend, r)
	}
	for _, r := range a.target[end:] {
		put(netops.Append, r)
	}
	deletions, _ := deleteEach(simulate(a.have, ops), a.leaving())
	return append(ops, deletions...)
}

// core is the longest part of the target that is there in its order.
func (a arrangement) core() (first, end int) {
	for i := range a.target {
		at, j := -1, i
		for ; j < len(a.target); j++ {
			next := slices.Index(a.have, a.target[j])
			if next <= at {
				break
			}
			at = next
		}
		if j-i > end-first {
			first, end = i, j
		}
	}
	return first, end
}

// anew puts every route of the target last, one after the other, and deletes
// what stands before them. Of a route that stays, those go first that would be
// deleted in its place.
func (a arrangement) anew() (ops []netops.Operation) {
	list := slices.Clone(a.have)
	do := func(verb netops.Verb, r *netops.Route) {
		op := netops.Operation{Verb: verb, Object: r}
		ops, list = append(ops, op), simulate(list, []netops.Operation{op})
	}
	for _, r := range a.target {
		for at := slices.Index(list, r); at >= 0 && list[hit(list, r)] != r; {
			do(netops.Delete, list[0])
			at = slices.Index(list, r)
		}
		if slices.Contains(list, r) {
			do(netops.Delete, r)
		}
		do(netops.Append, r)
	}
	for len(list) > len(a.target) {
		do(netops.Delete, list[0])
	}
	return ops
}

// deleteEach deletes routes of a list in an order in which each deletion takes
// the one that it means. Those that are stuck stand behind others that the kernel
// would take for them.
func deleteEach(list, leaving []*netops.Route) (ops []netops.Operation, stuck []*netops.Route) {
	for stuck = leaving; ; {
		at := slices.IndexFunc(stuck, func(r *netops.Route) bool { i := hit(list, r); return i >= 0 && list[i] == r })
		if at < 0 {
			return ops, stuck
		}
		op := netops.Operation{Verb: netops.Delete, Object: stuck[at]}
		ops, list = append(ops, op), simulate(list, []netops.Operation{op})
		stuck = slices.Delete(slices.Clone(stuck), at, at+1)
	}
}

// simulate is a list after operations.
func simulate(list []*netops.Route, ops []netops.Operation) []*netops.Route {
	list = slices.Clone(list)
	for _, op := range ops {
		r := op.Object.(*netops.Route)
		switch op.Verb {
		case netops.Delete:
			if at := hit(list, r); at >= 0 {
				list = slices.Delete(list, at, at+1)
			}
		case netops.Prepend:
			list = slices.Insert(list, 0, r)
		default:
			list = append(list, r)
		}
	}
	return list
}

// hit is which route of a list a deletion takes: the first that has its type and
// protocol, and its next hops as far as the shorter of the two lists goes
// (fib_table_delete in net/ipv4/fib_trie.c, fib_nh_match in
// net/ipv4/fib_semantics.c). The kernel looks at more than that, which can only
// spare a route.
func hit(list []*netops.Route, r *netops.Route) int {
	return slices.IndexFunc(list, func(h *netops.Route) bool { return h == r || takenFor(h, r) })
}

func takenFor(h, r *netops.Route) bool {
	if h.Type != r.Type || h.Protocol != r.Protocol || h.NhID != r.NhID {
		return false
	}
	there, asked := h.NextHops(), r.NextHops()
	if len(asked) == 1 {
		there = there[:min(1, len(there))]
	}
	return len(there) <= len(asked) && slices.EqualFunc(there, asked[:len(there)], netops.NextHop.SameHop)
}

// makeArranged makes arrangements.
func (n *Netns) makeArranged(ctx context.Context, all []arrangement, done *[]netops.Operation, continueOnError bool) (failed []*netops.OpError) {
	for _, a := range all {
		if len(failed) > 0 && !continueOnError {
			break
		}
		ops, moved := a.operations()
		if len(moved) > 0 && n.accepts(ctx, append(moved, a.coming()...)) {
			failed = append(failed, n.runMoving(ctx, ops, moved, done)...)
			continue
		}
		var stuck []*netops.Route
		if len(moved) > 0 || ops == nil {
			ops, stuck = a.without()
		}
		failed = append(failed, failures(netops.Operations(netops.Delete, stuck), netops.ErrCannotDelete)...)
		if len(stuck) == 0 || continueOnError {
			failed = append(failed, n.addThenDelete(ctx, a, ops, done, continueOnError)...)
		}
	}
	return failed
}

// coming are the routes that are to be added.
func (a arrangement) coming() []*netops.Route {
	coming, _ := partition(a.target, func(r *netops.Route) bool { return !slices.Contains(a.have, r) })
	return coming
}

// addThenDelete runs operations that move no route: what is deleted goes when the
// rest is there.
func (n *Netns) addThenDelete(ctx context.Context, a arrangement, ops []netops.Operation, done *[]netops.Operation, continueOnError bool) []*netops.OpError {
	deletions, additions := partition(ops, netops.Operation.Deletes)
	failed := n.run(ctx, additions, done, continueOnError)
	if len(failed) > 0 {
		if !continueOnError {
			return failed
		}
		deletions = slices.DeleteFunc(deletions, func(op netops.Operation) bool { return slices.Contains(a.rest, op.Object.(*netops.Route)) })
	}
	return append(failed, n.run(ctx, deletions, done, continueOnError)...)
}

// runMoving runs operations of which some only move routes: these are no change,
// and go in one send with all others, so that nothing comes between. A route that
// does not come back at once is tried again.
func (n *Netns) runMoving(ctx context.Context, ops []netops.Operation, moved []*netops.Route, done *[]netops.Operation) (failed []*netops.OpError) {
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
	if done != nil {
		changes, _ := partition(made, func(op netops.Operation) bool { return !moves(op) })
		*done = append(*done, changes...)
	}
	return failed
}

// lists reports whether the kernel has a route.
func (n *Netns) lists(ctx context.Context, r *netops.Route) bool {
	have, err := n.around(ctx, []*netops.Route{r})
	return err == nil && netops.IndexRoutes(have).Find(r, (*netops.Route).SameAttributes) != nil
}

// accepts reports whether the kernel would take routes again that it has: it
// may not, where an interface route behind a gateway has gone. It is asked by
// way of a table that no rule leads to.
func (n *Netns) accepts(ctx context.Context, routes []*netops.Route) bool {
	const unused = 1<<32 - netops.Protocol
	taken := true
	for _, r := range routes {
		probe := r.InTable(unused)
		add := netops.Operation{Verb: netops.Append, Object: &probe}
		del := netops.Operation{Verb: netops.Delete, Object: &probe}
		n.run(ctx, []netops.Operation{del}, nil, true) // what a killed process has left
		taken = len(n.run(ctx, []netops.Operation{add, del}, nil, true)) == 0 && taken
	}
	return taken
}

// arranger collects the arrangements of a change.
type arranger struct {
	order []netops.RouteKey
	by    map[netops.RouteKey]*arrangement
}

// newArranger has the routes of these keys, as they are listed.
func newArranger(have []netops.Route, keys map[netops.RouteKey]bool) *arranger {
	a := &arranger{by: map[netops.RouteKey]*arrangement{}}
	for i := range have {
		if r := &have[i]; keys[r.Key()] {
			of := a.of(r)
			of.have, of.target = append(of.have, r), append(of.target, r)
		}
	}
	return a
}

func (a *arranger) of(r *netops.Route) *arrangement {
	key := r.Key()
	if a.by[key] == nil {
		a.by[key] = &arrangement{}
		a.order = append(a.order, key)
	}
	return a.by[key]
}

func (a *arranger) all() []arrangement {
	list := make([]arrangement, len(a.order))
	for i, key := range a.order {
		list[i] = *a.by[key]
	}
	return list
}

// take takes a route out of its target, and tells where it was: at the end, where
// it is not there.
func (a *arranger) take(r *netops.Route) (at int) {
	of := a.of(r)
	for _, relation := range []func(r, have *netops.Route) bool{(*netops.Route).Identical, (*netops.Route).SameAttributes, (*netops.Route).SameRoute} {
		if at = slices.IndexFunc(of.target, func(have *netops.Route) bool { return relation(r, have) }); at >= 0 {
			listed := of.target[at]
			listed.Siblings, listed.Position = r.Siblings, r.Position // for who puts it back
			if r.Raw != nil {
				of.rest = append(of.rest, listed)
			}
			of.target = slices.Delete(of.target, at, at+1)
			return at
		}
	}
	return len(of.target)
}

// insert puts a route into its target.
func (a *arranger) insert(r *netops.Route, at int) {
	of := a.of(r)
	of.target = slices.Insert(of.target, at, r)
}

// placeOf is where a route goes in a target: behind as many as possible of the
// siblings that stood before it, and before as many as possible of the others.
func placeOf(r *netops.Route, target []*netops.Route) (best int) {
	right := make([]int, len(target)+1) // at a place, compared with the one before it
	for i := range r.Siblings {
		sibling := &r.Siblings[i]
		if i < r.Position {
			if first := slices.IndexFunc(target, sibling.SameSibling); first >= 0 {
				right[first+1]++
			}
		} else {
			for last := len(target) - 1; last >= 0; last-- {
				if sibling.SameSibling(target[last]) {
					right[last+1]--
					break
				}
			}
		}
	}
	sum, most := 0, right[0]
	for at, more := range right {
		if sum += more; sum >= most {
			best, most = at, sum
		}
	}
	return best
}
