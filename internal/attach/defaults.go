//go:build linux

package attach

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// Several attachments of a pod bring a default route each, and one interface is
// to have it. Which, the records say ([record.Default]): it is worked out anew
// with every ADD and DEL. A default route that leaves table main is withheld: a
// record lists it as deleted, whichever attachment's it is; when the attachment of
// that record goes, another one's record lists it. A route that is listed and there
// all the same, since a process was killed or another attachment wants it there,
// is not withheld. Nor is one by an interface that is gone: one that came anew
// under its name has the routes that it came with.

// preference is for an interface that is to have the pod's default routes, and whose
// it is.
type preference struct {
	record.Default
	of record.Key
}

// beforeRemoval are routes and those default routes that are withheld, in the places
// that these had.
func beforeRemoval(routes, withheld []netops.Route) []netops.Route {
	all := slices.Clone(routes)
	for i := range withheld {
		r := &withheld[i]
		if isThere(defaultsOf(all), r) {
			continue
		}
		at := slices.IndexFunc(all, func(h netops.Route) bool {
			return slices.ContainsFunc(r.Siblings[r.Position:], func(p netops.Route) bool { return p.SameRoute(&h) })
		})
		if at < 0 {
			at = len(all)
		}
		all = slices.Insert(all, at, *r)
	}
	return all
}

func isThere(parts []netops.Route, r *netops.Route) bool {
	return slices.ContainsFunc(parts, func(h netops.Route) bool { return r.SameRoute(&h) })
}

// defaultsOf are the default routes of table main among some, a part for each
// interface. IPv6 merges those of several interfaces into one; what IPv4 has as
// one route over several is left alone, as are those for some sources only, or
// that reject.
func defaultsOf(routes []netops.Route) (parts []netops.Route) {
	for i := range routes {
		r := &routes[i]
		if !r.Default() || r.Table != netops.TableMain || r.Tos != 0 || r.From.IsValid() || r.Type.Rejects() {
			continue
		}
		var devs []string
		for _, hop := range r.NextHops() {
			if !slices.Contains(devs, hop.Dev) {
				devs = append(devs, hop.Dev)
			}
		}
		if len(devs) > 1 && (r.Dst.Addr().Is4() || r.NhID != 0) {
			continue
		}
		for _, dev := range devs {
			if part, ok := r.ViaDevice(dev); ok {
				parts = append(parts, part)
			}
		}
	}
	return parts
}

// choice is what becomes of the default routes of a pod.
type choice struct {
	restore []netops.Route // that are withheld, and come back
	remove  []netops.Route // that are there, and go
}

// choose gives the default routes of each family to the interface that is
// preferred: the first that has any. Where none has, all stay, or come
// back.
func choose(preferences []preference, main, withheld []netops.Route) (c choice) {
	there, away := defaultsOf(main), []netops.Route(nil)
	for i := range withheld {
		if r := &withheld[i]; !isThere(there, r) && !isThere(away, r) {
			away = append(away, *r)
		}
	}
	parts := slices.Concat(there, away)
	stays := func(r *netops.Route) bool {
		owner, found := ownerOf(preferences, parts, r)
		return !found || devOf(r) == owner
	}
	for _, r := range away {
		// An interface that came anew has others, and does not miss those.
		if stays(&r) && !hasDefault(there, devOf(&r), &r) {
			c.restore = append(c.restore, r)
		}
	}
	for _, r := range there {
		if !stays(&r) {
			c.remove = append(c.remove, r)
		}
	}
	return c
}

// devOf is the interface of a part.
func devOf(r *netops.Route) string { return r.NextHops()[0].Dev }

// hasDefault reports whether one of some parts is of that interface, and of r's
// family.
func hasDefault(parts []netops.Route, dev string, r *netops.Route) bool {
	return slices.ContainsFunc(parts, func(h netops.Route) bool { return devOf(&h) == dev && h.Dst == r.Dst })
}

// ownerOf is the interface that is to have the default routes of r's family.
func ownerOf(preferences []preference, parts []netops.Route, r *netops.Route) (dev string, found bool) {
	having := slices.DeleteFunc(slices.Clone(preferences), func(s preference) bool { return !hasDefault(parts, s.Dev, r) })
	if len(having) == 0 {
		return "", false
	}
	return slices.MaxFunc(having, preference.compare).Dev, true
}

// compare tells which of two preferences counts: the greater.
func (s preference) compare(o preference) int {
	rank := func(s preference) (kind int) {
		switch {
		case s.Asked:
			return 2
		case s.Number == 0:
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(s), rank(o)), cmp.Compare(s.Number, o.Number), cmp.Compare(s.Order, o.Order))
}

// overrules reports whether a preference asks for another interface than an
// earlier one does.
func (s preference) overrules(o preference) bool {
	return s.Asked && o.Asked && s.Dev != o.Dev && s.Order > o.Order
}

// decide is what an ADD comes to, with what is recorded of its pod. It is pure.
func decide(planner Planner, prev *cniresult.Result, have netops.Snapshot, p pod, key record.Key) (d *Decision, withAll netops.Snapshot, err error) {
	p.withheld = restorable(p.withheld, have.Indexes)
	main, seen := have.Routes, have
	if s, ok := planner.(Sharer); ok {
		planner = s.Beside(p.wanted())
		have.Routes = beforeRemoval(main, p.withheld)
		seen = have
		seen.State = before(have.State, p.own)
	}
	if d, err = planner.Plan(prev, seen); err != nil || d.Default == nil {
		return d, have, err
	}
	d.Default.Order = p.order(d.Default)
	ours := preference{*d.Default, key}
	for _, o := range p.preferences {
		if ours.overrules(o) {
			d.Warnings = append(d.Warnings, fmt.Sprintf("the pod's default route is asked for by several networks: it goes to %s, no more to %s as %s asks", ours.Dev, o.Dev, o.of))
		}
	}
	c := choose(append(slices.Clip(p.preferences), ours), main, p.withheld)
	d.restore = c.restore
	d.Want.Pod.Del.Routes = append(d.Want.Pod.Del.Routes, c.remove...)
	return d, have, nil
}

// Decide is what an ADD of a plugin comes to, in a pod of which there are these
// records, the newest of an attachment first: the decision, and the change to the
// pod. It is pure.
func Decide(planner Planner, prev *cniresult.Result, have netops.Snapshot, recorded []*record.Entry, plugin string, key record.Key) (*Decision, netops.Change, error) {
	p := newPod(recorded, plugin, key)
	for _, e := range recorded {
		if e.Key == key {
			p.own = append(p.own, e)
		}
	}
	d, have, err := decide(planner, prev, have, p, key)
	if err != nil {
		return d, netops.Change{}, err
	}
	return d, d.inPod(have), nil
}

// restorable are routes that were taken away, without default routes by interfaces
// that are gone.
func restorable(routes []netops.Route, indexes map[string]uint32) []netops.Route {
	return slices.DeleteFunc(slices.Clone(routes), func(route netops.Route) bool {
		parts := defaultsOf([]netops.Route{route})
		return parts != nil && !slices.ContainsFunc(parts, func(part netops.Route) bool { return part.OverLinks(indexes) })
	})
}

// overruled is why the preference of an attachment does not count, where it asks for an
// interface; empty where it counts.
func (p pod) overruled(ours preference) string {
	overruling := slices.DeleteFunc(slices.Clone(p.preferences), func(o preference) bool { return !o.overrules(ours) })
	if len(overruling) == 0 {
		return ""
	}
	by := slices.MaxFunc(overruling, preference.compare)
	return fmt.Sprintf("%s is to have the pod's default route, but %s asks for %s, and later", ours.Dev, by.of, by.Dev)
}

// strayDefaults is what does not hold at CHECK of the choice that the attachments
// of a pod make.
func (p pod) strayDefaults(ours preference, have netops.Snapshot) (drift []netops.Drift) {
	c := choose(append(slices.Clip(p.preferences), ours), have.Routes, restorable(p.withheld, have.Indexes))
	for i := range c.remove {
		stray := netops.Drift{Object: &c.remove[i], Present: true}
		if c.remove[i].Protocol == unix.RTPROT_RA {
			stray.Hint = "the sysctl net.ipv6.conf." + devOf(&c.remove[i]) + ".accept_ra_defrtr=0 keeps routers from making it"
		}
		drift = append(drift, stray)
	}
	for i := range c.restore {
		drift = append(drift, netops.Drift{Object: &c.restore[i]})
	}
	return drift
}
