//go:build linux

package attach

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/record"
)

// Several attachments of a pod bring a default route each, and one interface is
// to have it. Which, the records say ([record.Default]): it is worked out anew
// with every ADD and DEL. A default route that leaves table main is owed to the
// pod by the record that lists it as deleted, whichever attachment's it is; when
// that attachment goes, another one's record owes it. A route that is owed and
// there all the same, since a process was killed or another attachment wants it
// there, is no debt. Nor is one by an interface that is gone: one that came anew
// under its name has the routes that it came with.

// Sharer is a planner whose attachments share objects of their pod, and have a
// say in its default routes.
type Sharer interface {
	Planner
	// Beside is the planner that knows what other attachments of the pod want
	// there. Plan then sees the pod as it was before earlier entries of the chain,
	// and in table main also the default routes that other attachments have taken
	// away.
	Beside(wanted netops.State) Planner
}

// pod is what is recorded of the attachments of a pod.
type pod struct {
	own     []*record.Entry // finished records of the attachment in question, the newest first
	others  []*record.Entry // those of all others, of whichever plugin
	says    []say           // of others
	owed    []netops.Route  // default routes
	ordered uint32          // how many ADDs there were
}

// say is an attachment's say, and whose it is.
type say struct {
	record.Default
	of record.Key
}

// podOf reads the records of a pod beside those of an attachment. Most pods have
// none: then nothing is read.
func (r *request) podOf(planner Planner, lock string, own []*record.Entry) (p pod, err error) {
	all := own
	if _, ok := planner.(Sharer); !ok {
		return pod{own: own}, nil
	}
	if r.store().Recorded(lock) > len(own) {
		if all, _, err = r.store().InNamespace(lock); err != nil {
			return p, err
		}
	}
	p = newPod(all, r.Plugin.Name, r.key())
	p.own = own
	return p, nil
}

// newPod sorts the records of a pod. Of the plugin's own those that are not
// finished owe what they have taken away, too, but have no say.
func newPod(all []*record.Entry, plugin string, key record.Key) (p pod) {
	for _, e := range all {
		itself := e.Plugin == plugin && e.Key == key
		if e.Plugin == plugin {
			p.owed = append(p.owed, defaultsOf(e.Done.Pod.Del.Routes)...)
			p.ordered = max(p.ordered, sayOf(e).Order)
		}
		switch {
		case e.Progress != record.Finished:
		case !itself:
			p.others = append(p.others, e)
			if e.Plugin == plugin {
				p.says = append(p.says, say{sayOf(e), e.Key})
			}
		}
	}
	return p
}

// sayOf is the say of a record. One of the first release has its interface's
// place.
func sayOf(e *record.Entry) record.Default {
	if e.Default != nil {
		return *e.Default
	}
	return record.Default{Dev: e.IfName, Number: trailingNumber(e.IfName)}
}

// trailingNumber is the number at the end of an interface's name; 0 without one.
func trailingNumber(name string) (n uint32) {
	const most = 1 << 16
	for i, unit := len(name)-1, uint32(1); i >= 0 && name[i] >= '0' && name[i] <= '9' && unit < most; i-- {
		n += uint32(name[i]-'0') * unit
		unit *= 10
	}
	return n
}

// wanted is what the other attachments of the pod want there.
func (p pod) wanted() (s netops.State) {
	for _, e := range p.others {
		s.Append(e.Want().Pod.Add)
	}
	return s
}

// withOwed are routes and those default routes that are owed, in the places that
// these had.
func withOwed(routes, owed []netops.Route) []netops.Route {
	all := slices.Clone(routes)
	for i := range owed {
		r := &owed[i]
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
	restore []netops.Route // that are owed, and come back
	remove  []netops.Route // that are there, and go
}

// choose gives the default routes of each family to the interface that the says
// are for: the first of them that has any. Where none has, all stay, or come
// back.
func choose(says []say, main, owed []netops.Route) (c choice) {
	there, away := defaultsOf(main), []netops.Route(nil)
	for i := range owed {
		if r := &owed[i]; !isThere(there, r) && !isThere(away, r) {
			away = append(away, *r)
		}
	}
	for _, six := range []bool{false, true} {
		owner, found := ownerOf(says, slices.Concat(there, away), six)
		stays := func(r *netops.Route) bool { return !found || devOf(r) == owner }
		// An interface that came anew has others, and does not miss those.
		misses := func(r *netops.Route) bool {
			return !slices.ContainsFunc(ofFamily(there, six), func(h netops.Route) bool { return devOf(&h) == devOf(r) })
		}
		for _, r := range ofFamily(away, six) {
			if stays(&r) && misses(&r) {
				c.restore = append(c.restore, r)
			}
		}
		for _, r := range ofFamily(there, six) {
			if !stays(&r) {
				c.remove = append(c.remove, r)
			}
		}
	}
	return c
}

func ofFamily(routes []netops.Route, six bool) (list []netops.Route) {
	for _, r := range routes {
		if r.Dst.Addr().Is6() == six {
			list = append(list, r)
		}
	}
	return list
}

// devOf is the interface of a part.
func devOf(r *netops.Route) string { return r.NextHops()[0].Dev }

// ownerOf is the interface that is to have the default routes of a family.
func ownerOf(says []say, parts []netops.Route, six bool) (dev string, found bool) {
	parts = ofFamily(parts, six)
	for _, s := range slices.SortedStableFunc(slices.Values(says), func(a, b say) int { return b.compare(a) }) {
		if slices.ContainsFunc(parts, func(r netops.Route) bool { return devOf(&r) == s.Dev }) {
			return s.Dev, true
		}
	}
	return "", false
}

// compare tells which of two says counts: the greater.
func (s say) compare(o say) int {
	rank := func(s say) (kind int) {
		switch {
		case s.Asked:
			return 2
		case s.Number == 0:
			return 1
		}
		return 0
	}
	if c := cmp.Compare(rank(s), rank(o)); c != 0 {
		return c
	}
	if rank(s) == 0 && s.Number != o.Number {
		return cmp.Compare(s.Number, o.Number)
	}
	return cmp.Compare(s.Order, o.Order)
}

// overruled is the say of another attachment that asks for another interface than
// this one does, and later.
func (s say) overruled(others []say) (by say, ok bool) {
	for _, o := range others {
		if s.Asked && o.Asked && o.Dev != s.Dev && o.Order > s.Order && o.Order > by.Order {
			by, ok = o, true
		}
	}
	return by, ok
}

// decide is what an ADD comes to, with what is recorded of its pod. It is pure.
func decide(planner Planner, prev *cniresult.Result, have netops.Snapshot, p pod, key record.Key) (d *Decision, withAll netops.Snapshot, err error) {
	p.owed = payable(p.owed, have.Indexes)
	main, seen := have.Routes, have
	if s, ok := planner.(Sharer); ok {
		planner = s.Beside(p.wanted())
		have.Routes = withOwed(main, p.owed)
		seen = have
		seen.State = before(have.State, p.own)
	}
	if d, err = planner.Plan(prev, seen); err != nil || d.Default == nil {
		return d, have, err
	}
	d.Default.Order = p.order(d.Default)
	ours := say{*d.Default, key}
	for _, o := range p.says {
		if _, overruled := o.overruled([]say{ours}); overruled {
			d.Warnings = append(d.Warnings, fmt.Sprintf("the pod's default route is asked for by several networks: it goes to %s, no more to %s as %s asks", ours.Dev, o.Dev, o.of))
		}
	}
	c := choose(append(slices.Clip(p.says), ours), main, p.owed)
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

// order is the number of an ADD. A repeated one, which asks for the same, keeps
// its own.
func (p pod) order(d *record.Default) uint32 {
	for _, e := range p.own {
		if own := e.Default; own != nil && own.Dev == d.Dev && own.Asked == d.Asked {
			return own.Order
		}
	}
	return p.ordered + 1
}

// mainDefaults asks for the default routes of table main, and for interfaces.
func mainDefaults() netops.Query {
	return netops.Query{EveryLink: true, Tables: []uint32{netops.TableMain},
		To: map[netip.Prefix]bool{netops.IPv4Default: true, netops.IPv6Default: true}}
}

// restoreDefaults puts default routes back that are owed.
func restoreDefaults(ctx context.Context, ns *kernel.Netns, routes []netops.Route) error {
	return ns.Rescue(ctx, ns.Undo(ctx, netops.Change{Del: netops.State{Routes: routes}, AddFirst: true}))
}

// removeDefaults takes default routes away, as far as they are there.
func removeDefaults(ctx context.Context, ns *kernel.Netns, routes []netops.Route) error {
	if len(routes) == 0 {
		return nil
	}
	have, err := ns.Snapshot(ctx, mainDefaults())
	if err != nil {
		return err
	}
	todo, _ := netops.Change{Del: netops.State{Routes: routes}}.Needed(have.State)
	return ns.Apply(ctx, todo)
}

// yield leaves the choice of the pod's default routes to the attachments that
// stay, before others go. What those owe that go, one that stays owes from then
// on; that is written first. So it is with what an interface has that loses its
// attachment: until its own plugin takes it away it is one without router. The
// last to go pays as it takes back all else.
func (r *request) yield(ctx context.Context, ns *kernel.Netns, going []*undoing, besides []*record.Entry) error {
	says := func(e *record.Entry) bool { return e.Plugin == r.Plugin.Name && e.Default != nil }
	if !slices.ContainsFunc(going, func(u *undoing) bool { return says(u.Entry) }) && !slices.ContainsFunc(besides, says) {
		return nil
	}
	have, err := ns.Snapshot(ctx, mainDefaults())
	if err != nil {
		return err
	}
	stay := newPod(besides, r.Plugin.Name, record.Key{})
	owed := slices.Clip(stay.owed)
	for _, u := range going {
		u.Done.Pod.Del.Routes = payable(u.Done.Pod.Del.Routes, have.Indexes)
		owed = append(owed, defaultsOf(u.Done.Pod.Del.Routes)...)
	}
	if len(stay.says) == 0 {
		return nil
	}
	owed = payable(owed, have.Indexes)
	c := choose(stay.says, have.Routes, owed)
	removed, _ := netops.Change{Del: netops.State{Routes: c.remove}}.Needed(netops.State{Routes: withOwed(have.Routes, owed)})
	if err := stay.owe(r.Plugin.Name, slices.Concat(removed.Del.Routes, owed)); err != nil {
		r.Warn("the pod gets several default routes: no other attachment can be noted to owe them", "error", err)
		return nil
	}
	for _, u := range going {
		u.Done.Pod.Del.Routes = withoutDefaults(u.Done.Pod.Del.Routes)
	}
	if err := restoreDefaults(ctx, ns, c.restore); err != nil {
		return err
	}
	return removeDefaults(ctx, ns, c.remove)
}

// payable are routes that were taken away, without default routes by interfaces
// that are gone.
func payable(routes []netops.Route, indexes map[string]uint32) []netops.Route {
	return slices.DeleteFunc(slices.Clone(routes), func(route netops.Route) bool {
		parts := defaultsOf([]netops.Route{route})
		return parts != nil && !slices.ContainsFunc(parts, func(part netops.Route) bool { return part.OverLinks(indexes) })
	})
}

// owe has the attachments owe what none of them does yet: each route another one
// than that of its interface, if there is one, whose DEL would leave it there.
func (p pod) owe(plugin string, debts []netops.Route) error {
	ours := slices.DeleteFunc(slices.Clone(p.others), func(e *record.Entry) bool { return e.Plugin != plugin })
	changed := map[*record.Entry]bool{}
	for i := range debts {
		r := &debts[i]
		if isThere(p.owed, r) {
			continue
		}
		p.owed = append(slices.Clip(p.owed), *r)
		heir := ours[max(0, slices.IndexFunc(ours, func(e *record.Entry) bool { return e.IfName != devOf(r) }))]
		heir.Done.Pod.Del.Routes = append(slices.Clip(heir.Done.Pod.Del.Routes), *r)
		changed[heir] = true
	}
	for heir := range changed {
		if err := heir.Rewrite(); err != nil {
			return err
		}
	}
	return nil
}

// decides reports whether the pod's default routes are chosen by says: records of
// the first release only tell what was taken away.
func (p pod) decides() bool {
	say := func(e *record.Entry) bool { return e.Default != nil }
	return slices.ContainsFunc(p.own, say) || len(p.own) > 0 && slices.ContainsFunc(p.others, say)
}

// overruled is why the say of an attachment does not count, where it asks for an
// interface; empty where it counts.
func (p pod) overruled(ours say) string {
	by, ok := ours.overruled(p.says)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s is to have the pod's default route, but %s asks for %s, and later", ours.Dev, by.of, by.Dev)
}

// strayDefaults is what does not hold at CHECK of the choice that the attachments
// of a pod make.
func (p pod) strayDefaults(ours say, have netops.Snapshot) (drift []netops.Drift) {
	c := choose(append(slices.Clip(p.says), ours), have.Routes, payable(p.owed, have.Indexes))
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

// withoutDefaults are routes but for those that the attachments of a pod decide
// about together.
func withoutDefaults(routes []netops.Route) []netops.Route {
	return slices.DeleteFunc(slices.Clone(routes), func(route netops.Route) bool { return len(defaultsOf([]netops.Route{route})) > 0 })
}
