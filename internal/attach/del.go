//go:build linux

package attach

import (
	"cmp"
	"context"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// del takes back what the records of the attachment say, newest first. It
// reads nothing else of the configuration than where they are: what ADD
// refuses, DEL cleans up.
func del(ctx context.Context, r *request) error {
	r.Lenient(func(*cni.Config) {})
	held := locks{}
	defer held.unlock()
	entries, recorded, err := r.chooseRecords(held, r.key(), false, func(*record.Entry) bool { return true })
	if err != nil {
		return err
	}
	if !recorded && r.policy.DelWithoutRecord {
		return r.undoExpected(ctx)
	}
	all, err := r.undo(ctx, entries)
	return cmp.Or(err, failuresJoined(all))
}

// undoExpected removes what configuration and prevResult say of the host, as far
// as it is ours and no record wants it. After an ADD that failed there is neither
// a record nor, mostly, a prevResult: that is no warning.
func (r *request) undoExpected(ctx context.Context) error {
	want, err := r.expected(ctx)
	if err != nil {
		tell := r.Warn
		if cni.Code(err) != types.ErrInvalidNetworkConfig && !r.Config.Has("prevResult") {
			tell = r.Debug
		}
		why, _, _ := strings.Cut(err.Error(), "\n")
		tell("no record and no usable configuration: nothing was removed", "error", why)
		return nil
	}
	all := []*undoing{{Entry: &record.Entry{Record: record.Record{Done: want}}}}
	r.releaseRecords(ctx, all)
	return failuresJoined(all)
}

func (r *request) expected(ctx context.Context) (netops.Plan, error) {
	planner, prev, err := r.decode()
	if err != nil {
		return netops.Plan{}, err
	}
	if planner, err = r.prepare(ctx, planner, prev, nil); err != nil {
		return netops.Plan{}, err
	}
	return planner.Expect(prev, netops.Snapshot{})
}
