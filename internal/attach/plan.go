//go:build linux

package attach

import (
	"context"
	"fmt"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
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
	a, err := r.attachmentIn(ns)
	if err != nil {
		return err
	}
	p, err := a.unlockedPod(planner)
	if err != nil {
		return err
	}
	d, have, err := a.decide(ctx, planner, prev, p)
	if err != nil {
		return err
	}
	onHost, err := r.neededOnHost(ctx, d.Want.Host)
	if err != nil {
		return err
	}
	if err := preview("host", onHost); err != nil {
		return err
	}
	return preview("pod "+r.Config.Netns, d.inPod(have))
}

// unlockedPod is what is recorded of a pod. Nothing is locked.
func (a *attachment) unlockedPod(planner Planner) (p pod, err error) {
	if _, ok := planner.(Sharer); !ok {
		return p, nil
	}
	entries, err := a.store().Entries(a.key())
	if err != nil {
		return p, err
	}
	slices.Reverse(entries) // the newest first
	return a.podOf(planner, a.inSandbox(entries))
}

// inPod is what an ADD changes in a pod.
func (d *Decision) inPod(have netops.Snapshot) netops.Change {
	c, _ := d.Want.Pod.Needed(have.State)
	c.Add.Routes = slices.Concat(d.restore, c.Add.Routes)
	return c
}

func preview(where string, c netops.Change) error {
	if c.IsZero() {
		return nil
	}
	_, err := fmt.Printf("# %s\n%s\n", where, c)
	return err
}
