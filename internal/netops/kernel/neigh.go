package kernel

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

// The fields of struct ndmsg (linux/neighbour.h), and what x/sys lacks of its
// attributes.
const (
	ndFamily = 0
	ndIndex  = 4
	ndState  = 8
	ndFlags  = 10

	ndaProtocol = 12 // NDA_PROTOCOL
)

// appendNeigh encodes an RTM_NEWNEIGH or RTM_DELNEIGH.
func appendNeigh(b []byte, e *netops.Neigh, deletes bool, index func(string) (uint32, error)) ([]byte, error) {
	dev, err := index(e.Dev)
	if err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(e.HardwareAddr)
	if err != nil {
		return nil, err
	}
	b = append(b, uint8(rtattr.Family(e.IP)), 0, 0, 0)
	b = rtattr.Native.AppendUint32(b, dev)
	b = rtattr.Native.AppendUint16(b, unix.NUD_PERMANENT)
	b = append(b, e.Flags, 0)
	b = rtattr.AppendAddr(b, unix.NDA_DST, e.IP)
	if deletes {
		return b, nil
	}
	if e.Protocol != 0 {
		b = rtattr.Append(b, ndaProtocol, []byte{e.Protocol})
	}
	return rtattr.Append(b, unix.NDA_LLADDR, mac), nil
}

// dumpNeighs lists the entries of an interface, of both families.
func (n *Netns) dumpNeighs(s *netops.State, index uint32) (batches int, err error) {
	start := n.conn.message(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
	n.conn.send = append(n.conn.send, make([]byte, unix.SizeofNdMsg)...)
	n.conn.send = rtattr.AppendUint32(n.conn.send, unix.NDA_IFINDEX, index)
	n.conn.finish(start)
	return n.conn.ask(func(r reply) error {
		e, ok, err := decodeNeigh(r.body, n.name)
		if ok && rtattr.Native.Uint32(r.body[ndIndex:]) == index {
			s.Neighs = append(s.Neighs, e)
		}
		return err
	})
}

// decodeNeigh reads an RTM_NEWNEIGH message, without its header. Not ok are
// those that are not asked for and not kept from being: of multicast and of
// interfaces without neighbours, those that another program keeps up to date
// (NTF_EXT_LEARNED), and those of bridges.
func decodeNeigh(body []byte, name func(int) (string, error)) (e netops.Neigh, ok bool, err error) {
	if len(body) < unix.SizeofNdMsg {
		return netops.Neigh{}, false, rtattr.ErrMalformed
	}
	family, state, flags := body[ndFamily], rtattr.Native.Uint16(body[ndState:]), body[ndFlags]
	permanent := state&unix.NUD_PERMANENT != 0
	e = netops.Neigh{Learnt: !permanent, Flags: flags & (unix.NTF_ROUTER | unix.NTF_EXT_LEARNED)}
	for a, err := range rtattr.All(body[unix.SizeofNdMsg:]) {
		if err != nil {
			return netops.Neigh{}, false, err
		}
		switch a.Type {
		case unix.NDA_DST:
			e.IP = a.Addr()
		case unix.NDA_LLADDR:
			e.HardwareAddr = net.HardwareAddr(a.Data).String()
		case ndaProtocol:
			e.Protocol = a.Uint8()
		}
	}
	if family != unix.AF_INET && family != unix.AF_INET6 || e.IP.IsMulticast() || state&unix.NUD_NOARP != 0 ||
		!permanent && flags&unix.NTF_EXT_LEARNED != 0 {
		return netops.Neigh{}, false, nil
	}
	if !e.IP.IsValid() {
		return netops.Neigh{}, false, rtattr.ErrMalformed
	}
	e.Dev, err = name(int(rtattr.Native.Uint32(body[ndIndex:])))
	return e, err == nil && e.Dev != "", err
}
