package acd

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The IPv6 header (RFC 8200, 3).
const (
	ip6Payload = 4
	ip6Next    = 6
	ip6Hops    = 7
	ip6Src     = 8
	ip6Dst     = ip6Src + 16
	ip6Len     = ip6Dst + 16
	// hops shows that no router has passed a message on (RFC 4861, 7.1).
	hops = 255
)

// Neighbour solicitation and advertisement (RFC 4861, 4.3 and 4.4).
const (
	icmpChecksum = 2
	ndTarget     = 8
	ndOptions    = ndTarget + 16

	typeSolicitation  = 135
	typeAdvertisement = 136
	flagOverride      = 1 << 29
	optionTarget      = 2 // target link-layer address; lengths are in units of 8 bytes (RFC 4861, 4.6)
)

// solicitedNode is the group in which a node with that address is asked for
// (RFC 4291, 2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	group, last := netip.MustParseAddr("ff02::1:ff00:0").As16(), addr.As16()
	copy(group[13:], last[13:])
	return netip.AddrFrom16(group)
}

// groupMAC is a multicast group's hardware address (RFC 2464, 7).
func groupMAC(group netip.Addr) net.HardwareAddr {
	last := group.As16()
	return append(net.HardwareAddr{0x33, 0x33}, last[12:]...)
}

// groups are those to join for hearing all about IPv6 addresses: answers go to
// all nodes, who asks at the same time asks the solicited ones.
func groups(addrs []netip.Addr) (macs [][]byte) {
	seen := map[string]bool{}
	for _, addr := range addrs {
		if !addr.Is6() {
			continue
		}
		for _, group := range []netip.Addr{netip.IPv6LinkLocalAllNodes(), solicitedNode(addr)} {
			if mac := groupMAC(group); !seen[string(mac)] {
				seen[string(mac)] = true
				macs = append(macs, mac)
			}
		}
	}
	return macs
}

// solicitation asks whether anybody has an address (RFC 4862, 5.4.2). It has no
// nonce (RFC 7527): what a link sends back to us is known by its hardware
// address, and no kernel would take our nonce for its own.
func solicitation(own net.HardwareAddr, addr netip.Addr) []byte {
	return neighbourMessage(own, netip.IPv6Unspecified(), solicitedNode(addr), typeSolicitation, 0, addr)
}

// advertisement has all nodes learn where an address is (RFC 4861, 7.2.6).
func advertisement(own net.HardwareAddr, addr netip.Addr) []byte {
	option := append([]byte{optionTarget, 1}, own...)
	return neighbourMessage(own, addr, netip.IPv6LinkLocalAllNodes(), typeAdvertisement, flagOverride, addr, option...)
}

func neighbourMessage(own net.HardwareAddr, src, dst netip.Addr, typ byte, flags uint32, target netip.Addr, options ...byte) []byte {
	size := ndOptions + len(options)
	b := make([]byte, 0, etherLen+ip6Len+size)
	b = appendEther(b, groupMAC(dst), own, unix.ETH_P_IPV6)
	b = append(b, 6<<4, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = append(b, unix.IPPROTO_ICMPV6, hops)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	b = append(b, typ, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, flags)
	b = append(append(b, target.AsSlice()...), options...)
	packet := b[etherLen:]
	binary.BigEndian.PutUint16(packet[ip6Len+icmpChecksum:], ^checksum(packet))
	return b
}

// checksum sums up an ICMPv6 message and its pseudo-header (RFC 4443, 2.3; RFC
// 8200, 8.1). Over a message with a valid checksum the sum is 0xffff.
func checksum(packet []byte) uint16 {
	sum := uint32(len(packet)-ip6Len) + unix.IPPROTO_ICMPV6
	for b := packet[ip6Src:]; len(b) > 0; b = b[min(2, len(b)):] {
		sum += uint32(b[0]) << 8
		if len(b) > 1 {
			sum += uint32(b[1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// neighbourClaim is the address that a packet's sender has: by an
// advertisement, or by a solicitation from one who has none yet (RFC 4862,
// 5.4.3 and 5.4.4). Neither has an extension header: a fragment must not be
// one (RFC 6980), and for others there is no use.
func neighbourClaim(packet []byte, from net.HardwareAddr) (c Conflict, ok bool) {
	message, ok := icmp6(packet)
	if !ok || len(message) < ndOptions || message[1] != 0 {
		return c, false
	}
	target, ok := targetOption(message[ndOptions:])
	if !ok {
		return c, false
	}
	c = Conflict{Addr: netip.AddrFrom16([16]byte(message[ndTarget:ndOptions])), MAC: from}
	src, dst := netip.AddrFrom16([16]byte(packet[ip6Src:])), netip.AddrFrom16([16]byte(packet[ip6Dst:]))
	switch message[0] {
	case typeAdvertisement:
		if target != nil {
			c.MAC = target
		}
		return c, true
	case typeSolicitation:
		return c, src.IsUnspecified() && dst == solicitedNode(c.Addr)
	}
	return c, false
}

// icmp6 is the ICMPv6 message in a packet that a node of this link has sent
// (RFC 4861, 7.1). What follows it is padding.
func icmp6(packet []byte) (message []byte, ok bool) {
	if len(packet) < ip6Len || packet[0]>>4 != 6 || packet[ip6Next] != unix.IPPROTO_ICMPV6 || packet[ip6Hops] != hops {
		return nil, false
	}
	end := ip6Len + int(binary.BigEndian.Uint16(packet[ip6Payload:]))
	if end > len(packet) || checksum(packet[:end]) != 0xffff {
		return nil, false
	}
	return packet[ip6Len:end], true
}

// targetOption is the hardware address in an advertisement's options, if there
// is one. Options without a length make the message invalid (RFC 4861, 7.1.2).
func targetOption(options []byte) (mac net.HardwareAddr, ok bool) {
	for len(options) > 0 {
		if len(options) < 8 {
			return nil, false
		}
		size := 8 * int(options[1])
		if size == 0 || size > len(options) {
			return nil, false
		}
		if options[0] == optionTarget && size == 2+macLen {
			mac = net.HardwareAddr(options[2:size])
		}
		options = options[size:]
	}
	return mac, true
}
