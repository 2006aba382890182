//go:build linux

package plugin

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
	err = c.release(ctx, c.host, c.ours, c.of)
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

// release deletes those routes on the host that carry our protocol, and that no
// other record wants. It is called under the lock.
func (r *request) release(ctx context.Context, host *netops.Netns, routes []netops.Route, of ...*record.Entry) error {
	if len(routes) == 0 {
		return nil
	}
	have, err := host.Find(ctx, routes, true)
	if err != nil {
		return err
	}
	wanted := netops.NewWants(netops.State{Routes: routes})
	ours := slices.DeleteFunc(have, func(h netops.Route) bool { return !wanted.Has(&h) })
	if len(ours) == 0 {
		return nil
	}
	others, err := r.others(ours, of...)()
	if err != nil {
		return err
	}
	unwanted := slices.DeleteFunc(ours, func(route netops.Route) bool {
		owner := others.of(&route, func(*record.Entry) bool { return true })
		if owner != nil && owner.Err != nil {
			r.log.Warn("a route stays that a record which cannot be read may want", "route", route.String(), "record", owner.Path(), "error", owner.Err)
		}
		return owner != nil
	})
	if failed := host.DeleteEach(ctx, unwanted); failed != nil {
		return failed
	}
	return nil
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
			own := slices.DeleteFunc(slices.Clone(each), func(f *netops.OpError) bool { return !wanted.Has(&f.Route) })
			if len(own) > 0 {
				u.failed = own
			}
		default:
			u.failed = err
		}
	}
}

func (r *request) releaseAll(ctx context.Context, all []*undoing) error {
	var routes []netops.Route
	entries := make([]*record.Entry, len(all))
	for i, u := range all {
		entries[i] = u.Entry
		routes = append(routes, u.Done.Host.Routes...)
	}
	if len(routes) == 0 {
		return nil
	}
	host, err := r.openHost()
	if err != nil {
		return err
	}
	defer host.Close()
	lock, err := r.store().LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return r.release(ctx, host, routes, entries...)
}
