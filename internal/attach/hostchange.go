//go:build linux

package attach

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// retryDelay is the time between two tries of what failed on the host.
const retryDelay = 50 * time.Millisecond

// hostChange is what an ADD changes on the host, where attachments share
// objects. A rule belongs to all attachments that want it. A neighbour belongs
// to one, as its address does, which is noted: two attachments with one address
// would not meet otherwise. A sysctl has the value that was wanted last, and what
// it was before the first attachment wanted another is noted.
type hostChange struct {
	*request
	entry    *record.Entry
	routes   []netops.Route // now there with our protocol: undo removes them, unless other attachments want them
	replaced netops.State   // stale objects that gave way: undo puts them back
}

// changeHost makes what an attachment wants on the host. Its record is saved
// already, so that no other attachment removes what they share. What fails of
// the routes is tried so many times in all. It is nil where nothing is wanted.
func (r *request) changeHost(ctx context.Context, e *record.Entry, tries int) (*hostChange, error) {
	if e.Done.Host.IsZero() {
		return nil, nil
	}
	if _, err := r.openHost(); err != nil {
		return nil, err
	}
	c := &hostChange{request: r, entry: e}
	if err := c.makeBesideRoutes(ctx); ctx.Err() != nil {
		return c, context.Cause(ctx)
	} else if err != nil {
		return c, err
	}
	return c, c.makeRoutes(ctx, tries)
}

func (c *hostChange) makeRoutes(ctx context.Context, tries int) error {
	todo := c.entry.Done.Host.Routes
	for try := 1; ; try++ {
		failed := c.tryRoutes(ctx, todo)
		switch {
		case len(failed) == 0:
			return nil
		case try >= tries && ctx.Err() == nil:
			return mostTelling(failed)
		case !pause(ctx):
			return context.Cause(ctx)
		}
		todo = routesOf(failed)
	}
}

// pause waits before the next try. It reports false when ctx ends.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(retryDelay):
		return true
	}
}

// mostTelling is one error for several, nil for none, which begins with what
// decides the code: another owner, then what the kernel refused, what it may
// refuse for a while, and an interface that is missing.
func mostTelling(failed netops.Failures) error {
	rank := func(f *netops.OpError) int {
		switch {
		case errors.As(f, new(*cni.CodedError)):
			return 0
		case f.Missing():
			return 3
		case netops.Passing(f):
			return 2
		}
		return 1
	}
	slices.SortStableFunc(failed, func(a, b *netops.OpError) int { return cmp.Compare(rank(a), rank(b)) })
	return failed.Err()
}

func routesOf(failed netops.Failures) []netops.Route {
	routes := make([]netops.Route, len(failed))
	for i, f := range failed {
		routes[i] = *f.Object.(*netops.Route)
	}
	return routes
}

// tryRoutes adds routes, and returns the failures.
func (c *hostChange) tryRoutes(ctx context.Context, routes []netops.Route) (failed netops.Failures) {
	added, all := c.host.AddEach(ctx, routes)
	c.routes = append(c.routes, added...)
	exist := slices.DeleteFunc(slices.Clone(all), func(f *netops.OpError) bool { return !f.Exists() })
	failed = slices.DeleteFunc(all, (*netops.OpError).Exists)
	if len(exist) == 0 {
		return failed
	}
	return append(failed, c.resolve(ctx, exist)...)
}

// resolve looks at what exists already under the keys of wanted routes. It holds
// the host's lock: an attachment that goes then sees that a route is wanted here.
func (c *hostChange) resolve(ctx context.Context, exist netops.Failures) (failed netops.Failures) {
	wanted := routesOf(exist)
	all := func(err error) netops.Failures {
		for _, f := range exist {
			f.Err = err
		}
		return exist
	}
	lock, err := c.store().LockHost(ctx)
	if err != nil {
		return all(err)
	}
	defer lock.Unlock()
	have, err := c.host.Find(ctx, wanted, false)
	if err != nil {
		return all(err)
	}
	existing, others := byKey(have), c.otherOwners(lock, netops.State{Routes: wanted}, c.entry)
	for i := range wanted {
		failed = append(failed, c.shareOrReplace(ctx, &wanted[i], existing[wanted[i].Key()], others)...)
	}
	return failed
}

// shareOrReplace counts on a route that is there as it is wanted, or puts it in
// the place of stale ones.
func (c *hostChange) shareOrReplace(ctx context.Context, want *netops.Route, there []netops.Route, others func() (owners, error)) netops.Failures {
	found, err := c.examine(want, there, others)
	switch {
	case err != nil:
		return netops.Failures{failure(want, err)}
	case found.same != nil && found.same.Protocol != netops.Protocol:
		return nil // not ours to undo
	case found.same != nil:
		c.routes = append(c.routes, *want)
		return nil
	}
	for i := range found.stale {
		c.Warn("a route of ours that no attachment wants any more gives way", "route", found.stale[i].String())
	}
	if failed := c.host.DeleteEach(ctx, found.stale); failed != nil {
		return netops.Failures{failure(want, failed)}
	}
	c.replaced.Routes = append(c.replaced.Routes, found.stale...)
	added, failed := c.host.AddEach(ctx, []netops.Route{*want})
	c.routes = append(c.routes, added...)
	return failed
}

// makeBesideRoutes makes what is wanted beside routes. It holds the host's lock,
// as resolve does.
func (c *hostChange) makeBesideRoutes(ctx context.Context) error {
	want := c.entry.Done.Host
	want.Routes = nil
	if want.IsZero() {
		return nil
	}
	lock, err := c.store().LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	for i := range want.Neighs {
		if err := c.takeAddress(ctx, lock, &want.Neighs[i]); err != nil {
			return err
		}
	}
	if err := mostTelling(c.makeRulesAndNeighs(ctx, lock, want)); err != nil {
		return err
	}
	for i := range want.Sysctls {
		if err := c.setSysctl(ctx, lock, &want.Sysctls[i]); err != nil {
			return err
		}
	}
	return nil
}

// makeRulesAndNeighs adds rules and neighbours. A rule that exists is as it is
// wanted, or it would be another one. One by another protocol is looked for: the
// kernel would add ours beside it.
func (c *hostChange) makeRulesAndNeighs(ctx context.Context, lock *record.HostLock, want netops.State) (failed netops.Failures) {
	if len(want.Rules) > 0 {
		have, err := c.host.Snapshot(ctx, netops.Query{Rules: true})
		if err != nil {
			return netops.Failures{failure(&want.Rules[0], err)}
		}
		needed, _ := netops.Change{Add: netops.State{Rules: want.Rules}}.Needed(have.State)
		want.Rules = needed.Add.Rules
	}
	_, all := c.host.AddObjects(ctx, netops.State{Rules: want.Rules, Neighs: want.Neighs})
	for _, f := range all {
		if f.Exists() {
			f.Err = nil
			if e, is := f.Object.(*netops.Neigh); is {
				f.Err = c.giveWay(ctx, lock, e)
			}
		}
		if f.Err != nil {
			failed = append(failed, f)
		}
	}
	return failed
}

// undo takes the change back, for an ADD that fails. What other attachments want
// stays.
func (c *hostChange) undo(ctx context.Context) error {
	if c == nil {
		return nil
	}
	// From now on no other attachment leaves a route to this one.
	if err := c.entry.BeginUndo(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lock, err := c.store().LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	made := c.entry.Done.Host
	made.Routes = c.routes
	err = c.release(ctx, lock, made, c.entry)
	_, failed := c.host.AddEach(ctx, c.replaced.Routes)
	_, neighs := c.host.AddObjects(ctx, netops.State{Neighs: c.replaced.Neighs})
	// What has the place of a stale object by now keeps it.
	failed = slices.DeleteFunc(append(failed, neighs...), (*netops.OpError).Exists)
	return errors.Join(err, failed.Err())
}
