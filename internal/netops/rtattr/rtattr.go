// Package rtattr walks and writes the attributes of rtnetlink messages
// (rtnetlink(7), struct rtattr). It works on bytes and talks to no kernel.
//
// It is our own for two reasons: netlink's ParseRouteAttr makes a list of every
// message, which makes one change among 5,000 routes take half as long again,
// and panics on a tail that is not padded.
package rtattr

import (
	"encoding/binary"
	"errors"
	"iter"
	"net/netip"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Native is the machine's byte order, which all numbers of rtnetlink have.
var Native = binary.NativeEndian

// ErrMalformed says that a message does not have the form that its type asks
// for.
var ErrMalformed = errors.New("malformed netlink message")

const (
	header = unix.SizeofRtAttr
	// typeMask leaves out NLA_F_NESTED and NLA_F_NET_BYTEORDER.
	typeMask = 0x3fff
)

// NhID is RTA_NH_ID (linux/rtnetlink.h), which x/sys lacks.
const NhID = 30

// Header is a struct of the kernel that stands before attributes.
type Header interface {
	unix.NlMsghdr | unix.RtMsg | unix.RtNexthop | unix.NdMsg
}

// View is the struct at the beginning of b, which has to be as long: what is
// written to it is written to b.
func View[T Header](b []byte) *T {
	return (*T)(unsafe.Pointer(&b[:unsafe.Sizeof(*new(T))][0]))
}

// Extend appends a struct of zeroes, to be filled in before b grows again.
func Extend[T Header](b []byte) ([]byte, *T) {
	start := len(b)
	b = append(b, make([]byte, unsafe.Sizeof(*new(T)))...)
	return b, View[T](b[start:])
}

// Attr is one attribute. Its data is a part of the message.
type Attr struct {
	Type    uint16 // without flags
	RawType uint16 // with NLA_F_NESTED and NLA_F_NET_BYTEORDER
	Data    []byte
}

// Align is n rounded up to the alignment of messages and attributes, 4 bytes.
func Align(n int) int { return (n + 3) &^ 3 }

// All visits the attributes in b. A malformed one ends the walk with
// ErrMalformed.
func All(b []byte) iter.Seq2[Attr, error] {
	return func(yield func(Attr, error) bool) {
		for len(b) >= header {
			n := int(Native.Uint16(b))
			if n < header || n > len(b) {
				yield(Attr{}, ErrMalformed)
				return
			}
			typ := Native.Uint16(b[2:])
			if !yield(Attr{Type: typ & typeMask, RawType: typ, Data: b[header:n]}, nil) {
				return
			}
			b = b[min(Align(n), len(b)):]
		}
	}
}

// WellFormed visits attributes up to the first that is malformed: for messages
// that were read before.
func WellFormed(b []byte) iter.Seq[Attr] {
	return func(yield func(Attr) bool) {
		for a, err := range All(b) {
			if err != nil || !yield(a) {
				return
			}
		}
	}
}

// Uint32 is the attribute's number; 0 where it is shorter.
func (a Attr) Uint32() uint32 {
	if len(a.Data) < 4 {
		return 0
	}
	return Native.Uint32(a.Data)
}

// Uint8 is the attribute's number; 0 where it is empty.
func (a Attr) Uint8() uint8 {
	if len(a.Data) < 1 {
		return 0
	}
	return a.Data[0]
}

// Text is the attribute's text, without the zero byte at its end.
func (a Attr) Text() string { return strings.TrimRight(string(a.Data), "\x00") }

// Addr is the attribute's address, not valid where it has the length of none.
func (a Attr) Addr() netip.Addr {
	ip, _ := netip.AddrFromSlice(a.Data)
	return ip
}

// Via is an address with its family before it (struct rtvia, RFC 5549).
func (a Attr) Via() netip.Addr {
	const family = 2
	if len(a.Data) < family {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(a.Data[family:])
	return ip
}

// Append appends an attribute, padded.
func Append(b []byte, typ uint16, data []byte) []byte {
	b = Native.AppendUint16(b, uint16(header+len(data)))
	b = Native.AppendUint16(b, typ)
	b = append(b, data...)
	return append(b, make([]byte, Align(len(data))-len(data))...)
}

// AppendUint32 appends an attribute that is a number.
func AppendUint32(b []byte, typ uint16, v uint32) []byte {
	b = Native.AppendUint16(b, header+4)
	b = Native.AppendUint16(b, typ)
	return Native.AppendUint32(b, v)
}

// AppendAddr appends an attribute that is an address.
func AppendAddr(b []byte, typ uint16, ip netip.Addr) []byte {
	if ip.Is4() {
		a := ip.As4()
		return Append(b, typ, a[:])
	}
	a := ip.As16()
	return Append(b, typ, a[:])
}

// AppendGateway appends a next hop's address, of whichever family it is
// (RTA_GATEWAY, or RTA_VIA where it is not that of the destination).
func AppendGateway(b []byte, dst netip.Prefix, gw netip.Addr) []byte {
	switch {
	case !gw.IsValid():
		return b
	case gw.Is6() == dst.Addr().Is6():
		return AppendAddr(b, unix.RTA_GATEWAY, gw)
	}
	via := Native.AppendUint16(nil, Family(gw))
	return Append(b, unix.RTA_VIA, append(via, gw.AsSlice()...))
}

// Family is the address family of an address.
func Family(ip netip.Addr) uint16 {
	if ip.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// Open begins an attribute that holds others; Close ends it.
func Open(b []byte, typ uint16) (_ []byte, start int) { return Append(b, typ, nil), len(b) }

// Close ends the attribute that was opened at start.
func Close(b []byte, start int) []byte {
	Native.PutUint16(b[start:], uint16(len(b)-start))
	return b
}
