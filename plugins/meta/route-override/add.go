package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/cniroute"
	"github.com/cni-netops/plugins/internal/netops"
)

// addition is an entry of addroutes, completed.
type addition struct {
	route netops.Route
	entry *cniroute.Route
	// onLinkThough: it goes by no gateway, although the result has one of its
	// family.
	onLinkThough bool
}

// additions completes the entries of addroutes. The same one twice is one; two
// that cannot both be are refused.
func (c config) additions(prev *cniresult.Result, pod netops.Snapshot) ([]*addition, wanted, error) {
	list, taken := make([]*addition, 0, len(c.add)), make(netops.Claims, len(c.add))
	for i := range c.add {
		a, err := c.complete(&c.add[i], prev, pod)
		if err != nil {
			return nil, nil, cni.Errorf(types.ErrInvalidNetworkConfig, "%s[%d]: %w", addRoutes, i, err)
		}
		fresh, err := taken.Claim(&a.route)
		if err != nil {
			return nil, nil, cni.Errorf(types.ErrInvalidNetworkConfig, "%s[%d]: %w", addRoutes, i, err)
		}
		if fresh {
			list = append(list, a)
		}
	}
	return list, wanted(taken), nil
}

// complete fills in gateway and interface.
func (c config) complete(e *cniroute.Route, prev *cniresult.Result, pod netops.Snapshot) (*addition, error) {
	r := e.Wanted()
	a := &addition{entry: e}
	switch {
	case r.Type.Rejects():
	case e.Gws != nil:
		for _, hop := range e.Gws {
			if hop.Dev == "" {
				hop.Dev = c.interfaceTo(hop.Gw, pod)
			}
			r.Hops = append(r.Hops, hop)
		}
		r.AnyDev = !slices.ContainsFunc(e.Gws, func(h netops.NextHop) bool { return h.Dev != "" || h.Gw.IsLinkLocalUnicast() })
		if len(r.Hops) == 1 {
			r.Gw, r.Dev, r.Hops = r.Hops[0].Gw, r.Hops[0].Dev, nil
		}
	default:
		if !e.Gw.Given && r.Scope != netops.ScopeLink {
			r.Gw = c.gateway(e, prev)
		}
		if r.OnLink && !r.Gw.IsValid() {
			return a, fmt.Errorf("onlink: there is no gateway for %s", e.Dst)
		}
		if r.Dev == "" {
			r.Dev = c.interfaceTo(r.Gw, pod)
			// By an address that several links have, the device is the way.
			r.AnyDev = r.Gw.IsValid() && !r.Gw.IsLinkLocalUnicast()
		}
		first, _ := prev.Gateway(e.Dst, "")
		a.onLinkThough = !r.Gw.IsValid() && first.IsValid()
	}
	a.route = r
	return a, nil
}

// gateway is the one of the result that a route without gw goes by: that of
// dev's address where dev is given, else of CNI_IFNAME's, else the first.
func (c config) gateway(e *cniroute.Route, prev *cniresult.Result) netip.Addr {
	dev := e.Dev
	if dev == "" {
		dev = c.ifName
	}
	gw, itsOwn := prev.Gateway(e.Dst, dev)
	if e.Dev != "" && !itsOwn && (e.Dev != c.ifName || !unnamed(prev)) {
		return netip.Addr{}
	}
	return gw
}

// unnamed reports whether the result does not tell which interface an address
// is on: then it is CNI_IFNAME.
func unnamed(prev *cniresult.Result) bool {
	return !slices.ContainsFunc(prev.IPs, func(ip cniresult.IP) bool { return ip.Dev != "" })
}

// interfaceTo is the interface whose subnet holds a gateway, CNI_IFNAME before
// others, and without any CNI_IFNAME.
func (c config) interfaceTo(gw netip.Addr, pod netops.Snapshot) string {
	found := c.ifName
	for _, a := range pod.Addrs {
		if !gw.IsValid() || a.Dev == "lo" || !a.Subnet.Contains(gw) {
			continue
		}
		if a.Dev == c.ifName {
			return a.Dev
		}
		if found == c.ifName {
			found = a.Dev
		}
	}
	return found
}
