package netops

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// object is one that is no route. Its types are others than those of a State,
// or reading these as JSON would keep all of this in every program: what has a
// method that some interface asks for is not left out by the linker.
type object interface {
	// command is the command that makes the object ("add"), or does something
	// else to it.
	command(verb string) string
	// instead tells what is there in the place of what should be.
	instead() string
	// slot is what only one object can have; it is comparable.
	slot() any
	// holds reports whether what has the slot is as this one asks.
	holds(have object) bool
	// hits reports whether the kernel, asked to delete this one, may take o.
	hits(o object) bool
	// value reports whether the object is a value that there is at any time.
	value() bool
	validate() error
	into(*State)
	cover(*Query)
	// operation deletes or makes it, at a stage of a change.
	operation(del bool) (operation, stage)
}

// everyKind deals with objects of every kind.
type everyKind struct{}

func objects(s *State) []object {
	list := make([]object, 0, s.others())
	for i := range s.Sysctls {
		list = append(list, (*sysctl)(&s.Sysctls[i]))
	}
	for i := range s.Links {
		list = append(list, (*linkAddr)(&s.Links[i]))
	}
	for i := range s.Neighs {
		list = append(list, (*neigh)(&s.Neighs[i]))
	}
	for i := range s.Rules {
		list = append(list, (*rule)(&s.Rules[i]))
	}
	return list
}

// find is the first object with o's slot that match accepts.
func find(list []object, o object, match func(object) bool) object {
	slot := o.slot()
	for _, x := range list {
		if x.slot() == slot && match(x) {
			return x
		}
	}
	return nil
}

func whatever(object) bool { return true }

func without(list []object, o object) []object {
	return slices.DeleteFunc(list, func(x object) bool { return x == o })
}

// collect is the state of some objects beside the routes of another one.
func collect(list []object, routes []Route) State {
	s := State{Routes: routes}
	for _, o := range list {
		o.into(&s)
	}
	return s
}

// need is what Needed does for objects that are no routes. A value is set where
// it differs, and what it was is what goes. One that Del names must still be
// there: what somebody else has set since is his.
func (everyKind) need(c *Change, have State, needed *Change, held *State) {
	there, leaving := objects(&have), objects(&c.Del)
	gone := map[object]bool{}
	stays := func(h object) bool { return !gone[h] }
	for _, o := range leaving {
		at := find(there, o, func(h object) bool { return stays(h) && o.holds(h) })
		if at != nil && !o.value() {
			gone[at] = true
			at.into(&needed.Del)
		}
	}
	for _, o := range objects(&c.Add) {
		at := find(there, o, stays)
		switch {
		case at != nil && o.holds(at):
			o.into(held)
			continue
		case o.value():
			if from := find(leaving, o, whatever); from != nil && (at == nil || !from.holds(at)) {
				continue
			}
			if at != nil {
				at.into(&needed.Del)
			}
		}
		o.into(&needed.Add)
	}
	needed.Flushed = c.lost(have, needed)
}

// override is what Overridden does for them. What a value was before the first
// of several changes is what counts.
func (everyKind) override(c, later, left *Change) {
	deleted, added := objects(&later.Del), objects(&later.Add)
	for _, o := range objects(&c.Add) {
		if o.value() && find(added, o, whatever) == nil || !o.value() && find(deleted, o, o.holds) == nil {
			o.into(&left.Add)
		}
	}
	for _, o := range objects(&c.Del) {
		if o.value() || find(added, o, o.holds) == nil {
			o.into(&left.Del)
		}
	}
}

// follow adds the objects of a later change to those of one that it overrides.
func (everyKind) follow(c, later *Change) {
	before := objects(&c.Del)
	for _, o := range objects(&later.Del) {
		if !o.value() || find(before, o, whatever) == nil {
			o.into(&c.Del)
		}
	}
	for _, o := range objects(&later.Add) {
		o.into(&c.Add)
	}
}

// drift is what Drift does for them.
func (everyKind) drift(c *Change, have State) (drift []Drift) {
	there := objects(&have)
	for _, o := range objects(&c.Del) {
		if at := find(there, o, o.holds); at != nil && !o.value() {
			drift = append(drift, Drift{object: at, Present: true})
		}
	}
	for _, o := range objects(&c.Add) {
		if find(there, o, o.holds) == nil {
			d := Drift{object: o}
			if at := find(there, o, whatever); at != nil {
				d.instead = at.instead()
			}
			drift = append(drift, d)
		}
	}
	return drift
}

func (everyKind) validate(c *Change) error {
	lost := State{Neighs: c.Flushed}
	for _, o := range slices.Concat(objects(&c.Del), objects(&c.Add), objects(&lost)) {
		if err := o.validate(); err != nil {
			return err
		}
	}
	return nil
}

// bequeath is what Bequeath does for one object and one heir.
func (everyKind) bequeath(c, heir *Change, held *State, built bool) (given bool) {
	added, before := objects(&c.Add), objects(&c.Del)
	hisAdded, hisBefore, hisHeld := objects(&heir.Add), objects(&heir.Del), objects(held)
	for _, o := range slices.Clone(added) {
		was := find(before, o, func(object) bool { return o.value() })
		found := find(hisHeld, o, func(w object) bool { return w.holds(o) })
		own := find(hisAdded, o, func(w object) bool { return w.holds(o) && (was == nil || find(hisBefore, was, was.holds) != nil) })
		upon := find(hisBefore, o, func(d object) bool { return built && o.value() && o.holds(d) })
		switch {
		case found != nil:
			hisHeld, hisAdded = without(hisHeld, found), append(hisAdded, o)
			if was != nil {
				hisBefore = append(hisBefore, was)
			}
		case own != nil: // since a DEL that was killed
		case upon != nil:
			hisBefore = without(hisBefore, upon)
			if was != nil {
				hisBefore = append(hisBefore, was)
			}
		default:
			continue
		}
		added, before, given = without(added, o), without(before, was), true
	}
	if given {
		c.Add, c.Del = collect(added, c.Add.Routes), collect(before, c.Del.Routes)
		heir.Add, heir.Del = collect(hisAdded, heir.Add.Routes), collect(hisBefore, heir.Del.Routes)
		*held = collect(hisHeld, held.Routes)
	}
	return given
}

// before is what Before does for them.
func (everyKind) before(s *State, done *Change) State {
	there, was := objects(s), objects(&done.Del)
	for _, o := range objects(&done.Add) {
		at := find(there, o, o.holds)
		if at == nil {
			continue
		}
		there = without(there, at)
		if old := find(was, o, whatever); old != nil && o.value() {
			there = append(there, old)
		}
	}
	for _, o := range was {
		if !o.value() && find(there, o, whatever) == nil {
			there = append(there, o)
		}
	}
	return collect(there, s.Routes)
}

func (everyKind) wants(s *State, have State) bool {
	wanted := objects(s)
	return !slices.ContainsFunc(objects(&have), func(h object) bool {
		return find(wanted, h, func(w object) bool { return w.holds(h) }) == nil
	})
}

// operations are those of a stage.
func (everyKind) operations(c *Change, at stage) (ops []operation) {
	del, add := objects(&c.Del), objects(&c.Add)
	if at == restoreNeighs {
		lost := State{Neighs: c.Flushed}
		del, add, at = nil, objects(&lost), addNeighs
	}
	for _, o := range del {
		if op, when := o.operation(true); when == at {
			ops = append(ops, op)
		}
	}
	for _, o := range add {
		if op, when := o.operation(false); when == at {
			ops = append(ops, op)
		}
	}
	return ops
}

// remember adds to what was done of a change what values were before, and what
// was lost.
func (everyKind) remember(c, done *Change) {
	before := objects(&c.Del)
	for _, o := range objects(&done.Add) {
		if from := find(before, o, whatever); from != nil && o.value() {
			from.into(&done.Del)
		}
	}
	done.Flushed = c.Flushed
}

// aimed puts deletions into an order in which each hits what it means, and
// tells which are hidden behind objects that stay. What is not there is left
// out.
func aimed(ops []operation, have State) (inOrder, hidden []operation) {
	there := objects(&have)
	hidden = ops
	for before := -1; before != len(inOrder); {
		before = len(inOrder)
		var pending []operation
		for _, op := range hidden {
			meant := func(h object) bool { return h.slot() == op.object.slot() && op.object.holds(h) }
			at := slices.IndexFunc(there, op.object.hits)
			switch {
			case !slices.ContainsFunc(there, meant):
			case !meant(there[at]):
				pending = append(pending, op)
			default:
				inOrder = append(inOrder, op)
				there = slices.Delete(there, at, at+1)
			}
		}
		hidden = pending
	}
	return inOrder, hidden
}

func (everyKind) cover(q *Query, s *State) {
	for _, o := range objects(s) {
		o.cover(q)
	}
}

// make makes what belongs to a stage. Nothing is deleted that was not looked at
// just before: a deletion of a neighbour names no hardware address, and one of
// a rule is for the first that has what it names.
func (everyKind) make(ctx context.Context, n *Netns, c *Change, at stage, done *[]operation) []*OpError {
	ops := everyKind{}.operations(c, at)
	switch {
	case len(ops) == 0:
		return nil
	case at == dropNeighs || at == dropRules:
		return n.drop(ctx, ops, done)
	case at == addNeighs:
		return n.addNeighs(ctx, ops, done)
	case at == restoreNeighs: // whoever was quicker has restored his own
		return slices.DeleteFunc(n.addNeighs(ctx, ops, nil), (*OpError).Exists)
	}
	return n.run(ctx, ops, done, true)
}

// drop deletes those objects that are there as they are meant.
func (n *Netns) drop(ctx context.Context, ops []operation, done *[]operation) []*OpError {
	have, err := n.Snapshot(ctx, aboutObjects(ops))
	if err != nil {
		return failures(ops, err)
	}
	there, hidden := aimed(ops, have.State)
	return append(n.run(ctx, there, done, true), failures(hidden, ErrCannotDelete)...)
}

func aboutObjects(ops []operation) (q Query) {
	for _, op := range ops {
		op.object.cover(&q)
	}
	return q
}

// look finds what a snapshot has beside routes.
func (everyKind) look(ctx context.Context, n *Netns, q Query, s *Snapshot) error {
	if q.EveryLink { // which is not slower than to ask for two
		links, err := n.Links(ctx)
		if err != nil {
			return err
		}
		for _, l := range links {
			s.addLink(l.Name, l.HardwareAddr.String())
		}
	}
	if q.Rules {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			if err := n.whole(ctx, "rules", &s.State, func(s *State) (int, error) { return n.dumpRules(s, family) }); err != nil {
				return err
			}
		}
	}
	for _, dev := range distinct(q.Neighs) {
		index, err := n.index(dev)
		if errors.Is(err, ErrNoLink) {
			continue
		}
		if err == nil {
			err = n.whole(ctx, "neighbours", &s.State, func(s *State) (int, error) { return n.dumpNeighs(s, index) })
		}
		if err != nil {
			return err
		}
	}
	keys := slices.Clone(q.Sysctls)
	for _, pattern := range q.LinkSysctls {
		for _, name := range s.Links {
			keys = append(keys, strings.Replace(pattern, "*", name, 1))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return n.readSysctls(distinct(keys), &s.State)
}

func distinct(list []string) []string {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// whole adds to the state what a dump lists. One that needs several batches can
// miss what stays while others change the list, and the kernel does not always
// say so: it counts once two in a row agree.
func (n *Netns) whole(ctx context.Context, what string, s *State, dump func(*State) (batches int, err error)) error {
	var before, now State
	err := n.repeat(ctx, what, func() error {
		now = State{}
		batches, err := dump(&now)
		const data, end = 1, 1 // batches of a dump that cannot have missed anything
		if err == nil && batches > data+end && !sameObjects(&before, &now) {
			before, err = now, ErrInterrupted
		}
		return err
	})
	s.Rules, s.Neighs = append(s.Rules, now.Rules...), append(s.Neighs, now.Neighs...)
	return err
}

func sameObjects(a, b *State) bool {
	return slices.Equal(a.Rules, b.Rules) && slices.Equal(a.Neighs, b.Neighs)
}
