package netops

import "slices"

// WayBack is how the routes of a change that is taken back go and come.
type WayBack struct {
	Del, Add []*Route      // by themselves
	Merged   []*Route      // IPv6, beside others
	Arranged []Arrangement // IPv4, among siblings, whatever they were exchanged for
}

// WayBack sorts the routes of a change that takes another one back, among those
// that the kernel has. What is to be put back by an interface that is gone is left
// out: it is not possible.
func (c *Change) WayBack(have []Route, possible func(*Route) bool) (back WayBack) {
	keys, lost := siblingKeys(c), map[RouteKey]bool{}
	for r := range each(c.Add.Routes) {
		if !possible(r) {
			lost[r.Key()] = true
		}
	}
	a := newArranger()
	a.list(have, keys)
	for r := range each(c.Del.Routes) {
		switch {
		case !keys[r.Key()]:
			back.Del = append(back.Del, r)
		case r.Raw == nil || !lost[r.Key()]: // what is left of a route stays where the whole cannot come back
			a.take(r)
		}
	}
	for r := range each(c.Add.Routes) {
		switch {
		case !possible(r):
		case r.Is6() && r.Siblings != nil:
			back.Merged = append(back.Merged, r)
		case keys[r.Key()] && (r.Siblings != nil || len(a.of(r).target) == 0):
			a.insert(r, placeOf(r, a.of(r).target))
		default:
			back.Add = append(back.Add, r)
		}
	}
	back.Arranged = a.all()
	return back
}

// siblingKeys are the keys of IPv4 routes that come back among siblings, go from
// among them, or in the place of others.
func siblingKeys(c *Change) map[RouteKey]bool {
	deleted, keys := map[RouteKey]bool{}, map[RouteKey]bool{}
	for r := range each(c.Del.Routes) {
		if !r.Is6() {
			deleted[r.Key()] = true
			if len(r.Siblings) > 0 {
				keys[r.Key()] = true
			}
		}
	}
	for r := range each(c.Add.Routes) {
		if !r.Is6() && (r.Siblings != nil || deleted[r.Key()]) {
			keys[r.Key()] = true
		}
	}
	return keys
}

// StandBeside lets routes go back beside siblings that have come on other
// interfaces: these are other attachments', put back before them, not routes in
// their places.
func (c *Change) StandBeside(have []Route) {
	deleted, ix := IndexRoutes(c.Del.Routes), IndexRoutes(have)
	for r := range each(c.Add.Routes) {
		if r.Siblings != nil || r.Type.Rejects() {
			continue
		}
		var siblings []Route
		for there := range ix.Siblings(r) {
			if there.Type.Rejects() || shareDevice(r, there) {
				siblings = nil
				break
			}
			if deleted.Find(there, (*Route).SameRoute) == nil {
				siblings = append(siblings, there.Identity())
			}
		}
		r.Siblings, r.Position = siblings, len(siblings)
	}
}

func shareDevice(a, b *Route) bool {
	return slices.ContainsFunc(a.NextHops(), func(h NextHop) bool {
		return slices.ContainsFunc(b.NextHops(), func(o NextHop) bool { return h.Dev == o.Dev })
	})
}
