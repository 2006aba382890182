package netops

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// operation is one message to the kernel.
type operation struct {
	typ   uint16 // RTM_NEWROUTE or RTM_DELROUTE
	flags uint16
	route *Route
	// rotated marks a route of somebody else that is taken out and appended
	// again, so that one before it gets its place back.
	rotated bool
}

func (o operation) String() string {
	verb := "add"
	switch {
	case o.typ == unix.RTM_DELROUTE:
		verb = "del"
	case o.flags&unix.NLM_F_APPEND != 0:
		verb = "append"
	case o.flags&unix.NLM_F_EXCL == 0:
		verb = "prepend"
	}
	return o.route.command(verb)
}

func operations(typ uint16, routes []*Route) []operation {
	flags := uint16(0)
	if typ == unix.RTM_NEWROUTE {
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	ops := make([]operation, len(routes))
	for i, r := range routes {
		ops[i] = operation{typ: typ, flags: flags, route: r}
	}
	return ops
}

// insertions puts routes back among the others of their slots, of which have
// lists what is there now. IPv4 prepends or appends: for a place in between,
// those that follow are taken out and appended again. IPv6 keeps no order.
func insertions(routes []*Route, have []Route) []operation {
	var ops []operation
	now := map[Slot][]*Route{}
	for i := range have {
		now[have[i].Slot()] = append(now[have[i].Slot()], &have[i])
	}
	for _, r := range routes {
		list := now[r.Slot()]
		at := place(r, list)
		flags := uint16(unix.NLM_F_CREATE)
		if !r.is6() && (at > 0 || len(list) == 0) {
			flags |= unix.NLM_F_APPEND
		}
		ops = append(ops, operation{typ: unix.RTM_NEWROUTE, flags: flags, route: r})
		if at > 0 && !r.is6() {
			ops = append(ops, rotate(r, list[at:])...)
		}
		now[r.Slot()] = slices.Insert(list, at, r)
	}
	return ops
}

// rotate takes the followers of a route that was appended out, and appends
// them again.
func rotate(r *Route, followers []*Route) []operation {
	var ops []operation
	for _, f := range followers {
		again := *f
		again.Peers, again.Rank = []Route{r.identity()}, 1 // should it be left out: last
		ops = append(ops, operation{typ: unix.RTM_DELROUTE, route: &again, rotated: true},
			operation{typ: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_APPEND, route: &again, rotated: true})
	}
	return ops
}

// place is where in list r goes: before the first that stood after it.
func place(r *Route, list []*Route) int {
	for i, have := range list {
		for _, follower := range r.Peers[r.Rank:] {
			if follower.Is(have) && follower.Protocol == have.Protocol {
				return i
			}
		}
	}
	return len(list)
}

// encode writes the operation's message into the send buffer.
func (n *Netns) encode(op operation) (err error) {
	c := n.conn
	start := c.message(op.typ, op.flags)
	if c.send, err = appendRoute(c.send, op.route, n.index); err == nil {
		c.finish(start)
	}
	return err
}

// changed is what operations have done.
func changed(done []operation) Change {
	var c Change
	for _, op := range done {
		switch {
		case op.typ == unix.RTM_DELROUTE:
			c.Del.Routes = append(c.Del.Routes, *op.route)
		case op.rotated:
			if n := len(c.Del.Routes); n > 0 && c.Del.Routes[n-1].Is(op.route) {
				c.Del.Routes = c.Del.Routes[:n-1] // it is back
			}
		default:
			c.Add.Routes = append(c.Add.Routes, *op.route)
		}
	}
	return c
}

// gone reports whether what was to be deleted is not there.
func (o operation) gone(err error) bool {
	return o.typ == unix.RTM_DELROUTE &&
		(errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) || errors.Is(err, ErrNoLink))
}

func (o operation) failure(err error) *OpError {
	return &OpError{Op: o.String(), Err: err, Route: *o.route}
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
	var errs []error
	for i, e := range failed {
		var lost, before *lostError
		if i > 0 && errors.As(e.Err, &lost) && errors.As(failed[i-1].Err, &before) && lost == before {
			continue
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}
