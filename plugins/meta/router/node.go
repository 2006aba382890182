package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/plugins/meta/router/internal/acd"
)

// node is what was found of the node. Where the overlay interface is no veth
// whose other end is here, there is nothing to do on the node.
type node struct {
	netops.Peer               // the host's end of the overlay interface
	addrs       []netops.Addr // by which the pod is to reach the node
	sources     []netip.Addr  // from which it sends to the overlay's addresses
	held        []netops.Addr // that no pod may have
	linkLocal   netip.Addr    // of the host's end
	strict      string        // the sysctl by which the node would drop what the pod sends from underlay addresses; empty without
}

// here reports whether the pod's overlay leads to this node.
func (n node) here() bool { return n.Name != "" }

// ovs reports whether the host's end is a port of Open vSwitch, which takes all
// that comes in by it, and knows nothing of what the node sends there.
func (n node) ovs() bool { return n.MasterKind == "openvswitch" || n.Master == "ovs-system" }

// dev is the interface by which the node talks to the pod: the bridge, where the
// host's end is a port of one.
func (n node) dev() string {
	if n.MasterKind == "bridge" {
		return n.Master
	}
	return n.Name
}

// has reports whether the node has addresses of a family. Without, it cannot reach
// the pod's, and may refuse to be told of them: IPv6 is switched off.
func (n node) has(six bool) bool {
	return slices.ContainsFunc(n.addrs, func(a netops.Addr) bool { return a.Prefix.Addr().Is6() == six })
}

// source is the address from which the node is to send to one of the pod's, so
// that the pod knows it: of the same LAN, else as to the overlay interface.
func (n node) source(to netip.Addr) netip.Addr {
	for _, a := range n.addrs {
		if a.Subnet.Contains(to) && a.Usable() {
			return a.Prefix.Addr()
		}
	}
	for _, ip := range n.sources {
		if ip.Is6() == to.Is6() {
			return ip
		}
	}
	return netip.Addr{}
}

// devices are the interfaces that the pod's traffic passes on the node.
func (n node) devices() []string {
	devs := []string{n.Name}
	if n.Master != "" {
		devs = append(devs, n.Master)
	}
	for _, a := range n.addrs {
		devs = append(devs, a.Dev)
	}
	return devs
}

// Prepare finds the node's end of the overlay interface, and its addresses. ADD
// then asks the link whether somebody else has one of the pod's.
func (c config) Prepare(ctx context.Context, s attach.PrepareInput) (attach.Planner, error) {
	if c.verb != "ADD" && c.verb != "plan" || c.skip {
		return c, nil
	}
	if err := c.findNode(ctx, s); err != nil {
		return nil, err
	}
	if !c.probe.enabled || c.verb != "ADD" {
		return c, nil
	}
	// What is known without asking goes first.
	have, err := s.Pod.Snapshot(ctx, c.Query(s.Prev))
	if err != nil {
		return nil, err
	}
	t, err := c.topology(s.Prev, have)
	if err == nil {
		err = c.conflict(t)
	}
	if err != nil {
		return nil, err
	}
	return c, c.ask(ctx, s.Pod, t.addrs)
}

// ask probes for the addresses.
func (c config) ask(ctx context.Context, pod *kernel.Netns, addrs []netip.Prefix) error {
	ips := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		ips[i] = a.Addr()
	}
	found, err := acd.Probe(cni.UntilSignal(ctx), pod, c.ifName, ips, c.probe.interval, int(c.probe.retries))
	switch {
	case errors.Is(err, acd.ErrDown), errors.Is(err, acd.ErrNoCarrier):
		return cni.Errorf(types.ErrTryAgainLater, "%w", err)
	case err != nil:
		return err
	case found != nil:
		return cni.Errorf(cni.CodeConflict, "address conflict on %s: %s", c.ifName, found)
	}
	return nil
}

// Announce tells the link of the interface where its addresses are now, where the
// kernel has not: it does so for an interface that was made to notify, as macvlan's
// plugin makes its own, and a socket for it costs as much as all else.
func (c config) Announce(ctx context.Context, pod *kernel.Netns, made netops.Change) error {
	if len(made.Add.Links) == 0 {
		return nil
	}
	arp, ndisc := "net/ipv4/conf/"+c.ifName+"/arp_notify", "net/ipv6/conf/"+c.ifName+"/ndisc_notify"
	have, err := pod.Snapshot(ctx, netops.Query{Addrs: true, Sysctls: []string{arp, ndisc}})
	if err != nil {
		return err
	}
	notifies := func(key string) bool { return slices.Contains(have.Sysctls, netops.Sysctl{Key: key, Value: "1"}) }
	var untold []netip.Addr
	for _, a := range have.Addrs {
		ip := a.Prefix.Addr()
		told := ip.Is4() && notifies(arp) || ip.Is6() && notifies(ndisc) && a.Flags&unix.IFA_F_TENTATIVE == 0
		if a.Dev == c.ifName && !told {
			untold = append(untold, ip)
		}
	}
	return acd.Announce(ctx, pod, c.ifName, untold)
}

// findNode looks at the node, as far as it counts.
func (c *config) findNode(ctx context.Context, s attach.PrepareInput) error {
	if c.onlyMAC {
		return nil
	}
	host, err := s.OpenHost()
	if err != nil {
		return err
	}
	peer, here, err := s.Pod.HostPeer(host, c.overlay)
	if errors.Is(err, netops.ErrNoLink) {
		err = nil // the plan tells
	}
	if err != nil || !here && !c.probe.enabled {
		return err
	}
	query := netops.Query{Addrs: true}
	if here {
		c.node.Peer = peer
		query.Sysctls = c.filters()
	}
	have, err := host.Snapshot(ctx, query)
	if err != nil {
		return err
	}
	for _, a := range have.Addrs {
		if a.Scope == netops.ScopeGlobal && !c.excluded(a.Dev) {
			c.node.held = append(c.node.held, a)
		}
		if here && a.Dev == c.node.dev() && a.Prefix.Addr().IsLinkLocalUnicast() && a.Prefix.Addr().Is6() {
			c.node.linkLocal = a.Prefix.Addr()
		}
	}
	if here {
		c.node.strict = strict(have.Sysctls)
		c.node.addrs, err = c.nodeAddresses(ctx, s.Pod, host, have.Addrs)
	}
	return err
}

// filters are the reverse path filters of the node that count for what the pod
// sends it from underlay addresses. Where the node has a route back by the
// overlay, none does.
func (c *config) filters() []string {
	n := c.node
	switch {
	case c.rpHost || !c.sriov && !n.ovs():
		return nil
	case n.ovs():
		return []string{rpKey("all")} // it comes in by an interface of the overlay's choice
	}
	return []string{rpKey("all"), rpKey(n.dev())}
}

// strict is the filter that makes the greatest of some a strict one; empty where
// that is not strict.
func strict(filters []netops.Sysctl) (name string) {
	for _, f := range filters {
		switch f.Value {
		case "2":
			return ""
		case "1":
			name = strings.ReplaceAll(f.Key, "/", ".")
		}
	}
	return name
}

// nodeAddresses are the global addresses of the node's interfaces that are not
// excluded, and those by which it would send to the pod.
func (c *config) nodeAddresses(ctx context.Context, pod, host *kernel.Netns, all []netops.Addr) (list []netops.Addr, err error) {
	list = slices.Clip(c.node.held)
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
		if src.IsValid() {
			c.node.sources = append(c.node.sources, src)
		}
		of := func(a netops.Addr) bool { return a.Prefix.Addr() == src }
		if i := slices.IndexFunc(all, of); i >= 0 && !slices.ContainsFunc(list, of) {
			list = append(list, all[i])
		}
	}
	return list, nil
}
