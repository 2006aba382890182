package main

import (
	"cmp"
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

// Query asks for the pod's interface, its addresses and default routes, and
// for what has the places of the routes that are wanted.
func (c config) Query(prev *cniresult.Result) netops.Query {
	q := netops.Query{Links: []string{c.podInterface}, HardwareAddrs: prev.Absent(), Addrs: true, Tables: []uint32{netops.TableMain},
		To: map[netip.Prefix]bool{netops.IPv4Default: true, netops.IPv6Default: true}}
	for _, ip := range c.hostIPs {
		q.To[hostRoute(ip)] = true
	}
	for _, l := range prev.Routes {
		q.To[l.Dst] = true
	}
	for i := range c.routes {
		r := c.routes[i].Wanted()
		q.To[r.Dst] = true
		q.Tables = append(q.Tables, r.Table)
	}
	return q
}

func hostRoute(ip netip.Addr) netip.Prefix { return netip.PrefixFrom(ip, ip.BitLen()) }

// addition is a route that is wanted, and what the configuration says of it.
type addition struct {
	route netops.Route
	entry *cniroute.Route
}

// Plan is to have a route to each address of the node, and to what routes
// names.
func (c config) Plan(prev *cniresult.Result, pod netops.Snapshot) (*attach.Decision, error) {
	d := &attach.Decision{Result: prev}
	if c.unknown != nil {
		return d, c.unknown
	}
	if prev.Absent() {
		d.Result = c.result(prev, pod)
	}
	additions, err := c.additions(pod)
	if err != nil {
		return d, err
	}
	for _, a := range additions {
		if rival := pod.Conflict(&a.route); rival != nil {
			return d, cni.Errorf(cni.CodeOwned, "%s: there is %q already; route-override before this plugin can remove it", a.route.Command(netops.Add), rival)
		}
		d.Want.Pod.Add.Routes = append(d.Want.Pod.Add.Routes, a.route)
		// The next plugin would take a route without one for one by the gateway of ips.
		gw, _ := prev.Gateway(a.route.Dst, "")
		d.List(&a.route, a.entry, gw.IsValid() && !a.route.Gw.IsValid() && a.route.Hops == nil)
	}
	return d, nil
}

// Expect is the same routes. Where the result tells which were made to the node,
// they count: its addresses may have changed since.
func (c config) Expect(prev *cniresult.Result, pod netops.Snapshot) (netops.Plan, error) {
	switch {
	case c.given:
	case !prev.Absent():
		c.hostIPs = c.listedNode(prev, pod)
	case c.unknown != nil:
		return netops.Plan{}, c.unknown
	}
	additions, err := c.additions(pod)
	var want netops.Plan
	for _, a := range additions {
		want.Pod.Add.Routes = append(want.Pod.Add.Routes, a.route)
	}
	return want, err
}

// listedNode are the single addresses that the result has routes to by the
// gateway that those to the node go by.
func (c config) listedNode(prev *cniresult.Result, pod netops.Snapshot) (list []netip.Addr) {
	for _, l := range prev.Routes {
		ip := l.Dst.Addr()
		if !l.Dst.IsSingleIP() || !slices.Contains(c.families, familyOf(ip)) || slices.ContainsFunc(c.routes, func(r cniroute.Route) bool { return r.Dst == l.Dst }) {
			continue
		}
		if way, err := c.gateway(pod, familyOf(ip)); err == nil && way.Gw == l.Gw {
			list = append(list, ip)
		}
	}
	return list
}

// result is that of a plugin that stands alone: the pod's interface and its
// addresses.
func (c config) result(prev *cniresult.Result, pod netops.Snapshot) *cniresult.Result {
	var addrs []netip.Prefix
	for _, a := range pod.Addrs {
		if a.Dev == c.podInterface && meant(a.Prefix.Addr()) {
			addrs = append(addrs, a.Prefix)
		}
	}
	return prev.Of(cniresult.Interface{Name: c.podInterface, Mac: pod.HardwareAddrs[c.podInterface], Sandbox: c.netns}, addrs)
}

// podReady reports what the pod lacks: the interface, or an address of a
// family. A tentative one will do.
func (c config) podReady(pod netops.Snapshot) (missing error) {
	if !slices.Contains(pod.Links, c.podInterface) {
		return fmt.Errorf("the pod: %w: %q", netops.ErrNoLink, c.podInterface)
	}
	for _, f := range c.families {
		if _, ok := c.podAddress(pod, f); !ok {
			return fmt.Errorf("the pod's %s has no global %s address", c.podInterface, f)
		}
	}
	return nil
}

// podAddress is the first primary global address of the pod's interface.
func (c config) podAddress(pod netops.Snapshot, f family) (netops.Addr, bool) {
	at := slices.IndexFunc(pod.Addrs, func(a netops.Addr) bool {
		ip := a.Prefix.Addr()
		return a.Dev == c.podInterface && familyOf(ip) == f && a.Primary() && meant(ip)
	})
	if at < 0 {
		return netops.Addr{}, false
	}
	return pod.Addrs[at], true
}

// additions are the routes to the node, but for those of its addresses that the
// pod's subnets hold, and those of the key routes. The same one twice is one;
// two that cannot both be are refused. To reach the node, any gateway on the
// pod's interface will do: router makes such routes by the overlay's own.
func (c config) additions(pod netops.Snapshot) ([]*addition, error) {
	if missing := c.podReady(pod); missing != nil {
		return nil, cni.Errorf(types.ErrTryAgainLater, "%w", missing)
	}
	var list []*addition
	taken := netops.Claims{}
	add := func(e *cniroute.Route, where string, anyGateway bool) error {
		a, err := c.complete(e, pod)
		if err != nil {
			return cni.Errorf(types.ErrInvalidNetworkConfig, "%s: %w", where, err)
		}
		if anyGateway {
			a.route.AnyGw, a.route.AnyDev = true, false
		}
		fresh, err := taken.Claim(&a.route)
		if err != nil {
			return cni.Errorf(types.ErrInvalidNetworkConfig, "%s: %w", where, err)
		}
		if fresh {
			list = append(list, a)
		}
		return nil
	}
	for _, ip := range c.hostIPs {
		if c.reaches(pod, ip) {
			continue
		}
		if err := add(&cniroute.Route{Dst: hostRoute(ip)}, "the route to the node", true); err != nil {
			return nil, err
		}
	}
	for i := range c.routes {
		if err := add(&c.routes[i], fmt.Sprintf("%s[%d]", routes, i), false); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// reaches reports whether an address is in a subnet of the pod's interface.
func (c config) reaches(pod netops.Snapshot, ip netip.Addr) bool {
	return slices.ContainsFunc(pod.Addrs, func(a netops.Addr) bool { return a.Dev == c.podInterface && a.Subnet.Contains(ip) })
}

// complete fills in gateway and interface.
func (c config) complete(e *cniroute.Route, pod netops.Snapshot) (*addition, error) {
	a := &addition{route: e.Wanted(), entry: e}
	r := &a.route
	switch {
	case r.Type.Rejects():
		return a, nil
	case e.Gws != nil:
		for i := range r.Hops {
			r.Hops[i].Dev = cmp.Or(r.Hops[i].Dev, c.podInterface)
		}
		if r.Hops == nil {
			r.Dev = cmp.Or(r.Dev, c.podInterface)
		}
		return a, nil
	case byGateway(e):
		way, err := c.gateway(pod, familyOf(e.Dst.Addr()))
		if err != nil {
			return nil, err
		}
		r.Gw, r.OnLink = way.Gw, r.OnLink || way.OnLink
	}
	if r.Dev == "" {
		r.Dev = c.podInterface
		// By an address that several links have, the device is the way.
		r.AnyDev = r.Gw.IsValid() && !r.Gw.IsLinkLocalUnicast()
	}
	return a, nil
}

// gateway is the way by the first address of the pod's subnet, where it is not
// given; of a pod without a subnet to speak of, that of its default route, or of one
// to the node: router, which makes that, takes a default route out of table main.
// The pod's own address leads nowhere, whichever interface has it.
func (c config) gateway(pod netops.Snapshot, f family) (netops.NextHop, error) {
	addr, _ := c.podAddress(pod, f)
	own := func(ip netip.Addr) bool {
		return slices.ContainsFunc(pod.Addrs, func(a netops.Addr) bool { return a.Prefix.Addr() == ip })
	}
	if gw, given := c.gateways[f]; given && own(gw) {
		return netops.NextHop{}, fmt.Errorf("%s: %s is the pod's own address", gateway, gw)
	} else if given {
		return netops.NextHop{Gw: gw}, nil
	}
	if addr.Subnet.Bits() >= addr.Subnet.Addr().BitLen()-1 {
		leads := func(way netops.NextHop) bool { return way.Dev == c.podInterface && way.Gw.IsValid() }
		for _, dst := range c.leadingByGateway(f) {
			if r, way := bestRoute(pod.Routes, dst, leads); r != nil {
				way.OnLink = way.OnLink || r.OnLink
				return way, nil
			}
		}
		return netops.NextHop{}, fmt.Errorf("the pod's %s %s has no subnet, and %s no %s default route: %q has to be given",
			f, addr.Prefix, c.podInterface, f, gateway)
	}
	first := addr.Subnet.Addr().Next()
	if own(first) {
		return netops.NextHop{}, fmt.Errorf("%s, the first address of %s, is the pod's own: %q has to be given", first, addr.Subnet, gateway)
	}
	return netops.NextHop{Gw: first}, nil
}

// leadingByGateway are destinations whose routes tell the gateway.
func (c config) leadingByGateway(f family) []netip.Prefix {
	list := []netip.Prefix{f.everything()}
	for _, ip := range c.hostIPs {
		if familyOf(ip) == f {
			list = append(list, hostRoute(ip))
		}
	}
	return list
}
