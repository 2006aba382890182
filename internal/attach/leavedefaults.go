//go:build linux

package attach

import (
	"context"
	"net/netip"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/record"
)

// mainDefaults asks for the default routes of table main, and for interfaces.
func mainDefaults() netops.Query {
	return netops.Query{EveryLink: true, Tables: []uint32{netops.TableMain},
		To: map[netip.Prefix]bool{netops.IPv4Default: true, netops.IPv6Default: true}}
}

// restoreDefaults puts default routes back that are withheld.
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

// leaveDefaults leaves the choice of the pod's default routes to the attachments that
// stay, before others go. What the records of those list that go, a record that
// stays lists from then on; that is written first. So it is with what an interface
// has that loses its attachment: until its own plugin takes it away it is one
// without router. The last to go restores them as it takes back all else.
func (r *request) leaveDefaults(ctx context.Context, ns *kernel.Netns, going []*undoing, besides []*record.Entry) error {
	prefers := func(e *record.Entry) bool { return e.Plugin == r.Plugin.Name && e.Default != nil }
	if !slices.ContainsFunc(going, func(u *undoing) bool { return prefers(u.Entry) }) && !slices.ContainsFunc(besides, prefers) {
		return nil
	}
	have, err := ns.Snapshot(ctx, mainDefaults())
	if err != nil {
		return err
	}
	stay := newPod(besides, r.Plugin.Name, record.Key{})
	withheld := slices.Clip(stay.withheld)
	for _, u := range going {
		u.Done.Pod.Del.Routes = restorable(u.Done.Pod.Del.Routes, have.Indexes)
		withheld = append(withheld, defaultsOf(u.Done.Pod.Del.Routes)...)
	}
	if len(stay.preferences) == 0 {
		return nil
	}
	withheld = restorable(withheld, have.Indexes)
	c := choose(stay.preferences, have.Routes, withheld)
	removed, _ := netops.Change{Del: netops.State{Routes: c.remove}}.Needed(netops.State{Routes: beforeRemoval(have.Routes, withheld)})
	if err := stay.withhold(r.Plugin.Name, slices.Concat(removed.Del.Routes, withheld)); err != nil {
		r.Warn("the pod gets several default routes: the records of those that stay cannot list which are withheld", "error", err)
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

// withhold has records of a plugin's attachments list as deleted those routes that
// none of them lists yet: each one that of another interface, if there is one; the
// DEL of its own interface's attachment would leave it there.
func (p pod) withhold(plugin string, routes []netops.Route) error {
	ours := slices.DeleteFunc(slices.Clone(p.others), func(e *record.Entry) bool { return e.Plugin != plugin })
	changed := map[*record.Entry]bool{}
	for i := range routes {
		r := &routes[i]
		if isThere(p.withheld, r) {
			continue
		}
		p.withheld = append(slices.Clip(p.withheld), *r)
		by := ours[max(0, slices.IndexFunc(ours, func(e *record.Entry) bool { return e.IfName != devOf(r) }))]
		by.Done.Pod.Del.Routes = append(slices.Clip(by.Done.Pod.Del.Routes), *r)
		changed[by] = true
	}
	for e := range changed {
		if err := e.Rewrite(); err != nil {
			return err
		}
	}
	return nil
}

// withoutDefaults are routes but for those that the attachments of a pod decide
// about together.
func withoutDefaults(routes []netops.Route) []netops.Route {
	return slices.DeleteFunc(slices.Clone(routes), func(route netops.Route) bool { return len(defaultsOf([]netops.Route{route})) > 0 })
}
