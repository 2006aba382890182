package acd

import (
	"context"
	"net/netip"

	"github.com/cni-netops/plugins/internal/netops/kernel"
)

// Announce tells the link of an interface that these addresses are at its
// hardware address, as it is now: to be called when that has changed. The
// link-local addresses of IPv6 are to be among them.
//
// IPv4 is announced by an ARP request for the address from the address itself
// (RFC 5227, 2.3). The same as a reply is not sent as well: RFC 826 has who
// receives one learn from either, and RFC 5227, 3, tells why the request is the
// safer one. IPv6 is announced by an advertisement to all nodes that overrides
// what they have (RFC 4861, 7.2.6). It does not say that the pod is a router:
// nothing runs in it yet. The kernel sends the same by itself where arp_notify
// and ndisc_notify are set, as macvlan's plugin does; twice does no harm.
//
// Each goes out once, where the RFCs allow a few, a second or more apart: the
// plugin has ended by then. Who misses it finds out for himself (RFC 4861,
// 7.3). The frames also teach switches where the new hardware address is.
//
// A tentative IPv6 address is announced, too. RFC 4862, 5.4, has a node keep
// silent about it, because it may be somebody else's. Whether it is has been
// asked before, by Probe or by the plugin that made the interface, and until
// the kernel's detection ends neighbours would send to nobody.
//
// The errors are those of Probe; ErrNoCarrier is not waited for.
func Announce(ctx context.Context, ns *kernel.Netns, ifname string, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	link, _, ready, err := lookup(ctx, ns, ifname)
	if err != nil || !ready {
		return wrap("announce addresses", err)
	}
	s, err := open(ns, link, func(*socket) error { return nil })
	if err != nil {
		return wrap("announce addresses", err)
	}
	defer s.close()
	return wrap("announce addresses", s.send(frames(link.HardwareAddr, plain(addrs), arpAnnouncement, advertisement)))
}
