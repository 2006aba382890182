package main

import (
	"net/netip"
	"slices"

	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/cniroute"
	"github.com/cni-netops/plugins/internal/listindex"
	"github.com/cni-netops/plugins/internal/netops"
)

// removal is what goes and what is left.
type removal struct {
	patterns patterns
	change   netops.Change
	gone     []*netops.Route // whole, or the ways that go
	left     []*netops.Route // whole, or the ways that stay
}

// remove decides which routes go. One that addroutes asks for as it is stays.
func (c config) remove(devs []string, have []netops.Route, wanted wanted) removal {
	r := removal{patterns: byDestination(c.del)}
	r.left = make([]*netops.Route, 0, len(have))
	r.change.Del.Routes = make([]netops.Route, 0, min(len(have), max(len(c.del), defaultRoutes)))
	for i := range have {
		route := &have[i]
		goes := func(hop netops.NextHop) bool { return c.goes(route, hop, devs, r.patterns) && !wanted.held(route, hop) }
		if only, ok := route.SingleNextHop(); ok || route.Type.Rejects() {
			if goes(only) {
				r.change.Del.Routes = append(r.change.Del.Routes, *route)
				r.gone = append(r.gone, route)
			} else {
				r.left = append(r.left, route)
			}
			continue
		}
		gone, left := r.change.Remove(route, goes)
		r.gone, r.left = append(r.gone, gone...), append(r.left, left...)
	}
	return r
}

// goes reports whether a key removes this way of a route. One to nowhere is on
// no interface: only delroutes can mean it. So it is with one of another
// attachment, whose interface has to be named.
func (c config) goes(r *netops.Route, hop netops.NextHop, devs []string, patterns patterns) bool {
	if r.Type.Rejects() {
		return patterns.match(r, hop, true)
	}
	own := slices.Contains(devs, hop.Dev)
	return r.Type == netops.Unicast && (own && c.flushes(r, hop) || patterns.match(r, hop, own))
}

// defaultRoutes are about as many as an attachment has without delroutes.
const defaultRoutes = 8

// flushes reports whether flushroutes or flushgateway removes this way of a
// route.
func (c config) flushes(r *netops.Route, hop netops.NextHop) bool {
	if r.Table != netops.TableMain {
		return false
	}
	return c.flushRoutes && !linkLocal(r.Dst) && (hop.Gw.IsValid() || r.Default()) ||
		c.flushGateway && r.Default()
}

var linkLocals = []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10")}

func linkLocal(dst netip.Prefix) bool {
	return slices.ContainsFunc(linkLocals, func(l netip.Prefix) bool { return l.Bits() <= dst.Bits() && l.Contains(dst.Addr()) })
}

// patterns are the entries of delroutes by destination: there may be thousands.
type patterns struct {
	list  []cniroute.Route
	byDst listindex.Index[netip.Prefix]
}

func byDestination(list []cniroute.Route) patterns {
	return patterns{list, listindex.New(len(list), func(i int) netip.Prefix { return list[i].Dst })}
}

// match reports whether an entry of delroutes is for this way of a route:
// every field that is given matches, and the interface is the attachment's own
// or named.
func (p patterns) match(r *netops.Route, hop netops.NextHop, own bool) bool {
	_, found := p.byDst.Find(r.Dst, func(i int) bool {
		return (own || slices.Contains(devices(&p.list[i]), hop.Dev)) && matchWay(&p.list[i], r, hop) && matchAttributes(&p.list[i], r)
	})
	return found
}

func matchWay(want *cniroute.Route, r *netops.Route, hop netops.NextHop) bool {
	if want.Gws != nil {
		ways := r.NextHops()
		if len(ways) != len(want.Gws) {
			return false
		}
		for _, w := range want.Gws {
			if !slices.ContainsFunc(ways, func(h netops.NextHop) bool { return h.Gw == w.Gw && (w.Dev == "" || w.Dev == h.Dev) }) {
				return false
			}
		}
	}
	return want.Gw.Matches(hop.Gw) && (want.Dev == "" || want.Dev == hop.Dev)
}

func matchAttributes(want *cniroute.Route, r *netops.Route) bool {
	return r.Table == want.Table.Or(netops.TableMain) &&
		(!want.Metric.Given || metricOf(want) == r.Metric) &&
		want.Type.Matches(r.Type) &&
		(want.Scope.Matches(r.Scope) || want.Dst.Addr().Is6()) &&
		want.OnLink.Matches(r.OnLink) &&
		(!want.Src.IsValid() || want.Src == r.Src) &&
		(want.MTU == 0 || want.MTU == r.MTU) &&
		(want.AdvMSS == 0 || want.AdvMSS == r.AdvMSS)
}

// metricOf is a metric as the kernel has it: IPv6 knows no 0. There may be thousands of
// entries for thousands of routes, so no more of the route is made.
func metricOf(want *cniroute.Route) uint32 {
	return netops.Route{Dst: want.Dst, Metric: want.Metric.Value}.Normalize().Metric
}

// wanted are the routes that addroutes adds, by what they have for themselves.
type wanted map[netops.RouteKey]*netops.Route

// held reports whether addroutes asks for nothing but what this way of have
// is.
func (w wanted) held(have *netops.Route, hop netops.NextHop) bool {
	want, ok := w[have.Key()]
	return ok && want.SatisfiedBy(have) && (have.Type.Rejects() ||
		slices.ContainsFunc(want.NextHops(), func(h netops.NextHop) bool { return h.Gw == hop.Gw }))
}

// unlist decides which ways of prevResult's routes go: those that flushroutes,
// flushgateway or an entry of delroutes is for, by what an entry tells; and those
// whose route was removed and is nowhere left. One whose route stays because
// addroutes wants it stays as it came.
func (c config) unlist(devs []string, prev *cniresult.Result, r removal, wanted wanted) func(cniresult.Route, netip.Addr) bool {
	if len(prev.Routes) == 0 {
		return func(cniresult.Route, netip.Addr) bool { return false }
	}
	gone, left := routesTo(r.gone), routesTo(r.left)
	return func(l cniresult.Route, gw netip.Addr) bool {
		listed := listedAs(l, gw)
		same := func(r *netops.Route) bool { return stands(l, gw, r) }
		if slices.ContainsFunc(left[l.Dst], func(r *netops.Route) bool { return same(r) && wanted.held(r, netops.NextHop{Gw: gw}) }) {
			return false
		}
		if c.flushes(&listed, netops.NextHop{Gw: gw}) {
			return true
		}
		if _, found := r.patterns.byDst.Find(l.Dst, func(i int) bool { return matchListed(r.patterns.list[i], &listed, gw, devs) }); found {
			return true
		}
		return slices.ContainsFunc(gone[l.Dst], same) && !slices.ContainsFunc(left[l.Dst], same)
	}
}

// listedAs is an entry of the result, of which gw is a way, as the route that it
// stands for.
func listedAs(l cniresult.Route, gw netip.Addr) netops.Route {
	r := netops.Route{Dst: l.Dst, Gw: gw, MTU: l.MTU, AdvMSS: l.AdvMSS}
	for _, gw := range l.Gws {
		r.Hops = append(r.Hops, netops.NextHop{Gw: gw})
	}
	if l.Table != nil {
		r.Table = *l.Table
	}
	if l.Priority != nil {
		r.Metric = *l.Priority
	}
	switch {
	case l.Scope != nil:
		r.Scope = netops.WireScope(*l.Scope)
	case gw.IsValid():
		r.Scope = netops.ScopeGlobal
	default:
		r.Scope = netops.ScopeLink
	}
	return r.Normalize()
}

// matchListed is match for an entry of the result, which tells neither dev nor
// src nor onlink: where these are asked for, the kernel's routes decide.
func matchListed(want cniroute.Route, listed *netops.Route, gw netip.Addr, devs []string) bool {
	if want.Src.IsValid() || want.OnLink.Given || want.Dev != "" && (len(devs) > 1 || devs[0] != want.Dev) {
		return false
	}
	want.Dev = ""
	return matchWay(&want, listed, netops.NextHop{Gw: gw}) && matchAttributes(&want, listed)
}

// stands reports whether a route of the kernel, or one way of it, is what an
// entry of the result stands for. Without a priority every metric is meant, and
// without a gateway it may be on-link.
func stands(l cniresult.Route, gw netip.Addr, r *netops.Route) bool {
	listed := listedAs(l, gw)
	onLink := l.Gws == nil && !l.Gw.IsValid()
	return listed.Table == r.Table && (l.Priority == nil || listed.Metric == r.Metric) &&
		slices.ContainsFunc(r.NextHops(), func(h netops.NextHop) bool { return h.Gw == gw || onLink && !h.Gw.IsValid() })
}

func routesTo(routes []*netops.Route) map[netip.Prefix][]*netops.Route {
	to := map[netip.Prefix][]*netops.Route{}
	for _, r := range routes {
		to[r.Dst] = append(to[r.Dst], r)
	}
	return to
}
