package kernel

import (
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
)

// shadowed reports whether the kernel would delete another route: in IPv6 one
// by a nexthop object is found by its key alone (ip6_route_del in
// net/ipv6/route.c).
func shadowed(r *netops.Route) bool {
	return r.Is6() && r.NhID == 0 && slices.ContainsFunc(r.Siblings, func(p netops.Route) bool { return p.NhID != 0 })
}
