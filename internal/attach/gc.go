//go:build linux

package attach

import (
	"context"
	"errors"
	"fmt"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/record"
)

// gc takes back the records of this network whose attachments are no longer
// valid, and those that killed processes have left.
func gc(ctx context.Context, r *request) error {
	r.Lenient(func(*cni.Config) {})
	list, given, err := r.Valid()
	if err != nil {
		return err
	}
	valid := make(map[cni.Attachment]bool, len(list))
	for _, a := range list {
		valid[a] = true
	}
	err = r.collect(ctx, r.Config.Network, func(e *record.Entry) bool {
		switch {
		case e.Progress != record.Finished:
			return true
		case given:
			return !valid[cni.Attachment{Network: e.Network, ContainerID: e.ContainerID, IfName: e.IfName}]
		}
		return r.certainlyGone(e)
	})
	return errors.Join(err, r.sweep(ctx))
}

// collect takes back those records of a network that which names, less those
// that another process has locked, and goes on after a failure.
func (r *request) collect(ctx context.Context, network string, which func(*record.Entry) bool) error {
	keys, err := r.store().Attachments(network)
	if err != nil {
		return err
	}
	held, failed := locks{}, []error{}
	var entries []*record.Entry
	for _, k := range keys {
		chosen, _, err := r.chooseRecords(held, k, true, which)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", k, err))
		}
		entries = append(entries, chosen...)
	}
	all, err := r.undo(ctx, entries)
	held.unlock()
	failed = append(failed, err)
	for _, u := range all {
		if u.failed != nil {
			failed = append(failed, fmt.Errorf("%s: %w", u.Key, u.failed))
		} else if r.onChange != nil {
			r.onChange(fmt.Sprintf("%s: taken back", u.Key), "")
		}
	}
	for _, k := range keys {
		r.store().Sweep(k)
	}
	return errors.Join(failed...)
}

// sweep removes what belongs to no record: also what is noted and indexed of
// records that were lost.
func (r *request) sweep(ctx context.Context) error {
	r.store().SweepRoot()
	lock, err := r.store().LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	r.store().SweepNotes(lock, addressNote)
	r.store().SweepIndex(lock)
	return nil
}

// gcByHand takes back, of all networks, the records whose pods are gone for
// certain and those that killed processes have left, and prints what it does.
// No runtime says what is valid, so that a pod which cannot be seen from here
// keeps what it has: that is an error.
func gcByHand(ctx context.Context, r *request) error {
	if err := r.Strict(func(*cni.Config) {}); err != nil {
		return err
	}
	if err := r.refuseDamaged(); err != nil {
		return err
	}
	r.byHand, r.onChange = true, printUnderHeads()
	networks, err := r.store().Networks()
	failed := []error{err}
	for _, network := range networks {
		failed = append(failed, r.collect(ctx, network, func(e *record.Entry) bool {
			if r.certainlyGone(e) {
				return true
			}
			if err := r.visible(e); err != nil {
				failed = append(failed, fmt.Errorf("%s: cannot tell whether its pod is gone: %w", e.Key, err))
				return false
			}
			return e.Progress != record.Finished
		}))
	}
	return errors.Join(append(failed, r.sweep(ctx))...)
}

// refuseDamaged fails if a record is damaged: it may be a living pod's, and what
// that wants of the host is not known. Of a later version's that is assumed.
func (r *request) refuseDamaged() error {
	entries, err := r.store().All()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if errors.Is(e.Err, record.ErrDamaged) {
			return fmt.Errorf("record %s may be a living pod's, so that nothing is taken back; move it away if its pod is gone: %w", e.Path(), e.Err)
		}
	}
	return nil
}

// printUnderHeads prints lines, those that follow each other under one heading.
func printUnderHeads() func(head, line string) {
	last := ""
	return func(head, line string) {
		if head != last {
			fmt.Println("# " + head)
		}
		last = head
		if line != "" {
			fmt.Println(line)
		}
	}
}
