//go:build linux

package attach

import (
	"context"
	"fmt"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
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
	p, err := r.unlockedPod(planner, ns)
	if err != nil {
		return err
	}
	d, have, err := r.decide(ctx, planner, prev, ns, p)
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
func (r *request) unlockedPod(planner Planner, ns *kernel.Netns) (p pod, err error) {
	if _, ok := planner.(Sharer); !ok {
		return p, nil
	}
	boot, identity, err := r.identify(ns)
	if err != nil {
		return p, err
	}
	entries, err := r.store().Entries(r.key())
	if err != nil {
		return p, err
	}
	lock, err := ns.LockName()
	if err != nil {
		return p, err
	}
	slices.Reverse(entries) // the newest first
	return r.podOf(planner, lock, inSandbox(entries, boot, identity))
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
