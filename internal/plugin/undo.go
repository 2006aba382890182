package plugin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// del takes back what the records of the attachment say, newest first. It
// reads nothing else of the configuration than where they are: what ADD
// refuses, DEL cleans up.
func del(ctx context.Context, r *request) error {
	r.warnProblems()
	recorded, err := r.undoAll(ctx, r.key(), false, func(*record.Entry) bool { return true })
	if err != nil || recorded || !r.plugin.Recomputes {
		return err
	}
	return r.undoExpected(ctx)
}

// undoExpected takes away what configuration and prevResult say of the host,
// as far as it is ours and no record wants it. Where they are of no use, nothing
// says that there is anything.
func (r *request) undoExpected(ctx context.Context) error {
	want, err := r.expected(ctx)
	if err != nil {
		why, _, _ := strings.Cut(err.Error(), "\n")
		r.log.Warn("nothing tells what to take away: there is no record, and what the configuration wants is not known", "error", why)
		return nil
	}
	return r.releaseRecord(ctx, &record.Entry{Record: record.Record{Done: want}})
}

func (r *request) expected(ctx context.Context) (netops.Plan, error) {
	planner, prev, err := r.decode()
	if err != nil {
		return netops.Plan{}, err
	}
	if planner, err = prepare(ctx, planner, nil); err != nil {
		return netops.Plan{}, err
	}
	return planner.Expect(prev, netops.Snapshot{})
}

// warnProblems tells what of the configuration is of no use, for verbs that do
// without.
func (r *request) warnProblems() {
	for _, p := range r.config.List {
		r.log.Warn(p.String())
	}
}

// undoAll takes back those records of an attachment that choose names, newest
// first, and goes on after a failure. Where it only tries, it leaves out what
// another process has locked. It reports whether there was a record at all.
func (r *request) undoAll(ctx context.Context, k record.Key, try bool, choose func(*record.Entry) bool) (recorded bool, err error) {
	entries, err := r.store().Entries(k)
	if err != nil || len(entries) == 0 {
		return false, err
	}
	locks, err := r.lockAll(entries, try)
	for _, l := range locks {
		defer l.Unlock()
	}
	if err != nil {
		return false, err
	}
	// Whoever had a lock may have changed or removed what was listed.
	if entries, err = r.store().Entries(k); err != nil {
		return false, err
	}
	var chosen []*record.Entry
	for _, e := range slices.Backward(entries) {
		if !r.usable(e) {
			continue
		}
		recorded = true
		if _, ours := locks[e.Netns.Lock]; ours && choose(e) {
			chosen = append(chosen, e)
		}
	}
	return recorded, r.undoBySandbox(ctx, chosen)
}

// undoBySandbox takes records back, newest first, those of one sandbox
// together.
func (r *request) undoBySandbox(ctx context.Context, entries []*record.Entry) error {
	var failed []error
	for len(entries) > 0 {
		first := entries[0]
		var together, others []*record.Entry
		for _, e := range entries {
			if e.Netns == first.Netns && e.Boot == first.Boot {
				together = append(together, e)
			} else {
				others = append(others, e)
			}
		}
		failed, entries = append(failed, r.undoIn(ctx, together)), others
	}
	return errors.Join(failed...)
}

// lockAll takes the locks of the entries' namespaces. A namespace without a
// lock file has nobody at work in it; its lock is nil. What it has taken is
// for the caller to give back, also with an error.
func (r *request) lockAll(entries []*record.Entry, try bool) (map[string]*record.Lock, error) {
	locks := map[string]*record.Lock{}
	take := r.store().Lock
	if try {
		take = r.store().TryLock
	}
	// In one order for all, or two would wait for each other.
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b *record.Entry) int { return cmp.Compare(a.Netns.Lock, b.Netns.Lock) })
	for _, e := range sorted {
		if _, have := locks[e.Netns.Lock]; have || e.Err != nil {
			continue
		}
		l, err := take(e.Netns.Lock)
		if errors.Is(err, record.ErrLocked) {
			continue
		} else if err != nil {
			return locks, fmt.Errorf("lock the pod's namespace: %w", err)
		}
		locks[e.Netns.Lock] = l
	}
	return locks, nil
}

// usable reports whether a file is a record. One that is not is told, and
// kept: a newer version's where it is, a damaged one aside.
func (r *request) usable(e *record.Entry) bool {
	if e.Err == nil {
		return true
	}
	r.log.Warn("passing over a record", "record", e.Path(), "error", e.Err)
	if !errors.Is(e.Err, record.ErrNewer) {
		if err := e.SetAside(); err != nil {
			r.log.Warn("cannot keep it aside", "error", err)
		}
	}
	return false
}

// undoIn takes records of one sandbox back: on the host first, then in the pod,
// if it lives and anything was changed there.
func (r *request) undoIn(ctx context.Context, entries []*record.Entry) error {
	failed, err := r.undoOnHost(ctx, entries)
	if err != nil {
		return err
	}
	var ns *netops.Netns
	if slices.ContainsFunc(entries, func(e *record.Entry) bool { return !e.Done.Pod.IsZero() }) {
		if ns, err = r.sandbox(entries[0]); err != nil {
			return errors.Join(append(failed, err)...)
		}
	}
	if ns != nil {
		defer ns.Close()
	}
	return r.undoInPod(ctx, ns, entries, failed)
}

// undoOnHost begins to take records back, newest first, and returns for each
// what failed on the host.
func (r *request) undoOnHost(ctx context.Context, entries []*record.Entry) ([]error, error) {
	for _, e := range entries {
		// One that is not there somebody else has taken back.
		if err := e.BeginUndo(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	failed := make([]error, len(entries))
	for i, e := range entries {
		if e.Progress == record.Undoing {
			failed[i] = r.releaseRecord(ctx, e)
		}
	}
	return failed, nil
}

// sandbox opens the namespace of a record: what CNI_NETNS or the record's path
// leads to, if it is the recorded one. It is nil where the pod is gone.
func (r *request) sandbox(e *record.Entry) (*netops.Netns, error) {
	boot, err := record.Boot()
	if err != nil {
		return nil, err
	}
	if boot != e.Boot {
		return nil, nil // after a reboot nothing of it is left
	}
	paths := []string{e.Netns.Path}
	if given := r.args.Netns; given != "" && given != e.Netns.Path {
		paths = []string{given, e.Netns.Path}
	}
	var failed error
	for _, path := range paths {
		ns, err := r.open(path)
		if err != nil {
			if !nothingThere(err) {
				failed = err
			}
			continue
		}
		identity, err := ns.Identity(e.IfName)
		if err == nil && e.In(boot, identity) {
			return ns, nil
		}
		failed = cmp.Or(err, failed)
		ns.Close()
	}
	return nil, failed
}

// undo takes one record back, its pod being open, if it lives.
func (r *request) undo(ctx context.Context, ns *netops.Netns, e *record.Entry) error {
	failed, err := r.undoOnHost(ctx, []*record.Entry{e})
	if err != nil {
		return err
	}
	return r.undoInPod(ctx, ns, []*record.Entry{e}, failed)
}

// undoInPod takes back what is left of records, newest first, and removes those
// of which nothing failed. In a pod, only what may go away by itself is a
// failure, which keeps the record: what is refused for good would make the pod
// undeletable. A route that went before the one that it leads over is tried
// again when both are due.
func (r *request) undoInPod(ctx context.Context, ns *netops.Netns, entries []*record.Entry, onHost []error) error {
	refused := make([]error, len(entries))
	for i, e := range entries {
		if ns == nil || e.Progress != record.Undoing {
			continue
		}
		done, err := r.stillWanted(e)
		if err != nil {
			return err
		}
		refused[i] = ns.Undo(ctx, done)
	}
	var failed []error
	for i, e := range entries {
		if refused[i] != nil {
			refused[i] = r.passing(ns.Rescue(ctx, refused[i]))
		}
		refused[i] = errors.Join(onHost[i], refused[i])
		if refused[i] == nil {
			refused[i] = e.Remove()
		}
		failed = append(failed, refused[i])
	}
	return errors.Join(failed...)
}

// stillWanted is what an entry has done, without the removal of routes of ours
// that nobody wants any more: their own attachment has been deleted since.
func (r *request) stillWanted(e *record.Entry) (netops.Change, error) {
	done := e.Done.Pod
	ours := func(route netops.Route) bool { return route.Protocol == netops.Protocol }
	if !slices.ContainsFunc(done.Del.Routes, ours) {
		return done, nil
	}
	others, whole, err := r.store().InNamespace(e.Netns.Lock)
	if err != nil || !whole { // a record that cannot be read may want it
		return done, err
	}
	done.Del.Routes = slices.DeleteFunc(slices.Clone(done.Del.Routes), func(route netops.Route) bool {
		return ours(route) && !slices.ContainsFunc(others, func(o record.Record) bool { return o.Wants(&route) })
	})
	return done, nil
}

// passing is what of an error may go away by itself. The rest is told.
func (r *request) passing(err error) error {
	var failures netops.Failures
	if err == nil || !errors.As(err, &failures) {
		return err // the kernel could not even be looked at
	}
	var again netops.Failures
	for _, f := range failures {
		if netops.Passing(f) {
			again = append(again, f)
		} else {
			r.log.Warn("not everything could be put back", "error", f)
		}
	}
	if again == nil {
		return nil
	}
	return again
}

// The keys under which a runtime lists the attachments that are still valid
// (CNI 1.1, section 2, GC), and what early drafts called them.
const (
	gcKey    = "cni.dev/valid-attachments"
	gcOldKey = "cni.dev/attachments"
)

// gc takes back the records of this network whose attachments are no longer
// valid, and those that killed processes have left.
func gc(ctx context.Context, r *request) error {
	r.warnProblems()
	valid, given, err := r.validAttachments()
	if err != nil {
		return err
	}
	keys, err := r.store().Attachments(r.network)
	if err != nil {
		return err
	}
	var failed []error
	for _, k := range keys {
		_, err := r.undoAll(ctx, k, true, func(e *record.Entry) bool {
			switch {
			case e.Progress != record.Finished:
				return true
			case given:
				return !valid[validAttachment{k.ContainerID, k.IfName}]
			}
			return r.certainlyGone(e)
		})
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", k, err))
		}
		r.store().Sweep(k)
	}
	r.store().SweepRoot()
	return errors.Join(failed...)
}

type validAttachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// validAttachments reads the runtime's list. Absent or null it says nothing.
func (r *request) validAttachments() (valid map[validAttachment]bool, given bool, err error) {
	for _, key := range []string{gcKey, gcOldKey} {
		v, ok := r.config.Get(key)
		if !ok {
			continue
		}
		var list []validAttachment
		if err := json.Unmarshal(v.Raw, &list); err != nil {
			return nil, false, Errorf(types.ErrInvalidNetworkConfig, "%s: %w", key, err)
		}
		valid = make(map[validAttachment]bool, len(list))
		for _, a := range list {
			valid[a] = true
		}
		return valid, true, nil
	}
	return nil, false, nil
}

// certainlyGone reports whether the pod of a record is gone for certain. A
// plain file at its path does not say so: another mount namespace sees the
// file of a live one like that.
func (r *request) certainlyGone(e *record.Entry) bool {
	boot, err := record.Boot()
	if err == nil && boot != e.Boot {
		return true
	}
	ns, err := netops.Open(e.Netns.Path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer ns.Close()
	identity, err := ns.Identity(e.IfName)
	return err == nil && identity != e.Netns.Identity && identity != netops.Identity{}
}
