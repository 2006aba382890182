//go:build linux

package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

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
	beside, err := a.recover(ctx)
	if err != nil {
		return err
	}
	d, have, err := r.decide(ctx, planner, prev, ns, ofSandbox(beside, a.boot, a.where.Identity))
	if err != nil {
		return err
	}
	if d.Idle {
		return d.Result.Print(os.Stdout)
	}
	made, err := a.carryOut(ctx, planner, d, have, beside)
	if err != nil {
		return err
	}
	if err := d.resultWithout(made.left).Print(os.Stdout); err != nil {
		return a.giveUp(ctx, made, cni.Errorf(types.ErrIOFailure, "print the result: %w", err))
	}
	return nil
}

// decide looks at the pod and lets the planner decide, past what earlier entries
// of the chain have done there.
func (r *request) decide(ctx context.Context, planner Planner, prev *cniresult.Result, ns *netops.Netns, earlier []*record.Entry) (Decision, netops.Snapshot, error) {
	have, err := ns.Snapshot(ctx, planner.Query(prev))
	if err != nil {
		return Decision{}, have, err
	}
	seen := have
	if objects != nil {
		seen.State = objects.before(have.State, earlier)
	}
	d, err := planner.Plan(prev, seen)
	if err != nil {
		return d, have, err
	}
	for _, w := range d.Warnings {
		r.Warn(w)
	}
	return d, have, nil
}

// Print writes the result of a decision that was carried out.
func (d Decision) Print(w io.Writer) error { return d.resultWithout(nil).Print(w) }

// resultWithout is the result, where some routes had to be left out.
func (d Decision) resultWithout(left []netops.Route) *cniresult.Result {
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

// attachment is one in a pod that lives, whose namespace is locked.
type attachment struct {
	*request
	ns    *netops.Netns
	where record.Namespace
	boot  string
	lock  *record.Lock
}

func (r *request) lockAttachment(ns *netops.Netns) (*attachment, error) {
	boot, identity, err := r.identify(ns)
	if err != nil {
		return nil, err
	}
	name, err := ns.LockName()
	if err != nil {
		return nil, err
	}
	lock, err := r.store().Lock(name)
	if err != nil {
		return nil, fmt.Errorf("lock the pod's namespace: %w", err)
	}
	return &attachment{request: r, ns: ns, boot: boot, lock: lock,
		where: record.Namespace{Path: r.Config.Netns, Identity: identity, Lock: name}}, nil
}

// identify tells a sandbox from every other one, also of another boot.
func (r *request) identify(ns *netops.Netns) (boot string, identity netops.Identity, err error) {
	if identity, err = ns.Identity(r.Config.IfName); err == nil {
		boot, err = record.Boot()
	}
	return boot, identity, err
}

// ofSandbox are those records that are of one sandbox.
func ofSandbox(all []*record.Entry, boot string, identity netops.Identity) (found []*record.Entry) {
	for _, e := range all {
		if e.Err == nil && e.In(boot, identity) {
			found = append(found, e)
		}
	}
	return found
}

// recover takes back what killed processes have left of this attachment, and
// drops records of an earlier sandbox of its. What is left are the earlier
// entries of this chain, and records of other sandboxes that live.
func (a *attachment) recover(ctx context.Context) ([]*record.Entry, error) {
	entries, err := a.store().Entries(a.key())
	if err != nil {
		return nil, err
	}
	var beside []*record.Entry
	for _, e := range slices.Backward(entries) {
		if keep, err := a.settle(ctx, e); err != nil {
			return nil, fmt.Errorf("take back what an earlier process left: %w", err)
		} else if keep {
			beside = append(beside, e)
		}
	}
	return beside, nil
}

// settle takes one earlier record back, unless it is to be kept.
func (a *attachment) settle(ctx context.Context, e *record.Entry) (keep bool, err error) {
	switch {
	case !a.usable(e):
		return true, nil
	case e.In(a.boot, a.where.Identity):
		if e.Progress == record.Finished {
			return true, nil
		}
		a.Warn("taking back what an earlier process left unfinished", "record", e.Path())
		return false, a.undoOne(ctx, a.ns, e)
	}
	// Without cookies an earlier sandbox may have had the lock that is held.
	if e.Netns.Lock != a.where.Lock {
		lock, err := a.store().TryLock(e.Netns.Lock)
		if errors.Is(err, record.ErrLocked) {
			return true, nil // its owner is at it
		} else if err != nil {
			return true, err
		}
		defer lock.Unlock()
	}
	ns, err := a.sandbox(e)
	if err != nil {
		return true, err
	}
	if ns != nil {
		defer ns.Close()
		if e.Progress == record.Finished {
			return true, nil // another sandbox of this name lives
		}
	}
	a.Warn("taking back what is left of an earlier sandbox", "record", e.Path())
	return false, a.undoOne(ctx, ns, e)
}

// undoOne takes one record back, its pod being open, if it lives.
func (a *attachment) undoOne(ctx context.Context, ns *netops.Netns, e *record.Entry) error {
	all, err := a.undoOnHost(ctx, []*record.Entry{e})
	a.undoInPod(ctx, ns, all)
	return cmp.Or(err, joined(all))
}

// made is what an ADD has made: its record, what it has on the host, and the
// routes that a lenient plan had to leave out.
type made struct {
	*record.Entry
	onHost *claim
	left   []netops.Route
}

// carryOut makes the plan true: first the record, then the kernel. Where there
// is nothing to do there is a record of that: without one, CHECK would have to
// guess.
func (a *attachment) carryOut(ctx context.Context, planner Planner, d Decision, have netops.Snapshot, beside []*record.Entry) (m made, err error) {
	done, held := d.Want.Pod.Needed(have.State)
	rec := record.Record{Boot: a.boot, Key: a.key(), Netns: a.where, SkipCheck: planner.SkipCheck(),
		Done: netops.Plan{Pod: done, Host: d.Want.Host}, Held: netops.Plan{Pod: netops.Change{Add: held}}}

	ctx = cni.UntilSignal(ctx)
	if m.Entry, err = a.store().Create(a.lock, rec, beside); err != nil {
		return m, err
	}
	if m.onHost, err = a.claim(ctx, m.Entry, d.Tries); err != nil {
		return m, a.withdraw(ctx, m, err)
	}
	if m.left, err = a.apply(ctx, d, done); err != nil {
		return m, a.withdraw(ctx, m, err)
	}
	if len(m.left) > 0 {
		m.Done.Pod = m.Done.Pod.Without(m.left)
		err = m.Rewrite()
	}
	if err == nil {
		err = m.Finish()
	}
	if err != nil {
		return m, a.giveUp(ctx, m, err)
	}
	if tells, ok := planner.(Announcer); ok {
		if err := tells.Announce(ctx, a.ns, m.Done.Pod); err != nil {
			a.Warn("the pod's neighbours were not told", "error", err)
		}
	}
	return m, nil
}

// dropRecord removes the record of a change that was taken back. One that was
// not stays for DEL.
func (a *attachment) dropRecord(e *record.Entry, why error) {
	if errors.Is(why, netops.ErrNotRestored) {
		a.Error("the change could not be taken back whole; DEL will try again", "record", e.Path())
	} else if err := e.Remove(); err != nil {
		a.Warn("cannot remove the record of a change that was taken back", "error", err)
	}
}

// giveUp takes back a change that was made, but cannot be recorded or told.
func (a *attachment) giveUp(ctx context.Context, m made, err error) error {
	ctx = context.WithoutCancel(ctx)
	if back := a.ns.Rescue(ctx, a.ns.Undo(ctx, m.Done.Pod)); back != nil {
		err = &netops.NotRestoredError{Err: err, Back: back}
	}
	return a.withdraw(ctx, m, err)
}

// withdraw takes back what was made on the host, nothing being left in the pod.
func (a *attachment) withdraw(ctx context.Context, m made, err error) error {
	if back := m.onHost.undo(context.WithoutCancel(ctx)); back != nil {
		err = &netops.NotRestoredError{Err: err, Back: back}
	}
	a.dropRecord(m.Entry, err)
	return err
}

func (a *attachment) apply(ctx context.Context, d Decision, done netops.Change) ([]netops.Route, error) {
	if !d.Lenient {
		return nil, a.ns.Apply(ctx, done)
	}
	failed, err := a.ns.Try(ctx, done)
	left := make([]netops.Route, len(failed))
	for i, f := range failed {
		left[i] = f.Route
		a.Warn("route left out", "error", f)
	}
	return left, err
}

// plan prints what ADD would change now, as ip(8) commands, and changes
// nothing.
func plan(ctx context.Context, r *request) error {
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
	var earlier []*record.Entry
	if objects != nil {
		if earlier, err = objects.earlier(r, ns); err != nil {
			return err
		}
	}
	d, have, err := r.decide(ctx, planner, prev, ns, earlier)
	if err != nil {
		return err
	}
	onHost, err := r.neededOnHost(ctx, d.Want.Host)
	if err != nil {
		return err
	}
	inPod, _ := d.Want.Pod.Needed(have.State)
	if err := preview("host", onHost); err != nil {
		return err
	}
	return preview("pod "+r.Config.Netns, inPod)
}

func preview(where string, c netops.Change) error {
	if c.IsZero() {
		return nil
	}
	_, err := fmt.Printf("# %s\n%s\n", where, strings.Join(c.Commands(), "\n"))
	return err
}
