//go:build linux

package attach

import (
	"context"
	"slices"
	"sync"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/record"
)

// openHost opens the host's namespace, once for a request. Its changes are told.
func (r *request) openHost() (*kernel.Netns, error) {
	if r.host != nil {
		return r.host, nil
	}
	host, err := kernel.Here()
	if err != nil {
		return nil, err
	}
	r.listen(host, "host")
	r.host = host
	return host, nil
}

// closeHost closes the host's namespace at the end of a request, if it was opened.
func (r *request) closeHost() {
	if r.host != nil {
		r.host.Close()
	}
}

// look reads what the host has of the objects that are wanted there, and what
// stands in their places.
func (r *request) look(ctx context.Context, wanted netops.State) (have netops.State, err error) {
	if wanted.IsZero() {
		return have, nil
	}
	host, err := r.openHost()
	if err != nil {
		return have, err
	}
	return lookOn(ctx, host, wanted)
}

// lookOn is look in the host's open namespace.
func lookOn(ctx context.Context, host *kernel.Netns, wanted netops.State) (have netops.State, err error) {
	if have, err = lookBesideRoutes(ctx, host, wanted); err != nil {
		return have, err
	}
	have.Routes, err = host.Find(ctx, wanted.Routes, false)
	return have, err
}

// lookBesideRoutes is look for every other kind of object.
func lookBesideRoutes(ctx context.Context, host *kernel.Netns, wanted netops.State) (netops.State, error) {
	wanted.Routes = nil
	if wanted.IsZero() {
		return wanted, nil
	}
	var q netops.Query
	q.Cover(netops.Change{Add: wanted})
	have, err := host.Snapshot(ctx, q)
	return have.State, err
}

// neededOnHost is what an ADD would change on the host now.
func (r *request) neededOnHost(ctx context.Context, wanted netops.State) (needed netops.Change, err error) {
	have, err := r.look(ctx, wanted)
	if err != nil {
		return needed, err
	}
	stale, failed, err := r.staleNeighs(wanted, have)
	if err != nil {
		return needed, err
	}
	objects := wanted
	objects.Routes = nil
	needed, _ = netops.Change{Add: objects}.Needed(have)
	needed.Del = netops.State{Neighs: stale}
	existing, others := byKey(have.Routes), r.otherOwners(nil, wanted)
	for i := range wanted.Routes {
		want := &wanted.Routes[i]
		found, err := r.examine(want, existing[want.Key()], others)
		switch {
		case err != nil:
			failed = append(failed, failure(want, err))
		case found.same == nil:
			needed.Del.Routes = append(needed.Del.Routes, found.stale...)
			needed.Add.Routes = append(needed.Add.Routes, *want)
		}
	}
	return needed, mostTelling(failed)
}

func byKey(routes []netops.Route) map[netops.RouteKey][]netops.Route {
	of := map[netops.RouteKey][]netops.Route{}
	for i := range routes {
		of[routes[i].Key()] = append(of[routes[i].Key()], routes[i])
	}
	return of
}

// existing is what the host has under the key of a route that is wanted.
type existing struct {
	same  *netops.Route  // satisfies what is wanted
	stale []netops.Route // ours, and wanted by no living attachment
}

// examine judges the routes under the key of one that is wanted. It is an error
// with code 101 if one is there that is not ours, or that a living attachment
// wants. A route of ours that IPv6 has merged with another one is not ours.
func (r *request) examine(want *netops.Route, there []netops.Route, others func() (owners, error)) (existing, error) {
	for i := range there {
		if want.SatisfiedBy(&there[i]) {
			return existing{same: &there[i]}, nil
		}
	}
	for i := range there {
		have := &there[i]
		if have.Protocol != netops.Protocol || len(have.Hops) > 0 {
			return existing{}, notOurs(have)
		}
		all, err := others()
		if err != nil {
			return existing{}, err
		}
		if err := r.refuseOwned(all, have); err != nil {
			return existing{}, err
		}
	}
	return existing{stale: there}, nil
}

// notOurs is the error for a route or neighbour in the place of a wanted one.
func notOurs(have any) error {
	return cni.Errorf(cni.CodeOwned, "there is %q already, which is not ours", have)
}

// owners are the records of other attachments that may want something of the host.
type owners []owner

type owner struct {
	*record.Entry
	wants netops.Wants
}

// ownerAmong finds the record of an attachment that wants an object and whose pod
// may be there. One that cannot be read may want it.
func (r *request) ownerAmong(all owners, o netops.Object) *record.Entry {
	for _, by := range all {
		if by.Err != nil || by.wants.Has(o) && !r.certainlyGone(by.Entry) {
			return by.Entry
		}
	}
	return nil
}

// refuseOwned is the error for an object in the place of a wanted one, if another
// attachment owns it.
func (r *request) refuseOwned(all owners, have netops.Object) error {
	switch by := r.ownerAmong(all, have); {
	case by == nil:
		return nil
	case by.Err != nil:
		return cni.Errorf(cni.CodeOwned, "there is %q already, which the record %s may want: %w", have, by.Path(), by.Err)
	default:
		return cni.Errorf(cni.CodeOwned, "there is %q already, which %s wants for %s", have, by.Plugin, by.Key)
	}
}

// want reports whether one of them wants an object, or may.
func (all owners) want(o netops.Object) bool {
	return slices.ContainsFunc(all, func(by owner) bool { return by.Err != nil || by.wants.Has(o) })
}

// otherOwners reads the records of other attachments that name something of a
// state, when it is called for the first time.
func (r *request) otherOwners(lock *record.HostLock, of netops.State, not ...*record.Entry) func() (owners, error) {
	return sync.OnceValues(func() (all owners, err error) {
		err = r.eachOther(lock, &of, not, func(e *record.Entry) {
			all = append(all, owner{e, netops.NewWants(e.Done.Host)})
		})
		return all, err
	})
}

// eachOther visits the records of other attachments that name something of a
// state, as [record.Store.Naming] does. Those of an earlier boot want nothing.
func (r *request) eachOther(lock *record.HostLock, of *netops.State, not []*record.Entry, visit func(*record.Entry)) error {
	boot, err := record.Boot()
	if err != nil {
		return err
	}
	return r.store().Naming(lock, of, not, func(e *record.Entry) {
		if e.Err != nil || e.Boot == boot {
			visit(e)
		}
	})
}

// failure is that of an object which was to be added, or set.
func failure(o netops.Object, err error) *netops.OpError {
	return &netops.OpError{Operation: netops.Operation{Verb: netops.Add, Object: o}, Err: err}
}
