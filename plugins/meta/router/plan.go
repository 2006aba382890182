package main

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
)

// Priorities of the pod's rules, all before the kernel's own (32766). Any other
// order breaks replies, or overlay pods, once there is a third interface: what
// goes to the cluster counts first, then where an answer comes from, then what
// is on the link of the interface before.
const (
	prefCluster  = 31000
	prefFrom     = 31100
	prefPrevious = 31200
	prefNode     = 1000 // on the node
)

// Plan decides what ADD does.
func (c config) Plan(prev *cniresult.Result, pod netops.Snapshot) (attach.Decision, error) {
	d := attach.Decision{Result: prev, Idle: c.skip}
	if c.skip {
		return d, nil
	}
	t, err := c.topology(prev, pod)
	if err == nil {
		err = c.conflict(t)
	}
	if err != nil {
		return d, err
	}
	d.Want = c.decide(t)
	if err := c.refuse(t, d.Want.Pod); err != nil {
		return d, err
	}
	if strings.HasPrefix(c.node.Name, "lxc") {
		d.Warnings = append(d.Warnings, "this looks like Cilium ("+c.node.Name+"), which drops what the node sends to underlay addresses; sriov leaves that out")
	}
	if mac := c.mac(t); mac != "" {
		d.Result, err = prev.WithMac(c.ifName, mac)
	}
	return d, err
}

// conflict reports an address that is known to be somebody else's without
// asking the link.
func (c config) conflict(t topology) error {
	if !c.probe.enabled {
		return nil
	}
	for _, a := range t.addrs {
		ip := a.Addr()
		if slices.ContainsFunc(c.node.held, func(n netops.Addr) bool { return n.Prefix.Addr() == ip }) {
			return cni.Errorf(cni.CodeConflict, "%s of %s is an address of the node", ip, c.ifName)
		}
		if slices.ContainsFunc(t.pod.Addrs, func(p netops.Addr) bool {
			return p.Dev == c.ifName && p.Prefix.Addr() == ip && p.Duplicate()
		}) {
			return cni.Errorf(cni.CodeConflict, "%s of %s is in use by somebody else: duplicate address detection has failed", ip, c.ifName)
		}
	}
	return nil
}

// refuse reports what others have in the pod that stands in the way of a plan.
func (c config) refuse(t topology, want netops.Change) error {
	if c.onlyMAC {
		return nil
	}
	for i := range t.pod.Routes {
		if r := &t.pod.Routes[i]; r.Table == c.table {
			return cni.Errorf(cni.CodeOwned, "%s: %d is in use already, by the route %q; choose another one", table, c.table, r)
		}
	}
	for i := range t.pod.Rules {
		if r := &t.pod.Rules[i]; r.Table == c.table {
			return cni.Errorf(cni.CodeOwned, "%s: %d is in use already, by the rule %q; choose another one", table, c.table, r)
		}
	}
	for i := range want.Add.Routes {
		r := &want.Add.Routes[i]
		if rival := t.pod.Conflict(r); rival != nil {
			return cni.Errorf(cni.CodeOwned, "%s: there is %q already", r.Command(netops.Add), rival)
		}
	}
	for i := range want.Add.Neighs {
		e := &want.Add.Neighs[i]
		if rival := t.pod.ConflictingNeigh(e); rival != nil {
			return cni.Errorf(cni.CodeOwned, "%s: there is %q already", e.Command(netops.Add), rival)
		}
	}
	return nil
}

// decide is all that is wanted, in the pod and on the node.
func (c config) decide(t topology) netops.Plan {
	var p netops.Plan
	pod := &p.Pod
	if mac := c.mac(t); mac != "" {
		pod.Add.Links = append(pod.Add.Links, netops.LinkAddr{Dev: t.current, HardwareAddr: mac})
	}
	if c.onlyMAC {
		return p
	}
	pod.AddFirst = true
	if t.six() {
		for _, dev := range []string{t.overlay, t.previous, t.current} {
			set(&pod.Add, netops.Sysctl{Key: ipv6Key(dev), Value: "0"})
		}
	}
	if c.node.here() {
		c.wantNode(&p, t)
	}
	c.wantTable(pod, t)
	c.wantRules(pod, t)
	c.dropDefaults(pod, t)
	c.filter(&pod.Add, t.overlay, t.previous, t.current)
	return p
}

// set wants a value, once.
func set(s *netops.State, value netops.Sysctl) {
	if !slices.Contains(s.Sysctls, value) {
		s.Sysctls = append(s.Sysctls, value)
	}
}

func ipv6Key(dev string) string { return "net/ipv6/conf/" + dev + "/disable_ipv6" }
func rpKey(dev string) string   { return "net/ipv4/conf/" + dev + "/rp_filter" }

// filter sets the reverse path filter of interfaces. What counts is the greater
// of theirs and that of all (ip-sysctl.rst), which therefore may not be greater.
func (c config) filter(s *netops.State, devs ...string) {
	value := strconv.FormatUint(uint64(c.rpFilter), 10)
	set(s, netops.Sysctl{Key: rpKey("all"), Value: value, AtMost: true})
	for _, dev := range devs {
		set(s, netops.Sysctl{Key: rpKey(dev), Value: value})
	}
}

// mac is the hardware address that the interface gets; empty where it keeps its
// own.
func (c config) mac(t topology) string {
	if c.macPrefix == nil || len(t.addrs) == 0 {
		return ""
	}
	octets := t.addrs[0].Addr().AsSlice()
	return net.HardwareAddr(slices.Concat(c.macPrefix, octets[len(octets)-4:])).String()
}

// wantNode makes node and pod know each other by the overlay interface.
func (c config) wantNode(p *netops.Plan, t topology) {
	n := c.node
	for _, a := range n.addrs {
		ip := a.Prefix.Addr()
		if !t.of(ip) {
			continue
		}
		p.Pod.Add.Neighs = append(p.Pod.Add.Neighs, netops.Neigh{Dev: t.overlay, IP: ip, HardwareAddr: n.HardwareAddr, Protocol: netops.Protocol})
		p.Pod.Add.Routes = append(p.Pod.Add.Routes, onLink(ip, t.overlay, netops.TableMain))
		if !t.first() { // by T its answers would leave for the interface before
			p.Pod.Add.Routes = append(p.Pod.Add.Routes, onLink(ip, t.overlay, c.table))
		}
	}
	for _, a := range t.addrs {
		ip := a.Addr()
		if !n.has(ip.Is6()) {
			continue
		}
		p.Host.Neighs = append(p.Host.Neighs, netops.Neigh{Dev: n.Name, IP: ip, HardwareAddr: t.pod.HardwareAddrs[t.overlay], Protocol: netops.Protocol})
		// A macvlan child cannot talk to its master; and what the pod answers to the
		// node comes by the overlay, also from a LAN that the node is not on.
		r := onLink(ip, n.Name, c.hostTable)
		r.Src = n.source(ip)
		p.Host.Routes = append(p.Host.Routes, r)
	}
	for _, six := range []bool{false, true} {
		if n.has(six) && t.has(six) {
			p.Host.Rules = append(p.Host.Rules, netops.Rule{IPv6: six, Priority: prefNode, Table: c.hostTable, Protocol: netops.Protocol})
		}
	}
	if c.rpHost {
		c.filter(&p.Host, n.devices()...)
	}
}

// onLink is the route to one address on an interface.
func onLink(ip netip.Addr, dev string, table uint32) netops.Route {
	return netops.Route{Dst: netip.PrefixFrom(ip, ip.BitLen()), Dev: dev, Table: table, Protocol: netops.Protocol}.Normalize()
}

// wantTable gives T the routes of the interface before, on-link ones first, so
// that what T is looked up for goes by it; and of a later interface those to the
// additional subnets, which are to leave by the overlay all the same.
func (c config) wantTable(pod *netops.Change, t topology) {
	additional := c.wantAdditional(t)
	taken := map[netops.RouteKey]bool{}
	for _, routes := range [][]netops.Route{pod.Add.Routes, additional} {
		for i := range routes {
			taken[routes[i].Key()] = true
		}
	}
	var byGateway []netops.Route
	for i := range t.pod.Routes {
		r := &t.pod.Routes[i]
		if r.Table != netops.TableMain || kernels(r) || !t.of(r.Dst.Addr()) || ofNode(pod, r) {
			continue
		}
		part, ok := r.ViaDevice(t.previous)
		if !ok {
			continue
		}
		part = part.Copy(c.table)
		if taken[part.Key()] { // of several the first one counts, as a static default beside one that the LAN's router announces
			continue
		}
		taken[part.Key()] = true
		if ways := part.NextHops(); len(ways) == 1 && !ways[0].Gw.IsValid() {
			pod.Add.Routes = append(pod.Add.Routes, part)
		} else {
			byGateway = append(byGateway, part)
		}
	}
	pod.Add.Routes = slices.Concat(pod.Add.Routes, byGateway, additional)
}

// wantAdditional are the routes of a later interface to the additional subnets.
func (c config) wantAdditional(t topology) (routes []netops.Route) {
	if t.first() {
		return nil
	}
	for _, subnet := range c.additional {
		if way := t.overlayDefault(subnet.Addr()); way != nil && t.of(subnet.Addr()) && !c.isNode(subnet) {
			r := netops.Route{Dst: subnet, Gw: way.Gw, Dev: t.overlay, OnLink: way.OnLink, Table: c.table, Protocol: netops.Protocol}.Normalize()
			routes = append(routes, r)
		}
	}
	return routes
}

// isNode reports whether a subnet is one of the node's addresses, to which there
// is a route by the overlay anyway.
func (c config) isNode(subnet netip.Prefix) bool {
	return subnet.IsSingleIP() && slices.ContainsFunc(c.node.addrs, func(a netops.Addr) bool { return a.Prefix.Addr() == subnet.Addr() })
}

// kernels reports whether a route is the kernel's for every interface.
func kernels(r *netops.Route) bool {
	dst := r.Dst.Addr()
	return dst.Is6() && (dst.IsLinkLocalUnicast() || dst.IsMulticast())
}

// ofNode reports whether a route is one of ours to the node.
func ofNode(pod *netops.Change, r *netops.Route) bool {
	return slices.ContainsFunc(pod.Add.Routes, func(w netops.Route) bool { return w.SameNextHops(r) })
}

// overlayDefault is the way of the overlay's default route, wherever that is by
// now: in main, or in the table of the first underlay interface.
func (t topology) overlayDefault(family netip.Addr) *netops.NextHop {
	for i := range t.pod.Routes {
		r := &t.pod.Routes[i]
		if !r.Default() || r.Dst.Addr().Is6() != family.Is6() {
			continue
		}
		for _, way := range r.NextHops() {
			if way.Dev == t.overlay {
				return &way
			}
		}
	}
	return nil
}

// wantRules says which traffic looks T up.
func (c config) wantRules(pod *netops.Change, t topology) {
	to := func(pref uint32, subnets []netip.Prefix) {
		for _, s := range subnets {
			if t.of(s.Addr()) {
				rule := netops.Rule{IPv6: s.Addr().Is6(), Priority: pref, To: s, Table: c.table, Protocol: netops.Protocol}
				if !slices.Contains(pod.Add.Rules, rule) { // a subnet may be among the cluster's and the additional ones
					pod.Add.Rules = append(pod.Add.Rules, rule)
				}
			}
		}
	}
	if t.first() {
		to(prefCluster, c.cluster)
	}
	to(prefCluster, c.additional)
	if c.migrates(t) {
		for _, a := range t.globals(t.previous) {
			ip := a.Prefix.Addr()
			pod.Add.Rules = append(pod.Add.Rules, netops.Rule{IPv6: ip.Is6(), Priority: prefFrom, From: netip.PrefixFrom(ip, ip.BitLen()), Table: c.table, Protocol: netops.Protocol})
		}
	}
	if !t.first() {
		var subnets []netip.Prefix
		for _, a := range t.globals(t.previous) {
			if !slices.Contains(subnets, a.Subnet) {
				subnets = append(subnets, a.Subnet)
			}
		}
		to(prefPrevious, subnets)
	}
}

// migrates reports whether the interface before gives up its default route.
func (c config) migrates(t topology) bool {
	return c.migrate == always || c.migrate == byOrder && t.last
}

// dropDefaults takes the default routes of the interface before out of main, in
// each family in which this one has one there.
func (c config) dropDefaults(pod *netops.Change, t topology) {
	if !c.migrates(t) {
		return
	}
	own := map[bool]bool{} // by family: is6
	for i := range t.pod.Routes {
		if r := &t.pod.Routes[i]; r.Default() && r.Table == netops.TableMain {
			if _, ok := r.ViaDevice(t.current); ok {
				own[r.Dst.Addr().Is6()] = true
			}
		}
	}
	for i := range t.pod.Routes {
		r := &t.pod.Routes[i]
		if r.Default() && r.Table == netops.TableMain && own[r.Dst.Addr().Is6()] && t.of(r.Dst.Addr()) {
			pod.Remove(r, func(h netops.NextHop) bool { return h.Dev == t.previous })
		}
	}
}

// Expect is for CHECK without a record, of which nothing can be told.
func (c config) Expect(*cniresult.Result, netops.Snapshot) (netops.Plan, error) {
	return netops.Plan{}, cni.Errorf(cni.CodeDrift, "there is no record of this attachment")
}
