package netops

import (
	"iter"
	"slices"
)

// Siblings are routes of one key: destination, table, metric. IPv4 uses the
// first of them, and keeps their order; IPv6 merges them into one multipath
// route. A route that goes remembers its siblings, so that it comes back among
// them.

// nearest is how many siblings on each side are enough to know a place by.
const nearest = 8

type listedRoutes = listed[Route, RouteKey]

func routesOf(routes []Route) listedRoutes { return listOf(routes, (*Route).Key) }

// withSiblings is a listed route with its siblings, or the nearest of them.
func withSiblings(ix listedRoutes, at int) Route {
	r := ix.list[at]
	r.Siblings, r.Position = nil, 0
	met := false
	for i := range ix.index.All(r.Key()) {
		switch {
		case i == at:
			r.Position, met = len(r.Siblings), true
			continue
		case !met && len(r.Siblings) == nearest:
			r.Siblings = append(r.Siblings[:0], r.Siblings[1:]...)
		case met && len(r.Siblings)-r.Position == nearest:
			return r
		}
		r.Siblings = append(r.Siblings, ix.list[i].Identity())
	}
	return r
}

// remembered are routes and their siblings in the order in which they were
// listed. (Siblings that the first release recorded have no scope.)
func remembered(routes []*Route) (list []Route) {
	for _, r := range routes {
		earlier := list
		for _, s := range slices.Concat(r.Siblings[:r.Position], []Route{*r}, r.Siblings[r.Position:]) {
			if !slices.ContainsFunc(earlier, func(have Route) bool {
				return have.SameAttributes(&s) || have.Scope != s.Scope && (have.SameSibling(&s) || s.SameSibling(&have))
			}) {
				list = append(list, s)
			}
		}
	}
	return list
}

// Identity is what a route is known by among its siblings.
func (r *Route) Identity() Route {
	id := *r
	id.AnyDev, id.Expires, id.Raw, id.Siblings, id.Position = false, 0, nil, nil, 0
	return id
}

// SameSibling reports whether have is the route that r identifies. (Records of the
// first release know less of a sibling, and no scope.)
func (r *Route) SameSibling(have *Route) bool {
	if r.Scope == ScopeAuto {
		return r.SameRoute(have) && r.Protocol == have.Protocol
	}
	return r.SameAttributes(have)
}

// mergedPart is what is left of r in an IPv6 route that has other next hops as
// well, or that has lost some of r's.
func mergedPart(ix listedRoutes, r *Route) (part Route, ok bool) {
	if !r.Is6() {
		return Route{}, false
	}
	asked := r.NextHops()
	for i := range ix.index.All(r.Key()) {
		have := &ix.list[i]
		common, rest := Partition(have.NextHops(), func(h NextHop) bool { return slices.ContainsFunc(asked, h.SameHop) })
		switch {
		case len(common) == 0 || have.Type != r.Type || have.NhID != 0:
			continue
		case len(rest) == 0:
			return withSiblings(ix, i), true
		}
		whole := withSiblings(ix, i)
		part = have.withNextHops(common)
		part.Siblings = append([]Route{have.Identity()}, whole.Siblings...)
		return part, true
	}
	return Route{}, false
}

// inPlace gives what is left of a deleted IPv4 multipath route the place of
// the whole among its siblings. Every other route is added exclusively. Whichever
// interface would have done, the route is made by the one that was chosen.
func inPlace(ix listedRoutes, r *Route, gone []bool) {
	r.AnyDev = false
	if r.Is6() || r.Siblings != nil { // one that comes back knows its place
		return
	}
	whole := ix.find(r, func(i int) bool {
		h := &ix.list[i]
		return gone[i] && len(h.Hops) > len(r.NextHops()) && containsAll(h.Hops, r.NextHops())
	})
	if whole != none {
		w := withSiblings(ix, whole)
		r.Siblings, r.Position = w.Siblings, w.Position
	}
}

// adopt takes the way over by which the kernel has a route that was asked for.
func (r *Route) adopt(made *Route) { r.Gw, r.Dev, r.Hops = made.Gw, made.Dev, made.Hops }

// heldBy is how a route that is to be added counts as there. One that is to be
// put back is not another one by the same next hops.
func (r *Route) heldBy(have *Route) bool {
	if r.Raw != nil {
		return r.SameAttributes(have)
	}
	return r.SatisfiedBy(have)
}

// Remove adds to the change that r loses the next hops which leave chooses, all
// of r if these are all it has. It tells what of r goes and what is left.
//
// IPv6 forgets one next hop of a multipath route when asked; an IPv4 route, and
// one by a nexthop object, has to give way to the one that is left.
func (c *Change) Remove(r *Route, leave func(NextHop) bool) (gone, left []*Route) {
	leaving, staying := Partition(r.NextHops(), leave)
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
		if !slices.ContainsFunc(c.Add.Routes, func(a Route) bool { return a.SameAttributes(&rest) }) { // of two siblings the same may be left
			c.Add.Routes = append(c.Add.Routes, rest)
		}
	}
	return []*Route{&part}, []*Route{&rest}
}

// Conflict is [Conflict] among the routes of a state.
func (s State) Conflict(want *Route) *Route { return Conflict(want, each(s.Routes)) }

// Conflict finds the route that keeps one from being added: another one that has
// its key, where none that is there is as it is asked for.
func Conflict(want *Route, there iter.Seq[*Route]) (conflict *Route) {
	for r := range there {
		switch {
		case r.Key() != want.Key():
		case want.SatisfiedBy(r):
			return nil
		case conflict == nil:
			conflict = r
		}
	}
	return conflict
}

// RouteIndex finds routes in a list by key, in the list's order.
type RouteIndex struct{ listedRoutes }

// IndexRoutes indexes a list.
func IndexRoutes(routes []Route) RouteIndex { return RouteIndex{routesOf(routes)} }

// Find is the first route that has the relation to r; nil where there is none.
func (ix RouteIndex) Find(r *Route, relation func(r, have *Route) bool) *Route {
	if at := ix.by(relation, r); at != none {
		return &ix.list[at]
	}
	return nil
}

// Siblings visits the routes of r's key.
func (ix RouteIndex) Siblings(r *Route) iter.Seq[*Route] {
	return func(yield func(*Route) bool) {
		for i := range ix.index.All(r.Key()) {
			if !yield(&ix.list[i]) {
				return
			}
		}
	}
}
