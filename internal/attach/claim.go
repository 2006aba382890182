//go:build linux

package attach

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// retryDelay is the time between two tries of what failed on the host.
const retryDelay = 50 * time.Millisecond

// claim is what an attachment has made its own on the host, or shares there.
type claim struct {
	*request
	of    *record.Entry
	host  *netops.Netns
	ours  []netops.Route // that carry our protocol: who fails takes them away, unless others want them
	stale []netops.Route // that nobody wanted any more, and that gave way
}

// claim makes what an attachment wants on the host, whose record is saved
// already: from now on nobody removes what it shares. Routes that fail are tried
// so many times in all. It is nil where there is nothing to make.
func (r *request) claim(ctx context.Context, e *record.Entry, tries int) (*claim, error) {
	if e.Done.Host.IsZero() {
		return nil, nil
	}
	host, err := r.openHost()
	if err != nil {
		return nil, err
	}
	c := &claim{request: r, of: e, host: host}
	if objects != nil {
		if err := objects.claim(ctx, c); ctx.Err() != nil {
			return c, context.Cause(ctx)
		} else if err != nil {
			return c, err
		}
	}
	todo := e.Done.Host.Routes
	for try := 1; ; try++ {
		failed := c.attempt(ctx, todo)
		switch {
		case len(failed) == 0:
			return c, nil
		case try >= tries && ctx.Err() == nil:
			return c, inOrder(failed)
		case !pause(ctx):
			return c, context.Cause(ctx)
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

// inOrder is one error for several, beginning with what the code is for:
// somebody else has the place, the kernel refused, it may refuse for a while,
// an interface is missing.
func inOrder(failed netops.Failures) error {
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
	return failed
}

func routesOf(failed netops.Failures) []netops.Route {
	routes := make([]netops.Route, len(failed))
	for i, f := range failed {
		routes[i] = f.Route
	}
	return routes
}

// attempt tries to make routes, and returns the failures.
func (c *claim) attempt(ctx context.Context, routes []netops.Route) (left netops.Failures) {
	added, failed := c.host.AddEach(ctx, routes)
	c.ours = append(c.ours, added...)
	var taken netops.Failures
	for _, f := range failed {
		if f.Exists() {
			taken = append(taken, f)
		} else {
			left = append(left, f)
		}
	}
	if taken == nil {
		return left
	}
	return append(left, c.settle(ctx, taken)...)
}

// settle looks at what has the places of routes, under the lock: whoever wants
// to take one of them away will see that it is wanted here.
func (c *claim) settle(ctx context.Context, taken netops.Failures) (left netops.Failures) {
	wanted := routesOf(taken)
	fail := func(err error) netops.Failures {
		for _, f := range taken {
			f.Err = err
		}
		return taken
	}
	lock, err := c.store().LockHost(ctx)
	if err != nil {
		return fail(err)
	}
	defer lock.Unlock()
	have, err := c.host.Find(ctx, wanted, false)
	if err != nil {
		return fail(err)
	}
	places, others := placesOf(have), c.others(netops.State{Routes: wanted}, c.of)
	for i := range wanted {
		left = append(left, c.share(ctx, &wanted[i], places[wanted[i].Key()], others)...)
	}
	return left
}

// share takes part in a route that is there, or takes the place of what nobody
// wants any more.
func (c *claim) share(ctx context.Context, r *netops.Route, there []netops.Route, others func() (owners, error)) netops.Failures {
	s, err := c.standing(r, there, others)
	switch {
	case err != nil:
		return netops.Failures{routeFailure(r, err)}
	case s.held != nil && s.held.Protocol != netops.Protocol:
		return nil // not ours to undo
	case s.held != nil:
		c.ours = append(c.ours, *r)
		return nil
	}
	for i := range s.stale {
		c.Warn("a route of ours that nobody wants any more gives way", "route", s.stale[i].String())
	}
	if failed := c.host.DeleteEach(ctx, s.stale); failed != nil {
		return netops.Failures{routeFailure(r, failed)}
	}
	c.stale = append(c.stale, s.stale...)
	added, failed := c.host.AddEach(ctx, []netops.Route{*r})
	c.ours = append(c.ours, added...)
	return failed
}

// routeFailure is the failure of a route's addition.
func routeFailure(r *netops.Route, err error) *netops.OpError {
	return &netops.OpError{Op: r.AddCommand(), Err: err, Route: *r, Adds: true}
}
