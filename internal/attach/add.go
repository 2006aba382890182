//go:build linux

package attach

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// add brings the attachment to what its configuration wants, all of it or
// nothing, and prints the result.
func add(ctx context.Context, r *request) error {
	planner, prev, err := r.decode()
	if err != nil {
		return err
	}
	ns, err := r.netns()
	if err != nil {
		return err
	}
	defer ns.Close()
	if planner, err = r.prepare(ctx, planner, prev, ns); err != nil {
		return err
	}
	a, err := r.lockAttachment(ns)
	if err != nil {
		return err
	}
	defer a.lock.Unlock()
	earlier, err := a.takeBackUnfinished(ctx)
	if err != nil {
		return err
	}
	p, err := a.podOf(planner, a.inSandbox(earlier))
	if err != nil {
		return err
	}
	d, have, err := a.decide(ctx, planner, prev, p)
	if err != nil {
		return err
	}
	if d.Idle {
		return d.Result.Print(os.Stdout)
	}
	made, err := a.carryOut(ctx, planner, d, have, earlier)
	if err != nil {
		return err
	}
	if err := d.resultWithout(made.leftOut).Print(os.Stdout); err != nil {
		return a.undoAll(ctx, made, cni.Errorf(types.ErrIOFailure, "print the result: %w", err))
	}
	return nil
}

// decide looks at the pod and lets the planner decide.
func (a *attachment) decide(ctx context.Context, planner Planner, prev *cniresult.Result, p pod) (*Decision, netops.Snapshot, error) {
	have, err := a.ns.Snapshot(ctx, planner.Query(prev))
	if err != nil {
		return nil, have, err
	}
	d, have, err := decide(planner, prev, have, p, a.key())
	if err != nil {
		return d, have, err
	}
	for _, w := range d.Warnings {
		a.Warn(w)
	}
	return d, have, nil
}

// Print writes the result of a decision that was carried out.
func (d *Decision) Print(w io.Writer) error { return d.resultWithout(nil).Print(w) }

// resultWithout completes the result with what is listed, but for routes that had
// to be left out.
func (d *Decision) resultWithout(left []netops.Route) *cniresult.Result {
	d.Result.Routes = slices.Grow(d.Result.Routes, len(d.Listed))
	out := make(map[netops.RouteKey]bool, len(left)) // of two in one slot, one was refused before
	for i := range left {
		out[left[i].Key()] = true
	}
	for _, l := range d.Listed {
		if !out[l.For.Key()] {
			d.Result.Append(l.Entry)
		}
	}
	return d.Result
}

// made is what an ADD has made: its record, its change of the host, and the
// routes that it left out because they failed.
type made struct {
	*record.Entry
	onHost  *hostChange
	leftOut []netops.Route
	// restored are default routes that an earlier ADD had taken away.
	restored []netops.Route
}

// carryOut carries the plan out: it saves the record first, then changes host
// and pod. A plan that changes nothing is recorded, too: without a record CHECK
// would have to guess.
func (a *attachment) carryOut(ctx context.Context, planner Planner, d *Decision, have netops.Snapshot, earlier []*record.Entry) (m made, err error) {
	done, held := d.Want.Pod.Needed(have.State)
	rec := record.Record{Boot: a.boot, Key: a.key(), Pod: a.Pod(), Netns: a.where, SkipCheck: planner.SkipCheck(), Default: d.Default,
		Done: netops.Plan{Pod: done, Host: d.Want.Host}, Held: netops.Plan{Pod: netops.Change{Add: held}}}

	ctx = cni.UntilSignal(ctx)
	if m.Entry, err = a.store().Create(a.lock, rec, earlier); err != nil {
		return m, err
	}
	if m.onHost, err = a.changeHost(ctx, m.Entry, d.Tries); err != nil {
		return m, a.undoRest(ctx, m, err)
	}
	m.restored = d.restore
	if err = restoreDefaults(ctx, a.ns, d.restore); err == nil {
		m.leftOut, err = a.apply(ctx, d, done)
	}
	if err != nil {
		return m, a.undoRest(ctx, m, err)
	}
	if len(m.leftOut) > 0 {
		m.Done.Pod = m.Done.Pod.Without(m.leftOut)
		err = m.Rewrite()
	}
	if err == nil {
		err = m.Finish()
	}
	if err != nil {
		return m, a.undoAll(ctx, m, err)
	}
	if announcer, ok := planner.(Announcer); ok {
		if err := announcer.Announce(ctx, a.ns, m.Done.Pod); err != nil {
			a.Warn("the pod's neighbours were not told", "error", err)
		}
	}
	return m, nil
}

// dropRecord removes the record of a change that was taken back. If that failed,
// the record stays for DEL.
func (a *attachment) dropRecord(e *record.Entry, why error) {
	if errors.Is(why, netops.ErrNotRestored) {
		a.Error("not all of the change could be taken back; DEL will try again", "record", e.Path())
	} else if err := e.Remove(); err != nil {
		a.Warn("cannot remove the record of a change that was taken back", "error", err)
	}
}

// undoAll takes back a change that was made, but cannot be recorded or whose
// result cannot be printed.
func (a *attachment) undoAll(ctx context.Context, m made, err error) error {
	ctx = context.WithoutCancel(ctx)
	if back := a.ns.Rescue(ctx, a.ns.Undo(ctx, m.Done.Pod)); back != nil {
		err = &netops.NotRestoredError{Err: err, Back: back}
	}
	return a.undoRest(ctx, m, err)
}

// undoRest takes back what was made on the host. Nothing is left in the pod but
// default routes that had to come back before others went.
func (a *attachment) undoRest(ctx context.Context, m made, err error) error {
	ctx = context.WithoutCancel(ctx)
	if back := errors.Join(removeDefaults(ctx, a.ns, m.restored), m.onHost.undo(ctx)); back != nil {
		err = &netops.NotRestoredError{Err: err, Back: back}
	}
	a.dropRecord(m.Entry, err)
	return err
}

func (a *attachment) apply(ctx context.Context, d *Decision, done netops.Change) ([]netops.Route, error) {
	if !d.ContinueOnError {
		return nil, a.ns.Apply(ctx, done)
	}
	failed, err := a.ns.Try(ctx, done)
	for _, f := range failed {
		a.Warn("route left out", "error", f)
	}
	return routesOf(failed), err
}
