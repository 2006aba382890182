package kernel

import (
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
)

// place is where a route goes in a list.
type place struct {
	index          int // in the whole list
	first, between bool
}

// placeOf finds where r goes: before the first of its siblings that stood after
// it. Those from there on follow it.
func placeOf(r *netops.Route, have []netops.Route) (at place, followers []*netops.Route) {
	at.index = len(have)
	before := 0
	for i := range have {
		h := &have[i]
		switch {
		case h.Key() != r.Key():
		case followers != nil || preceded(r, h):
			if followers == nil {
				at.index = i
			}
			followers = append(followers, h)
		default:
			before++
		}
	}
	at.first = before == 0 && len(followers) > 0
	at.between = before > 0 && len(followers) > 0
	return at, followers
}

// preceded reports whether o stood after r.
func preceded(r, o *netops.Route) bool {
	return slices.ContainsFunc(r.Siblings[r.Position:], func(p netops.Route) bool { return p.SameRoute(o) && p.Protocol == o.Protocol })
}

// shadowed reports whether the kernel would delete another route: in IPv6 one
// by a nexthop object is found by its key alone (ip6_route_del in
// net/ipv6/route.c).
func shadowed(r *netops.Route) bool {
	return r.Is6() && r.NhID == 0 && slices.ContainsFunc(r.Siblings, func(p netops.Route) bool { return p.NhID != 0 })
}

// takenFor reports whether a deletion of the wanted route hits this one, if it
// stands before that: the kernel compares next hops only as far as the first of
// the two goes (fib_nh_match in net/ipv4/fib_semantics.c).
func takenFor(r, wanted *netops.Route) bool {
	if r.Is6() || r.Key() != wanted.Key() || r.Type != wanted.Type || r.Protocol != wanted.Protocol || r.SameRoute(wanted) {
		return false
	}
	there, asked := r.NextHops(), wanted.NextHops()
	if len(asked) == 1 {
		there = there[:min(1, len(there))]
	}
	return len(there) <= len(asked) && slices.EqualFunc(there, asked[:len(there)], netops.NextHop.SameHop)
}

// orderly puts deletions into an order in which each hits what it means, and
// tells which are hidden behind routes that stay. have lists what is there.
func orderly(routes []*netops.Route, have []netops.Route) (inOrder, hidden []*netops.Route) {
	siblings := map[netops.RouteKey][]*netops.Route{}
	for i := range have {
		siblings[have[i].Key()] = append(siblings[have[i].Key()], &have[i])
	}
	hidden = routes
	for before := -1; before != len(inOrder); {
		before = len(inOrder)
		var pending []*netops.Route
		for _, r := range hidden {
			list := siblings[r.Key()]
			at := slices.IndexFunc(list, func(h *netops.Route) bool { return r.SameRoute(h) || takenFor(h, r) })
			if at >= 0 && !r.SameRoute(list[at]) {
				pending = append(pending, r)
				continue
			}
			inOrder = append(inOrder, r)
			if at >= 0 {
				siblings[r.Key()] = slices.Delete(list, at, at+1)
			}
		}
		hidden = pending
	}
	return inOrder, hidden
}

// inTheWayOf is what stands before r and would be deleted for it, and all other
// siblings that stand behind the first of these.
func inTheWayOf(r *netops.Route, have []netops.Route) (inTheWay, behind []*netops.Route) {
	met := false
	for i := range have {
		switch e := &have[i]; {
		case e.Key() != r.Key():
		case r.SameRoute(e):
			met = true
		case !met && takenFor(e, r):
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
