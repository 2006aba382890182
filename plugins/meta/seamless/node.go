package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
)

// Prepare finds the node's addresses, and waits for the pod's. Only ADD waits.
func (c config) Prepare(ctx context.Context, s attach.PrepareInput) (attach.Planner, error) {
	var began time.Time // from when both timeouts count
	if c.waits {
		began = time.Now()
	}
	if c.hostIPs == nil {
		c.hostIPs, c.unknown = c.findNode(ctx, began)
	}
	if !c.waits {
		return c, nil
	}
	if c.unknown != nil {
		return nil, c.unknown
	}
	err := c.await(ctx, s.Pod, began, c.podTimeout, netops.Query{Links: []string{c.podInterface}, Addrs: true}, c.podReady)
	return c, err
}

// Probe reports whether the node's address can be told now.
func (c config) Probe(ctx context.Context) error {
	if c.hostIPs != nil {
		return nil
	}
	_, err := c.findNode(ctx, time.Time{})
	return err
}

func (c config) findNode(ctx context.Context, began time.Time) (found []netip.Addr, err error) {
	node, err := kernel.Here()
	if err != nil {
		return nil, err
	}
	defer node.Close()
	err = c.await(ctx, node, began, c.hostTimeout, c.nodeQuery(), func(have netops.Snapshot) (missing error) {
		found, missing = c.nodeAddresses(have)
		return missing
	})
	return found, err
}

// nodeQuery asks for the node's addresses and default routes, and for the
// interface that is told.
func (c config) nodeQuery() netops.Query {
	q := netops.Query{Addrs: true}
	if c.hostInterface != "" {
		q.Links = []string{c.hostInterface}
	}
	for _, f := range c.families {
		q.Defaults = append(q.Defaults, f.everything())
	}
	return q
}

// await looks until nothing is missing any more, or a timeout after it began has
// passed. With a zero time it looks once.
func (c config) await(ctx context.Context, ns *kernel.Netns, began time.Time, timeout time.Duration, query netops.Query, look func(netops.Snapshot) (missing error)) error {
	var missing error
	there := func() (bool, error) {
		have, err := ns.Snapshot(ctx, query)
		if errors.Is(err, netops.ErrInterrupted) {
			missing = err // another process changes it right now
			return false, nil
		} else if err != nil {
			return false, err
		}
		missing = look(have)
		return missing == nil, nil
	}
	until := began.Add(timeout)
	ready, err := there()
	if waits := time.Now().Before(until); !ready && err == nil && waits {
		if _, err = ns.Await(cni.UntilSignal(ctx), until, there); missing != nil {
			missing = fmt.Errorf("%w (waited until %s after the start)", missing, timeout)
		}
	}
	if err == nil && missing != nil {
		err = cni.Errorf(types.ErrTryAgainLater, "%w", missing)
	}
	return err
}

// nodeAddresses are the addresses of the node that the pod is to reach, one of
// each family.
func (c config) nodeAddresses(node netops.Snapshot) (found []netip.Addr, missing error) {
	for _, f := range c.families {
		ip, missing := c.nodeAddress(node, f)
		if missing != nil {
			return nil, missing
		}
		found = append(found, ip)
	}
	return found, nil
}

// nodeAddress is the address that the node itself would use: that which its
// default route prefers, else one of the interface that the route leaves by, which
// may borrow it. Where the interface is told, it has to be that one's.
func (c config) nodeAddress(node netops.Snapshot, f family) (ip netip.Addr, missing error) {
	dev := c.hostInterface
	route, way := bestRoute(node.Routes, f.everything(), func(way netops.NextHop) bool { return dev == "" || way.Dev == dev })
	switch {
	case dev != "" && !slices.Contains(node.Links, dev):
		return ip, fmt.Errorf("%s: %w: %q", hostInterface, netops.ErrNoLink, dev)
	case dev == "" && route == nil:
		return ip, fmt.Errorf("the node has no %s default route; %s or %s tell its address without one", f, hostIPs, hostInterface)
	case route != nil && meant(route.Src) && (dev == "" || has(node.Addrs, dev, route.Src)):
		return route.Src, nil
	case dev == "" && way.Dev == "":
		return ip, fmt.Errorf("the node's default route does not tell its interface: %s; %s or %s tell its address", route, hostIPs, hostInterface)
	case dev == "":
		dev = way.Dev
	}
	ip = source(node.Addrs, dev, f, way.Gw)
	if !ip.IsValid() && c.hostInterface == "" {
		ip = borrowed(node.Addrs, dev, f, route)
	}
	if !ip.IsValid() {
		missing = fmt.Errorf("the node's %s has no global %s address; %s or %s tell another", dev, f, hostIPs, hostInterface)
	}
	return ip, missing
}

const loopback = "lo"

// borrowed is the address of a node whose uplinks are unnumbered, as BGP makes them:
// that of lo, else of the first interface that has any, as inet_select_addr chooses.
// A link is not unnumbered that has an address which cannot be used, nor one on which a
// router advertises itself: there the node's address comes a moment after the route
// (DHCPv6).
func borrowed(addrs []netops.Addr, dev string, f family, route *netops.Route) netip.Addr {
	ip := source(addrs, loopback, f, netip.Addr{})
	numbered := route.Learnt() || slices.ContainsFunc(addrs, func(a netops.Addr) bool {
		return a.Dev == dev && a.Scope == netops.ScopeGlobal && familyOf(a.Prefix.Addr()) == f && meant(a.Prefix.Addr())
	})
	if !ip.IsValid() && !numbered {
		ip = source(addrs, "", f, netip.Addr{})
	}
	return ip
}

// source is the address that the kernel chooses for what leaves by a gateway
// over an interface, or over any where dev is empty, as inet_select_addr in its
// net/ipv4/devinet.c does: the first whose subnet holds the gateway, else the first. A virtual address of a
// load balancer, which may stand before, is mostly a /32. Of IPv6 a unique local
// address is chosen last: the default route leads to global ones (RFC 6724, section 5,
// rule 6).
func source(addrs []netops.Addr, dev string, f family, gw netip.Addr) (first netip.Addr) {
	for _, a := range addrs {
		ip := a.Prefix.Addr()
		if dev != "" && a.Dev != dev || familyOf(ip) != f || !a.Usable() || !meant(ip) {
			continue
		}
		if a.Subnet.Contains(gw) {
			return ip
		}
		if !first.IsValid() || first.Is6() && first.IsPrivate() && !ip.IsPrivate() {
			first = ip
		}
	}
	return first
}

// meant reports whether an address can be that of a node or a pod. One of
// 169.254.0.0/16 never is, whatever its scope: caches and metadata services
// that run on every node have such addresses.
func meant(ip netip.Addr) bool { return ip.IsValid() && !ip.IsLinkLocalUnicast() }

// has reports whether an interface has an address.
func has(addrs []netops.Addr, dev string, ip netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(a netops.Addr) bool { return a.Dev == dev && a.Prefix.Addr() == ip })
}

// bestRoute is the unicast route to a destination with the lowest metric, the first
// of equals, and the first of its ways that will do.
func bestRoute(routes []netops.Route, dst netip.Prefix, will func(netops.NextHop) bool) (best *netops.Route, by netops.NextHop) {
	for i := range routes {
		r := &routes[i]
		if r.Dst != dst || r.Type != netops.Unicast || r.Table != netops.TableMain || r.Tos != 0 || r.From.IsValid() ||
			best != nil && r.Metric >= best.Metric {
			continue
		}
		ways := r.NextHops()
		if at := slices.IndexFunc(ways, will); at >= 0 {
			best, by = r, ways[at]
		}
	}
	return best, by
}
