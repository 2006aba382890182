package main

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/cniroute"
	"github.com/cni-netops/plugins/internal/netops"
)

// gateway is the next hop that a route without gw goes by: a gateway of the
// result, that of dev's address where dev is given, else of CNI_IFNAME's, else
// the first. On an interface that is another attachment's, it is the gateway by
// which that leaves. Zero is none: on the link.
func (c config) gateway(e *cniroute.Route, prev *cniresult.Result, telling []*netops.Route) netops.NextHop {
	dev := e.Dev
	if dev == "" {
		dev = c.ifName
	}
	gw, itsOwn := prev.Gateway(e.Dst, dev)
	listed := c.listedGateway(e, prev)
	switch {
	case listed.IsValid():
		return netops.NextHop{Gw: listed}
	case c.byOthers(e, prev):
		return leavingGateway(e.Dst, e.Dev, telling)
	case e.Dev != "" && !itsOwn && (e.Dev != c.ifName || !unnamed(prev)):
		return netops.NextHop{}
	}
	return netops.NextHop{Gw: gw}
}

// listedGateway is the gateway that ADD has listed the route with: what it took it
// from may be gone since.
func (c config) listedGateway(e *cniroute.Route, prev *cniresult.Result) netip.Addr {
	if !c.added {
		return netip.Addr{}
	}
	for _, l := range prev.Routes {
		if l.Dst == e.Dst && l.Gw.IsValid() && (l.Priority == nil || e.Metric.Matches(*l.Priority)) {
			return l.Gw
		}
	}
	return netip.Addr{}
}

// unnamed reports whether the result does not tell which interface an address
// is on: then it is CNI_IFNAME.
func unnamed(prev *cniresult.Result) bool {
	return !slices.ContainsFunc(prev.IPs, func(ip cniresult.IP) bool { return ip.Dev != "" })
}

// byOthers reports whether a route names the interface of another attachment.
func (c config) byOthers(e *cniroute.Route, prev *cniresult.Result) bool {
	return e.Dev != "" && !slices.Contains(c.interfaces(prev), e.Dev)
}

// tellingGateways are the routes that tell the gateways of interfaces: those of
// table main, and those that an earlier ADD has made.
func tellingGateways(routes []netops.Route) (telling []*netops.Route) {
	for i := range routes {
		if r := &routes[i]; r.Type == netops.Unicast && (r.Table == netops.TableMain || r.Protocol == netops.Protocol) {
			telling = append(telling, r)
		}
	}
	return telling
}

// leavingGateway is the next hop by which an interface leaves, for a destination's
// family: that of its default route in table main. Where there is none any more, the
// configuration may have removed it in an earlier ADD of the attachment: then the
// route goes as it was made there. Or Multus has, for its annotation default-route,
// before it called this network: then the interface's widest route tells.
func leavingGateway(dst netip.Prefix, dev string, routes []*netops.Route) netops.NextHop {
	all := netip.PrefixFrom(dst.Addr(), 0).Masked()
	byDefault := func(r *netops.Route) bool { return r.Dst == all && r.Table == netops.TableMain }
	asMade := func(r *netops.Route) bool { return r.Dst == dst && r.Protocol == netops.Protocol }
	byAny := func(r *netops.Route) bool {
		return r.Dst.Addr().Is6() == dst.Addr().Is6() && r.Protocol != netops.Protocol
	}
	for _, match := range []func(*netops.Route) bool{byDefault, asMade} {
		if hop := gatewayOn(dev, routes, match); hop.Gw.IsValid() {
			return hop
		}
	}
	onLink := func(r *netops.Route) bool {
		return byDefault(r) && slices.ContainsFunc(r.NextHops(), func(hop netops.NextHop) bool { return hop.Dev == dev })
	}
	if slices.ContainsFunc(routes, onLink) {
		return netops.NextHop{}
	}
	return gatewayOn(dev, routes, byAny)
}

// gatewayOn is the next hop on an interface of those routes that match accepts; of
// several, of the widest one with the least metric.
func gatewayOn(dev string, routes []*netops.Route, match func(*netops.Route) bool) (found netops.NextHop) {
	var best *netops.Route
	for _, r := range routes {
		if !match(r) || best != nil && cmp.Or(cmp.Compare(r.Dst.Bits(), best.Dst.Bits()), cmp.Compare(r.Metric, best.Metric)) >= 0 {
			continue
		}
		for _, hop := range slices.Backward(r.NextHops()) {
			if hop.Dev == dev && hop.Gw.IsValid() {
				best, found = r, netops.NextHop{Gw: hop.Gw, OnLink: hop.OnLink || r.OnLink}
			}
		}
	}
	return found
}

// paths tell by which interface the pod reaches an address directly.
type paths struct {
	ifName string
	addrs  []netops.Addr
	routes map[netip.Prefix][]onLink
}

// onLink is a route without a gateway.
type onLink struct {
	dev           string
	table, metric uint32
}

func (c config) paths(pod netops.Snapshot) paths {
	p := paths{c.ifName, pod.Addrs, map[netip.Prefix][]onLink{}}
	for i := range pod.Routes {
		p.add(&pod.Routes[i])
	}
	return p
}

// add counts on a route, if it leads anywhere directly.
func (p paths) add(r *netops.Route) {
	if r.Type != netops.Unicast {
		return
	}
	for _, hop := range r.NextHops() {
		if !hop.Gw.IsValid() && hop.Dev != "" {
			p.routes[r.Dst] = append(p.routes[r.Dst], onLink{hop.Dev, r.Table, r.Metric})
		}
	}
}

// to is the interface that a route's gateway is reached by: one whose subnet
// holds it, or else that of the most specific route which leads there directly,
// as the kernel chooses where it is not told (fib_check_nh_nongw and
// fib_check_nh_v4_gw in net/ipv4/fib_semantics.c, ip6_route_check_nh in
// net/ipv6/route.c). CNI_IFNAME goes before others. Where nothing reaches it, it
// is CNI_IFNAME, and not found.
func (p paths) to(gw netip.Addr, r *netops.Route) (dev string, found bool) {
	for _, a := range p.addrs {
		if a.Dev != "lo" && a.Subnet.Contains(gw) && (!found || a.Dev == p.ifName) {
			dev, found = a.Dev, true
		}
	}
	if found {
		return dev, true
	}
	if dev, found = p.byRoute(gw, r); !found {
		return p.ifName, gw.IsLinkLocalUnicast() && gw.Is6() // which every link has
	}
	return dev, true
}

// byRoute finds the interface in the routes of table main and of the route's own
// table. An on-link default route leads to everything: who says onlink does not
// mean that.
func (p paths) byRoute(gw netip.Addr, r *netops.Route) (dev string, found bool) {
	least := 0
	if r.OnLink {
		least = 1
	}
	for bits := gw.BitLen(); bits >= least; bits-- {
		dst, _ := gw.Prefix(bits)
		best := onLink{}
		for _, l := range p.routes[dst] {
			usable := l.table == netops.TableMain || l.table == r.Table
			better := best.dev == "" || best.dev != p.ifName && (l.dev == p.ifName || l.metric < best.metric)
			if usable && better {
				best = l
			}
		}
		if best.dev != "" {
			return best.dev, true
		}
	}
	return "", false
}

// choose fills in the interfaces that the configuration leaves open. By an address
// that several links have, and by one that the configuration does not name, the
// interface is part of what is asked for.
func (p paths) choose(a *addition) {
	r := &a.route
	r.AnyDev = a.entry.Gw.Given || a.entry.Gws != nil
	hops := r.NextHops()
	for i := range hops {
		h := &hops[i]
		r.AnyDev = r.AnyDev && h.Dev == "" && h.Gw.IsValid() && !h.Gw.IsLinkLocalUnicast()
		if h.Dev != "" {
			continue
		}
		var found bool
		if h.Dev, found = p.to(h.Gw, r); !found && !r.OnLink {
			a.unreached = h.Gw
		}
	}
	if r.Hops == nil && len(hops) > 0 {
		r.Dev = hops[0].Dev
	}
}
