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
	keys, err := r.store().Attachments(r.Attachment().Network)
	if err != nil {
		return err
	}
	held, failed := locks{}, []error{}
	var entries []*record.Entry
	for _, k := range keys {
		chosen, _, err := r.chooseRecords(held, k, true, func(e *record.Entry) bool {
			switch {
			case e.Progress != record.Finished:
				return true
			case given:
				return !valid[cni.Attachment{Network: k.Network, ContainerID: k.ContainerID, IfName: k.IfName}]
			}
			return r.certainlyGone(e)
		})
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
		}
	}
	for _, k := range keys {
		r.store().Sweep(k)
	}
	r.store().SweepRoot()
	failed = append(failed, r.sweepAddresses(ctx))
	return errors.Join(failed...)
}
