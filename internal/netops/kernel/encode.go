package kernel

import (
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

// appendOperation encodes what is done with a route.
func appendOperation(b []byte, r *netops.Route, op netops.Operation, index func(string) (uint32, error)) ([]byte, error) {
	if op.Deletes() && r.Hidden() {
		return nil, netops.ErrCannotDelete
	}
	start := len(b)
	b, err := appendRoute(b, r, index)
	if err != nil {
		return nil, err
	}
	m := nl.DeserializeRtMsg(b[start:])
	switch {
	case op.Tagged:
		m.Protocol = netops.Protocol
	case op.Deletes() && r.Is6():
		// Merged routes are listed with the protocol of the first of them; in a
		// deletion that would be the only one that it hits.
		m.Protocol = unix.RTPROT_UNSPEC
	}
	return b, nil
}

// appendRoute encodes a route as an rtmsg with its attributes. Interface
// indexes come from index; it is not called where r has no device.
func appendRoute(b []byte, r *netops.Route, index func(name string) (uint32, error)) ([]byte, error) {
	devs, err := deviceIndexes(r, index)
	if err != nil {
		return nil, err
	}
	if r.Raw != nil {
		return appendRaw(b, r, devs), nil
	}
	m := nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(rtattr.Family(r.Dst.Addr())), Dst_len: uint8(r.Dst.Bits()), Tos: r.Tos,
		Protocol: r.Protocol, Scope: uint8(r.Scope), Type: uint8(r.Type)}}
	if r.OnLink && len(r.Hops) == 0 {
		m.Flags = unix.RTNH_F_ONLINK
	}
	if r.Scope == netops.ScopeAuto {
		m.Scope = uint8(r.DefaultScope())
	}
	b = append(b, m.Serialize()...)
	b = rtattr.AppendUint32(b, unix.RTA_TABLE, r.Table)
	if !r.Default() {
		b = rtattr.AppendAddr(b, unix.RTA_DST, r.Dst.Addr())
	}
	if r.Metric != 0 {
		b = rtattr.AppendUint32(b, unix.RTA_PRIORITY, r.Metric)
	}
	if r.Src.IsValid() {
		b = rtattr.AppendAddr(b, unix.RTA_PREFSRC, r.Src)
	}
	return netops.AppendNextHops(appendMetrics(b, r), r, devs), nil
}

func appendMetrics(b []byte, r *netops.Route) []byte {
	if r.MTU == 0 && r.AdvMSS == 0 {
		return b
	}
	b, start := rtattr.Open(b, unix.RTA_METRICS)
	if r.MTU != 0 {
		b = rtattr.AppendUint32(b, unix.RTAX_MTU, r.MTU)
	}
	if r.AdvMSS != 0 {
		b = rtattr.AppendUint32(b, unix.RTAX_ADVMSS, r.AdvMSS)
	}
	return rtattr.Close(b, start)
}

// deviceIndexes resolves the names of a route's devices, in the order of its
// next hops.
func deviceIndexes(r *netops.Route, index func(string) (uint32, error)) ([]uint32, error) {
	if r.Type.Rejects() {
		return nil, nil
	}
	if len(r.Hops) == 0 {
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
func appendRaw(b []byte, r *netops.Route, devs []uint32) []byte {
	start := len(b)
	b = append(b, r.Raw...)
	for a := range rtattr.WellFormed(b[start+unix.SizeofRtMsg:]) {
		switch a.Type {
		case unix.RTA_OIF:
			if len(devs) > 0 && len(a.Data) == 4 {
				rtattr.Native.PutUint32(a.Data, devs[0])
			}
		case unix.RTA_MULTIPATH:
			left := devs
			for h := range rtattr.WellFormedHops(a.Data) {
				if len(left) > 0 {
					rtattr.View[unix.RtNexthop](h).Ifindex = int32(left[0])
					left = left[1:]
				}
			}
		}
	}
	if r.Expires != 0 {
		b = rtattr.AppendUint32(b, unix.RTA_EXPIRES, r.Expires)
	}
	return b
}
