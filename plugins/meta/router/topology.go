package main

import (
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
)

// topology is the pod as this attachment sees it.
type topology struct {
	overlay, current string
	// addrs are the addresses of the attachment: those of prevResult, and others
	// that its interface has, from a router advertisement say.
	addrs []netip.Prefix
	// gateways are those that prevResult has for them.
	gateways []netip.Addr
	pod      netops.Snapshot
	// byOverlay is the way from the overlay's interface to everything, by family;
	// missing where there is none.
	byOverlay map[bool]netops.NextHop // is6
}

// has reports whether the attachment has addresses of a family.
func (t topology) has(six bool) bool {
	return slices.ContainsFunc(t.addrs, func(p netip.Prefix) bool { return p.Addr().Is6() == six })
}

// of reports whether the overlay or the attachment has addresses of a family:
// those that the attachment gets later are routed by then.
func (t topology) of(six bool) bool {
	_, ok := t.byOverlay[six]
	return ok
}

// globals are the global addresses of one of the pod's interfaces.
func (t topology) globals(dev string) (list []netops.Addr) {
	for _, a := range t.pod.Addrs {
		if a.Dev == dev && a.Scope == netops.ScopeGlobal {
			list = append(list, a)
		}
	}
	return list
}

// Query asks for what the plan depends on: which tables are free, and what is
// whose. The neighbours of this interface would go with its hardware address.
func (c config) Query(*cniresult.Result) netops.Query {
	switch {
	case c.skip:
		return netops.Query{}
	case c.onlyMAC:
		return netops.Query{EveryLink: true, Neighs: []string{c.ifName}}
	}
	return netops.Query{EveryLink: true, Addrs: true, Tables: []uint32{netops.EveryTable}, Rules: true,
		Neighs: []string{c.overlay, c.ifName}, Sysctls: []string{rpKey("all")}, LinkSysctls: []string{rpKey("*"), ipv6Key("*")}}
}

// topology tells the interfaces apart. An error is for now: the networks of a
// pod may come at the same time.
func (c config) topology(prev *cniresult.Result, pod netops.Snapshot) (topology, error) {
	t := topology{overlay: c.overlay, current: c.ifName, pod: pod, byOverlay: map[bool]netops.NextHop{}}
	if err := t.noteAddresses(prev); err != nil {
		return t, err
	}
	if !slices.Contains(pod.Links, c.ifName) {
		return t, cni.Errorf(types.ErrTryAgainLater, "the pod: %w: %q", netops.ErrNoLink, c.ifName)
	}
	if c.onlyMAC {
		return t, nil
	}
	if !slices.Contains(pod.Links, c.overlay) {
		return t, cni.Errorf(types.ErrTryAgainLater, "the pod: %w: %q, the %s", netops.ErrNoLink, c.overlay, overlayInterface)
	}
	if len(t.globals(c.overlay)) == 0 {
		return t, cni.Errorf(types.ErrTryAgainLater, "%s, the %s, has no global address", c.overlay, overlayInterface)
	}
	return t, c.noteWays(&t)
}

// noteAddresses finds the addresses of the attachment.
func (t *topology) noteAddresses(prev *cniresult.Result) error {
	for _, ip := range prev.IPs {
		if ip.Dev != "" && ip.Dev != t.current {
			continue
		}
		if a := ip.Address.Addr(); a.Is4In6() || a.IsMulticast() || a.IsUnspecified() {
			return cni.Errorf(types.ErrInvalidNetworkConfig, "prevResult: %s is no address that %s can have", a, t.current)
		}
		t.addrs, t.gateways = append(t.addrs, ip.Address), append(t.gateways, ip.Gateway)
	}
	if len(t.addrs) == 0 {
		return cni.Errorf(types.ErrInvalidNetworkConfig, "prevResult: there is no address of %s", t.current)
	}
	for _, a := range t.globals(t.current) {
		if !slices.ContainsFunc(t.addrs, func(p netip.Prefix) bool { return p.Addr() == a.Prefix.Addr() }) {
			t.addrs, t.gateways = append(t.addrs, a.Prefix), append(t.gateways, netip.Addr{})
		}
	}
	return nil
}

// noteWays finds the overlay's way to everything, in each family that the pod
// has addresses of.
func (c config) noteWays(t *topology) error {
	for _, six := range []bool{false, true} {
		overlay := slices.ContainsFunc(t.globals(c.overlay), func(a netops.Addr) bool { return a.Prefix.Addr().Is6() == six })
		if !overlay && !t.has(six) {
			continue
		}
		way, ok := c.overlayWay(t, six)
		if !ok {
			return cni.Errorf(types.ErrTryAgainLater, "%s, the %s, has no %s default route, and nothing tells its gateway", c.overlay, overlayInterface, familyName(six))
		}
		t.byOverlay[six] = way
	}
	return nil
}

func familyName(six bool) string {
	if six {
		return "IPv6"
	}
	return "IPv4"
}

// overlayWay is the way of the overlay's default route. Where that was taken
// away (Multus before 4.3 does so for its default-route annotation), another
// route tells the gateway: one that goes by it, or Calico's to it; or it is the
// node's address on the overlay. As a last resort the link-local address of the
// host's end serves both families (RFC 5549).
func (c config) overlayWay(t *topology, six bool) (way netops.NextHop, ok bool) {
	var byGateway, onLink []netops.NextHop
	for i := range t.pod.Routes {
		r := &t.pod.Routes[i]
		if r.Dst.Addr().Is6() != six || r.Table != netops.TableMain && (r.Table != overlayTable || !c.isOthers(r)) {
			continue
		}
		part, ok := r.ViaDevice(c.overlay)
		if !ok {
			continue
		}
		hop := part.NextHops()[0]
		hop.OnLink = hop.OnLink || part.OnLink
		switch {
		case r.Default():
			return hop, true
		case r.Table != netops.TableMain || c.isNodeRoute(r):
		case hop.Gw.IsValid():
			byGateway = append(byGateway, hop)
		case r.Dst.IsSingleIP() && !t.isOwn(r.Dst.Addr()):
			onLink = append(onLink, netops.NextHop{Gw: r.Dst.Addr(), Dev: c.overlay})
		}
	}
	for _, ip := range c.node.sources {
		if ip.Is6() == six && slices.ContainsFunc(t.globals(c.overlay), func(a netops.Addr) bool { return a.Subnet.Contains(ip) }) {
			onLink = append(onLink, netops.NextHop{Gw: ip, Dev: c.overlay})
		}
	}
	if c.node.linkLocal.IsValid() {
		onLink = append(onLink, netops.NextHop{Gw: c.node.linkLocal, Dev: c.overlay})
	}
	ways := slices.Concat(byGateway, onLink)
	if len(ways) == 0 {
		return way, false
	}
	return ways[0], true
}

// isOwn reports whether an address is one of the pod's.
func (t topology) isOwn(ip netip.Addr) bool {
	return slices.ContainsFunc(t.pod.Addrs, func(a netops.Addr) bool { return a.Prefix.Addr() == ip })
}

// isNodeRoute reports whether a route of main is one of ours to the node: to an
// address that it has now, or that it had when another attachment came.
func (c config) isNodeRoute(r *netops.Route) bool {
	if !r.Dst.IsSingleIP() || r.Protocol != netops.Protocol {
		return false
	}
	return slices.ContainsFunc(c.node.addrs, func(a netops.Addr) bool { return a.Prefix.Addr() == r.Dst.Addr() }) ||
		slices.ContainsFunc(c.others.Routes, func(o netops.Route) bool { return o.AnyGw && o.Dst == r.Dst })
}

// isOthers reports whether another attachment of the pod wants a route.
func (c config) isOthers(r *netops.Route) bool {
	return slices.ContainsFunc(c.others.Routes, func(o netops.Route) bool { return o.SameRoute(r) || o.SatisfiedBy(r) })
}

// onLink reports whether the overlay's interface reaches an address without a
// gateway.
func (t topology) onLink(ip netip.Addr) bool {
	return t.byOverlay[ip.Is6()].Gw == ip ||
		slices.ContainsFunc(t.globals(t.overlay), func(a netops.Addr) bool { return !a.Subnet.IsSingleIP() && a.Subnet.Contains(ip) })
}
