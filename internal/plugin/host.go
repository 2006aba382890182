//go:build linux

package plugin

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// openHost opens the host's namespace, whose changes are logged, if anybody
// reads them.
func (r *request) openHost() (*netops.Netns, error) {
	host, err := netops.Here()
	if err == nil && r.log.debugs() {
		host.OnSend = r.log.operation
	}
	return host, err
}

// look lists what has the places of some routes on the host.
func (r *request) look(ctx context.Context, wanted netops.State) ([]netops.Route, error) {
	if wanted.IsZero() {
		return nil, nil
	}
	host, err := r.openHost()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	return host.Find(ctx, wanted.Routes, false)
}

// neededOnHost is what an ADD would change on the host now.
func (r *request) neededOnHost(ctx context.Context, wanted netops.State) (needed netops.Change, err error) {
	have, err := r.look(ctx, wanted)
	if err != nil {
		return needed, err
	}
	places, others := placesOf(have), r.others(wanted.Routes)
	var failed netops.Failures
	for i := range wanted.Routes {
		want := &wanted.Routes[i]
		s, err := r.standing(want, places[want.Slot()], others)
		switch {
		case err != nil:
			failed = append(failed, failure(want, err))
		case s.held == nil:
			needed.Del.Routes = append(needed.Del.Routes, s.stale...)
			needed.Add.Routes = append(needed.Add.Routes, *want)
		}
	}
	if failed != nil {
		return needed, inOrder(failed)
	}
	return needed, nil
}

// placesOf are routes by the places that they have.
func placesOf(have []netops.Route) map[netops.Slot][]netops.Route {
	places := map[netops.Slot][]netops.Route{}
	for i := range have {
		places[have[i].Slot()] = append(places[have[i].Slot()], have[i])
	}
	return places
}

// standing is how a route that is wanted stands with what has its place.
type standing struct {
	held  *netops.Route  // it is there already
	stale []netops.Route // routes of ours that nobody wants any more
}

// standing judges what has the place of a route: another one that is not ours,
// or that a living attachment wants, is an error. What IPv6 has merged with a
// route of ours is not ours.
func (r *request) standing(want *netops.Route, there []netops.Route, others func() (owners, error)) (standing, error) {
	for i := range there {
		if want.HeldBy(&there[i]) {
			return standing{held: &there[i]}, nil
		}
	}
	for i := range there {
		have := &there[i]
		if have.Protocol != netops.Protocol || len(have.Hops) > 0 {
			return standing{}, Errorf(CodeOwned, "there is %q already, which is not ours", have)
		}
		all, err := others()
		if err != nil {
			return standing{}, err
		}
		owner := all.of(have, func(e *record.Entry) bool { return !r.certainlyGone(e) })
		switch {
		case owner != nil && owner.Err != nil:
			return standing{}, Errorf(CodeOwned, "there is %q already, which the record %s may want: %w", have, owner.Path(), owner.Err)
		case owner != nil:
			return standing{}, Errorf(CodeOwned, "there is %q already, which %s wants for %s", have, owner.Plugin, owner.Key)
		}
	}
	return standing{stale: there}, nil
}

// owners are the records of attachments that may want some routes of the host.
type owners []owner

type owner struct {
	*record.Entry
	wants netops.Wants
}

// others reads the records of other attachments that name the destinations of
// some routes, when it is called for the first time. Those of an earlier boot
// want nothing.
func (r *request) others(routes []netops.Route, not ...*record.Entry) func() (owners, error) {
	return sync.OnceValues(func() (all owners, err error) {
		boot, err := record.Boot()
		if err != nil {
			return nil, err
		}
		named := make(map[netip.Prefix]bool, len(routes))
		for i := range routes {
			named[routes[i].Dst] = true
		}
		err = r.store().Naming(named, func(e *record.Entry) {
			itself := slices.ContainsFunc(not, func(n *record.Entry) bool { return n.Path() == e.Path() })
			if !itself && (e.Err != nil || e.Boot == boot) {
				all = append(all, owner{e, netops.NewWants(e.Done.Host)})
			}
		})
		return all, err
	})
}

// of finds one that wants a route, among those that count, or whose record
// cannot be read, so that it may.
func (all owners) of(route *netops.Route, counts func(*record.Entry) bool) *record.Entry {
	for _, o := range all {
		if o.Err != nil || o.wants.Has(route) && counts(o.Entry) {
			return o.Entry
		}
	}
	return nil
}
