package kernel

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

// Undo takes back what was done, as far as it is still there: what is gone
// already is fine, and so is an interface that is gone with its routes. It
// goes on after a failure; the error joins an OpError for each.
func (n *Netns) Undo(ctx context.Context, done netops.Change) error {
	if done.IsZero() {
		return nil
	}
	q := netops.Query{To: map[netip.Prefix]bool{}}
	q.Cover(done)
	have, err := n.Snapshot(ctx, q)
	if err != nil {
		return err
	}
	todo, _ := done.Reverse().Needed(have.State)
	standBeside(&todo, have.Routes)
	back := n.wayBack(&todo, have.Routes)
	var failed []*netops.OpError
	for _, at := range todo.UndoOrder() {
		switch at {
		case netops.DropRoutes:
			failed = append(failed, n.run(ctx, netops.Operations(netops.Delete, back.del), nil, true)...)
		case netops.AddRoutes:
			failed = append(failed, n.restore(ctx, back)...)
		case netops.ExchangeRoutes: // restored with the others
		default: // what an interface that is gone had went with it
			failed = append(failed, slices.DeleteFunc(n.makeAt(ctx, &todo, at, nil), (*netops.OpError).Missing)...)
		}
	}
	return join(failed)
}

// wayBack is how the routes of a change that is taken back go and come.
type wayBack struct {
	del, add []*netops.Route // by themselves
	merged   []*netops.Route // IPv6, beside others
	arranged []arrangement   // IPv4, among siblings, whatever they were exchanged for
}

// wayBack sorts the routes of a change. What is to be put back by an interface
// that is gone is left out.
func (n *Netns) wayBack(todo *netops.Change, have []netops.Route) (back wayBack) {
	keys, lost := siblingKeys(todo), map[netops.RouteKey]bool{}
	for i := range todo.Add.Routes {
		if r := &todo.Add.Routes[i]; !n.possible(r) {
			lost[r.Key()] = true
		}
	}
	a := newArranger(have, keys)
	for i := range todo.Del.Routes {
		switch r := &todo.Del.Routes[i]; {
		case !keys[r.Key()]:
			back.del = append(back.del, r)
		case r.Raw == nil || !lost[r.Key()]: // what is left of a route stays where the whole cannot come back
			a.take(r)
		}
	}
	for i := range todo.Add.Routes {
		r := &todo.Add.Routes[i]
		switch {
		case !n.possible(r):
		case r.Is6() && r.Siblings != nil:
			back.merged = append(back.merged, r)
		case keys[r.Key()] && (r.Siblings != nil || len(a.of(r).target) == 0):
			a.insert(r, placeOf(r, a.of(r).target))
		default:
			back.add = append(back.add, r)
		}
	}
	back.arranged = a.all()
	return back
}

// siblingKeys are the keys of IPv4 routes that come back among siblings, go from
// among them, or in the place of others.
func siblingKeys(c *netops.Change) map[netops.RouteKey]bool {
	deleted, keys := map[netops.RouteKey]bool{}, map[netops.RouteKey]bool{}
	for i := range c.Del.Routes {
		if r := &c.Del.Routes[i]; !r.Is6() {
			deleted[r.Key()] = true
			if len(r.Siblings) > 0 {
				keys[r.Key()] = true
			}
		}
	}
	for i := range c.Add.Routes {
		if r := &c.Add.Routes[i]; !r.Is6() && (r.Siblings != nil || deleted[r.Key()]) {
			keys[r.Key()] = true
		}
	}
	return keys
}

// restore puts back routes that had to go, those first by which gateways are
// reached.
func (n *Netns) restore(ctx context.Context, back wayBack) []*netops.OpError {
	direct, byGateway := partition(back.add, func(r *netops.Route) bool { return len(r.Hops) == 0 && !r.Gw.IsValid() })
	failed := n.run(ctx, netops.Additions(direct), nil, true)
	failed = append(failed, n.makeArranged(ctx, back.arranged, nil, true)...)
	failed = append(failed, n.run(ctx, netops.Additions(byGateway), nil, true)...)
	return append(failed, n.run(ctx, netops.Operations(netops.Append, back.merged), nil, true)...)
}

// Rescue tries once more what an Undo could not put back because its gateway
// was out of reach: others that came back since may lead there, and if not, it
// goes back as an on-link route by the same way. It returns what is left of
// the error.
func (n *Netns) Rescue(ctx context.Context, err error) error {
	var failures netops.Failures
	if !errors.As(err, &failures) {
		return err
	}
	var left []*netops.OpError
	for _, f := range failures {
		r := routeOf(f)
		if !f.Adds() || r == nil || !unreachable(f.Err) || !n.rescued(ctx, r) {
			left = append(left, f)
		}
	}
	return join(left)
}

// rescued puts a route back after others, in the end as an on-link one. What a
// multipath route has of others is not made so.
func (n *Netns) rescued(ctx context.Context, r *netops.Route) bool {
	if n.putBack(ctx, r) {
		return true
	}
	onLink := r.AsOnLink()
	return len(r.Hops) == 0 && n.putBack(ctx, &onLink)
}

func (n *Netns) putBack(ctx context.Context, r *netops.Route) bool {
	have, err := n.around(ctx, []*netops.Route{r})
	if err != nil {
		return false
	}
	todo := netops.Change{Add: netops.StateOf(r)}
	return len(n.restore(ctx, n.wayBack(&todo, have))) == 0
}

// unreachable reports whether the kernel refused a gateway.
func unreachable(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH)
}

// standBeside lets a route go back beside a sibling that has come on another
// interface: that is another attachment's, put back before it, not a route in its
// place.
func standBeside(c *netops.Change, have []netops.Route) {
	deleted, ix := netops.IndexRoutes(c.Del.Routes), netops.IndexRoutes(have)
	for i := range c.Add.Routes {
		r := &c.Add.Routes[i]
		if r.Siblings != nil || r.Type.Rejects() {
			continue
		}
		var siblings []netops.Route
		for there := range ix.Siblings(r) {
			if there.Type.Rejects() || shareDevice(r, there) {
				siblings = nil
				break
			}
			if deleted.Find(there, (*netops.Route).SameRoute) == nil {
				siblings = append(siblings, there.Identity())
			}
		}
		r.Siblings, r.Position = siblings, len(siblings)
	}
}

func shareDevice(a, b *netops.Route) bool {
	return slices.ContainsFunc(a.NextHops(), func(h netops.NextHop) bool {
		return slices.ContainsFunc(b.NextHops(), func(o netops.NextHop) bool { return h.Dev == o.Dev })
	})
}

// possible reports whether the interfaces of a route are there.
func (n *Netns) possible(r *netops.Route) bool {
	_, err := deviceIndexes(r, n.index)
	return !errors.Is(err, netops.ErrNoLink)
}
