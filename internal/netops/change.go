package netops

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Change is what to delete and what to add, in this order. It is a value: the
// same change printed, recorded, reversed or applied is the same.
type Change struct {
	Del State `json:"del"`
	Add State `json:"add"`
	// AddFirst has routes and rules added before others are deleted, and put
	// back before they are deleted, so that there is no moment without a way.
	// What is added must then leave those that are deleted their places.
	AddFirst bool `json:"addFirst"`
	// Lost are neighbours of others that the kernel deletes with a hardware
	// address, and that are put back after it is set.
	Flushed []Neigh `json:"lost"`
}

// Plan is what an attachment changes, by namespace. On the host it only adds:
// nothing there was made for it.
type Plan struct {
	Pod  Change `json:"pod"`
	Host State  `json:"host"`
}

// IsZero reports whether there is nothing to do.
func (c Change) IsZero() bool { return c.Del.IsZero() && c.Add.IsZero() }

// IsZero reports whether there is nothing at all.
func (s State) IsZero() bool { return s.Len() == 0 }

// Reverse is the change that takes c back.
func (c Change) Reverse() Change {
	return Change{Del: c.Add, Add: c.Del, AddFirst: c.AddFirst, Flushed: c.Flushed}
}

// Remove adds to the change that r loses the ways which leave chooses, all of
// r if these are all it has. It tells what of r goes and what is left.
//
// IPv6 forgets one way of a multipath route when asked; an IPv4 route, and one
// by a nexthop object, has to give way to the one that is left.
func (c *Change) Remove(r *Route, leave func(NextHop) bool) (gone, left []*Route) {
	leaving, staying := split(r.NextHops(), leave)
	switch {
	case len(leaving) == 0:
		return nil, []*Route{r}
	case len(staying) == 0:
		c.Del.Routes = append(c.Del.Routes, *r)
		return []*Route{r}, nil
	}
	part, rest := r.withNextHops(leaving), r.withNextHops(staying)
	if r.Is6() && r.NhID == 0 {
		c.Del.Routes = append(c.Del.Routes, part)
	} else {
		c.Del.Routes = append(c.Del.Routes, *r)
		c.Add.Routes = append(c.Add.Routes, rest)
	}
	return []*Route{&part}, []*Route{&rest}
}

// Needed parts the change by what holds already in have. What is to be deleted
// and is not there is dropped, and what is to be added and is there is held:
// neither is ours to undo. The rest is needed: deletions are as the kernel has
// them, and know their place. What an interface or a sysctl that is to be set
// was before is deleted; where Del of the change says what that has to be and
// it is not so any more, it is not set.
func (c Change) Needed(have State) (needed Change, held State) {
	ix := newIndex(have.Routes)
	deleted := make([]bool, len(have.Routes))
	needed.AddFirst = c.AddFirst
	needed.Del.Routes = make([]Route, 0, len(c.Del.Routes))
	for i := range c.Del.Routes {
		r := &c.Del.Routes[i]
		if at := ix.claim(r, deleted); at != none {
			needed.Del.Routes = append(needed.Del.Routes, ix.withPeers(at))
		} else if r.Is6() {
			if part, ok := ix.merged(r); ok {
				needed.Del.Routes = append(needed.Del.Routes, part)
			}
		}
	}
	needed.Add.Routes = make([]Route, 0, len(c.Add.Routes))
	for i := range c.Add.Routes {
		r := &c.Add.Routes[i]
		holds := r.SatisfiedBy
		if r.Raw != nil { // to be put back: another one by the same way is not it
			holds = r.SameAttributes
		}
		if ix.findIndex(r, func(i int) bool { return !deleted[i] && holds(&ix.routes[i]) }) != none {
			held.Routes = append(held.Routes, *r)
		} else {
			added := ix.inPlace(r, deleted)
			added.AnyDev = false // it is made by the interface that was chosen
			needed.Add.Routes = append(needed.Add.Routes, added)
		}
	}
	if kinds != nil {
		kinds.need(&c, have, &needed, &held)
	}
	return needed, held
}

// Without is the change without the addition of some routes.
func (c Change) Without(added []Route) Change {
	ix := newIndex(added)
	var left []Route
	for i := range c.Add.Routes {
		// What is left of a route that was cut is not left out for a wish.
		if r := &c.Add.Routes[i]; r.Raw != nil || ix.find(r, r.SameRoute) == none {
			left = append(left, *r)
		}
	}
	c.Add.Routes = left
	return c
}

// claim finds the route that is to be deleted as r, the very same before one
// alike, and marks it: IPv4 has routes that differ in their protocol only, and
// each answers for one.
func (ix index) claim(r *Route, deleted []bool) int {
	found := ix.findIndex(r, func(i int) bool { return !deleted[i] && r.Identical(&ix.routes[i]) })
	if found == none {
		found = ix.findIndex(r, func(i int) bool { return !deleted[i] && r.SameRoute(&ix.routes[i]) })
	}
	if found != none {
		deleted[found] = true
	}
	return found
}

// merged is what is left of r in an IPv6 route that has other ways as well, or
// that has lost some of r's.
func (ix index) merged(r *Route) (part Route, ok bool) {
	asked := r.NextHops()
	for i := range ix.slots.All(r.Key()) {
		have := &ix.routes[i]
		common, rest := split(have.NextHops(), func(h NextHop) bool { return slices.ContainsFunc(asked, h.sameHop) })
		switch {
		case len(common) == 0 || have.Type != r.Type || have.NhID != 0:
			continue
		case len(rest) == 0:
			return ix.withPeers(i), true
		}
		whole := ix.withPeers(i)
		part = have.withNextHops(common)
		part.Siblings = append([]Route{have.identity()}, whole.Siblings...)
		return part, true
	}
	return Route{}, false
}

// withPeers is a listed route with those of its slot, or the nearest of them.
func (ix index) withPeers(at int) Route {
	r := ix.routes[at]
	r.Siblings, r.Position = nil, 0
	met := false
	for i := range ix.slots.All(r.Key()) {
		switch {
		case i == at:
			r.Position, met = len(r.Siblings), true
			continue
		case !met && len(r.Siblings) == nearest:
			r.Siblings = append(r.Siblings[:0], r.Siblings[1:]...)
		case met && len(r.Siblings)-r.Position == nearest:
			return r
		}
		r.Siblings = append(r.Siblings, ix.routes[i].identity())
	}
	return r
}

// nearest is how many routes on each side are enough to know a place by.
const nearest = 8

// inPlace gives what is left of a deleted IPv4 multipath route the place of
// the whole among the others of its slot. Every other route is added
// exclusively.
func (ix index) inPlace(r *Route, deleted []bool) Route {
	placed := *r
	if r.Is6() {
		return placed
	}
	whole := ix.findIndex(r, func(i int) bool {
		h := &ix.routes[i]
		return deleted[i] && len(h.Hops) > len(r.NextHops()) && containsAll(h.Hops, r.NextHops())
	})
	if whole != none {
		w := ix.withPeers(whole)
		placed.Siblings, placed.Position = w.Siblings, w.Position
	}
	return placed
}

// identity is what a route is known by among its peers.
func (r *Route) identity() Route {
	return Route{Dst: r.Dst, Table: r.Table, Metric: r.Metric, Tos: r.Tos, Type: r.Type,
		Gw: r.Gw, Dev: r.Dev, Hops: r.Hops, Protocol: r.Protocol, From: r.From, NhID: r.NhID}
}

// Overridden drops from c what a later change has taken back: added routes
// that it deletes, deleted ones that it adds.
func (c Change) Overridden(later Change) Change {
	deleted, added := newIndex(later.Del.Routes), newIndex(later.Add.Routes)
	left := Change{AddFirst: c.AddFirst, Flushed: c.Flushed}
	for i := range c.Add.Routes {
		r := &c.Add.Routes[i]
		if deleted.find(r, func(d *Route) bool { return r.SameRoute(d) || r.SatisfiedBy(d) }) == none {
			left.Add.Routes = append(left.Add.Routes, *r)
		}
	}
	for i := range c.Del.Routes {
		r := &c.Del.Routes[i]
		if added.find(r, func(a *Route) bool { return a.SameRoute(r) || a.SatisfiedBy(r) }) == none {
			left.Del.Routes = append(left.Del.Routes, *r)
		}
	}
	if kinds != nil {
		kinds.override(&c, &later, &left)
	}
	return left
}

// Then is c followed by a later change that overrides it.
func (c Change) Then(later Change) Change {
	left := c.Overridden(later)
	left.Del.Routes = append(left.Del.Routes, later.Del.Routes...)
	left.Add.Routes = append(left.Add.Routes, later.Add.Routes...)
	if kinds != nil {
		kinds.follow(&left, &later)
	}
	return left
}

// Bequeath gives away, of what c has made, the objects that an heir found there
// as it asked for them (held): these are its own to undo from now on, and leave
// c. With built, so do values that the heir has replaced by another one: what
// they were before c is what they were before the heir. It is no matter of
// routes. It reports whether anything was given.
func (c *Change) TransferOwnership(heir *Change, held *State, built bool) (given bool) {
	return kinds != nil && c.Add.others() > 0 && kinds.bequeath(c, heir, held, built)
}

// Before is the state as it was before a change that was made, as far as that is
// still there.
func (s State) Before(done Change) State {
	gone := newIndex(done.Add.Routes)
	left := s
	left.Routes = slices.Clone(done.Del.Routes)
	for i := range s.Routes {
		r := &s.Routes[i]
		if gone.find(r, func(a *Route) bool { return a.SameRoute(r) }) == none {
			left.Routes = append(left.Routes, *r)
		}
	}
	if kinds != nil {
		left = kinds.before(&left, &done)
	}
	return left
}

// Tables are the routing tables that the change touches.
func (c Change) Tables() []uint32 {
	var found []uint32
	seen := map[uint32]bool{}
	for _, routes := range [][]Route{c.Del.Routes, c.Add.Routes} {
		for i := range routes {
			if table := routes[i].Table; !seen[table] {
				seen[table] = true
				found = append(found, table)
			}
		}
	}
	return found
}

// Drift is one thing that does not hold, of a route or of another object.
type Drift struct {
	Route   Route
	Present bool   // it should be absent and is there
	Instead *Route // what has the slot of a route that should be there

	object  object
	instead string // what is there in its place
}

func (d Drift) String() string {
	switch {
	case d.object != nil && d.Present:
		return d.object.command("del") + ": it is there"
	case d.object != nil:
		return d.object.command("add") + ": " + cmp.Or(d.instead, "it is not there")
	case d.Present:
		return d.Route.command("del") + ": it is there"
	case d.Instead != nil:
		return d.Route.command("add") + ": there is " + d.Instead.String()
	}
	return d.Route.command("add") + ": it is not there"
}

// Taken is what the change takes from others, without what it leaves them: of
// a multipath route that was cut, the ways that went.
func (c Change) Taken() Change {
	taken := c
	taken.Del.Routes, taken.Add.Routes = nil, nil
	parts := c.parts()
	for _, s := range parts.swaps {
		gone, _ := split(s.out.NextHops(), func(h NextHop) bool { return !slices.ContainsFunc(s.in.NextHops(), h.sameHop) })
		taken.Del.Routes = append(taken.Del.Routes, s.out.withNextHops(gone))
	}
	taken.Del.Routes = append(taken.Del.Routes, values(parts.del)...)
	taken.Add.Routes = values(parts.add)
	return taken
}

// Drift lists everything of the change that does not hold in have: also a
// deleted route that is there as some of the ways of another. One that the
// kernel has learnt anew does not count.
func (c Change) Drift(have State) []Drift {
	ix := newIndex(have.Routes)
	var drift []Drift
	for i := range c.Del.Routes {
		r := &c.Del.Routes[i]
		if at := ix.find(r, func(h *Route) bool { return r.SubsetOf(h) && !h.Learnt() }); at != none {
			drift = append(drift, Drift{Route: ix.routes[at], Present: true})
		}
	}
	for i := range c.Add.Routes {
		r := &c.Add.Routes[i]
		if ix.find(r, r.SatisfiedBy) != none {
			continue
		}
		d := Drift{Route: *r}
		if at := ix.find(r, func(*Route) bool { return true }); at != none {
			d.Instead = &ix.routes[at]
		}
		drift = append(drift, d)
	}
	if kinds != nil {
		drift = append(drift, kinds.drift(&c, have)...)
	}
	return drift
}

// Commands are the ip(8) and sysctl(8) commands that the change equals, in the
// order in which it is applied. Our own protocol is not shown.
func (c Change) Commands() []string {
	var ops []operation
	parts := c.parts()
	for _, at := range c.order() {
		switch {
		case at == dropRoutes:
			ops = append(ops, deletions(parts.del)...)
		case at == swapRoutes:
			for _, s := range parts.swaps {
				first, second := s.operations(nil)
				ops = append(ops, first, second)
			}
		case at == addRoutes:
			ops = append(ops, additions(parts.add)...)
		case kinds != nil:
			ops = append(ops, kinds.operations(&c, at)...)
		}
	}
	lines := make([]string, len(ops))
	for i, op := range ops {
		lines[i] = op.String()
	}
	return lines
}

func (c Change) String() string { return strings.Join(c.Commands(), "\n") }

// byDependency orders routes so that each gateway is reachable when its route
// is added: interface routes, then on-link ones, then those by a gateway.
func byDependency(routes []*Route) []*Route {
	class := func(r *Route) int {
		switch {
		case r.single() && !r.Gw.IsValid():
			return 0
		case r.OnLink:
			return 1
		}
		return 2
	}
	sorted := slices.Clone(routes)
	slices.SortStableFunc(sorted, func(a, b *Route) int { return cmp.Compare(class(a), class(b)) })
	return sorted
}

// Validate reports why a plan that was read from a file cannot be one of ours.
func (p Plan) Validate() error {
	if err := p.Pod.validate(); err != nil {
		return err
	}
	return Change{Add: p.Host}.validate()
}

func (c Change) validate() error {
	for _, routes := range [][]Route{c.Del.Routes, c.Add.Routes} {
		for i := range routes {
			if err := routes[i].validate(); err != nil {
				return err
			}
			for j := range routes[i].Siblings {
				if routes[i].Siblings[j].Siblings != nil {
					return fmt.Errorf("route to %s: peers of a peer", routes[i].Dst)
				}
				if err := routes[i].Siblings[j].validate(); err != nil {
					return err
				}
			}
		}
	}
	if kinds != nil {
		return kinds.validate(&c)
	}
	return nil
}

func (r *Route) validate() error {
	switch {
	case !r.Dst.IsValid() || r.Dst != r.Dst.Masked():
		return fmt.Errorf("route to %s: no destination", r.Dst)
	case r.Table == 0 || r.Type == 0:
		return fmt.Errorf("route to %s: table or type missing", r.Dst)
	case r.Position < 0 || r.Position > len(r.Siblings):
		return fmt.Errorf("route to %s: rank %d among %d", r.Dst, r.Position, len(r.Siblings))
	}
	if err := validRaw(r); err != nil {
		return fmt.Errorf("route to %s: %w", r.Dst, err)
	}
	return nil
}
