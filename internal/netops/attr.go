package netops

import (
	"encoding/binary"
	"errors"
	"iter"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// The layout of rtnetlink messages: rtnetlink(7), linux/rtnetlink.h. All
// numbers are in the machine's own byte order.
var native = binary.NativeEndian

const (
	attrHeader = 4 // struct rtattr
	// attrTypeMask leaves out NLA_F_NESTED and NLA_F_NET_BYTEORDER.
	attrTypeMask = 0x3fff
	rtaNhID      = 30 // RTA_NH_ID
)

func align4(n int) int { return (n + 3) &^ 3 }

// attrs visits the attributes in b; a malformed tail ends the walk with an
// error.
func attrs(b []byte) iter.Seq2[attr, error] {
	return func(yield func(attr, error) bool) {
		for len(b) >= attrHeader {
			n := int(native.Uint16(b))
			if n < attrHeader || n > len(b) {
				yield(attr{}, errMalformed)
				return
			}
			a := attr{typ: native.Uint16(b[2:]) & attrTypeMask, data: b[attrHeader:n], whole: b[:n]}
			if !yield(a, nil) {
				return
			}
			b = b[min(align4(n), len(b)):]
		}
	}
}

// wellFormed visits attributes up to the first that is malformed: for messages
// that were read before.
func wellFormed(b []byte) iter.Seq[attr] {
	return func(yield func(attr) bool) {
		for a, err := range attrs(b) {
			if err != nil || !yield(a) {
				return
			}
		}
	}
}

type attr struct {
	typ   uint16
	data  []byte
	whole []byte // header included
}

var errMalformed = errors.New("malformed netlink message")

func (a attr) u32() uint32 {
	if len(a.data) < 4 {
		return 0
	}
	return native.Uint32(a.data)
}

func (a attr) u8() uint8 {
	if len(a.data) < 1 {
		return 0
	}
	return a.data[0]
}

func (a attr) text() string { return strings.TrimRight(string(a.data), "\x00") }

func (a attr) addr() netip.Addr {
	ip, _ := netip.AddrFromSlice(a.data)
	return ip
}

// via is an address with its family before it (struct rtvia, RFC 5549).
func (a attr) via() netip.Addr {
	if len(a.data) < 2 {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(a.data[2:])
	return ip
}

func appendAttr(b []byte, typ uint16, data []byte) []byte {
	b = native.AppendUint16(b, uint16(attrHeader+len(data)))
	b = native.AppendUint16(b, typ)
	b = append(b, data...)
	return append(b, make([]byte, align4(len(data))-len(data))...)
}

func appendU32(b []byte, typ uint16, v uint32) []byte {
	b = native.AppendUint16(b, attrHeader+4)
	b = native.AppendUint16(b, typ)
	return native.AppendUint32(b, v)
}

func appendAddr(b []byte, typ uint16, ip netip.Addr) []byte {
	if ip.Is4() {
		a := ip.As4()
		return appendAttr(b, typ, a[:])
	}
	a := ip.As16()
	return appendAttr(b, typ, a[:])
}

// appendGateway adds a next hop's address, of whichever family it is.
func appendGateway(b []byte, dst netip.Prefix, gw netip.Addr) []byte {
	switch {
	case !gw.IsValid():
		return b
	case gw.Is6() == dst.Addr().Is6():
		return appendAddr(b, unix.RTA_GATEWAY, gw)
	}
	via := native.AppendUint16(nil, family(gw))
	return appendAttr(b, unix.RTA_VIA, append(via, gw.AsSlice()...))
}

func family(ip netip.Addr) uint16 {
	if ip.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// open begins an attribute of attributes; closeAttr ends it.
func open(b []byte, typ uint16) ([]byte, int) {
	return appendAttr(b, typ, nil), len(b)
}

func closeAttr(b []byte, start int) []byte {
	native.PutUint16(b[start:], uint16(len(b)-start))
	return b
}
