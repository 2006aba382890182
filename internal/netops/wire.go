package netops

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// The fields of struct rtmsg.
const (
	rtFamily   = 0
	rtDstLen   = 1
	rtSrcLen   = 2
	rtTos      = 3
	rtTable    = 4
	rtProtocol = 5
	rtScope    = 6
	rtType     = 7
	rtFlags    = 8
)

// sendableFlags are the flags of a route or next hop that are configuration;
// the others tell its condition, and the kernel refuses some of them.
const sendableFlags = unix.RTNH_F_ONLINK | unix.RTNH_F_PERVASIVE

// hopHeader is struct rtnexthop: length, flags, weight - 1, interface index.
const hopHeader = unix.SizeofRtNexthop

// decodeRoute reads an RTM_NEWROUTE message, without its header.
// It keeps nothing of body.
func decodeRoute(body []byte, name func(index int) (string, error)) (Route, error) {
	return decodeRouteInto(nil, body, name)
}

// decodeRouteInto is decodeRoute with room for the message that the route
// carries.
func decodeRouteInto(room []byte, body []byte, name func(index int) (string, error)) (Route, error) {
	if len(body) < unix.SizeofRtMsg {
		return Route{}, errMalformed
	}
	r := Route{
		Table: uint32(body[rtTable]), Tos: body[rtTos], Type: Type(body[rtType]), Protocol: body[rtProtocol],
		OnLink: native.Uint32(body[rtFlags:])&unix.RTNH_F_ONLINK != 0,
	}
	if body[rtFamily] == unix.AF_INET {
		r.Scope = wireScope(body[rtScope])
	}
	for a, err := range attrs(body[unix.SizeofRtMsg:]) {
		if err != nil {
			return Route{}, err
		}
		if err := r.decodeAttr(a, name); err != nil {
			return Route{}, err
		}
	}
	if r.Dst = destination(body); !r.Dst.IsValid() {
		return Route{}, errMalformed
	}
	if r.Type.Rejects() {
		r.Dev = "" // IPv6 says lo
	}
	if from := r.From.Addr(); from.IsValid() || body[rtSrcLen] != 0 {
		if r.From = netip.PrefixFrom(from, int(body[rtSrcLen])); !r.From.IsValid() {
			return Route{}, errMalformed
		}
	}
	r.Raw = sendable(room, body)
	return r, nil
}

// destination reads the destination of a route message; it is not valid where
// the message is not.
func destination(body []byte) netip.Prefix {
	dst := netip.IPv4Unspecified()
	if body[rtFamily] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for a, err := range attrs(body[unix.SizeofRtMsg:]) {
		if err != nil {
			return netip.Prefix{}
		}
		if a.typ == unix.RTA_DST {
			if len(a.data) != dst.BitLen()/8 {
				return netip.Prefix{}
			}
			dst = a.addr()
			break
		}
	}
	return netip.PrefixFrom(dst, int(body[rtDstLen]))
}

// hasGateway reports whether a route's message names one, of the route itself.
func hasGateway(body []byte) bool {
	for a, err := range attrs(body[unix.SizeofRtMsg:]) {
		if err != nil || a.typ == unix.RTA_GATEWAY || a.typ == unix.RTA_VIA {
			return true
		}
	}
	return false
}

func wireScope(s uint8) Scope {
	if s == unix.RT_SCOPE_UNIVERSE {
		return ScopeGlobal
	}
	return Scope(s)
}

func (r *Route) decodeAttr(a attr, name func(int) (string, error)) (err error) {
	switch a.typ {
	case unix.RTA_TABLE:
		r.Table = a.u32()
	case unix.RTA_PRIORITY:
		r.Metric = a.u32()
	case unix.RTA_GATEWAY:
		r.Gw = a.addr()
	case unix.RTA_VIA:
		r.Gw = a.via()
	case unix.RTA_SRC:
		r.From = netip.PrefixFrom(a.addr(), 0)
	case rtaNhID:
		r.NhID = a.u32()
	case unix.RTA_OIF:
		r.Dev, err = name(int(a.u32()))
	case unix.RTA_PREFSRC:
		r.Src = a.addr()
	case unix.RTA_CACHEINFO:
		r.Expires = expiry(a.data)
	case unix.RTA_MULTIPATH:
		r.Hops, err = decodeHops(a.data, name)
		// Over one way only it is no multipath route: IPv4 says so, IPv6 may not.
		if err == nil {
			r.setNextHops(r.Hops)
		}
	case unix.RTA_METRICS:
		for m, err := range attrs(a.data) {
			if err != nil {
				return err
			}
			switch m.typ {
			case unix.RTAX_MTU:
				r.MTU = m.u32()
			case unix.RTAX_ADVMSS:
				r.AdvMSS = m.u32()
			}
		}
	}
	return err
}

func decodeHops(b []byte, name func(int) (string, error)) (hops []NextHop, err error) {
	for h, err := range hopsOf(b) {
		if err != nil {
			return nil, err
		}
		hop := NextHop{Weight: uint16(h[3]) + 1, OnLink: h[2]&unix.RTNH_F_ONLINK != 0}
		if hop.Dev, err = name(int(native.Uint32(h[4:]))); err != nil {
			return nil, err
		}
		for a, err := range attrs(h[hopHeader:]) {
			if err != nil {
				return nil, err
			}
			switch a.typ {
			case unix.RTA_GATEWAY:
				hop.Gw = a.addr()
			case unix.RTA_VIA:
				hop.Gw = a.via()
			}
		}
		hops = append(hops, hop)
	}
	return hops, nil
}

// hopsOf visits the next hops of an RTA_MULTIPATH attribute, each with its
// header.
func hopsOf(b []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for len(b) >= hopHeader {
			n := int(native.Uint16(b))
			if n < hopHeader || n > len(b) {
				yield(nil, errMalformed)
				return
			}
			if !yield(b[:n], nil) {
				return
			}
			b = b[min(align4(n), len(b)):]
		}
	}
}

// rawHopsOf visits next hops up to the first that is malformed.
func rawHopsOf(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for h, err := range hopsOf(b) {
			if err != nil || !yield(h) {
				return
			}
		}
	}
}

// expiry reads the seconds that a route has left from struct rta_cacheinfo,
// which counts hundredths (USER_HZ).
func expiry(b []byte) uint32 {
	const expires = 8
	if len(b) < expires+4 {
		return 0
	}
	left := int32(native.Uint32(b[expires:]))
	if left <= 0 {
		return 0
	}
	return uint32(left+99) / 100
}

// sendable is a route message without what the kernel tells but does not take
// back: flags of condition, cache statistics, IPv6's default preference, the
// device of an IPv6 route to nowhere, and next hops that a nexthop object
// stands for.
func sendable(raw, body []byte) []byte {
	is6 := body[rtFamily] == unix.AF_INET6
	object := false
	for a := range wellFormed(body[unix.SizeofRtMsg:]) {
		object = object || a.typ == rtaNhID
	}
	raw = append(raw, body[:unix.SizeofRtMsg]...)
	native.PutUint32(raw[rtFlags:], native.Uint32(raw[rtFlags:])&sendableFlags)
	for a := range wellFormed(body[unix.SizeofRtMsg:]) {
		switch a.typ {
		case unix.RTA_CACHEINFO:
			continue
		case unix.RTA_PREF:
			if len(a.data) == 1 && a.data[0] == 0 {
				continue
			}
		case unix.RTA_OIF:
			if object || is6 && Type(body[rtType]).Rejects() {
				continue
			}
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			if object {
				continue
			}
		case unix.RTA_MULTIPATH:
			if object {
				continue
			}
			raw = appendAttr(raw, a.typ, sendableHops(a.data))
			continue
		}
		raw = appendAttr(raw, native.Uint16(a.whole[2:]), a.data)
	}
	return raw
}

func sendableHops(b []byte) []byte {
	const flags = 2
	clean := slices.Clone(b)
	for h := range rawHopsOf(clean) {
		h[flags] &= sendableFlags
	}
	return clean
}

// withWays is the route with only these of its next hops. A route by a
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
	for a := range wellFormed(r.Raw[unix.SizeofRtMsg:]) {
		switch a.typ {
		case rtaNhID, unix.RTA_OIF, unix.RTA_GATEWAY, unix.RTA_VIA:
		case unix.RTA_MULTIPATH:
			kept = rawHops(a.data, r.NextHops(), keep)
		default:
			part.Raw = appendAttr(part.Raw, native.Uint16(a.whole[2:]), a.data)
		}
	}
	if len(kept) == len(keep) {
		part.Raw = appendRawHops(part.Raw, kept)
	} else {
		part.Raw = appendNextHops(part.Raw, &part, nil)
	}
	return part
}

// setWays makes the hops the route's: a single one is no multipath route.
func (r *Route) setNextHops(hops []NextHop) {
	r.Gw, r.Dev, r.Hops = netip.Addr{}, "", nil
	if len(hops) == 1 {
		r.Gw, r.Dev, r.OnLink = hops[0].Gw, hops[0].Dev, hops[0].OnLink
		return
	}
	r.Hops = hops
	r.OnLink = len(hops) > 0 && !slices.ContainsFunc(hops, func(h NextHop) bool { return !h.OnLink })
}

// rawHops are those of a multipath attribute's next hops, which are ways, that
// keep names.
func rawHops(b []byte, ways, keep []NextHop) (kept [][]byte) {
	for h := range rawHopsOf(b) {
		if len(ways) == 0 {
			return nil
		}
		if slices.ContainsFunc(keep, ways[0].sameHop) {
			kept = append(kept, h)
		}
		ways = ways[1:]
	}
	return kept
}

// appendRawHops writes next hops as the kernel wrote them: several as a
// multipath attribute, a single one of IPv4 as attributes of the route. One of
// IPv6 has a weight among those that it will join.
func appendRawHops(raw []byte, hops [][]byte) []byte {
	if len(hops) == 1 && raw[rtFamily] == unix.AF_INET {
		h := hops[0]
		flags := native.Uint32(raw[rtFlags:]) | uint32(h[2])
		native.PutUint32(raw[rtFlags:], flags)
		raw = appendU32(raw, unix.RTA_OIF, native.Uint32(h[4:]))
		return append(raw, h[hopHeader:]...)
	}
	raw, start := open(raw, unix.RTA_MULTIPATH)
	for _, h := range hops {
		raw = append(raw, h...)
	}
	return closeAttr(raw, start)
}

// rawInTable is a route message with another table.
func rawInTable(raw []byte, table uint32) []byte {
	moved := slices.Clone(raw[:unix.SizeofRtMsg])
	moved[rtTable] = unix.RT_TABLE_UNSPEC
	for a := range wellFormed(raw[unix.SizeofRtMsg:]) {
		if a.typ != unix.RTA_TABLE {
			moved = appendAttr(moved, native.Uint16(a.whole[2:]), a.data)
		}
	}
	return appendU32(moved, unix.RTA_TABLE, table)
}

// rawOnLink is a route message with all of its next hops on-link.
func rawOnLink(raw []byte) []byte {
	const hopFlags = 2
	on := slices.Clone(raw)
	multipath := false
	for a := range wellFormed(on[unix.SizeofRtMsg:]) {
		if a.typ == unix.RTA_MULTIPATH {
			multipath = true
			for h := range rawHopsOf(a.data) {
				h[hopFlags] |= unix.RTNH_F_ONLINK
			}
		}
	}
	if !multipath {
		native.PutUint32(on[rtFlags:], native.Uint32(on[rtFlags:])|unix.RTNH_F_ONLINK)
	}
	return on
}

// appendRoute encodes a route as an rtmsg with its attributes. Interface
// indexes come from index; it is not called where r has no device.
func appendRoute(b []byte, r *Route, index func(name string) (uint32, error)) ([]byte, error) {
	devs, err := deviceIndexes(r, index)
	if err != nil {
		return nil, err
	}
	if r.Raw != nil {
		return appendRaw(b, r, devs), nil
	}
	flags := uint32(0)
	if r.OnLink && r.single() {
		flags = unix.RTNH_F_ONLINK
	}
	scope := r.Scope
	if scope == ScopeAuto {
		scope = r.autoScope()
	}
	b = append(b, uint8(family(r.Dst.Addr())), uint8(r.Dst.Bits()), 0, r.Tos, unix.RT_TABLE_UNSPEC,
		r.Protocol, uint8(scope), uint8(r.Type))
	b = native.AppendUint32(b, flags)
	b = appendU32(b, unix.RTA_TABLE, r.Table)
	if !r.Default() {
		b = appendAddr(b, unix.RTA_DST, r.Dst.Addr())
	}
	if r.Metric != 0 {
		b = appendU32(b, unix.RTA_PRIORITY, r.Metric)
	}
	if r.Src.IsValid() {
		b = appendAddr(b, unix.RTA_PREFSRC, r.Src)
	}
	return appendNextHops(appendMetrics(b, r), r, devs), nil
}

func appendMetrics(b []byte, r *Route) []byte {
	if r.MTU == 0 && r.AdvMSS == 0 {
		return b
	}
	b, start := open(b, unix.RTA_METRICS)
	if r.MTU != 0 {
		b = appendU32(b, unix.RTAX_MTU, r.MTU)
	}
	if r.AdvMSS != 0 {
		b = appendU32(b, unix.RTAX_ADVMSS, r.AdvMSS)
	}
	return closeAttr(b, start)
}

// appendWays writes the next hops. Without indexes it writes zeroes, which
// appendRaw fills in.
func appendNextHops(b []byte, r *Route, devs []uint32) []byte {
	dev := func(i int) uint32 {
		if i < len(devs) {
			return devs[i]
		}
		return 0
	}
	if r.single() {
		if r.Dev != "" {
			b = appendU32(b, unix.RTA_OIF, dev(0))
		}
		return appendGateway(b, r.Dst, r.Gw)
	}
	b, start := open(b, unix.RTA_MULTIPATH)
	for i, h := range r.Hops {
		begin := len(b)
		flags := uint8(0)
		if r.OnLink || h.OnLink {
			flags = unix.RTNH_F_ONLINK
		}
		b = append(b, 0, 0, flags, uint8(h.weight()-1))
		b = native.AppendUint32(b, dev(i))
		b = appendGateway(b, r.Dst, h.Gw)
		native.PutUint16(b[begin:], uint16(len(b)-begin))
	}
	return closeAttr(b, start)
}

// deviceIndexes resolves the names of a route's devices, in the order of its
// ways.
func deviceIndexes(r *Route, index func(string) (uint32, error)) ([]uint32, error) {
	if r.Type.Rejects() {
		return nil, nil
	}
	if r.single() {
		if r.Dev == "" {
			return nil, nil
		}
		i, err := index(r.Dev)
		return []uint32{i}, err
	}
	devs := make([]uint32, len(r.Hops))
	for i, h := range r.Hops {
		if h.Dev == "" {
			continue
		}
		var err error
		if devs[i], err = index(h.Dev); err != nil {
			return nil, err
		}
	}
	return devs, nil
}

// appendRaw writes the kernel's own message with today's interface indexes,
// and the lifetime that is left.
func appendRaw(b []byte, r *Route, devs []uint32) []byte {
	start := len(b)
	b = append(b, r.Raw...)
	next := func() (d uint32, ok bool) {
		if len(devs) == 0 {
			return 0, false
		}
		d, devs = devs[0], devs[1:]
		return d, true
	}
	for a := range wellFormed(b[start+unix.SizeofRtMsg:]) {
		switch a.typ {
		case unix.RTA_OIF:
			if d, ok := next(); ok && len(a.data) == 4 {
				native.PutUint32(a.data, d)
			}
		case unix.RTA_MULTIPATH:
			for h := range rawHopsOf(a.data) {
				if d, ok := next(); ok {
					native.PutUint32(h[4:], d)
				}
			}
		}
	}
	if r.Expires != 0 {
		b = appendU32(b, unix.RTA_EXPIRES, r.Expires)
	}
	return b
}

// validRaw reports why a recorded message cannot be one that was read from
// the kernel for this route.
func validRaw(r *Route) error {
	if r.Raw == nil {
		return nil
	}
	// The names are those of the record: the indexes in it are long stale.
	back, err := decodeRoute(r.Raw, func(int) (string, error) { return "", nil })
	switch {
	case err != nil:
		return err
	case back.Key() != r.Key() || back.Type != r.Type:
		return fmt.Errorf("raw message is of another route than %s", r)
	}
	return nil
}
