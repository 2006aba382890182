package main

import (
	"cmp"
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
func (c config) Prepare(_ context.Context, pod *netops.Netns) (plugin.Planner, error) {
	if c.hostIPs == nil {
		var err error
		if c.hostIPs, err = c.findNode(); err != nil {
			return nil, err
		}
	}
	err := c.await(pod, c.podTimeout, netops.Query{Links: []string{c.podInterface}, Addrs: true}, c.podReady)
	return c, err
}

// Probe reports whether the node's address can be told now.
func (c config) Probe(context.Context) error {
	if c.hostIPs != nil {
		return nil
	}
	_, err := c.findNode()
	return err
}

func (c config) findNode() (found []netip.Addr, err error) {
	node, err := netops.Here()
	if err != nil {
		return nil, err
	}
	defer node.Close()
	query := netops.Query{Addrs: true, Defaults: c.hostInterface == ""}
	if c.hostInterface != "" {
		query.Links = []string{c.hostInterface}
	}
	err = c.await(node, c.hostTimeout, query, func(have netops.Snapshot) (missing error) {
		found, missing = c.nodeAddresses(have)
		return missing
	})
	return found, err
}

// await looks until nothing is missing any more, as long as the verb waits.
func (c config) await(ns *netops.Netns, timeout time.Duration, query netops.Query, look func(netops.Snapshot) (missing error)) error {
	var missing error
	_, err := ns.Await(c.waits.Add(timeout), func() (bool, error) {
		have, err := ns.Snapshot(context.Background(), query)
		if errors.Is(err, netops.ErrInterrupted) {
			missing = err // others change it right now
			return false, nil
		} else if err != nil {
			return false, err
		}
		missing = look(have)
		return missing == nil, nil
	})
	switch {
	case err != nil:
		return err
	case missing != nil && !c.waits.IsZero() && timeout > 0:
		return plugin.Errorf(types.ErrTryAgainLater, "%w, after %s", missing, timeout)
	case missing != nil:
		return plugin.Errorf(types.ErrTryAgainLater, "%w", missing)
	}
	return nil
}

// nodeAddresses are the addresses of the node that the pod is to reach, one of
// each family: that which the default route prefers, else the first of its
// interface.
func (c config) nodeAddresses(node netops.Snapshot) (found []netip.Addr, missing error) {
	for _, f := range c.families {
		dev := c.hostInterface
		if dev == "" {
			route := defaultRoute(node.Routes, f, func(netops.NextHop) bool { return true })
			if route == nil {
				return nil, fmt.Errorf("the node has no %s default route; %s or %s tell its address without one", f, hostIPs, hostInterface)
			}
			if route.Src.IsValid() {
				found = append(found, route.Src)
				continue
			}
			dev = route.Ways()[0].Dev
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
// the first of equals, whose first next hop is as asked.
func defaultRoute(routes []netops.Route, f family, by func(netops.NextHop) bool) *netops.Route {
	var best *netops.Route
	for i := range routes {
		r := &routes[i]
		if !r.Default() || familyOf(r.Dst.Addr()) != f || r.Type != netops.Unicast || r.Table != netops.TableMain || !by(r.Ways()[0]) {
			continue
		}
		if best == nil || cmp.Less(r.Metric, best.Metric) {
			best = r
		}
	}
	return best
}
