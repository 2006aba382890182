//go:build linux

// Package attach leads the life of an attachment, for plugins that decide by a
// [Planner], which is pure: ADD, CHECK, DEL, GC, STATUS and the preview of an
// ADD. It keeps the records, locks, and settles with other attachments what
// they share on the host and in the pod.
package attach

import (
	"context"
	"slices"

	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/cniroute"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/record"
)

// Planner decides what an attachment changes. Its methods are pure.
type Planner interface {
	// Query is what to look at in the pod before deciding.
	Query(prev *cniresult.Result) netops.Query
	// Plan decides what ADD does.
	Plan(prev *cniresult.Result, pod netops.Snapshot) (*Decision, error)
	// Expect is what must hold after ADD, as far as configuration and
	// prevResult tell: for an attachment without a record.
	Expect(prev *cniresult.Result, pod netops.Snapshot) (netops.Plan, error)
	// SkipCheck says that CHECK leaves out what this plugin did.
	SkipCheck() bool
}

// Preparer is a planner that has to evaluate something, or to wait for it,
// before it can decide. ADD calls Prepare without any lock; verbs that have a
// record to go by do not call it.
type Preparer interface {
	Planner
	Prepare(context.Context, PrepareInput) (Planner, error)
}

// PrepareInput is what a planner may look at before it decides.
type PrepareInput struct {
	Prev *cniresult.Result
	Pod  *kernel.Netns // nil for a DEL without a record
	// OpenHost opens the host's namespace, which is not the caller's to close.
	OpenHost func() (*kernel.Netns, error)
}

// Announcer is a planner that has something to tell the pod's links when its
// change is made.
type Announcer interface {
	Planner
	Announce(ctx context.Context, pod *kernel.Netns, made netops.Change) error
}

// Sharer is a planner whose attachments share objects of their pod, and
// prefer one interface for its default routes.
type Sharer interface {
	Planner
	// Beside is the planner that knows what other attachments of the pod want
	// there. Plan then sees the pod as it was before earlier entries of the chain,
	// and in table main also the default routes that other attachments have taken
	// away.
	Beside(wanted netops.State) Planner
}

// Prober is a planner that needs more for the next ADD than a configuration
// that is valid and a place for records.
type Prober interface {
	Planner
	Probe(context.Context) error
}

// Decision is what a planner has decided.
type Decision struct {
	Want netops.Plan
	// Tries is how often what fails on the host is tried, in all.
	Tries int
	// Result is prevResult without what goes; Listed are the entries that it
	// gains, each once its route is there.
	Result *cniresult.Result
	Listed []Listing
	// ContinueOnError says that a route which cannot be added is left out.
	ContinueOnError bool
	// Warnings tell what is left out already.
	Warnings []string
	// Idle says that nothing is done, and nothing recorded.
	Idle bool
	// Default is the attachment's preference for the pod's default routes, whose order is
	// not the planner's; nil is none. Which of them go follows from it.
	Default *Default
	restore []netops.Route // default routes that come back
}

// Default is an attachment's preference for the pod's default routes, as its record has
// it.
type Default = record.Default

// Listing is a route as the result shows it.
type Listing struct {
	Entry cniresult.Route
	For   *netops.Route
}

// List adds the entry of the result for a route that is wanted; there is none for
// one that leads nowhere. Of the optional fields those are told that the
// configuration gives. onLink tells that it goes by no gateway, where a
// reader of the result would assume the one in its ips.
func (d *Decision) List(r *netops.Route, e *cniroute.Route, onLink bool) {
	if !cniresult.Listable(r) {
		return
	}
	l := cniresult.Route{Dst: r.Dst, Gw: r.Gw, MTU: r.MTU, AdvMSS: r.AdvMSS}
	if e.Metric.Given {
		l.Priority = &e.Metric.Value
	}
	if e.Table.Given {
		l.Table = &e.Table.Value
	}
	if e.Scope.Given || onLink {
		scope := uint8(e.Scope.Or(netops.ScopeLink))
		l.Scope = &scope
	}
	for _, hop := range r.Hops {
		if !slices.Contains(l.Gws, hop.Gw) {
			l.Gws = append(l.Gws, hop.Gw)
		}
	}
	d.Listed = append(d.Listed, Listing{Entry: l, For: r})
}
