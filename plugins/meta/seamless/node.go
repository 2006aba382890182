package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/plugin"
)

// Prepare finds the node's addresses, and waits for the pod's. Only ADD waits.
func (c config) Prepare(ctx context.Context, s plugin.Surroundings) (plugin.Planner, error) {
	if c.hostIPs == nil {
		c.hostIPs, c.unknown = c.findNode(ctx)
	}
	if c.waits.IsZero() {
		return c, nil
	}
	if c.unknown != nil {
		return nil, c.unknown
	}
	err := c.await(ctx, s.Pod, c.podTimeout, netops.Query{Links: []string{c.podInterface}, Addrs: true}, c.podReady)
	return c, err
}

// Probe reports whether the node's address can be told now.
func (c config) Probe(ctx context.Context) error {
	if c.hostIPs != nil {
		return nil
	}
	_, err := c.findNode(ctx)
	return err
}

func (c config) findNode(ctx context.Context) (found []netip.Addr, err error) {
	node, err := netops.Here()
	if err != nil {
		return nil, err
	}
	defer node.Close()
	err = c.await(ctx, node, c.hostTimeout, c.nodeQuery(), func(have netops.Snapshot) (missing error) {
		found, missing = c.nodeAddresses(have)
		return missing
	})
	return found, err
}

// nodeQuery asks for the node's addresses, and for its default routes unless the
// interface is told.
func (c config) nodeQuery() netops.Query {
	if c.hostInterface != "" {
		return netops.Query{Links: []string{c.hostInterface}, Addrs: true}
	}
	q := netops.Query{Addrs: true}
	for _, f := range c.families {
		q.Defaults = append(q.Defaults, map[family]netip.Prefix{ipv4: netops.IPv4Default, ipv6: netops.IPv6Default}[f])
	}
	return q
}

// await looks until nothing is missing any more, as long as the verb waits.
func (c config) await(ctx context.Context, ns *netops.Netns, timeout time.Duration, query netops.Query, look func(netops.Snapshot) (missing error)) error {
	var missing error
	there := func() (bool, error) {
		have, err := ns.Snapshot(ctx, query)
		if errors.Is(err, netops.ErrInterrupted) {
			missing = err // others change it right now
			return false, nil
		} else if err != nil {
			return false, err
		}
		missing = look(have)
		return missing == nil, nil
	}
	until := c.waits.Add(timeout)
	ready, err := there()
	if waits := time.Now().Before(until); !ready && err == nil && waits {
		if _, err = ns.Await(plugin.UntilSignal(ctx), until, there); missing != nil {
			missing = fmt.Errorf("%w (waited until %s after the start)", missing, timeout)
		}
	}
	if err == nil && missing != nil {
		err = plugin.Errorf(types.ErrTryAgainLater, "%w", missing)
	}
	return err
}

// nodeAddresses are the addresses of the node that the pod is to reach, one of
// each family: that which the default route prefers, else the first of its
// interface.
func (c config) nodeAddresses(node netops.Snapshot) (found []netip.Addr, missing error) {
	for _, f := range c.families {
		dev := c.hostInterface
		if dev == "" {
			route, way := defaultRoute(node.Routes, f, "")
			switch {
			case route == nil:
				return nil, fmt.Errorf("the node has no %s default route; %s or %s tell its address without one", f, hostIPs, hostInterface)
			case !route.Src.IsValid() && way.Dev == "":
				return nil, fmt.Errorf("the node's default route does not tell its interface: %s; %s or %s tell its address", route, hostIPs, hostInterface)
			}
			if route.Src.IsValid() {
				found = append(found, route.Src)
				continue
			}
			dev = way.Dev
		} else if !slices.Contains(node.Links, dev) {
			return nil, fmt.Errorf("%s: %w: %q", hostInterface, netops.ErrNoLink, dev)
		}
		at := slices.IndexFunc(node.Addrs, func(a netops.Addr) bool {
			return a.Dev == dev && familyOf(a.Prefix.Addr()) == f && a.Usable()
		})
		if at < 0 {
			return nil, fmt.Errorf("the node's %s has no global %s address; %s or %s tell another", dev, f, hostIPs, hostInterface)
		}
		found = append(found, node.Addrs[at].Prefix.Addr())
	}
	return found, nil
}

// defaultRoute is the unicast default route of a family with the lowest metric,
// the first of equals, and its first way; by an interface, where one is named,
// the first that leads over it.
func defaultRoute(routes []netops.Route, f family, dev string) (best *netops.Route, by netops.NextHop) {
	for i := range routes {
		r := &routes[i]
		if !r.Default() || familyOf(r.Dst.Addr()) != f || r.Type != netops.Unicast || r.Table != netops.TableMain || r.Tos != 0 || r.From.IsValid() {
			continue
		}
		for _, way := range r.Ways() {
			if (dev == "" || way.Dev == dev && way.Gw.IsValid()) && (best == nil || r.Metric < best.Metric) {
				best, by = r, way
				break
			}
		}
	}
	return best, by
}
