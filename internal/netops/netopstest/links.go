package netopstest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var peers atomic.Int64

// Veth links the namespace to the test's own by a pair of interfaces, the
// inner one called dev, with these addresses, and waits for its link-local
// one.
func (n *NS) Veth(dev string, addrs ...string) {
	n.tb.Helper()
	// A namespace's interfaces vanish some time after its name.
	peer := fmt.Sprintf("veth%d", peers.Add(1))
	inside, err := os.Open(n.Path)
	if err != nil {
		n.tb.Fatal(err)
	}
	defer func() { _ = inside.Close() }()
	link := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: dev, PeerNamespace: netlink.NsFd(inside.Fd())}
	link.Name = peer
	if err := errors.Join(netlink.LinkAdd(link), linkUp(peer)); err != nil {
		n.tb.Fatalf("veth %s of %s: %v", dev, n.Name, err)
	}
	n.tb.Cleanup(func() { _ = netlink.LinkDel(link) })
	n.Enter(func() {
		for _, a := range addrs {
			if err := addAddress(dev, a); err != nil {
				n.tb.Fatalf("address %s of %s, %s: %v", a, n.Name, dev, err)
			}
		}
		if err := linkUp(dev); err != nil {
			n.tb.Fatalf("%s of %s: %v", dev, n.Name, err)
		}
	})
	n.AwaitIPv6(dev, addrs...)
}

// addAddress gives an interface an address as ip-address(8) does: without a
// broadcast address.
func addAddress(dev, address string) error {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	own, other, hasPeer := strings.Cut(address, " peer ")
	addr := &netlink.Addr{Broadcast: net.IPv4zero}
	if hasPeer {
		addr.Peer, err = netlink.ParseIPNet(other)
		own += "/32"
	}
	if err == nil {
		addr.IPNet, err = netlink.ParseIPNet(own)
	}
	if err != nil {
		return err
	}
	return netlink.AddrAdd(link, addr)
}

func linkUp(dev string) error {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// HardwareAddr is the hardware address of an interface.
func (n *NS) HardwareAddr(dev string) (address string) {
	n.tb.Helper()
	n.Enter(func() {
		link, err := net.InterfaceByName(dev)
		if err != nil {
			n.tb.Fatalf("%s of %q: %v", dev, n.Name, err)
		}
		address = link.HardwareAddr.String()
	})
	return address
}

// AwaitIPv6 waits for the link-local address that the kernel gives an interface,
// and for the routes to itself by those of these addresses that are IPv6: they
// come a moment after the link is up, in any order.
func (n *NS) AwaitIPv6(dev string, addrs ...string) {
	n.tb.Helper()
	n.until("IPv6 of "+dev+" does not come up", func() (bool, error) {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return false, err
		}
		local, err := localRoutes(link.Attrs().Index)
		missing := func(addr string) bool {
			text, _, _ := strings.Cut(addr, "/")
			ip, err := netip.ParseAddr(text)
			return err == nil && ip.Is6() && !slices.Contains(local, ip)
		}
		return slices.ContainsFunc(local, netip.Addr.IsLinkLocalUnicast) && !slices.ContainsFunc(addrs, missing), err
	})
}

// localRoutes are the addresses by which the kernel reaches an interface itself: what
// is in use of its IPv6 addresses.
func localRoutes(link int) (local []netip.Addr, err error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6,
		&netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, LinkIndex: link},
		netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_OIF)
	for _, r := range routes {
		if ip, ok := netip.AddrFromSlice(r.Dst.IP); ok {
			local = append(local, ip)
		}
	}
	return local, err
}

// patience is how long the kernel of a busy machine may take for what it does
// after a command has returned.
const patience = time.Minute

// Settle waits until every link with a carrier has its link-local address, and
// every IPv6 address its route: the kernel gives them a moment after the link is
// up. Of links without a carrier it expects nothing.
func (n *NS) Settle() {
	n.tb.Helper()
	n.until("it does not settle", func() (bool, error) {
		links, err := netlink.LinkList()
		if err != nil {
			return false, err
		}
		for _, link := range links {
			if done, err := settled(link.Attrs()); !done || err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

func settled(link *netlink.LinkAttrs) (bool, error) {
	if link.RawFlags&unix.IFF_UP == 0 || link.RawFlags&unix.IFF_LOWER_UP == 0 {
		return true, nil
	}
	addrs, err := netlink.AddrList(&netlink.Dummy{LinkAttrs: *link}, netlink.FAMILY_V6)
	if err != nil {
		return false, err
	}
	local, err := localRoutes(link.Index)
	if err != nil {
		return false, err
	}
	made := link.Flags&net.FlagLoopback != 0 || !makesLinkLocal(link.Name)
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		if !slices.Contains(local, ip) {
			return false, nil
		}
		made = made || ip.IsLinkLocalUnicast()
	}
	return made, nil
}

// makesLinkLocal reports whether the kernel gives an interface a link-local address
// (ip-sysctl): not where addr_gen_mode is 1, none, or where IPv6 is switched off.
func makesLinkLocal(dev string) bool {
	mode, noMode := sysctl.Sysctl("net/ipv6/conf/" + dev + "/addr_gen_mode")
	off, noIPv6 := sysctl.Sysctl("net/ipv6/conf/" + dev + "/disable_ipv6")
	return noMode == nil && noIPv6 == nil && mode != "1" && off == "0"
}

// until looks, within the namespace, until what it waits for is done. A list in which
// the kernel was interrupted says nothing.
func (n *NS) until(otherwise string, look func() (done bool, err error)) {
	n.tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var done bool
		var err error
		n.Enter(func() { done, err = look() })
		switch {
		case err != nil && !errors.Is(err, netlink.ErrDumpInterrupted):
			n.tb.Fatalf("namespace %q: %v", n.Name, err)
		case done && err == nil:
			return
		case time.Now().After(deadline):
			n.tb.Fatalf("namespace %q: %s", n.Name, otherwise)
		}
	}
}
