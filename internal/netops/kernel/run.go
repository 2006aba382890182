package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

// run sends operations in order, in batches whose answers are all read before
// the next is sent. It notes in done, where that is given, what was done or may
// have been. Unless it is to continue on error, it stops after a batch in which
// something failed; operations that were not tried fail with errNotTried. To
// delete what is gone already is no failure.
func (n *Netns) run(ctx context.Context, ops []netops.Operation, done *[]netops.Operation, continueOnError bool) (failed []*netops.OpError) {
	if done != nil {
		*done = slices.Grow(*done, len(ops))
	}
	for len(ops) > 0 {
		if ctx.Err() != nil || (len(failed) > 0 && !continueOnError) {
			return append(failed, failures(ops, errNotTried)...)
		}
		began := time.Now()
		errs := n.batch(ctx, ops)
		took := time.Since(began)
		for i, err := range errs {
			op := ops[i]
			if n.OnSend != nil {
				n.OnSend(op.String(), took, err)
			}
			if done != nil && !certainlyNotDone(err) {
				*done = append(*done, op)
			}
			if err != nil && !gone(op, err) {
				failed = append(failed, &netops.OpError{Operation: op, Err: err})
			}
		}
		ops = ops[len(errs):]
	}
	return failed
}

// batch sends as many operations as fit and returns the error of each.
func (n *Netns) batch(ctx context.Context, ops []netops.Operation) []error {
	fault := faultOf(ctx)
	limit := maxBatch
	if fault != nil {
		limit = 1
		if err := fault(ctx, "before", ops[0].String()); err != nil {
			return []error{err}
		}
		defer func() { _ = fault(ctx, "after", ops[0].String()) }()
	}
	if _, ok := ops[0].Object.(*netops.Sysctl); ok { // a stage has no others beside them
		return n.setSysctls(ops[:min(limit, len(ops))])
	}
	sent := 0
	for sent < min(limit, len(ops)) && len(n.conn.send) < maxBatchBytes {
		last := len(n.conn.send)
		if err := n.encode(ops[sent]); err != nil {
			n.conn.unsend(last)
			if sent == 0 {
				return []error{err}
			}
			break // by itself, when its turn comes
		}
		sent++
	}
	return n.conn.execute(sent)
}

// encode writes the operation's message into the send buffer.
func (n *Netns) encode(op netops.Operation) error {
	c := n.conn
	typ, flags := typeAndFlags(op)
	start := c.message(typ, flags)
	var message []byte
	var err error
	switch o := op.Object.(type) {
	case *netops.Route:
		message, err = appendOperation(c.send, o, op, n.index)
	case *netops.Rule:
		message = appendRule(c.send, o)
	case *netops.Neigh:
		message, err = appendNeigh(c.send, o, op.Deletes(), n.index)
	case *netops.LinkAddr:
		message, err = appendLinkAddr(c.send, o, n.index)
	default:
		err = fmt.Errorf("%s: no message of rtnetlink", op)
	}
	if err != nil {
		return err // what was encoded before stays
	}
	c.send = message
	c.finish(start)
	return nil
}

// typeAndFlags are the type and the flags of an operation's message (rtnetlink(7)).
func typeAndFlags(op netops.Operation) (typ, flags uint16) {
	var add uint16
	switch o := op.Object.(type) {
	case *netops.Route:
		typ, add = unix.RTM_NEWROUTE, unix.NLM_F_CREATE
		if op.Verb == netops.Append && !o.Is6() { // IPv6 keeps no order
			add |= unix.NLM_F_APPEND
		}
	case *netops.Rule:
		typ, add = unix.RTM_NEWRULE, unix.NLM_F_CREATE
	case *netops.Neigh:
		typ, add = unix.RTM_NEWNEIGH, unix.NLM_F_CREATE
	case *netops.LinkAddr:
		return unix.RTM_SETLINK, 0
	}
	switch op.Verb {
	case netops.Delete:
		return typ + 1, 0 // RTM_DELROUTE, … follow RTM_NEWROUTE, …
	case netops.Add: // without it the kernel would double a rule
		add |= unix.NLM_F_EXCL
	case netops.Replace:
		add |= unix.NLM_F_REPLACE
	}
	return typ, add
}

// changed is what operations have changed.
func changed(done []netops.Operation) (c netops.Change) {
	for _, op := range done {
		if op.Deletes() {
			op.Object.AddTo(&c.Del)
		} else {
			op.Object.AddTo(&c.Add)
		}
	}
	return c
}

// gone reports whether what was to be deleted is not there.
func gone(op netops.Operation, err error) bool {
	if !op.Deletes() {
		return false
	}
	_, route := op.Object.(*netops.Route)
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) || errors.Is(err, netops.ErrNoLink) ||
		!route && (errors.Is(err, unix.ENOENT) || noFamily(err))
}

// certainlyNotDone reports whether an operation that failed changed nothing: the
// kernel refused it, or it was not sent. One that was sent and not answered may
// have happened.
func certainlyNotDone(err error) bool {
	return errors.As(err, new(*netops.KernelError)) || errors.Is(err, netops.ErrNoLink) || errors.Is(err, netops.ErrCannotDelete) || errors.Is(err, errNotTried)
}

// errNotTried marks the operations after the one at which a change was given
// up.
var errNotTried = errors.New("not tried")

func failures(ops []netops.Operation, err error) []*netops.OpError {
	failed := make([]*netops.OpError, len(ops))
	for i, op := range ops {
		failed[i] = &netops.OpError{Operation: op, Err: err}
	}
	return failed
}

// join is one error for all. Operations of one send whose answers were lost
// share their error, which is told once.
func join(failed []*netops.OpError) error {
	var told netops.Failures
	for i, e := range failed {
		var lost, before *lostError
		if i > 0 && errors.As(e.Err, &lost) && errors.As(failed[i-1].Err, &before) && lost == before {
			continue
		}
		told = append(told, e)
	}
	return told.Err()
}

func pointers(routes []netops.Route) []*netops.Route {
	list := make([]*netops.Route, len(routes))
	for i := range routes {
		list[i] = &routes[i]
	}
	return list
}
