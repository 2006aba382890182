package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
)

// topology is the pod's interfaces as this attachment sees them.
type topology struct {
	overlay, previous, current string
	// last says that no interface of the pod comes after this one.
	last bool
	// addrs are the addresses of the attachment, as prevResult has them.
	addrs []netip.Prefix
	pod   netops.Snapshot
}

// first reports whether this is the pod's first underlay interface.
func (t topology) first() bool { return t.previous == t.overlay }

// has reports whether the attachment has addresses of a family.
func (t topology) has(six bool) bool {
	return slices.ContainsFunc(t.addrs, func(p netip.Prefix) bool { return p.Addr().Is6() == six })
}

// six reports whether it has IPv6 addresses.
func (t topology) six() bool { return t.has(true) }

// of reports whether an address is of a family of the attachment.
func (t topology) of(ip netip.Addr) bool { return t.has(ip.Is6()) }

// globals are the global addresses of one of the pod's interfaces, of the
// families of the attachment.
func (t topology) globals(dev string) (list []netops.Addr) {
	for _, a := range t.pod.Addrs {
		if a.Dev == dev && a.Scope == netops.ScopeGlobal && t.of(a.Prefix.Addr()) {
			list = append(list, a)
		}
	}
	return list
}

// Query asks for what the plan depends on. The neighbours of this interface would
// go with its hardware address.
func (c config) Query(*cniresult.Result) netops.Query {
	switch {
	case c.skip:
		return netops.Query{}
	case c.onlyMAC:
		return netops.Query{EveryLink: true, Neighs: []string{c.ifName}}
	}
	tables := []uint32{netops.TableMain, c.table}
	if len(c.additional) > 0 { // the overlay's default route may be in one of these by now
		tables = []uint32{netops.EveryTable}
	}
	return netops.Query{EveryLink: true, Addrs: true, Tables: tables, Rules: true,
		Neighs: []string{c.overlay, c.ifName}, Sysctls: []string{rpKey("all")}, LinkSysctls: []string{rpKey("*"), ipv6Key("*")}}
}

// topology tells the interfaces apart. An error is for now: the networks of a
// pod may come in another order, or at the same time.
func (c config) topology(prev *cniresult.Result, pod netops.Snapshot) (topology, error) {
	t := topology{overlay: c.overlay, current: c.ifName, pod: pod, last: true}
	for _, ip := range prev.IPs {
		if ip.Dev != "" && ip.Dev != c.ifName {
			continue
		}
		if a := ip.Address.Addr(); a.Is4In6() || a.IsMulticast() || a.IsUnspecified() {
			return t, cni.Errorf(types.ErrInvalidNetworkConfig, "prevResult: %s is no address that %s can have", a, c.ifName)
		}
		t.addrs = append(t.addrs, ip.Address)
	}
	if len(t.addrs) == 0 {
		return t, cni.Errorf(types.ErrInvalidNetworkConfig, "prevResult: there is no address of %s", c.ifName)
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
		return t, cni.Errorf(types.ErrTryAgainLater, "%s, the %s, has no global address of the families of %s", c.overlay, overlayInterface, c.ifName)
	}
	t.previous = c.previous(pod)
	if kind, n, ok := numbered(c.ifName); ok {
		t.last = !slices.ContainsFunc(pod.Links, func(name string) bool {
			k, m, ok := numbered(name)
			return ok && k == kind && m > n && name != c.overlay
		})
	}
	return t, nil
}

// previous is the interface before this one: the nearest lower one of the same
// kind, else the overlay's; of other names that of the first default route which
// is not this one's.
func (c config) previous(pod netops.Snapshot) string {
	kind, n, ok := numbered(c.ifName)
	if !ok {
		for i := range pod.Routes {
			r := &pod.Routes[i]
			if !r.Default() || r.Table != netops.TableMain {
				continue
			}
			for _, way := range r.NextHops() { // of IPv6 both defaults may be one route
				if way.Dev != c.ifName {
					return way.Dev
				}
			}
		}
		return c.overlay
	}
	for m := n - 1; m >= 1; m-- {
		if name := fmt.Sprint(kind, m); name != c.overlay && slices.Contains(pod.Links, name) {
			return name
		}
	}
	return c.overlay
}
