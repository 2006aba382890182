package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/cniroute"
	"github.com/cni-netops/plugins/internal/netops"
)

// Query asks for the attachment's interfaces, the pod's addresses, and table
// main with those that the routes of the configuration name. Unless everything
// is to be flushed, or another attachment's gateway looked for, only routes to the
// destinations named matter, and those by which gateways are reached.
func (c config) Query(prev *cniresult.Result) netops.Query {
	q := netops.Query{Addrs: true, Links: append(c.interfaces(prev), c.ifName), Tables: []uint32{netops.TableMain}, OnLink: len(c.add) > 0, Rules: len(c.rules) > 0}
	byOthers := func(e cniroute.Route) bool { return !e.Gw.Given && e.Gws == nil && c.byOthers(&e, prev) }
	if !c.flushRoutes && !slices.ContainsFunc(c.add, byOthers) {
		q.To = make(map[netip.Prefix]bool, len(c.del)+len(c.add)+len(defaults))
		for _, dst := range defaults {
			q.To[dst] = true
		}
	}
	for _, list := range [][]cniroute.Route{c.del, c.add} {
		for i := range list {
			r := &list[i]
			q.Links = append(q.Links, devices(r)...)
			if r.Table.Given && !slices.Contains(q.Tables, r.Table.Value) {
				q.Tables = append(q.Tables, r.Table.Value)
			}
			if q.To != nil {
				q.To[r.Dst] = true
			}
		}
	}
	slices.Sort(q.Links)
	q.Links = slices.Compact(q.Links)
	return q
}

var defaults = []netip.Prefix{netops.IPv4Default, netops.IPv6Default}

// interfaces are those of the attachment: the ones of prevResult that are in a
// sandbox, by whatever path it is named; without any, CNI_IFNAME.
func (c config) interfaces(prev *cniresult.Result) []string {
	var names []string
	for _, i := range prev.Interfaces {
		if i.Sandbox != "" && !slices.Contains(names, i.Name) {
			names = append(names, i.Name)
		}
	}
	if names == nil {
		return []string{c.ifName}
	}
	return names
}

// Plan decides in the order flushroutes, flushgateway, delroutes, addroutes,
// addrules.
func (c config) Plan(prev *cniresult.Result, pod netops.Snapshot) (*attach.Decision, error) {
	d := &attach.Decision{ContinueOnError: c.ignoreErrors}
	devs := c.interfaces(prev)
	if err := c.checkInterfaces(devs, pod); err != nil {
		return d, err
	}
	c, d.Warnings = c.withFamilies(devs, prev, pod)
	additions, wanted, err := c.additions(prev, pod)
	if err != nil {
		return d, err
	}
	removed := c.remove(devs, pod.Routes, wanted)
	d.Want.Pod = removed.change
	d.Result = prev.Without(c.unlist(devs, prev, removed, wanted))
	rivals := wanted.rivals(removed.left)
	d.Want.Pod.Add.Rules = c.rules
	d.Want.Pod.Add.Routes = slices.Grow(d.Want.Pod.Add.Routes, len(additions))
	d.Listed = make([]attach.Listing, 0, len(additions))
	for _, a := range additions {
		if err := a.refused(rivals, devs); err != nil {
			if !c.ignoreErrors {
				return d, err
			}
			d.Warnings = append(d.Warnings, "route left out: "+err.Error())
			continue
		}
		// What is left of a route that is cut may be what is asked for.
		if !slices.ContainsFunc(removed.change.Add.Routes, func(r netops.Route) bool { return a.route.SatisfiedBy(&r) }) {
			d.Want.Pod.Add.Routes = append(d.Want.Pod.Add.Routes, a.route)
		}
		d.List(&a.route, a.entry, a.onLinkThough)
	}
	return d, nil
}

// Expect is what must hold of an attachment without a record: what addroutes
// adds, and nothing that would be removed now.
func (c config) Expect(prev *cniresult.Result, pod netops.Snapshot) (netops.Plan, error) {
	devs := c.interfaces(prev)
	if err := c.checkInterfaces(devs, pod); err != nil {
		return netops.Plan{}, err
	}
	c, _ = c.withFamilies(devs, prev, pod)
	c.added = true
	additions, wanted, err := c.additions(prev, pod)
	if err != nil {
		return netops.Plan{}, err
	}
	want := c.remove(devs, pod.Routes, wanted).change
	for _, a := range additions {
		want.Add.Routes = append(want.Add.Routes, a.route)
	}
	want.Add.Rules = c.rules
	return netops.Plan{Pod: want}, nil
}

// checkInterfaces refuses a name that no interface has.
func (c config) checkInterfaces(devs []string, pod netops.Snapshot) error {
	missing := func(name, where string) error {
		if slices.Contains(pod.Links, name) {
			return nil
		}
		return cni.Errorf(types.ErrTryAgainLater, "%s: %w: %q", where, netops.ErrNoLink, name)
	}
	for _, name := range devs {
		if err := missing(name, "interface of the attachment"); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		key    string
		routes []cniroute.Route
	}{{delRoutes, c.del}, {addRoutes, c.add}} {
		for i := range list.routes {
			for _, name := range devices(&list.routes[i]) {
				if err := missing(name, fmt.Sprintf("%s[%d].dev", list.key, i)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// devices are the interfaces that a route of the configuration names.
func devices(r *cniroute.Route) []string {
	var names []string
	if r.Dev != "" {
		names = append(names, r.Dev)
	}
	for _, hop := range r.Gws {
		if hop.Dev != "" {
			names = append(names, hop.Dev)
		}
	}
	return names
}

// rivals are the routes that have the key of one that is wanted.
func (w wanted) rivals(left []*netops.Route) map[netops.RouteKey][]*netops.Route {
	rivals := map[netops.RouteKey][]*netops.Route{}
	for _, r := range left {
		if _, ok := w[r.Key()]; ok {
			rivals[r.Key()] = append(rivals[r.Key()], r)
		}
	}
	return rivals
}
