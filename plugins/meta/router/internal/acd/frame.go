package acd

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// An Ethernet frame: destination, source, type.
const (
	macLen    = 6
	etherType = 2 * macLen
	etherLen  = etherType + 2
	// maxFrame is more than an advertisement with options can be: it is never
	// in fragments (RFC 6980).
	maxFrame = 2 << 10
)

func appendEther(b []byte, to, from net.HardwareAddr, typ uint16) []byte {
	b = append(append(b, to...), from...)
	return binary.BigEndian.AppendUint16(b, typ)
}

// claim is what a frame says about who has an address, if it does. It is to be
// called with anything.
//
// By whom is what the message says, not where the frame came from: switches
// answer for others (RFC 9161).
func claim(frame []byte) (c Conflict, ok bool) {
	if len(frame) < etherLen {
		return c, false
	}
	from, body := net.HardwareAddr(frame[macLen:etherType]), frame[etherLen:]
	switch binary.BigEndian.Uint16(frame[etherType:]) {
	case unix.ETH_P_ARP:
		return arpClaim(body)
	case unix.ETH_P_IPV6:
		return neighbourClaim(body, from)
	}
	return c, false
}

// The ARP packet for IPv4 over Ethernet (RFC 826).
const (
	arpHeader   = "\x00\x01" + "\x08\x00" + "\x06" + "\x04" // hardware, protocol, and the lengths of their addresses
	arpOp       = 6
	arpSender   = 8
	arpSenderIP = arpSender + macLen
	arpTarget   = arpSenderIP + 4
	arpTargetIP = arpTarget + macLen
	arpLen      = arpTargetIP + 4

	opRequest, opReply = 1, 2
)

// arpProbe asks who has an address, and teaches nobody anything by it (RFC
// 5227, 2.1.1).
func arpProbe(own net.HardwareAddr, addr netip.Addr) []byte {
	return arpRequest(own, netip.IPv4Unspecified(), addr)
}

// arpAnnouncement has everybody learn where an address is (RFC 5227, 2.3).
func arpAnnouncement(own net.HardwareAddr, addr netip.Addr) []byte {
	return arpRequest(own, addr, addr)
}

func arpRequest(own net.HardwareAddr, sender, target netip.Addr) []byte {
	b := make([]byte, 0, etherLen+arpLen)
	b = appendEther(b, net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, own, unix.ETH_P_ARP)
	b = append(b, arpHeader...)
	b = binary.BigEndian.AppendUint16(b, opRequest)
	b = append(append(b, own...), sender.AsSlice()...)
	return append(append(b, make([]byte, macLen)...), target.AsSlice()...)
}

// arpClaim is the address that a packet's sender has, be it request or reply.
// One that is still looking for an address has none: it claims what it probes
// for (RFC 5227, 2.1.1).
func arpClaim(b []byte) (c Conflict, ok bool) {
	if len(b) < arpLen || string(b[:arpOp]) != arpHeader {
		return c, false
	}
	op := binary.BigEndian.Uint16(b[arpOp:])
	c.MAC = net.HardwareAddr(b[arpSender:arpSenderIP])
	c.Addr = netip.AddrFrom4([4]byte(b[arpSenderIP:arpTarget]))
	if op == opRequest && c.Addr.IsUnspecified() {
		c.Addr = netip.AddrFrom4([4]byte(b[arpTargetIP:arpLen]))
	}
	return c, op == opRequest || op == opReply
}
