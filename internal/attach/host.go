//go:build linux

package attach

import (
	"context"
	"slices"
	"sync"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// openHost opens the host's namespace, once for a request. Its changes are
// logged, if anybody reads them.
func (r *request) openHost() (*netops.Netns, error) {
	if r.host != nil {
		return r.host, nil
	}
	host, err := netops.Here()
	if err != nil {
		return nil, err
	}
	if r.LogsDebug() {
		host.OnSend = r.logOperation
	}
	r.host = host
	r.AtEnd(host.Close)
	return host, nil
}

// look finds what has the places of what is wanted on the host.
func (r *request) look(ctx context.Context, wanted netops.State) (have netops.State, err error) {
	if wanted.IsZero() {
		return have, nil
	}
	host, err := r.openHost()
	if err != nil {
		return have, err
	}
	if objects != nil {
		if have, err = objects.look(ctx, host, wanted); err != nil {
			return have, err
		}
	}
	have.Routes, err = host.Find(ctx, wanted.Routes, false)
	return have, err
}

// neededOnHost is what an ADD would change on the host now.
func (r *request) neededOnHost(ctx context.Context, wanted netops.State) (needed netops.Change, err error) {
	have, err := r.look(ctx, wanted)
	if err != nil {
		return needed, err
	}
	var failed netops.Failures
	if objects != nil {
		if failed, err = objects.refused(r, wanted, have); err != nil {
			return needed, err
		}
		needed, _ = netops.Change{Add: wanted}.Needed(have)
		needed.Del, needed.Add.Routes = netops.State{}, nil
	}
	places, others := placesOf(have.Routes), r.others(wanted)
	for i := range wanted.Routes {
		want := &wanted.Routes[i]
		s, err := r.standing(want, places[want.Key()], others)
		switch {
		case err != nil:
			failed = append(failed, routeFailure(want, err))
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
func placesOf(have []netops.Route) map[netops.RouteKey][]netops.Route {
	places := map[netops.RouteKey][]netops.Route{}
	for i := range have {
		places[have[i].Key()] = append(places[have[i].Key()], have[i])
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
		if want.SatisfiedBy(&there[i]) {
			return standing{held: &there[i]}, nil
		}
	}
	for i := range there {
		have := &there[i]
		if have.Protocol != netops.Protocol || len(have.Hops) > 0 {
			return standing{}, cni.Errorf(cni.CodeOwned, "there is %q already, which is not ours", have)
		}
		all, err := others()
		if err != nil {
			return standing{}, err
		}
		owner := all.of(have, func(e *record.Entry) bool { return !r.certainlyGone(e) })
		switch {
		case owner != nil && owner.Err != nil:
			return standing{}, cni.Errorf(cni.CodeOwned, "there is %q already, which the record %s may want: %w", have, owner.Path(), owner.Err)
		case owner != nil:
			return standing{}, cni.Errorf(cni.CodeOwned, "there is %q already, which %s wants for %s", have, owner.Plugin, owner.Key)
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

// others reads the records of other attachments that name something of a state,
// when it is called for the first time.
func (r *request) others(of netops.State, not ...*record.Entry) func() (owners, error) {
	return sync.OnceValues(func() (all owners, err error) {
		err = r.eachOther(&of, not, func(e *record.Entry) {
			all = append(all, owner{e, netops.NewWants(e.Done.Host)})
		})
		return all, err
	})
}

// demand is who else wants what of a state on the host.
type demand struct {
	owners   // of routes and neighbours, and some of those of the rest
	unwanted []netops.Rule
	wishes   map[string]netops.Sysctl // how sysctls are wanted, by key
}

// demand reads the records of other attachments. Where hundreds share a rule, the
// first tells.
func (r *request) demand(s netops.State, of []*record.Entry) (d demand, err error) {
	left := s
	left.Rules, left.Sysctls = slices.Clone(s.Rules), slices.Clone(s.Sysctls)
	err = r.eachOther(&left, of, func(e *record.Entry) {
		d.owners = append(d.owners, owner{e, netops.NewWants(e.Done.Host)})
		if objects != nil {
			objects.demand(&d, &left, e)
		}
	})
	d.unwanted = left.Rules
	return d, err
}

// eachOther visits the records of other attachments that name something of a
// state, as [record.Store.Naming] does. Those of an earlier boot want nothing.
func (r *request) eachOther(of *netops.State, not []*record.Entry, visit func(*record.Entry)) error {
	boot, err := record.Boot()
	if err != nil {
		return err
	}
	return r.store().Naming(of, func(e *record.Entry) {
		itself := slices.ContainsFunc(not, func(n *record.Entry) bool { return n.Path() == e.Path() })
		if !itself && (e.Err != nil || e.Boot == boot) {
			visit(e)
		}
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
