package main

import (
	"cmp"
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
	// unreached is its gateway, where nothing leads there directly.
	unreached netip.Addr
}

// additions completes the entries of addroutes. The same one twice is one; two
// that cannot both be are refused.
func (c config) additions(prev *cniresult.Result, pod netops.Snapshot) ([]*addition, wanted, error) {
	all, paths, telling := make([]*addition, len(c.add)), c.paths(pod), tellingGateways(pod.Routes)
	for i := range c.add {
		a, err := c.complete(&c.add[i], prev, telling)
		if err != nil {
			return nil, nil, cni.Errorf(types.ErrInvalidNetworkConfig, "%s[%d]: %w", addRoutes, i, err)
		}
		all[i] = a
		paths.add(&a.route)
	}
	list, taken := all[:0], make(netops.Claims, len(all))
	for i, a := range all {
		paths.choose(a)
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

// complete fills in the gateway, and the interface of what goes by none. telling
// are the routes that tell the gateways of interfaces.
func (c config) complete(e *cniroute.Route, prev *cniresult.Result, telling []*netops.Route) (*addition, error) {
	a := &addition{route: e.Wanted(), entry: e}
	r := &a.route
	switch {
	case r.Type.Rejects(), e.Gws != nil:
		return a, nil
	case !e.Gw.Given && r.Scope != netops.ScopeLink:
		hop := c.gateway(e, prev, telling)
		r.Gw, r.OnLink = hop.Gw, r.OnLink || hop.OnLink
	}
	if r.Gw.IsValid() {
		return a, nil
	}
	if r.OnLink {
		return a, fmt.Errorf("onlink: there is no gateway for %s", e.Dst)
	}
	r.Dev = cmp.Or(r.Dev, c.ifName)
	first, _ := prev.Gateway(e.Dst, "")
	a.onLinkThough = first.IsValid()
	return a, nil
}

// refused is why the route cannot be added beside those that are there: nothing
// leads to its gateway, or another one has its place. It is nil where it can.
func (a *addition) refused(rivals map[netops.RouteKey][]*netops.Route, devs []string) error {
	if gw := a.unreached; gw.IsValid() {
		return cni.Errorf(cni.CodeKernel, "%s: network is unreachable: neither a subnet nor a route of the pod leads to %s directly; "+
			"name its interface by \"dev\", with \"onlink\": true if it is on the link all the same", a.route.Command(netops.Add), gw)
	}
	rival := netops.Conflict(&a.route, slices.Values(rivals[a.route.Key()]))
	if rival == nil {
		return nil
	}
	by := ""
	for _, hop := range rival.NextHops() {
		if !slices.Contains(devs, hop.Dev) {
			by = fmt.Sprintf(" with \"dev\": %q", hop.Dev)
		}
	}
	return cni.Errorf(cni.CodeOwned, "%s: there is %q already; remove it by delroutes%s, or give this one another metric",
		a.route.Command(netops.Add), rival, by)
}
