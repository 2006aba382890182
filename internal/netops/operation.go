package netops

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// operation is one message to the kernel, about a route or another object.
type operation struct {
	typ    uint16 // RTM_NEWROUTE, RTM_DELROUTE, …; none where a sysctl is set
	flags  uint16
	route  *Route
	object object
	// tagged says that a deletion hits a route of our protocol only.
	tagged bool
}

// deletes is told by the kind that the last two bits of the type are
// (rtnl_msgtype_kind in net/core/rtnetlink.h).
func (o operation) deletes() bool { return o.typ&3 == 1 }

func (o operation) String() string {
	verb := "add"
	switch {
	case o.deletes():
		verb = "del"
	case o.object != nil && o.flags&unix.NLM_F_REPLACE != 0:
		verb = "replace"
	case o.object != nil:
	case o.flags&unix.NLM_F_APPEND != 0:
		verb = "append"
	case o.flags&unix.NLM_F_EXCL == 0 && !o.route.Is6():
		verb = "prepend"
	case o.flags&unix.NLM_F_EXCL == 0:
		verb = "append" // that is what ip calls it where no order is kept
	}
	if o.object != nil {
		return o.object.command(verb)
	}
	return o.route.command(verb)
}

func deletions(routes []*Route) []operation {
	ops := make([]operation, len(routes))
	for i, r := range routes {
		ops[i] = operation{typ: unix.RTM_DELROUTE, route: r}
	}
	return ops
}

// additions are exclusive, and in the order of their dependencies.
func additions(routes []*Route) []operation {
	ops := make([]operation, len(routes))
	for i, r := range byDependency(routes) {
		ops[i] = operation{typ: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, route: r}
	}
	return ops
}

// parts are a change as it is made: routes that go, routes that give way to
// others of the same slot that have more or fewer of their ways, routes that
// come.
type parts struct {
	del   []*Route
	swaps []swap
	add   []*Route
}

// swap is an IPv4 multipath route that gets other ways: one object for the
// kernel, which has to give way to another.
type swap struct{ out, in *Route }

func (c Change) parts() parts {
	var p parts
	deleted := newIndex(c.Del.Routes)
	swapped := make([]bool, len(c.Del.Routes))
	for i := range c.Add.Routes {
		in := &c.Add.Routes[i]
		at := none
		if in.Raw != nil && !in.Is6() {
			at = deleted.findIndex(in, func(i int) bool { return !swapped[i] && in.shares(&c.Del.Routes[i]) })
		}
		if at == none {
			p.add = append(p.add, in)
			continue
		}
		swapped[at] = true
		p.swaps = append(p.swaps, swap{out: &c.Del.Routes[at], in: in})
	}
	for i := range c.Del.Routes {
		if !swapped[i] {
			p.del = append(p.del, &c.Del.Routes[i])
		}
	}
	return p
}

// shares reports whether one of the two has some of the other's ways.
func (r *Route) shares(o *Route) bool {
	a, b := r.NextHops(), o.NextHops()
	return r.Type == o.Type && len(a) != len(b) && (containsAll(a, b) || containsAll(b, a))
}

// operations are the two of a swap, in their order. Where the old route stands
// among those of its slot is told by a list of them; without one, by what the
// new route remembers.
func (s swap) operations(have []Route) (first, second operation) {
	before, after := s.in.Position, len(s.in.Siblings)-s.in.Position
	if have != nil {
		before, after = s.neighbours(have)
	}
	del := operation{typ: unix.RTM_DELROUTE, route: s.out}
	add := operation{typ: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_APPEND, route: s.in}
	if after == 0 {
		return add, del
	}
	if before == 0 {
		add.flags = unix.NLM_F_CREATE
	}
	return del, add
}

// neighbours counts the routes of the old one's slot before and after it.
func (s swap) neighbours(have []Route) (before, after int) {
	met := false
	for i := range have {
		switch h := &have[i]; {
		case h.Key() != s.out.Key():
		case h.SameRoute(s.out):
			met = true
		case met:
			after++
		default:
			before++
		}
	}
	return before, after
}

// position is where a route goes among those of its slot.
type position struct {
	index          int // in the whole list
	first, between bool
}

// place finds where r goes: before the first of its slot that stood after it.
// Those from there on follow it.
func place(r *Route, have []Route) (at position, followers []*Route) {
	at.index = len(have)
	before := 0
	for i := range have {
		h := &have[i]
		switch {
		case h.Key() != r.Key():
		case followers != nil || r.preceded(h):
			if followers == nil {
				at.index = i
			}
			followers = append(followers, h)
		default:
			before++
		}
	}
	at.first = before == 0 && len(followers) > 0
	at.between = before > 0 && len(followers) > 0
	return at, followers
}

// preceded reports whether o stood after r.
func (r *Route) preceded(o *Route) bool {
	return slices.ContainsFunc(r.Siblings[r.Position:], func(p Route) bool { return p.SameRoute(o) && p.Protocol == o.Protocol })
}

// encode writes the operation's message into the send buffer.
func (n *Netns) encode(op operation) error {
	c := n.conn
	if op.shadowed() {
		return ErrCannotDelete
	}
	start := c.message(op.typ, op.flags)
	message, err := op.append(c.send, n.index)
	if err != nil {
		return err // what was encoded before stays
	}
	c.send = message
	if op.object != nil {
		c.finish(start)
		return nil
	}
	protocol := &c.send[start+unix.SizeofNlMsghdr+rtProtocol]
	switch {
	case op.tagged:
		*protocol = Protocol
	case op.typ == unix.RTM_DELROUTE && op.route.Is6():
		// Merged routes are listed with the protocol of the first of them; in
		// a deletion that would be the only one that it hits.
		*protocol = unix.RTPROT_UNSPEC
	}
	c.finish(start)
	return nil
}

// message is an object that is made by a message to the kernel.
type message interface {
	encode(b []byte, o operation, index func(string) (uint32, error)) ([]byte, error)
}

// performer is an object that is made in another way than by a message.
type performer interface {
	perform(*Netns, []operation) []error
}

func (o operation) append(b []byte, index func(string) (uint32, error)) ([]byte, error) {
	if m, ok := o.object.(message); ok {
		return m.encode(b, o, index)
	}
	return appendRoute(b, o.route, index)
}

// shadowed reports whether the kernel would delete another route: in IPv6 one
// by a nexthop object is found by its slot alone (ip6_route_del in
// net/ipv6/route.c).
func (o operation) shadowed() bool {
	return o.route != nil && o.typ == unix.RTM_DELROUTE && o.route.Is6() && o.route.NhID == 0 &&
		slices.ContainsFunc(o.route.Siblings, func(p Route) bool { return p.NhID != 0 })
}

// takenFor reports whether a deletion of the wanted route hits this one, if it
// stands before that: the kernel compares next hops only as far as the first of
// the two goes (fib_nh_match in net/ipv4/fib_semantics.c).
func (r *Route) takenFor(wanted *Route) bool {
	if r.Is6() || r.Key() != wanted.Key() || r.Type != wanted.Type || r.Protocol != wanted.Protocol || r.SameRoute(wanted) {
		return false
	}
	there, asked := r.NextHops(), wanted.NextHops()
	if len(asked) == 1 {
		there = there[:min(1, len(there))]
	}
	return len(there) <= len(asked) && slices.EqualFunc(there, asked[:len(there)], NextHop.sameHop)
}

// orderly puts deletions into an order in which each hits what it means, and
// tells which are hidden behind routes that stay. have lists what is there.
func orderly(routes []*Route, have []Route) (inOrder, hidden []*Route) {
	slots := map[RouteKey][]*Route{}
	for i := range have {
		slots[have[i].Key()] = append(slots[have[i].Key()], &have[i])
	}
	hidden = routes
	for before := -1; before != len(inOrder); {
		before = len(inOrder)
		var pending []*Route
		for _, r := range hidden {
			list := slots[r.Key()]
			at := slices.IndexFunc(list, func(h *Route) bool { return r.SameRoute(h) || h.takenFor(r) })
			if at >= 0 && !r.SameRoute(list[at]) {
				pending = append(pending, r)
				continue
			}
			inOrder = append(inOrder, r)
			if at >= 0 {
				slots[r.Key()] = slices.Delete(list, at, at+1)
			}
		}
		hidden = pending
	}
	return inOrder, hidden
}

// changed is what operations have done.
func changed(done []operation) Change {
	var c Change
	for _, op := range done {
		switch {
		case op.object != nil:
			op.noteObject(&c)
		case op.deletes():
			c.Del.Routes = append(c.Del.Routes, *op.route)
		default:
			c.Add.Routes = append(c.Add.Routes, *op.route)
		}
	}
	return c
}

func (o operation) noteObject(c *Change) {
	if o.deletes() {
		o.object.into(&c.Del)
	} else {
		o.object.into(&c.Add)
	}
}

// gone reports whether what was to be deleted is not there.
func (o operation) gone(err error) bool {
	return o.deletes() &&
		(errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) || errors.Is(err, ErrNoLink) ||
			o.object != nil && (errors.Is(err, unix.ENOENT) || noFamily(err)))
}

func (o operation) failure(err error) *OpError {
	e := &OpError{Op: o.String(), Err: err, Adds: !o.deletes(), object: o.object}
	if o.object != nil {
		o.object.into(&e.About)
	} else {
		e.Route = *o.route
	}
	return e
}

func failures(ops []operation, err error) []*OpError {
	failed := make([]*OpError, len(ops))
	for i, op := range ops {
		failed[i] = op.failure(err)
	}
	return failed
}

// join is one error for all. Operations of one send whose answers were lost
// share their error, which is told once.
func join(failed []*OpError) error {
	var told Failures
	for i, e := range failed {
		var lost, before *lostError
		if i > 0 && errors.As(e.Err, &lost) && errors.As(failed[i-1].Err, &before) && lost == before {
			continue
		}
		told = append(told, e)
	}
	if told == nil {
		return nil
	}
	return told
}
