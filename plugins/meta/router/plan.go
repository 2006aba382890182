package main

import (
	"fmt"
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

// Priorities of the pod's rules, all before the kernel's own (32766): what goes
// to the cluster counts first, then where an answer comes from. What is on the
// link of an interface is found in main, by its longer prefix.
const (
	prefCluster = 31000
	prefFrom    = 31100
	prefNode    = 1000 // on the node
)

// Plan decides what ADD does.
func (c config) Plan(prev *cniresult.Result, pod netops.Snapshot) (*attach.Decision, error) {
	d := &attach.Decision{Result: prev, Idle: c.skip}
	if c.skip {
		return d, nil
	}
	t, err := c.topology(prev, pod)
	if err == nil {
		err = c.conflict(t)
	}
	if err == nil && !c.onlyMAC {
		c, err = c.withTable(t)
	}
	if err != nil {
		return d, err
	}
	d.Want = c.decide(t)
	if !c.onlyMAC {
		if err := c.refuse(t, d.Want.Pod); err != nil {
			return d, err
		}
		d.Default = c.preference()
		d.Warnings = c.warn(t)
	}
	if mac := c.mac(t); mac != "" {
		d.Result = prev.WithMac(c.ifName, mac)
	}
	return d, nil
}

// preference is the attachment's for the pod's default routes.
func (c config) preference() *attach.Default {
	switch {
	case c.defaultDev != "":
		return &attach.Default{Dev: c.defaultDev, Asked: true}
	case c.migrate == never:
		return &attach.Default{}
	}
	n, _ := numbered(c.ifName)
	return &attach.Default{Dev: c.ifName, Number: n}
}

// withTable is the configuration with the interface's table. Where neither it nor
// the interface's name says which, it is a free one.
func (c config) withTable(t topology) (config, error) {
	if c.table != 0 {
		return c, nil
	}
	for n := uint32(lastTable); n > overlayTable; n-- {
		if inUse(t.pod.State, n) == "" && inUse(c.others, n) == "" {
			c.table = n
			return c, nil
		}
	}
	return c, cni.Errorf(cni.CodeOwned, "%s: none from %d to %d is free", table, overlayTable+1, lastTable)
}

// inUse is a rule or a route that uses a table; empty where there is none.
func inUse(s netops.State, table uint32) string {
	for i := range s.Rules {
		if s.Rules[i].Table == table {
			return "the rule " + strconv.Quote(s.Rules[i].String()) + maker(&s.Rules[i])
		}
	}
	for i := range s.Routes {
		if s.Routes[i].Table == table {
			return "the route " + strconv.Quote(s.Routes[i].String())
		}
	}
	return ""
}

// maker names who is known to make such rules.
func maker(r *netops.Rule) string {
	const (
		wgQuick, tailscale, strongSwan = 51820, 52, 220
		ciliumProxyTo, ciliumProxyFrom = 2004, 2005
		// What the kernel chooses where nothing was asked for: one less than the rule
		// after that of table local has, which may be one of ours (fib_default_rule_pref
		// in net/core/fib_rules.c).
		firstOfKernel, lastOfKernel = 30000, 32765
	)
	switch {
	case r.Table == wgQuick:
		return " (as wg-quick makes it)"
	case r.Table == tailscale:
		return " (as Tailscale makes it)"
	case r.Table == strongSwan:
		return " (as strongSwan makes it)"
	case r.Table == ciliumProxyTo || r.Table == ciliumProxyFrom:
		return " (as Cilium makes it)"
	case r.Protocol != netops.Protocol && r.From.IsValid() && r.From.IsSingleIP() && r.Priority >= firstOfKernel && r.Priority <= lastOfKernel:
		return " (as sbr makes it: take that out of the chain, router does what it is for)"
	}
	return ""
}

// warn tells what will not work.
func (c config) warn(t topology) (lines []string) {
	lines = slices.Clone(c.warnings)
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	n := c.node
	switch {
	case n.ovs() && !c.sriov:
		say("%s is a port of Open vSwitch: the node does not reach the addresses of %s", n.Name, c.ifName)
	case strings.HasPrefix(n.Name, "lxc") && !c.sriov:
		say("this looks like Cilium (%s), which drops what the node sends to underlay addresses; %s leaves that out", n.Name, sriov)
	}
	if n.strict != "" && t.has(false) {
		say("the node's reverse path filter (%s is 1) drops what the pod sends to it from the addresses of %s; %s.set_host changes that", n.strict, c.ifName, rpFilter)
	}
	for i, subnets := range [][]netip.Prefix{c.cluster, c.additional} {
		key := []string{overlayHijack + " or " + serviceHijack, additionalHijack}[i]
		for _, s := range subnets {
			if a := slices.IndexFunc(t.addrs, func(p netip.Prefix) bool { return s.Bits() <= p.Bits() && s.Contains(p.Addr()) }); a >= 0 {
				say("%s, in %s, has the subnet of %s in it, %s: answers to its LAN leave by %s", s, key, c.ifName, t.addrs[a].Masked(), c.overlay)
			}
		}
	}
	if c.defaultDev != "" && !slices.ContainsFunc(t.pod.Routes, func(r netops.Route) bool {
		_, over := r.ViaDevice(c.defaultDev)
		return over && r.Default() && r.Table == netops.TableMain
	}) {
		say("%s is to have the pod's default route, and has none", c.defaultDev)
	}
	return lines
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
	if why := inUse(c.others, c.table); why != "" {
		return cni.Errorf(cni.CodeOwned, "%s: %d is that of another attachment of the pod, by %s; choose another one", table, c.table, why)
	}
	var known netops.State
	known.Append(c.others)
	known.Append(want.Add)
	for _, number := range []uint32{overlayTable, c.table} {
		if why := inUse(unknown(t.pod.State, known), number); why != "" {
			if number == overlayTable {
				return cni.Errorf(cni.CodeOwned, "table %d, which is for the overlay, is in use already, by %s", number, why)
			}
			return cni.Errorf(cni.CodeOwned, "%s: %d is in use already, by %s; choose another one", table, number, why)
		}
	}
	for i := range want.Add.Routes {
		r := &want.Add.Routes[i]
		if rival := t.pod.Conflict(r); rival != nil {
			return cni.Errorf(cni.CodeOwned, "%s: there is %q already", r.Command(netops.Add), rival)
		}
	}
	return nil
}

// unknown are the rules and routes that no attachment of the pod wants.
func unknown(s, known netops.State) (left netops.State) {
	wants := netops.NewWants(known)
	left.Routes = slices.DeleteFunc(slices.Clone(s.Routes), func(r netops.Route) bool { return wants.Has(&r) })
	left.Rules = slices.DeleteFunc(slices.Clone(s.Rules), func(r netops.Rule) bool { return wants.Has(&r) })
	return left
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
	if t.has(true) {
		set(&pod.Add, netops.Sysctl{Key: ipv6Key(t.overlay), Value: "0"})
		set(&pod.Add, netops.Sysctl{Key: ipv6Key(t.current), Value: "0"})
	}
	c.wantWaysToNode(&pod.Add, t)
	c.wantOverlayTable(&pod.Add, t)
	c.wantOwnTable(&pod.Add, t)
	c.wantRules(&pod.Add, t)
	c.filter(&pod.Add, t.overlay, t.current)
	if c.node.here() {
		c.wantOnNode(&p, t)
	}
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

// wantOnNode has the node reach the attachment's addresses by the overlay: a
// macvlan child cannot talk to its parent, and the answer comes by the overlay
// also where the node is not on the LAN.
func (c config) wantOnNode(p *netops.Plan, t topology) {
	n := c.node
	if c.rpHost {
		c.filter(&p.Host, n.devices()...)
	}
	if c.sriov || n.ovs() {
		return
	}
	mac := t.pod.HardwareAddrs[t.overlay]
	// CHECK tells where it becomes another one, which the node would not know.
	p.Pod.Add.Links = append(p.Pod.Add.Links, netops.LinkAddr{Dev: t.overlay, HardwareAddr: mac})
	for _, a := range t.addrs {
		ip := a.Addr()
		if !n.has(ip.Is6()) {
			continue
		}
		p.Host.Neighs = append(p.Host.Neighs, netops.Neigh{Dev: n.dev(), IP: ip, HardwareAddr: mac, Protocol: netops.Protocol})
		r := onLink(ip, n.dev(), c.hostTable)
		r.Src = n.source(ip)
		p.Host.Routes = append(p.Host.Routes, r)
	}
	for _, six := range []bool{false, true} {
		if n.has(six) && t.has(six) {
			p.Host.Rules = append(p.Host.Rules, netops.Rule{IPv6: six, Priority: prefNode, Table: c.hostTable, Protocol: netops.Protocol})
		}
	}
}

// onLink is the route to one address on an interface.
func onLink(ip netip.Addr, dev string, table uint32) netops.Route {
	return netops.Route{Dst: netip.PrefixFrom(ip, ip.BitLen()), Dev: dev, Table: table, Protocol: netops.Protocol}.Normalize()
}

// wantWaysToNode are the routes to the node's addresses by the overlay, in main
// and in the interface's own table. In main any route by the overlay's interface
// will do, as seamless makes them.
func (c config) wantWaysToNode(s *netops.State, t topology) {
	for _, a := range c.node.addrs {
		ip := a.Prefix.Addr()
		if !t.of(ip.Is6()) || t.isOwn(ip) {
			continue
		}
		r := onLink(ip, t.overlay, netops.TableMain)
		if !t.onLink(ip) {
			way := t.byOverlay[ip.Is6()]
			r.Gw, r.OnLink, r.AnyGw = way.Gw, way.OnLink, true
			c.keepNeighbour(s, t, &r)
			s.Routes = append(s.Routes, r)
		}
		if t.has(ip.Is6()) {
			r.Table, r.AnyGw = c.table, false
			s.Routes = append(s.Routes, r)
		}
	}
}

// keepNeighbour also wants the neighbour entry for an address of the node that the
// first design made, where its route without a gateway is the one that counts.
func (c config) keepNeighbour(s *netops.State, t topology, r *netops.Route) {
	for i := range t.pod.Routes {
		have := &t.pod.Routes[i]
		if hop, ok := have.SingleNextHop(); !ok || hop.Gw.IsValid() || !r.SatisfiedBy(have) {
			continue
		}
		for _, e := range t.pod.Neighs {
			if e.Dev == t.overlay && e.IP == r.Dst.Addr() && e.Protocol == netops.Protocol && !e.Learnt {
				s.Neighs = append(s.Neighs, e)
			}
		}
	}
}

// copies are the routes of main over an interface, for another table; of several
// in one place the first counts, as a static default beside one that the LAN's
// router announces.
func (c config) copies(t topology, dev string, table uint32) (routes []netops.Route) {
	taken := map[netops.RouteKey]bool{}
	for i := range t.pod.Routes {
		r := &t.pod.Routes[i]
		if r.Table != netops.TableMain || kernels(r) || c.isNodeRoute(r) {
			continue
		}
		part, ok := r.ViaDevice(dev)
		if !ok {
			continue
		}
		part = part.Copy(table)
		if !taken[part.Key()] {
			taken[part.Key()] = true
			routes = append(routes, part)
		}
	}
	return routes
}

// kernels reports whether a route is the kernel's for every interface.
func kernels(r *netops.Route) bool {
	dst := r.Dst.Addr()
	return dst.Is6() && (dst.IsLinkLocalUnicast() || dst.IsMulticast())
}

// wantOverlayTable gives the overlay's table the routes of its interface, and a
// default route in any case.
func (c config) wantOverlayTable(s *netops.State, t topology) {
	routes := c.copies(t, t.overlay, overlayTable)
	for _, six := range []bool{false, true} {
		if way, ok := t.byOverlay[six]; ok && !hasDefault(routes, six) {
			routes = append(routes, byDefault(way, six, overlayTable))
		}
	}
	s.Routes = append(s.Routes, routes...)
}

func hasDefault(routes []netops.Route, six bool) bool {
	return slices.ContainsFunc(routes, func(r netops.Route) bool { return r.Default() && r.Dst.Addr().Is6() == six })
}

// byDefault is a default route.
func byDefault(way netops.NextHop, six bool, table uint32) netops.Route {
	dst := netops.IPv4Default
	if six {
		dst = netops.IPv6Default
	}
	return netops.Route{Dst: dst, Gw: way.Gw, Dev: way.Dev, OnLink: way.OnLink, Table: table, Protocol: netops.Protocol}.Normalize()
}

// wantOwnTable gives the interface's own table its routes. Without a default
// route among them it gets one by the gateway of prevResult that its subnet has.
func (c config) wantOwnTable(s *netops.State, t topology) {
	wanted := map[netops.RouteKey]bool{} // those to the node
	for i := range s.Routes {
		wanted[s.Routes[i].Key()] = true
	}
	routes := slices.DeleteFunc(c.copies(t, t.current, c.table), func(r netops.Route) bool {
		return wanted[r.Key()] || !t.has(r.Is6()) // without an address nothing looks it up
	})
	for i, gw := range t.gateways {
		if subnet := t.addrs[i].Masked(); gw.IsValid() && subnet.Contains(gw) && !t.isOwn(gw) && !hasDefault(routes, gw.Is6()) {
			routes = append(routes, byDefault(netops.NextHop{Gw: gw, Dev: t.current}, gw.Is6(), c.table))
		}
	}
	s.Routes = append(s.Routes, routes...)
}

// wantRules says which traffic looks which table up.
func (c config) wantRules(s *netops.State, t topology) {
	add := func(r netops.Rule) {
		if !slices.Contains(s.Rules, r) { // a subnet may be among the cluster's and the additional ones
			s.Rules = append(s.Rules, r)
		}
	}
	for _, subnet := range slices.Concat(c.cluster, c.additional) {
		if six := subnet.Addr().Is6(); t.of(six) {
			add(netops.Rule{IPv6: six, Priority: prefCluster, To: subnet, Table: overlayTable, Protocol: netops.Protocol})
		}
	}
	from := func(ip netip.Addr, table uint32) {
		add(netops.Rule{IPv6: ip.Is6(), Priority: prefFrom, From: netip.PrefixFrom(ip, ip.BitLen()), Table: table, Protocol: netops.Protocol})
	}
	for _, a := range t.globals(t.overlay) {
		from(a.Prefix.Addr(), overlayTable)
	}
	for _, a := range t.addrs {
		from(a.Addr(), c.table)
	}
}

// Expect is for CHECK without a record, of which nothing can be told.
func (c config) Expect(*cniresult.Result, netops.Snapshot) (netops.Plan, error) {
	return netops.Plan{}, cni.Errorf(cni.CodeDrift, "there is no record of this attachment")
}
