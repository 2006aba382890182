//go:build linux

package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/record"
)

// locks are those that are held, by their names. In a namespace without a lock
// file no process is at work; its lock is nil.
type locks map[string]*record.Lock

func (held locks) unlock() {
	for _, l := range held {
		l.Unlock()
	}
}

// chooseRecords finds those records of an attachment that which names, newest first,
// and takes the locks of their namespaces, which the caller gives back, also
// after an error. Where it only tries, it leaves out what another process has
// locked. It reports whether there is a record at all.
func (r *request) chooseRecords(held locks, k record.Key, try bool, which func(*record.Entry) bool) (chosen []*record.Entry, recorded bool, err error) {
	entries, err := r.store().Entries(k)
	if err != nil || len(entries) == 0 {
		return nil, false, err
	}
	if err := r.lockAll(held, entries, try); err != nil {
		return nil, false, err
	}
	// The process that had a lock may have changed or removed what was listed.
	if entries, err = r.store().Entries(k); err != nil {
		return nil, false, err
	}
	for _, e := range slices.Backward(entries) {
		if !r.usable(e) {
			continue
		}
		recorded = true
		if _, ours := held[e.Netns.Lock]; ours && which(e) {
			chosen = append(chosen, e)
		}
	}
	return chosen, recorded, nil
}

// undoing is a record that is being taken back, and what of that has failed.
type undoing struct {
	*record.Entry
	failed error
}

// undo takes records back: on the host first, all in one go, then in the pods,
// in the order given, those of one sandbox together.
func (r *request) undo(ctx context.Context, entries []*record.Entry) ([]*undoing, error) {
	all, err := r.undoOnHost(ctx, entries)
	if err != nil {
		return nil, err
	}
	for _, together := range bySandbox(all) {
		r.undoIn(ctx, together)
	}
	return all, nil
}

// bySandbox groups records by their sandboxes, in the order of the first of each.
func bySandbox(all []*undoing) (groups [][]*undoing) {
	type sandbox struct {
		boot, lock string
		netops.Identity
	}
	places := map[sandbox]int{}
	for _, u := range all {
		of := sandbox{u.Boot, u.Netns.Lock, u.Netns.Identity}
		at, ok := places[of]
		if !ok {
			at = len(groups)
			places[of], groups = at, append(groups, nil)
		}
		groups[at] = append(groups[at], u)
	}
	return groups
}

// undoOnHost begins to take records back, and takes back what they say of the
// host.
func (r *request) undoOnHost(ctx context.Context, entries []*record.Entry) (begun []*undoing, err error) {
	for _, e := range entries {
		if err := e.BeginUndo(); errors.Is(err, fs.ErrNotExist) {
			continue // another process has taken it back
		} else if err != nil {
			return nil, err
		}
		begun = append(begun, &undoing{Entry: e})
	}
	r.releaseRecords(ctx, begun)
	return begun, nil
}

// undoIn takes back what was done in one sandbox, if it lives and anything was
// changed there.
func (r *request) undoIn(ctx context.Context, together []*undoing) {
	var ns *kernel.Netns
	if slices.ContainsFunc(together, func(u *undoing) bool { return !u.Done.Pod.IsZero() }) {
		var err error
		if ns, err = r.sandbox(together[0].Entry); err != nil {
			for _, u := range together {
				u.failed = errors.Join(u.failed, err)
			}
			return
		}
	}
	if ns != nil {
		defer ns.Close()
	}
	r.undoInPod(ctx, ns, together)
}

// undoInPod takes back what is left of records, newest first, and removes those
// of which nothing failed. In a pod, only what may go away by itself is a
// failure, which keeps the record: what is refused for good would make the pod
// undeletable. A route that went before the one that it leads over is tried
// again when both are due.
func (r *request) undoInPod(ctx context.Context, ns *kernel.Netns, together []*undoing) {
	refused := make([]error, len(together))
	if ns != nil {
		all, complete, err := r.otherRecords(together)
		if err == nil {
			err = r.leaveDefaults(ctx, ns, together, all)
		}
		others := slices.DeleteFunc(all, func(e *record.Entry) bool { return e.Progress != record.Finished })
		for i, u := range together {
			if refused[i] = err; err == nil {
				refused[i] = ns.Undo(ctx, r.toUndo(u.Entry, others, complete))
			}
		}
	}
	for i, u := range together {
		if refused[i] != nil {
			u.failed = errors.Join(u.failed, r.transient(ns.Rescue(ctx, refused[i])))
		}
		if u.failed == nil {
			u.failed = u.Remove()
		}
	}
}

// otherRecords are the records of other attachments of a pod; complete says that
// all could be read. Most pods have none: then nothing is read.
func (r *request) otherRecords(together []*undoing) (others []*record.Entry, complete bool, err error) {
	if len(together) == 0 || r.store().Recorded(together[0].Netns.Lock) <= len(together) {
		return nil, true, nil
	}
	others, complete, err = r.store().InNamespace(together[0].Netns.Lock)
	itself := func(e *record.Entry) bool {
		return slices.ContainsFunc(together, func(u *undoing) bool { return u.Path() == e.Path() })
	}
	return slices.DeleteFunc(others, itself), complete, err
}

func failuresJoined(all []*undoing) error {
	failed := make([]error, len(all))
	for i, u := range all {
		failed[i] = u.failed
	}
	return errors.Join(failed...)
}

// lockAll takes the locks of the entries' namespaces that are not held yet.
func (r *request) lockAll(held locks, entries []*record.Entry, try bool) error {
	take := r.store().Lock
	if try {
		take = r.store().TryLock
	}
	// In one order for all, or two would wait for each other.
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b *record.Entry) int { return cmp.Compare(a.Netns.Lock, b.Netns.Lock) })
	for _, e := range sorted {
		if _, have := held[e.Netns.Lock]; have || e.Err != nil {
			continue
		}
		l, err := take(e.Netns.Lock)
		if errors.Is(err, record.ErrLocked) {
			continue
		} else if err != nil {
			return fmt.Errorf("lock the pod's namespace: %w", err)
		}
		held[e.Netns.Lock] = l
	}
	return nil
}

// usable reports whether a file is a record. One that is not is told, and
// kept: a newer version's where it is, a damaged one aside.
func (r *request) usable(e *record.Entry) bool {
	if e.Err == nil {
		return true
	}
	r.Warn("passing over a record", "record", e.Path(), "error", e.Err)
	if !errors.Is(e.Err, record.ErrNewer) {
		if err := e.SetAside(); err != nil {
			r.Warn("cannot keep it aside", "error", err)
		}
	}
	return false
}

// transient is what of an error may go away by itself. The rest is told.
func (r *request) transient(err error) error {
	var failures netops.Failures
	if err == nil || !errors.As(err, &failures) {
		return err // the kernel could not even be looked at
	}
	var again netops.Failures
	for _, f := range failures {
		if netops.Passing(f) {
			again = append(again, f)
		} else {
			r.Warn("not everything in the pod could be taken back", "error", f)
		}
	}
	return again.Err()
}
