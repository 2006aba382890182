package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// retryDelay is the time between two tries of what failed on the host.
const retryDelay = 50 * time.Millisecond

// openHost opens the host's namespace, whose changes are logged, if anybody
// reads them.
func (r *request) openHost() (*netops.Netns, error) {
	host, err := netops.Here()
	if err == nil && r.log.debugs() {
		host.OnSend = r.log.operation
	}
	return host, err
}

// claim is what an attachment has made its own on the host, or shares there.
type claim struct {
	*request
	of   *record.Entry
	host *netops.Netns
	// mine are the routes that nobody else wanted before, and those that
	// somebody wants as well: who fails takes them away unless others still do.
	mine []netops.Route
	// reclaimed are routes of ours that nobody wanted any more, and that gave
	// way.
	reclaimed []netops.Change
}

// claim makes the routes that an attachment wants on the host, whose record is
// saved already: from now on nobody removes what it shares. What fails is tried
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
	todo := e.Done.Host.Routes
	for try := 1; ; try++ {
		failed := c.attempt(ctx, todo)
		if len(failed) == 0 {
			return c, nil
		}
		err := inOrder(failed)
		switch {
		case errors.Is(err, netops.ErrNotRestored) || try >= tries && ctx.Err() == nil:
			return c, err
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
// somebody else has the place, the kernel refused, an interface is missing.
func inOrder(failed netops.Failures) error {
	rank := func(f *netops.OpError) int {
		switch {
		case errors.As(f, new(*codedError)):
			return 0
		case f.Missing():
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

// attempt adds routes, and returns those of which that failed.
func (c *claim) attempt(ctx context.Context, routes []netops.Route) (left netops.Failures) {
	added, failed := c.host.AddEach(ctx, routes)
	c.mine = append(c.mine, added...)
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
	lock, err := c.store().LockHost()
	if err != nil {
		return fail(err)
	}
	defer lock.Unlock()
	have, err := c.host.Find(ctx, wanted, false)
	if err != nil {
		return fail(err)
	}
	for i := range wanted {
		if err := c.share(ctx, &wanted[i], inPlaceOf(&wanted[i], have)); err != nil {
			left = append(left, failure(&wanted[i], err))
		}
	}
	return left
}

func failure(r *netops.Route, err error) *netops.OpError {
	if op := new(netops.OpError); errors.As(err, &op) {
		return op
	}
	return &netops.OpError{Op: r.AddCommand(), Err: err, Route: *r, Adds: true}
}

func inPlaceOf(r *netops.Route, have []netops.Route) []netops.Route {
	return slices.DeleteFunc(slices.Clone(have), func(h netops.Route) bool { return h.Slot() != r.Slot() })
}

// share takes part in a route that is there, or takes the place of what nobody
// wants any more.
func (c *claim) share(ctx context.Context, r *netops.Route, there []netops.Route) error {
	s, err := c.standing(r, there, c.of)
	switch {
	case err != nil:
		return err
	case s.held != nil:
		if s.held.Protocol != netops.Protocol {
			return nil // not ours to undo
		}
		others, err := c.wantedBy(s.held, c.of, func(*record.Entry) bool { return true })
		if err == nil && others != nil {
			c.mine = append(c.mine, *r)
		}
		return err
	}
	change := netops.Change{Del: netops.State{Routes: s.stale}, Add: netops.State{Routes: []netops.Route{*r}}}
	if err := c.host.Apply(ctx, change); err != nil {
		return err
	}
	c.mine = append(c.mine, *r)
	if s.stale != nil {
		c.reclaimed = append(c.reclaimed, change)
	}
	return nil
}

// standing is how a route that is wanted stands with what has its place.
type standing struct {
	held  *netops.Route  // it is there already
	stale []netops.Route // routes of ours that nobody wants any more
}

// standing judges what has the place of a route: another one that is not ours,
// or that a living attachment wants, is an error.
func (r *request) standing(want *netops.Route, there []netops.Route, of *record.Entry) (standing, error) {
	for i := range there {
		if want.HeldBy(&there[i]) {
			return standing{held: &there[i]}, nil
		}
	}
	for i := range there {
		have := &there[i]
		if have.Protocol != netops.Protocol {
			return standing{}, Errorf(CodeOwned, "there is %q already, which is not ours", have)
		}
		owner, err := r.wantedBy(have, of, func(e *record.Entry) bool { return !r.certainlyGone(e) })
		switch {
		case err != nil:
			return standing{}, err
		case owner != nil && owner.Err != nil:
			return standing{}, Errorf(CodeOwned, "there is %q already, which the record %s may want: %w", have, owner.Path(), owner.Err)
		case owner != nil:
			return standing{}, Errorf(CodeOwned, "there is %q already, which %s wants for %s", have, owner.Plugin, owner.Key)
		}
		r.log.Warn("a route of ours that nobody wants any more gives way", "route", have.String())
	}
	return standing{stale: there}, nil
}

// wantedBy finds an attachment other than of, among those that counts chooses,
// that wants a route on the host, or whose record cannot be read and may.
func (r *request) wantedBy(route *netops.Route, of *record.Entry, counts func(*record.Entry) bool) (owner *record.Entry, err error) {
	err = r.store().Naming(map[netip.Prefix]bool{route.Dst: true}, func(e *record.Entry) bool {
		if !same(e, of) && (e.Err != nil || e.WantsOnHost(route) && counts(e)) {
			owner = e
		}
		return owner == nil
	})
	return owner, err
}

func same(a, b *record.Entry) bool { return b != nil && a.Path() == b.Path() }

func (c *claim) close() {
	if c != nil {
		c.host.Close()
	}
}

// undo takes a claim back, of an ADD that fails. What others want stays.
func (c *claim) undo(ctx context.Context) error {
	if c == nil {
		return nil
	}
	// Nobody is to leave a route to an attachment that does not come to be.
	if err := c.of.BeginUndo(); err != nil {
		return err
	}
	failed := []error{c.release(ctx, c.host, c.mine, c.of)}
	for _, change := range c.reclaimed {
		failed = append(failed, c.host.Undo(ctx, change))
	}
	return errors.Join(failed...)
}

// release deletes those routes on the host that carry our protocol, and that no
// other record wants.
func (r *request) release(ctx context.Context, host *netops.Netns, routes []netops.Route, of *record.Entry) error {
	if len(routes) == 0 {
		return nil
	}
	lock, err := r.store().LockHost()
	if err != nil {
		return fmt.Errorf("lock the host: %w", err)
	}
	defer lock.Unlock()
	have, err := host.Find(ctx, routes, true)
	if err != nil {
		return err
	}
	unwanted, err := r.unwanted(netops.Ours(routes, have), of)
	if err != nil {
		return err
	}
	if failed := host.DeleteEach(ctx, unwanted); failed != nil {
		return failed
	}
	return nil
}

// unwanted are the routes that no other attachment wants.
func (r *request) unwanted(routes []netops.Route, of *record.Entry) ([]netops.Route, error) {
	if len(routes) == 0 {
		return nil, nil
	}
	named := make(map[netip.Prefix]bool, len(routes))
	for i := range routes {
		named[routes[i].Dst] = true
	}
	err := r.store().Naming(named, func(e *record.Entry) bool {
		switch {
		case same(e, of):
		case e.Err != nil:
			r.log.Warn("routes stay that a record which cannot be read may want", "record", e.Path(), "error", e.Err)
			routes = nil
		default:
			routes = netops.Unwanted(routes, e.Done.Host)
		}
		return len(routes) > 0
	})
	return routes, err
}

// releaseRecord takes back what a record says of the host.
func (r *request) releaseRecord(ctx context.Context, e *record.Entry) error {
	if e.Done.Host.IsZero() {
		return nil
	}
	host, err := r.openHost()
	if err != nil {
		return err
	}
	defer host.Close()
	return r.release(ctx, host, e.Done.Host.Routes, e)
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
	var failed netops.Failures
	for i := range wanted.Routes {
		want := &wanted.Routes[i]
		s, err := r.standing(want, inPlaceOf(want, have), nil)
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
