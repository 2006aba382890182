package netops

import "slices"

// An Arrangement is the IPv4 routes of one key, which the kernel keeps in an
// order: as they are, and as they are to be. It knows what the kernel does:
// routes are put first or last, and a deletion takes the first route that has
// what it names. Routes that stay are the same pointers in both lists.
type Arrangement struct {
	have, target []*Route
	rest         []*Route // what is left of others
}

// Operations are those that make an arrangement; moved are the routes that have to
// be taken out and put back for it, which stay all the same. To move none
// goes before all else, and to add before to delete, so that there is no moment
// without a route. There are no operations where the target cannot be reached.
func (a Arrangement) Operations() (ops []Operation, moved []*Route) {
	for _, plan := range []func() []Operation{a.aroundCore, a.anew} {
		if ops = plan(); slices.Equal(simulate(a.have, ops), a.target) {
			break
		}
		ops = nil
	}
	for _, r := range a.target {
		if slices.ContainsFunc(ops, func(op Operation) bool { return op.Deletes() && op.Object == Object(r) }) {
			moved = append(moved, r)
		}
	}
	return ops, moved
}

// WithoutMoving is the arrangement as far as it can be made without moving a route:
// new routes come last, and what the kernel would delete another route for stays.
func (a Arrangement) WithoutMoving() (ops []Operation, stuck []*Route) {
	for _, r := range a.target {
		if !slices.Contains(a.have, r) {
			ops = append(ops, Operation{Verb: Append, Object: r})
		}
	}
	deletions, stuck := deleteEach(simulate(a.have, ops), a.Leaving())
	return append(ops, deletions...), stuck
}

// Leaving are the routes that are to be deleted.
func (a Arrangement) Leaving() []*Route {
	leaving, _ := Partition(a.have, func(r *Route) bool { return !slices.Contains(a.target, r) })
	return leaving
}

// IsRest reports whether a route that is to be deleted is what is left of another
// one: it stays where the whole cannot come back.
func (a Arrangement) IsRest(r *Route) bool { return slices.Contains(a.rest, r) }

// Listed are the routes that were there.
func (a Arrangement) Listed() []*Route { return a.have }

// Made reports whether all is as it is to be.
func (a Arrangement) Made() bool { return slices.Equal(a.have, a.target) }

// Again is the arrangement of what is listed now: to the same target, or back to
// what there was. What another program has added meanwhile stays.
func (a Arrangement) Again(listed []Route, back bool) (again Arrangement) {
	again.target = slices.Clone(a.target)
	if back {
		again.target = slices.Clone(a.have)
	}
	known := slices.Concat(again.target, a.have, a.target)
	for r := range each(listed) {
		if r.Key() != a.have[0].Key() {
			continue
		}
		at := slices.IndexFunc(known, func(k *Route) bool { return k.SameAttributes(r) && !slices.Contains(again.have, k) })
		if at >= 0 {
			r = known[at]
		} else {
			again.target = append(again.target, r)
		}
		again.have = append(again.have, r)
	}
	return again
}

// aroundCore leaves as many neighbouring routes of the target as are in the right
// order where they are, puts the others around them, and then deletes.
func (a Arrangement) aroundCore() (ops []Operation) {
	first, end := a.core()
	put := func(verb Verb, r *Route) {
		if slices.Contains(a.have, r) {
			ops = append(ops, Operation{Verb: Delete, Object: r})
		}
		ops = append(ops, Operation{Verb: verb, Object: r})
	}
	for _, r := range slices.Backward(a.target[:first]) {
		put(Prepend, r)
	}
	for _, r := range a.target[end:] {
		put(Append, r)
	}
	deletions, _ := deleteEach(simulate(a.have, ops), a.Leaving())
	return append(ops, deletions...)
}

// core is the longest part of the target that is there in its order.
func (a Arrangement) core() (first, end int) {
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
func (a Arrangement) anew() (ops []Operation) {
	list := slices.Clone(a.have)
	do := func(verb Verb, r *Route) {
		op := Operation{Verb: verb, Object: r}
		ops, list = append(ops, op), simulate(list, []Operation{op})
	}
	for _, r := range a.target {
		for at := slices.Index(list, r); at >= 0 && list[firstHit(list, r)] != r; {
			do(Delete, list[0])
			at = slices.Index(list, r)
		}
		if slices.Contains(list, r) {
			do(Delete, r)
		}
		do(Append, r)
	}
	for len(list) > len(a.target) {
		do(Delete, list[0])
	}
	return ops
}

// deleteEach deletes routes of a list in an order in which each deletion takes
// the one that it means. Those that are stuck stand behind others that the kernel
// would take for them.
func deleteEach(list, leaving []*Route) (ops []Operation, stuck []*Route) {
	for stuck = leaving; ; {
		at := slices.IndexFunc(stuck, func(r *Route) bool { i := firstHit(list, r); return i >= 0 && list[i] == r })
		if at < 0 {
			return ops, stuck
		}
		op := Operation{Verb: Delete, Object: stuck[at]}
		ops, list = append(ops, op), simulate(list, []Operation{op})
		stuck = slices.Delete(slices.Clone(stuck), at, at+1)
	}
}

// simulate is a list after operations.
func simulate(list []*Route, ops []Operation) []*Route {
	list = slices.Clone(list)
	for _, op := range ops {
		r := op.Object.(*Route)
		switch op.Verb {
		case Delete:
			if at := firstHit(list, r); at >= 0 {
				list = slices.Delete(list, at, at+1)
			}
		case Prepend:
			list = slices.Insert(list, 0, r)
		default:
			list = append(list, r)
		}
	}
	return list
}

// Coming are the routes that are to be added.
func (a Arrangement) Coming() []*Route {
	coming, _ := Partition(a.target, func(r *Route) bool { return !slices.Contains(a.have, r) })
	return coming
}

// Arrange is how the IPv4 routes of a change that have siblings, and those that
// give way to others of their key, are deleted and added among the routes that
// the kernel has.
func Arrange(have []Route, steps RouteSteps) []Arrangement {
	a, keys := newArranger(), map[RouteKey]bool{}
	for _, r := range steps.Leaving() {
		a.of(r) // in this order, whatever the kernel's list has
		keys[r.Key()] = true
	}
	a.list(have, keys)
	for _, r := range steps.Among {
		a.take(r)
	}
	for _, x := range steps.Exchanges {
		a.insert(x.In, a.take(x.Out))
	}
	return a.all()
}

// arranger collects the arrangements of a change.
type arranger struct {
	order []RouteKey
	by    map[RouteKey]*Arrangement
}

func newArranger() *arranger { return &arranger{by: map[RouteKey]*Arrangement{}} }

// list adds the routes of these keys, as the kernel has them.
func (a *arranger) list(have []Route, keys map[RouteKey]bool) {
	for r := range each(have) {
		if keys[r.Key()] {
			of := a.of(r)
			of.have, of.target = append(of.have, r), append(of.target, r)
		}
	}
}

func (a *arranger) of(r *Route) *Arrangement {
	key := r.Key()
	if a.by[key] == nil {
		a.by[key] = &Arrangement{}
		a.order = append(a.order, key)
	}
	return a.by[key]
}

func (a *arranger) all() []Arrangement {
	list := make([]Arrangement, len(a.order))
	for i, key := range a.order {
		list[i] = *a.by[key]
	}
	return list
}

// take takes a route out of its target, and tells where it was: at the end, where
// it is not there.
func (a *arranger) take(r *Route) (at int) {
	of := a.of(r)
	for _, relation := range []func(r, have *Route) bool{(*Route).Identical, (*Route).SameAttributes, (*Route).SameRoute} {
		if at = slices.IndexFunc(of.target, func(have *Route) bool { return relation(r, have) }); at >= 0 {
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
func (a *arranger) insert(r *Route, at int) {
	of := a.of(r)
	of.target = slices.Insert(of.target, at, r)
}

// placeOf is where a route goes in a target: behind as many as possible of the
// siblings that stood before it, and before as many as possible of the others.
func placeOf(r *Route, target []*Route) (best int) {
	right := make([]int, len(target)+1) // at a place, compared with the one before it
	for i := range r.Siblings {
		sibling := &r.Siblings[i]
		if i < r.Position {
			if first := slices.IndexFunc(target, sibling.SameSibling); first >= 0 {
				right[first+1]++
			}
		} else {
			for last, have := range slices.Backward(target) {
				if sibling.SameSibling(have) {
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
