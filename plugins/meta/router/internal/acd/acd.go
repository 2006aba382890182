// Package acd detects address conflicts on a link, and announces addresses: by
// ARP for IPv4 (RFC 5227, which calls it ACD), by neighbour discovery for IPv6
// (RFC 4861, RFC 4862).
//
// The kernel's own duplicate address detection does the half of it. For IPv4
// it has none, and for IPv6 it tells nobody: the address is marked, and the
// pod starts.
//
// Only Ethernet links are probed. On one without address resolution (NOARP,
// loopback) there is nobody to ask, and the kernel does not ask either.
package acd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
)

var (
	// ErrDown says that an interface is down, or went down.
	ErrDown = errors.New("the link is down")
	// ErrNoCarrier says that an interface has no carrier: what is sent gets
	// lost. It may come by itself.
	ErrNoCarrier = errors.New("the link has no carrier")
	// ErrNotEthernet says that an interface resolves addresses in frames that
	// are not known here (InfiniBand's, for one).
	ErrNotEthernet = errors.New("not an Ethernet interface")
)

// Conflict is an address that another node of the link has, or is about to
// take.
type Conflict struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // of that node
}

// String tells who has the address.
func (c *Conflict) String() string { return fmt.Sprintf("%s is in use by %s", c.Addr, c.MAC) }

// lookup finds an interface of the namespace, and the hardware addresses of
// all of its interfaces. It is ready where it resolves addresses.
func lookup(ctx context.Context, ns *kernel.Netns, ifname string) (link netops.Link, own []net.HardwareAddr, ready bool, err error) {
	links, err := ns.Links(ctx)
	if err != nil {
		return link, nil, false, err
	}
	at := slices.IndexFunc(links, func(l netops.Link) bool { return l.Name == ifname })
	if at < 0 {
		return link, nil, false, fmt.Errorf("%w: %q", netops.ErrNoLink, ifname)
	}
	link = links[at]
	for _, l := range links {
		own = append(own, l.HardwareAddr)
	}
	switch {
	case link.Flags&(unix.IFF_NOARP|unix.IFF_LOOPBACK) != 0:
		return link, own, false, nil
	case link.Type != unix.ARPHRD_ETHER:
		return link, own, false, fmt.Errorf("%s: %w", ifname, ErrNotEthernet)
	}
	return link, own, true, nil
}

// plain are the addresses without what makes them other values for the same
// ones: a zone, and IPv6's way to write IPv4.
func plain(addrs []netip.Addr) []netip.Addr {
	list := make([]netip.Addr, len(addrs))
	for i, addr := range addrs {
		list[i] = addr.Unmap().WithZone("")
	}
	return list
}

// frames encodes one frame for each address.
func frames(own net.HardwareAddr, addrs []netip.Addr, ip4, ip6 func(net.HardwareAddr, netip.Addr) []byte) [][]byte {
	list := make([][]byte, len(addrs))
	for i, addr := range addrs {
		if addr.Is4() {
			list[i] = ip4(own, addr)
		} else {
			list[i] = ip6(own, addr)
		}
	}
	return list
}

// Probe asks the link of an interface whether somebody else has one of the
// addresses. It asks for all of them at once, retries times, once every
// interval, ends at the first answer that is a conflict and returns it, and
// nil where there was none until the last interval was over: at most, and
// without a conflict exactly, interval × retries.
//
// IPv4 is asked by ARP probes (RFC 5227, 2.1.1), IPv6 by neighbour
// solicitations from the unspecified address (RFC 4862, 5.4.2). A conflict is
// whoever says that he has the address, and who probes for it at the same time
// (RFC 5227, 2.1.1; RFC 4862, 5.4.3), except by a hardware address of the
// namespace itself: the pod's kernel answers as well, for IPv4 on each of its
// interfaces on that LAN. So two interfaces of one pod with one address are
// not found, nor is an ipvlan sibling, which has the same hardware address.
//
// The RFCs have a node wait at random, up to a second, before it asks, and RFC
// 5227 between probes as well, so that the machines of a building do not shout
// all at once when its power returns. Here that is left out: each pod would pay
// for it, of whose start a few frames are the least part. Nothing is missed by
// that, since all listen before they ask.
//
// While the interface has no carrier yet probes wait for it. Where it does not
// come in all that time the error is ErrNoCarrier. It is ErrDown for an
// interface that is down or goes down, netops.ErrNoLink for one that is missing.
// When ctx ends, Probe ends at once with its cause.
func Probe(ctx context.Context, ns *kernel.Netns, ifname string, addrs []netip.Addr, interval time.Duration, retries int) (*Conflict, error) {
	if len(addrs) == 0 || retries < 1 {
		return nil, nil
	}
	link, own, ready, err := lookup(ctx, ns, ifname)
	if err != nil || !ready {
		return nil, wrap("probe for address conflicts", err)
	}
	addrs = plain(addrs)
	s, err := open(ns, link, func(s *socket) error { return s.listen(groups(addrs)) })
	if err != nil {
		return nil, wrap("probe for address conflicts", err)
	}
	defer s.close()
	defer context.AfterFunc(ctx, s.wake)()
	p := prober{s, ns, own, addrs, frames(link.HardwareAddr, addrs, arpProbe, solicitation)}
	conflict, err := p.run(ctx, interval, retries)
	return conflict, wrap("probe for address conflicts", err)
}

// wrap names what failed, if it did.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

type prober struct {
	*socket
	ns     *kernel.Netns
	own    []net.HardwareAddr
	addrs  []netip.Addr
	probes [][]byte
}

// run asks again and again. It fails where not even once all could be asked.
func (p *prober) run(ctx context.Context, interval time.Duration, retries int) (*Conflict, error) {
	var unasked error
	asked := false
	next := time.Now()
	for range retries {
		next = next.Add(interval)
		conflict, err := p.ask(ctx, next)
		if conflict != nil || err != nil && !passing(err) {
			return conflict, err
		}
		unasked, asked = err, asked || err == nil
	}
	if !asked {
		return nil, unasked
	}
	return nil, nil
}

// passing reports whether what could not be sent can be a moment later: the
// carrier comes, or the interface's queue empties.
func passing(err error) bool { return errors.Is(err, ErrNoCarrier) || errors.Is(err, unix.ENOBUFS) }

// pause is how long what could not be sent waits. Virtual links have their
// carrier within milliseconds, others within seconds.
const pause = 5 * time.Millisecond

// ask asks once, as soon as it can be, and listens until the next time. The
// error is passing where it could not be until then.
func (p *prober) ask(ctx context.Context, next time.Time) (*Conflict, error) {
	for {
		unsent := p.send(p.probes)
		if unsent != nil && !passing(unsent) {
			return nil, unsent
		}
		until := next
		if again := time.Now().Add(pause); unsent != nil && again.Before(next) {
			until = again
		}
		conflict, err := p.hear(ctx, until)
		if conflict != nil || err != nil {
			return conflict, err
		}
		if until.Equal(next) {
			return nil, unsent
		}
	}
}

// hear listens for a conflict until then.
func (p *prober) hear(ctx context.Context, until time.Time) (*Conflict, error) {
	for frame, err := range p.heard(ctx, until) {
		if err != nil {
			return nil, err
		}
		c, ok := claim(frame)
		if !ok || !slices.Contains(p.addrs, c.Addr) {
			continue
		}
		if own, err := p.itself(ctx, &c); err != nil {
			return nil, err
		} else if !own {
			return &c, nil
		}
	}
	return nil, context.Cause(ctx)
}

// itself reports whether a claim is the namespace's own. Whoever adds another
// network to it at the same time may change the hardware address of that, so an
// unknown one is looked for again.
func (p *prober) itself(ctx context.Context, c *Conflict) (bool, error) {
	if slices.ContainsFunc(p.own, c.by) {
		return true, nil
	}
	links, err := p.ns.Links(ctx)
	for _, l := range links {
		p.own = append(p.own, l.HardwareAddr)
	}
	return slices.ContainsFunc(p.own, c.by), err
}

func (c *Conflict) by(mac net.HardwareAddr) bool { return bytes.Equal(c.MAC, mac) }
