package kernel

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

// ndaProtocol is NDA_PROTOCOL (linux/neighbour.h), which x/sys lacks.
const ndaProtocol = 12

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
	b, m := rtattr.Extend[unix.NdMsg](b)
	m.Family, m.Ifindex, m.State, m.Flags = uint8(rtattr.Family(e.IP)), int32(dev), unix.NUD_PERMANENT, e.Flags
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
func (n *Netns) dumpNeighs(index uint32) (neighs []netops.Neigh, whole bool, err error) {
	q := request(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
	q.AddRawData(rtattr.AppendUint32(make([]byte, unix.SizeofNdMsg), unix.NDA_IFINDEX, index))
	whole, err = n.conn.ask(q, func(r reply) error {
		e, ok, err := decodeNeigh(r.body, n.name)
		if ok && uint32(rtattr.View[unix.NdMsg](r.body).Ifindex) == index {
			neighs = append(neighs, e)
		}
		return err
	})
	return neighs, whole, err
}

// decodeNeigh reads an RTM_NEWNEIGH message, without its header. Not ok are
// those that are not asked for and not kept from being: of multicast and of
// interfaces without neighbours, those that another program keeps up to date
// (NTF_EXT_LEARNED), and those of bridges.
func decodeNeigh(body []byte, name func(int) (string, error)) (e netops.Neigh, ok bool, err error) {
	if len(body) < unix.SizeofNdMsg {
		return netops.Neigh{}, false, rtattr.ErrMalformed
	}
	m := rtattr.View[unix.NdMsg](body)
	permanent := m.State&unix.NUD_PERMANENT != 0
	e = netops.Neigh{Learnt: !permanent, Flags: m.Flags & (unix.NTF_ROUTER | unix.NTF_EXT_LEARNED)}
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
	if m.Family != unix.AF_INET && m.Family != unix.AF_INET6 || e.IP.IsMulticast() || m.State&unix.NUD_NOARP != 0 ||
		!permanent && m.Flags&unix.NTF_EXT_LEARNED != 0 {
		return netops.Neigh{}, false, nil
	}
	if !e.IP.IsValid() {
		return netops.Neigh{}, false, rtattr.ErrMalformed
	}
	e.Dev, err = name(int(m.Ifindex))
	return e, err == nil && e.Dev != "", err
}
