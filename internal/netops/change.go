package netops

import (
	"fmt"
	"slices"
	"strings"
)

// Change is what to delete and what to add, in this order. It is a value: the
// same change printed, recorded, reversed or applied is the same.
type Change struct {
	Del State `json:"del"`
	Add State `json:"add"`
	// AddFirst has routes and rules added before others are deleted, and put
	// back before they are deleted, so that there is no moment without a route.
	// What is added must then leave those that are deleted their places.
	AddFirst bool `json:"addFirst"`
	// Flushed are neighbours that the kernel deletes with a hardware address, and
	// that are put back after it is set. Records say lost, as the first release did.
	Flushed []Neigh `json:"lost"`
}

// Plan is what an attachment changes, by namespace. On the host it only adds:
// nothing there was made for it.
type Plan struct {
	Pod  Change `json:"pod"`
	Host State  `json:"host"`
}

// IsZero reports whether there is nothing to do.
func (c Change) IsZero() bool { return c.Del.IsZero() && c.Add.IsZero() }

// Reverse is the change that takes c back.
func (c Change) Reverse() Change {
	return Change{Del: c.Add, Add: c.Del, AddFirst: c.AddFirst, Flushed: c.Flushed}
}

// Needed splits c into what must still be done and what already exists in have.
// What is to be deleted and is not there is dropped, and what is to be added and
// is there is held: neither is the change's to undo. The rest is needed:
// deletions are as the kernel has them, and know their place. What an interface
// or a sysctl that is to be set was before is deleted; where Del of the change
// says what that has to be and it is not so any more, it is not set.
func (c Change) Needed(have State) (needed Change, held State) {
	needed.AddFirst = c.AddFirst
	for _, k := range kinds {
		k.needed(&c, &have, &needed, &held)
	}
	needed.Flushed = c.flushed(have, &needed)
	return needed, held
}

// Without is the change without the addition of some routes.
func (c Change) Without(added []Route) Change {
	ix := routesOf(added)
	var left []Route
	for r := range each(c.Add.Routes) {
		// What is left of a route that was cut is not left out for a wish.
		if r.Raw != nil || ix.by((*Route).SameRoute, r) == none {
			left = append(left, *r)
		}
	}
	c.Add.Routes = left
	return c
}

// Overridden drops from c what a later change has taken back: added objects
// that it deletes, deleted ones that it adds.
func (c Change) Overridden(later Change) Change {
	left := Change{AddFirst: c.AddFirst, Flushed: c.Flushed}
	for _, k := range kinds {
		k.overridden(&c, &later, &left)
	}
	return left
}

// Then is c followed by a later change that overrides it.
func (c Change) Then(later Change) Change {
	left := c.Overridden(later)
	for _, k := range kinds {
		k.followed(&left, &later)
	}
	return left
}

// TransferOwnership gives away, of what c has made, the objects that another
// attachment found there as it asked for them (held): these are its own to undo
// from now on, and leave c. It reports whether anything was given.
func (c *Change) TransferOwnership(to *Change, held *State) (given bool) {
	for _, k := range kinds {
		given = k.transfer(c, to, held) || given
	}
	return given
}

// TransferReplaced gives away, of what c has made, the values that another
// attachment has replaced by others since: what they were before c is what they
// were before it. It reports whether anything was given.
func (c *Change) TransferReplaced(to *Change) (given bool) {
	for _, k := range kinds {
		given = k.transferReplaced(c, to) || given
	}
	return given
}

// transferable reports whether an object may be another attachment's too. What
// is left of a route that was there before is none of them.
func transferable(o Object) bool {
	r, ok := o.(*Route)
	return !ok || r.Raw == nil || r.Protocol == Protocol
}

// Before is the state as it was before a change that was made, as far as that is
// still there.
func (s State) Before(done Change) State {
	var before State
	for _, k := range kinds {
		k.before(&s, &done, &before)
	}
	return before
}

// Remember adds to what was done of c what values were before, and the
// neighbours that the kernel has flushed.
func (c *Change) Remember(done *Change) {
	for _, k := range kinds {
		k.remember(c, done)
	}
	done.Flushed = c.Flushed
}

// Taken is what the change takes from other owners, without what it leaves them:
// of a multipath route that was cut, the next hops that went.
func (c Change) Taken() Change {
	taken := c
	taken.Del.Routes, taken.Add.Routes = nil, nil
	steps := c.RouteSteps()
	for _, x := range steps.Exchanges {
		gone, _ := Partition(x.Out.NextHops(), func(h NextHop) bool { return !slices.ContainsFunc(x.In.NextHops(), h.SameHop) })
		taken.Del.Routes = append(taken.Del.Routes, x.Out.withNextHops(gone))
	}
	for _, r := range slices.Concat(steps.Del, steps.Among) {
		taken.Del.Routes = append(taken.Del.Routes, *r)
	}
	for _, r := range steps.Add {
		taken.Add.Routes = append(taken.Add.Routes, *r)
	}
	return taken
}

// Drift is one object that is not as it should be.
type Drift struct {
	Object  Object
	Present bool   // it should be absent and is there
	Instead string // what is there in its place; may be empty
	Hint    string // how to keep it from coming back; may be empty
}

func (d Drift) String() string { return d.Command() + ": " + d.Problem() }

// Command is the command that would put it right.
func (d Drift) Command() string {
	if d.Present {
		return d.Object.Command(Delete)
	}
	return d.Object.Command(Add)
}

// Problem is what is wrong with the object.
func (d Drift) Problem() string {
	switch {
	case d.Present && d.Hint != "":
		return "present, should be absent; " + d.Hint
	case d.Present:
		return "present, should be absent"
	case d.Instead != "":
		return "found " + d.Instead + " instead"
	}
	return "missing"
}

// Drift lists everything of the change that does not hold in have: also a
// deleted route that is there as some of the next hops of another. One that the
// kernel has learnt anew does not count.
func (c Change) Drift(have State) (drift []Drift) {
	for _, k := range kinds {
		drift = append(drift, k.drift(&c, &have)...)
	}
	return drift
}

// Wants is a set of objects that an attachment wants, of which many are asked
// for.
type Wants []func(Object) bool // a kind each

// NewWants is the set of the objects of a state.
func NewWants(s State) Wants {
	w := make(Wants, len(kinds))
	for i, k := range kinds {
		w[i] = k.wanted(&s)
	}
	return w
}

// Has reports whether an object that is there is what one of the set asks for,
// whatever else it carries.
func (w Wants) Has(o Object) bool {
	return slices.ContainsFunc(w, func(has func(Object) bool) bool { return has(o) })
}

// Commands are the ip(8) and sysctl(8) commands that the change equals, in the
// order in which it is applied to what it was computed for. The protocol of these
// plugins is not shown.
func (c Change) Commands() []string {
	var lines []string
	for _, op := range c.Operations() {
		lines = append(lines, op.String())
	}
	return lines
}

func (c Change) String() string { return strings.Join(c.Commands(), "\n") }

// Validate reports why a plan that was read from a file cannot be one of these
// plugins'.
func (p Plan) Validate() error {
	for _, s := range []*State{&p.Pod.Del, &p.Pod.Add, {Neighs: p.Pod.Flushed}, &p.Host} {
		for o := range s.All() {
			if err := o.validate(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Route) validate() error {
	switch {
	case !r.Dst.IsValid() || r.Dst != r.Dst.Masked():
		return fmt.Errorf("route to %s: no destination", r.Dst)
	case r.Table == 0 || r.Type == 0:
		return fmt.Errorf("route to %s: table or type missing", r.Dst)
	case r.Position < 0 || r.Position > len(r.Siblings):
		return fmt.Errorf("route to %s: position %d among %d siblings", r.Dst, r.Position, len(r.Siblings))
	}
	if err := validRaw(r); err != nil {
		return fmt.Errorf("route to %s: %w", r.Dst, err)
	}
	for sibling := range each(r.Siblings) {
		if sibling.Siblings != nil {
			return fmt.Errorf("route to %s: siblings of a sibling", r.Dst)
		}
		if err := sibling.validate(); err != nil {
			return err
		}
	}
	return nil
}
