//go:build linux

package attach

import (
	"context"
	"slices"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// check tells everything that does not hold any more of what the attachment
// wants. Without a record the planner is asked what that is, which takes its time
// and is done before anything is locked.
func check(ctx context.Context, r *request) error {
	planner, prev, err := r.decode()
	if err != nil {
		return err
	}
	if planner.SkipCheck() {
		return nil
	}
	ns, err := r.netns()
	if err != nil {
		return err
	}
	defer ns.Close()
	entries, err := r.store().Entries(r.key())
	if err != nil {
		return err
	}
	prepared := len(entries) == 0
	if prepared {
		if planner, err = r.prepare(ctx, planner, prev, ns); err != nil {
			return err
		}
	}
	a, err := r.lockAttachment(ns)
	if err != nil {
		return err
	}
	defer a.lock.Unlock()
	records, err := a.records()
	if err != nil {
		return err
	}
	if len(records) == 0 && !prepared { // they went since they were listed, or are another sandbox's
		if planner, err = r.prepare(ctx, planner, prev, ns); err != nil {
			return err
		}
	}
	found, err := a.drifted(ctx, planner, prev, records)
	if err != nil {
		return err
	}
	return drift(found)
}

// drifted is what does not hold of what records want, or, without any, of what the
// planner expects.
func (a *attachment) drifted(ctx context.Context, planner Planner, prev *cniresult.Result, records []*record.Entry) (lines []string, err error) {
	want := mergeWants(records)
	query := planner.Query(prev)
	query.Cover(want.Pod)
	have, err := a.ns.Snapshot(ctx, query)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		if want, err = planner.Expect(prev, have); err != nil {
			return nil, err
		}
	}
	p, err := a.podOf(planner, records)
	if err != nil {
		return nil, err
	}
	var stray []netops.Drift
	if p.decides() {
		ours := preference{preferenceOf(records[len(records)-1]), a.key()}
		want.Pod.Del.Routes = withoutDefaults(want.Pod.Del.Routes)
		stray = p.strayDefaults(ours, have)
		if why := p.overruled(ours); why != "" {
			lines = append(lines, why)
		}
	}
	onHost, err := a.look(ctx, want.Host)
	if err != nil {
		return nil, err
	}
	if a.policy.CheckIgnoresPrevResult {
		want.Pod.Add.Links = slices.DeleteFunc(want.Pod.Add.Links, prev.Denies)
	} else {
		want.Pod = checkable(want.Pod, prev)
	}
	for _, d := range slices.Concat(stray, want.Pod.Drift(have.State), netops.Change{Add: want.Host}.Drift(onHost)) {
		lines = append(lines, d.String())
	}
	return lines, nil
}

// records are those of the attachment in this pod. One that is not finished
// is drift by itself.
func (a *attachment) records() ([]*record.Entry, error) {
	entries, err := a.store().Entries(a.key())
	if err != nil {
		return nil, err
	}
	var records []*record.Entry
	for _, e := range entries {
		switch {
		case e.Err != nil:
			a.Warn("passing over a record", "record", e.Path(), "error", e.Err)
		case !e.In(a.boot, a.where.Identity):
		case e.Progress != record.Finished:
			return nil, cni.Errorf(cni.CodeDrift, "an ADD or DEL of this attachment was not finished: record %s", e.Path())
		default:
			records = append(records, e)
		}
	}
	return records, nil
}

// mergeWants is what all entries of the chain want together: a later one overrides
// an earlier, also where CHECK skips it.
func mergeWants(records []*record.Entry) (want netops.Plan) {
	for _, r := range records {
		later := r.Want()
		if r.SkipCheck {
			want.Pod = want.Pod.Overridden(later.Pod)
			continue
		}
		want.Pod = want.Pod.Then(later.Pod)
		want.Host = netops.Change{Add: want.Host}.Then(netops.Change{Add: later.Host}).Add
	}
	return want
}

// checkable is the part of what is wanted that CHECK may judge. prevResult is the
// result of the whole chain: a route that it does not list any more, or lists
// again, is the doing of a later plugin. What a result cannot list is always
// judged.
func checkable(want netops.Change, prev *cniresult.Result) netops.Change {
	want = want.Taken()
	changedLater := func(r netops.Route, listed bool) bool {
		return cniresult.Listable(&r) && !prev.Absent() && prev.Lists(&r) == listed
	}
	want.Add.Routes = slices.DeleteFunc(want.Add.Routes, func(r netops.Route) bool { return changedLater(r, false) })
	want.Del.Routes = slices.DeleteFunc(want.Del.Routes, func(r netops.Route) bool { return changedLater(r, true) })
	return want
}

// drift is the error for what does not hold. What several entries of a chain want
// is one thing.
func drift(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	told := make(map[string]bool, len(lines))
	return cni.Several(cni.CodeDrift, slices.DeleteFunc(lines, func(line string) bool {
		again := told[line]
		told[line] = true
		return again
	}))
}
