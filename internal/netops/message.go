package netops

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

// sendableFlags are the flags of a route or next hop that are configuration;
// the others tell its condition, and the kernel refuses some of them.
const sendableFlags = unix.RTNH_F_ONLINK | unix.RTNH_F_PERVASIVE

// DecodeRoute reads an RTM_NEWROUTE message, without its header, of which it
// keeps nothing. The message that the route carries is appended to room, which
// may be nil.
func DecodeRoute(room, body []byte, name func(index int) (string, error)) (Route, error) {
	if len(body) < unix.SizeofRtMsg {
		return Route{}, rtattr.ErrMalformed
	}
	m := header(body)
	r := Route{
		Table: uint32(m.Table), Tos: m.Tos, Type: Type(m.Type), Protocol: m.Protocol,
		OnLink: m.Flags&unix.RTNH_F_ONLINK != 0,
	}
	if m.Family == unix.AF_INET {
		r.Scope = WireScope(m.Scope)
	}
	for a, err := range rtattr.All(body[unix.SizeofRtMsg:]) {
		if err != nil {
			return Route{}, err
		}
		if err := r.decodeAttr(a, name); err != nil {
			return Route{}, err
		}
	}
	if r.Dst = Destination(body); !r.Dst.IsValid() {
		return Route{}, rtattr.ErrMalformed
	}
	if r.Type.Rejects() {
		r.Dev = "" // IPv6 says lo
	}
	if from := r.From.Addr(); from.IsValid() || m.Src_len != 0 {
		if r.From = netip.PrefixFrom(from, int(m.Src_len)); !r.From.IsValid() {
			return Route{}, rtattr.ErrMalformed
		}
	}
	r.Raw = sendable(room, body, r.NhID != 0)
	return r, nil
}

// OverLinks reports whether the interfaces of a route are among those of these
// indexes, by name, and are those that its message is about: an interface that
// came anew has another index.
func (r *Route) OverLinks(indexes map[string]uint32) bool {
	var told []uint32
	if r.Raw != nil {
		_, _ = DecodeRoute(nil, r.Raw, func(index int) (string, error) {
			told = append(told, uint32(index))
			return "", nil
		})
	}
	for i, hop := range r.NextHops() {
		index, there := indexes[hop.Dev]
		if !there || i < len(told) && told[i] != index {
			return false
		}
	}
	return true
}

// header is the struct rtmsg with which a route message begins.
func header(message []byte) *unix.RtMsg { return rtattr.View[unix.RtMsg](message) }

// Destination reads the destination of a route message; it is not valid where
// the message is not.
func Destination(body []byte) netip.Prefix {
	dst := netip.IPv4Unspecified()
	if header(body).Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for a, err := range rtattr.All(body[unix.SizeofRtMsg:]) {
		if err != nil {
			return netip.Prefix{}
		}
		if a.Type == unix.RTA_DST {
			if len(a.Data) != dst.BitLen()/8 {
				return netip.Prefix{}
			}
			dst = a.Addr()
			break
		}
	}
	return netip.PrefixFrom(dst, int(header(body).Dst_len))
}

// WireScope is the scope of that number, which messages and configurations have.
func WireScope(s uint8) Scope {
	if s == unix.RT_SCOPE_UNIVERSE {
		return ScopeGlobal
	}
	return Scope(s)
}

func (r *Route) decodeAttr(a rtattr.Attr, name func(int) (string, error)) (err error) {
	switch a.Type {
	case unix.RTA_TABLE:
		r.Table = a.Uint32()
	case unix.RTA_PRIORITY:
		r.Metric = a.Uint32()
	case unix.RTA_GATEWAY:
		r.Gw = a.Addr()
	case unix.RTA_VIA:
		r.Gw = a.Via()
	case unix.RTA_SRC:
		r.From = netip.PrefixFrom(a.Addr(), 0)
	case rtattr.NhID:
		r.NhID = a.Uint32()
	case unix.RTA_OIF:
		r.Dev, err = name(int(a.Uint32()))
	case unix.RTA_PREFSRC:
		r.Src = a.Addr()
	case unix.RTA_CACHEINFO:
		r.Expires = expiry(a.Data)
	case unix.RTA_MULTIPATH:
		r.Hops, err = decodeHops(a.Data, name)
		// Over one next hop only it is no multipath route: IPv4 says so, IPv6 may not.
		if err == nil {
			r.setNextHops(r.Hops)
		}
	case unix.RTA_METRICS:
		for m, err := range rtattr.All(a.Data) {
			if err != nil {
				return err
			}
			switch m.Type {
			case unix.RTAX_MTU:
				r.MTU = m.Uint32()
			case unix.RTAX_ADVMSS:
				r.AdvMSS = m.Uint32()
			}
		}
	}
	return err
}

func decodeHops(b []byte, name func(int) (string, error)) (hops []NextHop, err error) {
	for h, err := range rtattr.Hops(b) {
		if err != nil {
			return nil, err
		}
		m := rtattr.View[unix.RtNexthop](h)
		hop := NextHop{Weight: uint16(m.Hops) + 1, OnLink: m.Flags&unix.RTNH_F_ONLINK != 0}
		if hop.Dev, err = name(int(m.Ifindex)); err != nil {
			return nil, err
		}
		for a, err := range rtattr.All(h[unix.SizeofRtNexthop:]) {
			if err != nil {
				return nil, err
			}
			switch a.Type {
			case unix.RTA_GATEWAY:
				hop.Gw = a.Addr()
			case unix.RTA_VIA:
				hop.Gw = a.Via()
			}
		}
		hops = append(hops, hop)
	}
	return hops, nil
}

// expiry reads the seconds that a route has left from struct rta_cacheinfo,
// which counts hundredths (USER_HZ).
func expiry(b []byte) uint32 {
	const expires = 8
	if len(b) < expires+4 {
		return 0
	}
	left := int32(rtattr.Native.Uint32(b[expires:]))
	if left <= 0 {
		return 0
	}
	return uint32(left+99) / 100
}

// sendable is a route message without what the kernel tells but does not take
// back: flags of condition, cache statistics, IPv6's default preference, the
// device of an IPv6 route to nowhere, and next hops that a nexthop object
// stands for.
func sendable(raw, body []byte, byObject bool) []byte {
	m := header(body)
	raw = append(raw, body[:unix.SizeofRtMsg]...)
	header(raw).Flags &= sendableFlags
	for a := range rtattr.WellFormed(body[unix.SizeofRtMsg:]) {
		switch a.Type {
		case unix.RTA_CACHEINFO:
			continue
		case unix.RTA_PREF:
			if len(a.Data) == 1 && a.Data[0] == 0 {
				continue
			}
		case unix.RTA_OIF:
			if byObject || m.Family == unix.AF_INET6 && Type(m.Type).Rejects() {
				continue
			}
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			if byObject {
				continue
			}
		case unix.RTA_MULTIPATH:
			if !byObject {
				raw = rtattr.Append(raw, a.Type, sendableHops(a.Data))
			}
			continue
		}
		raw = rtattr.Append(raw, a.RawType, a.Data)
	}
	return raw
}

func sendableHops(b []byte) []byte {
	clean := slices.Clone(b)
	for h := range rtattr.WellFormedHops(clean) {
		rtattr.View[unix.RtNexthop](h).Flags &= sendableFlags
	}
	return clean
}

// withNextHops is the route with only these of its next hops. A route by a
// nexthop object gets them as its own.
func (r *Route) withNextHops(keep []NextHop) Route {
	part := *r
	part.setNextHops(keep)
	part.NhID = 0
	if r.Raw == nil {
		return part
	}
	part.Raw = slices.Clone(r.Raw[:unix.SizeofRtMsg])
	var kept [][]byte
	for a := range rtattr.WellFormed(r.Raw[unix.SizeofRtMsg:]) {
		switch a.Type {
		case rtattr.NhID, unix.RTA_OIF, unix.RTA_GATEWAY, unix.RTA_VIA:
		case unix.RTA_MULTIPATH:
			kept = rawHops(a.Data, r.NextHops(), keep)
		default:
			part.Raw = rtattr.Append(part.Raw, a.RawType, a.Data)
		}
	}
	if len(kept) == len(keep) {
		part.Raw = appendRawHops(part.Raw, kept)
	} else {
		part.Raw = AppendNextHops(part.Raw, &part, nil)
	}
	return part
}

// Alive is the route without the next hops that the kernel does not use as long as
// their interface is down, or has no carrier where that counts (sysctl
// net.ipv4.conf.*.ignore_routes_with_linkdown), and whether any is left. body is the
// message that the route was decoded from: what it keeps of it does not tell.
func (r *Route) Alive(body []byte) (alive Route, ok bool) {
	if header(body).Flags&unix.RTNH_F_DEAD != 0 {
		return Route{}, false
	}
	var keep []NextHop
	for a := range rtattr.WellFormed(body[unix.SizeofRtMsg:]) {
		if a.Type != unix.RTA_MULTIPATH {
			continue
		}
		at := 0
		for h := range rtattr.WellFormedHops(a.Data) {
			if at < len(r.Hops) && rtattr.View[unix.RtNexthop](h).Flags&unix.RTNH_F_DEAD == 0 {
				keep = append(keep, r.Hops[at])
			}
			at++
		}
	}
	if len(keep) == len(r.Hops) {
		return *r, true
	}
	return r.withNextHops(keep), len(keep) > 0
}

// setNextHops makes the hops the route's: a single one is no multipath route.
func (r *Route) setNextHops(hops []NextHop) {
	r.Gw, r.Dev, r.Hops = netip.Addr{}, "", nil
	if len(hops) == 1 {
		r.Gw, r.Dev, r.OnLink = hops[0].Gw, hops[0].Dev, hops[0].OnLink
		return
	}
	r.Hops = hops
	r.OnLink = len(hops) > 0 && !slices.ContainsFunc(hops, func(h NextHop) bool { return !h.OnLink })
}

// rawHops are those of a multipath attribute's next hops, which are listed, that
// keep names.
func rawHops(b []byte, listed, keep []NextHop) (kept [][]byte) {
	for h := range rtattr.WellFormedHops(b) {
		if len(listed) == 0 {
			return nil
		}
		if slices.ContainsFunc(keep, listed[0].SameHop) {
			kept = append(kept, h)
		}
		listed = listed[1:]
	}
	return kept
}

// appendRawHops writes next hops as the kernel wrote them: several as a
// multipath attribute, a single one of IPv4 as attributes of the route. One of
// IPv6 has a weight among those that it will join.
func appendRawHops(raw []byte, hops [][]byte) []byte {
	if m := header(raw); len(hops) == 1 && m.Family == unix.AF_INET {
		h := rtattr.View[unix.RtNexthop](hops[0])
		m.Flags |= uint32(h.Flags)
		raw = rtattr.AppendUint32(raw, unix.RTA_OIF, uint32(h.Ifindex))
		return append(raw, hops[0][unix.SizeofRtNexthop:]...)
	}
	raw, start := rtattr.Open(raw, unix.RTA_MULTIPATH)
	for _, h := range hops {
		raw = append(raw, h...)
	}
	return rtattr.Close(raw, start)
}

// rawInTable is a route message with another table.
func rawInTable(raw []byte, table uint32) []byte {
	moved := slices.Clone(raw[:unix.SizeofRtMsg])
	header(moved).Table = unix.RT_TABLE_UNSPEC
	for a := range rtattr.WellFormed(raw[unix.SizeofRtMsg:]) {
		if a.Type != unix.RTA_TABLE {
			moved = rtattr.Append(moved, a.RawType, a.Data)
		}
	}
	return rtattr.AppendUint32(moved, unix.RTA_TABLE, table)
}

// rawOnLink is a route message with all of its next hops on-link.
func rawOnLink(raw []byte) []byte {
	on := slices.Clone(raw)
	multipath := false
	for a := range rtattr.WellFormed(on[unix.SizeofRtMsg:]) {
		if a.Type == unix.RTA_MULTIPATH {
			multipath = true
			for h := range rtattr.WellFormedHops(a.Data) {
				rtattr.View[unix.RtNexthop](h).Flags |= unix.RTNH_F_ONLINK
			}
		}
	}
	if !multipath {
		header(on).Flags |= unix.RTNH_F_ONLINK
	}
	return on
}

// AppendNextHops writes the next hops of a route. Without the indexes of their
// interfaces it writes zeroes, to be filled in when the message is sent.
func AppendNextHops(b []byte, r *Route, devs []uint32) []byte {
	dev := func(i int) uint32 {
		if i < len(devs) {
			return devs[i]
		}
		return 0
	}
	if r.single() {
		if r.Dev != "" {
			b = rtattr.AppendUint32(b, unix.RTA_OIF, dev(0))
		}
		return rtattr.AppendGateway(b, r.Dst, r.Gw)
	}
	b, start := rtattr.Open(b, unix.RTA_MULTIPATH)
	for i, h := range r.Hops {
		begin := len(b)
		var m *unix.RtNexthop
		b, m = rtattr.Extend[unix.RtNexthop](b)
		m.Hops, m.Ifindex = uint8(h.weight()-1), int32(dev(i))
		if r.OnLink || h.OnLink {
			m.Flags = unix.RTNH_F_ONLINK
		}
		b = rtattr.AppendGateway(b, r.Dst, h.Gw)
		rtattr.View[unix.RtNexthop](b[begin:]).Len = uint16(len(b) - begin)
	}
	return rtattr.Close(b, start)
}

// validRaw reports why a recorded message cannot be one that was read from
// the kernel for this route.
func validRaw(r *Route) error {
	if r.Raw == nil {
		return nil
	}
	// The names are those of the record: the indexes in it are long stale.
	back, err := DecodeRoute(nil, r.Raw, func(int) (string, error) { return "", nil })
	switch {
	case err != nil:
		return err
	case back.Key() != r.Key() || back.Type != r.Type:
		return fmt.Errorf("raw message is of another route than %s", r)
	}
	return nil
}
