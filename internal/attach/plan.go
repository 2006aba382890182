//go:build linux

package attach

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/record"
)

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
	earlier, err := r.earlierEntries(ns)
	if err != nil {
		return err
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

// earlierEntries are the earlier entries of the chain, the newest first, where
// they matter to the planner. Nothing is locked.
func (r *request) earlierEntries(ns *kernel.Netns) ([]*record.Entry, error) {
	if !r.policy.PlanFromUnchangedPod {
		return nil, nil
	}
	boot, identity, err := r.identify(ns)
	if err != nil {
		return nil, err
	}
	entries, err := r.store().Entries(r.key())
	slices.Reverse(entries)
	return inSandbox(entries, boot, identity), err
}

func preview(where string, c netops.Change) error {
	if c.IsZero() {
		return nil
	}
	_, err := fmt.Printf("# %s\n%s\n", where, strings.Join(c.Commands(), "\n"))
	return err
}
