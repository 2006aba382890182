package netops

import (
	"context"
	"errors"
)

// kinds deals with objects that are no routes. A program that makes routes only
// has none, and is smaller by 110 KB for it: the linker leaves out what nothing
// leads to.
var kinds interface {
	need(c *Change, have State, needed *Change, held *State)
	override(c, later, left *Change)
	follow(c, later *Change)
	drift(c *Change, have State) []Drift
	validate(*Change) error
	wants(s *State, have State) bool
	operations(c *Change, at stage) []operation
	remember(c, done *Change)
	make(ctx context.Context, n *Netns, c *Change, at stage, done *[]operation) []*OpError
	cover(*Query, *State)
	look(context.Context, *Netns, Query, *Snapshot) error
	bequeath(c, heir *Change, held *State, built bool) (given bool)
	before(s *State, done *Change) State
}

// EveryKind lets the program look at and change objects of every kind, where it
// would know routes only. It is called before anything else of this package.
func EveryKind() { kinds = everyKind{} }

// errRoutesOnly is a mistake in a program's main function.
var errRoutesOnly = errors.New("this program is built for routes only")

// stage is a part of a change.
type stage uint8

const (
	never stage = iota
	switchIPv6
	dropNeighs
	setLinks
	restoreNeighs // of others, which the kernel has deleted
	addNeighs
	dropRules
	addRules
	setSysctls
	dropRoutes
	swapRoutes
	addRoutes
)

// order is that in which a change is made. IPv6 is switched on before anything
// needs it. A new hardware address has the kernel delete the interface's
// permanent neighbours, so that those to be added come after it. A rule leads
// to routes, and is there while these are.
func (c *Change) order() []stage {
	if c.AddFirst {
		return []stage{switchIPv6, dropNeighs, setLinks, restoreNeighs, addNeighs,
			addRoutes, addRules, dropRules, swapRoutes, dropRoutes, setSysctls}
	}
	return []stage{switchIPv6, dropNeighs, setLinks, restoreNeighs, addNeighs,
		dropRules, dropRoutes, swapRoutes, addRoutes, addRules, setSysctls}
}

// others is how many objects the state has that are no routes.
func (s *State) others() int { return len(s.Links) + len(s.Sysctls) + len(s.Neighs) + len(s.Rules) }

// routesOnly reports whether there is nothing but routes in the change.
func (c *Change) routesOnly() bool { return c.Del.others()+c.Add.others()+len(c.Flushed) == 0 }

// manageable reports why the program cannot make the change.
func (c *Change) manageable() error {
	if kinds == nil && !c.routesOnly() {
		return errRoutesOnly
	}
	return nil
}

// makeObjects makes those of a change that belong to a stage. It goes on after
// a failure.
func (n *Netns) makeObjects(ctx context.Context, c *Change, at stage, done *[]operation) []*OpError {
	if kinds == nil || c.routesOnly() {
		return nil
	}
	return kinds.make(ctx, n, c, at, done)
}

// Wants reports whether the objects of have, which are no routes, are all as
// ones of the state ask.
func (s State) Wants(have State) bool { return kinds == nil || kinds.wants(&s, have) }
