//go:build linux

package attach

import (
	"context"
	"errors"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// wants are what other attachments want of a state on the host.
type wants struct {
	owners                            // of routes and neighbours, and some of those of the rest
	unwanted []netops.Rule            // rules of the state that none wants
	sysctls  map[string]netops.Sysctl // how sysctls are wanted, by key
}

// wantedByOthers reads the records of other attachments. Where hundreds share a rule, the
// first one tells. An attachment whose pod is gone wants nothing, although its
// DEL has not come.
func (r *request) wantedByOthers(lock *record.HostLock, s netops.State, of []*record.Entry) (w wants, err error) {
	left := s
	left.Rules, left.Sysctls = slices.Clone(s.Rules), slices.Clone(s.Sysctls)
	w.sysctls = map[string]netops.Sysctl{}
	err = r.eachOther(lock, &left, of, func(e *record.Entry) {
		w.owners = append(w.owners, owner{e, netops.NewWants(e.Done.Host)})
		left.Rules = slices.DeleteFunc(left.Rules, func(rule netops.Rule) bool {
			return e.Err != nil || netops.NewWants(e.Done.Host).Has(&rule) && !r.certainlyGone(e)
		})
		for _, other := range e.Done.Host.Sysctls {
			left.Sysctls = slices.DeleteFunc(left.Sysctls, func(s netops.Sysctl) bool {
				wanted := s.Key == other.Key && !r.certainlyGone(e)
				if wanted {
					w.sysctls[s.Key] = other
				}
				return wanted
			})
		}
	})
	w.unwanted = left.Rules
	return w, err
}

// release removes from the host what is ours of a state, and what no other
// record wants: routes and rules that carry our protocol, neighbours, and the
// values of sysctls. The caller has opened the host, and holds its lock.
func (r *request) release(ctx context.Context, lock *record.HostLock, s netops.State, of ...*record.Entry) error {
	have, err := r.host.Find(ctx, s.Routes, true)
	if err != nil {
		return err
	}
	wanted := netops.NewWants(s)
	s.Routes = slices.DeleteFunc(have, func(h netops.Route) bool { return !wanted.Has(&h) })
	if s.IsZero() {
		return nil
	}
	others, err := r.wantedByOthers(lock, s, of)
	if err != nil {
		return err
	}
	failed := r.releaseRoutes(ctx, s.Routes, others.owners)
	failed = append(failed, r.releaseAddresses(ctx, lock, s.Neighs, others, of)...)
	failed = append(failed, r.host.DeleteObjects(ctx, netops.State{Rules: others.unwanted})...)
	for i := range s.Sysctls {
		if err := r.resetSysctl(ctx, lock, &s.Sysctls[i], others); err != nil {
			failed = append(failed, failure(&s.Sysctls[i], err))
		}
	}
	return failed.Err()
}

func (r *request) releaseRoutes(ctx context.Context, ours []netops.Route, others owners) netops.Failures {
	unwanted := slices.DeleteFunc(ours, func(route netops.Route) bool {
		owner := r.ownerAmong(others, &route)
		if owner != nil && owner.Err != nil {
			r.Warn("a route stays because a record that cannot be read may want it", "route", route.String(), "record", owner.Path(), "error", owner.Err)
		}
		return owner != nil
	})
	return r.host.DeleteEach(ctx, unwanted)
}

// releaseRecords takes back what records say of the host, in one go.
func (r *request) releaseRecords(ctx context.Context, all []*undoing) {
	err := r.releaseAll(ctx, all)
	if err == nil {
		return
	}
	var each netops.Failures
	for _, u := range all {
		switch {
		case u.Done.Host.IsZero():
		case errors.As(err, &each):
			u.failed = failuresOf(u.Done.Host, each).Err()
		default:
			u.failed = err
		}
	}
}

// failuresOf are those failures that are about what a record has done on the
// host.
func failuresOf(done netops.State, all netops.Failures) netops.Failures {
	wanted := netops.NewWants(done)
	return slices.DeleteFunc(slices.Clone(all), func(f *netops.OpError) bool {
		return !wanted.Has(f.Object)
	})
}

func (r *request) releaseAll(ctx context.Context, all []*undoing) error {
	var s netops.State
	entries := make([]*record.Entry, len(all))
	for i, u := range all {
		entries[i] = u.Entry
		s.Append(u.Done.Host)
	}
	if s.IsZero() {
		return nil
	}
	if _, err := r.openHost(); err != nil {
		return err
	}
	lock, err := r.store().LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return r.release(ctx, lock, s, entries...)
}
