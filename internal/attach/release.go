//go:build linux

package attach

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// undo takes a claim back, of an ADD that fails. What others want stays.
func (c *claim) undo(ctx context.Context) error {
	if c == nil {
		return nil
	}
	// Nobody is to leave a route to an attachment that does not come to be.
	if err := c.of.BeginUndo(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lock, err := c.store().LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	ours := c.of.Done.Host
	ours.Routes = c.ours
	err = c.release(ctx, lock, c.host, ours, c.of)
	var failed netops.Failures
	if _, failed = c.host.AddEach(ctx, c.stale); len(failed) > 0 {
		// Where somebody has the place by now, it is his.
		failed = slices.DeleteFunc(failed, (*netops.OpError).Exists)
	}
	if len(failed) > 0 {
		err = errors.Join(err, failed)
	}
	return err
}

// release takes away what is ours of a state on the host, and what no other
// record wants: routes and rules that carry our protocol, neighbours, and the
// values of sysctls. It is called under the lock.
func (r *request) release(ctx context.Context, lock *record.HostLock, host *netops.Netns, s netops.State, of ...*record.Entry) error {
	have, err := host.Find(ctx, s.Routes, true)
	if err != nil {
		return err
	}
	wanted := netops.NewWants(s)
	s.Routes = slices.DeleteFunc(have, func(h netops.Route) bool { return !wanted.Has(&h) })
	if s.IsZero() {
		return nil
	}
	d, err := r.demand(s, of)
	if err != nil {
		return err
	}
	// The error is to be a Failures, or nil.
	failed := r.releaseRoutes(ctx, host, s.Routes, d.owners)
	if objects != nil {
		failed = append(failed, objects.release(ctx, r, lock, host, s, d, of)...)
	}
	if len(failed) > 0 {
		return failed
	}
	return nil
}

func (r *request) releaseRoutes(ctx context.Context, host *netops.Netns, ours []netops.Route, others owners) netops.Failures {
	unwanted := slices.DeleteFunc(ours, func(route netops.Route) bool {
		owner := others.of(&route, func(*record.Entry) bool { return true })
		if owner != nil && owner.Err != nil {
			r.Warn("a route stays that a record which cannot be read may want", "route", route.String(), "record", owner.Path(), "error", owner.Err)
		}
		return owner != nil
	})
	return host.DeleteEach(ctx, unwanted)
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
			wanted := netops.NewWants(u.Done.Host)
			own := slices.DeleteFunc(slices.Clone(each), func(f *netops.OpError) bool {
				if f.About.IsZero() {
					return !wanted.Has(&f.Route)
				}
				return !u.Done.Host.Wants(f.About)
			})
			if len(own) > 0 {
				u.failed = own
			}
		default:
			u.failed = err
		}
	}
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
	host, err := r.openHost()
	if err != nil {
		return err
	}
	lock, err := r.store().LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return r.release(ctx, lock, host, s, entries...)
}
