package main

import (
	"context"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/plugin"
)

// node is what was found of the node. Where the overlay interface is no veth
// whose other end is here, there is nothing to do on the node.
type node struct {
	netops.Peer               // the host's end of the overlay interface
	addrs       []netops.Addr // the node's addresses
}

// here reports whether the node is to know the pod.
func (n node) here() bool { return n.Name != "" }

// Prepare finds the node's end of the overlay interface, and its addresses.
func (c config) Prepare(ctx context.Context, pod *netops.Netns) (plugin.Planner, error) {
	if c.skip || c.onlyMAC || c.sriov {
		return c, nil
	}
	host, err := netops.Here()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	peer, ok, err := pod.HostPeer(host, c.overlay)
	if err != nil || !ok {
		return c, err
	}
	c.node.Peer = peer
	have, err := host.Snapshot(ctx, netops.Query{Addrs: true})
	if err != nil {
		return nil, err
	}
	c.node.addrs, err = c.nodeAddresses(ctx, pod, host, have.Addrs)
	return c, err
}

// nodeAddresses are the global addresses of the node's interfaces that are not
// excluded, and those by which it would send to the pod.
func (c config) nodeAddresses(ctx context.Context, pod, host *netops.Netns, all []netops.Addr) (list []netops.Addr, err error) {
	for _, a := range all {
		if a.Scope == netops.ScopeGlobal && !c.excluded(a.Dev) {
			list = append(list, a)
		}
	}
	inner, err := pod.Snapshot(ctx, netops.Query{Addrs: true})
	if err != nil {
		return nil, err
	}
	for _, a := range inner.Addrs {
		if a.Dev != c.overlay || a.Scope != netops.ScopeGlobal {
			continue
		}
		src, err := host.SourceTo(a.Prefix.Addr())
		if err != nil {
			return nil, err
		}
		of := func(a netops.Addr) bool { return a.Prefix.Addr() == src }
		if i := slices.IndexFunc(all, of); i >= 0 && !slices.ContainsFunc(list, of) {
			list = append(list, all[i])
		}
	}
	return list, nil
}
