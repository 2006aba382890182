package netops

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/jsonappend"
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

// AddCommand is the ip(8) command that adds the entry.
func (e *Neigh) AddCommand() string { return (*neigh)(e).command("add") }

// String is the entry as ip(8) takes it.
func (e *Neigh) String() string { return (*neigh)(e).words() }

type neigh Neigh

// words is the entry as ip(8) takes it, but for its state.
func (e *neigh) words() string {
	s := e.IP.String()
	if e.HardwareAddr != "" {
		s += " lladdr " + e.HardwareAddr
	}
	s += " dev " + e.Dev
	if e.Flags&unix.NTF_ROUTER != 0 {
		s += " router"
	}
	return s
}

func (e *neigh) command(verb string) string {
	c := "ip neigh " + verb + " " + e.words()
	if verb != "del" {
		c += " nud permanent"
	}
	return c
}

func (e *neigh) instead() string {
	if e.Learnt {
		return "there is " + e.words() + ", which the kernel has learnt"
	}
	return "there is " + e.words()
}

type neighSlot struct {
	dev string
	ip  netip.Addr
}

func (e *neigh) slot() any { return neighSlot{e.Dev, e.IP} }

func (e *neigh) holds(have object) bool {
	h := have.(*neigh) // it has the same slot
	return h.HardwareAddr == e.HardwareAddr && !h.Learnt
}

// hits is as the kernel has it: whatever the entry says, it is the one.
func (e *neigh) hits(o object) bool { return e.slot() == o.slot() }
func (e *neigh) value() bool        { return false }
func (e *neigh) into(s *State)      { s.Neighs = append(s.Neighs, Neigh(*e)) }
func (e *neigh) cover(q *Query)     { q.Neighs = append(q.Neighs, e.Dev) }

func (e *neigh) operation(del bool) (operation, stage) {
	if del {
		return operation{typ: unix.RTM_DELNEIGH, object: e}, dropNeighs
	}
	return operation{typ: unix.RTM_NEWNEIGH, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, object: e}, addNeighs
}

func (e *neigh) validate() error {
	if !ValidDevice(e.Dev) || !e.IP.IsValid() || e.IP.Zone() != "" || e.IP.Is4In6() || e.Learnt {
		return fmt.Errorf("neighbour %s is none that is made here", e.words())
	}
	return validHardwareAddr(e.HardwareAddr)
}

func validHardwareAddr(s string) error {
	mac, err := net.ParseMAC(s)
	if err == nil && mac.String() != s {
		err = fmt.Errorf("hardware address %s is not written as %s", s, mac)
	}
	return err
}

func appendNeigh(e *Neigh, b []byte) []byte {
	o := jsonappend.Open(b)
	o.Text("dev", e.Dev)
	o.Addr("ip", e.IP)
	o.Text("hardwareAddr", e.HardwareAddr)
	o.Flag("learnt", e.Learnt)
	o.Number("flags", uint32(e.Flags))
	o.Number("protocol", uint32(e.Protocol))
	return o.Close()
}

// RivalNeigh finds the entry that keeps one from being added: another one for
// its address on its interface that is permanent, too.
func (s State) ConflictingNeigh(want *Neigh) *Neigh {
	for i := range s.Neighs {
		if h := &s.Neighs[i]; h.Dev == want.Dev && h.IP == want.IP && h.HardwareAddr != want.HardwareAddr && !h.Learnt {
			return h
		}
	}
	return nil
}

// lost are the permanent entries that the kernel deletes with a hardware
// address (NETDEV_CHANGEADDR in net/ipv4/arp.c and net/ipv6/ndisc.c) and that
// nobody asked to be deleted, and those that were lost before.
func (c *Change) lost(have State, needed *Change) (lost []Neigh) {
	changes := func(dev string) bool {
		return slices.ContainsFunc(needed.Add.Links, func(l LinkAddr) bool { return l.Dev == dev })
	}
	for i := range have.Neighs {
		h := &have.Neighs[i]
		if !h.Learnt && changes(h.Dev) && !slices.Contains(needed.Del.Neighs, *h) {
			lost = append(lost, *h)
		}
	}
	for i := range c.Flushed {
		l := &c.Flushed[i]
		if !slices.ContainsFunc(lost, func(n Neigh) bool { return n.Dev == l.Dev && n.IP == l.IP }) {
			lost = append(lost, *l)
		}
	}
	return lost
}

// addNeighs adds entries exclusively. One that the kernel has learnt gives way:
// it is replaced, since it might come back between a deletion and an addition.
// The kernel knows no "replace if learnt", so that an entry which another made
// permanent since it was looked at a moment ago would be lost to him; all that
// can be done is to ask for a replacement only where it was seen, and at once.
func (n *Netns) addNeighs(ctx context.Context, ops []operation, done *[]operation) []*OpError {
	failed := n.run(ctx, ops, done, true)
	taken, failed := split(failed, (*OpError).Exists)
	if len(taken) == 0 {
		return failed
	}
	ops = ops[:0:0]
	for _, t := range taken {
		op, _ := t.object.operation(false)
		ops = append(ops, op)
	}
	have, err := n.Snapshot(ctx, aboutObjects(ops))
	if err != nil {
		return append(failed, failures(ops, err)...)
	}
	there := objects(&have.State)
	for i := range ops {
		if at := find(there, ops[i].object, whatever); at != nil && at.(*neigh).Learnt {
			ops[i].flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
		}
	}
	return append(failed, n.run(ctx, ops, done, true)...)
}

func (e *neigh) encode(b []byte, o operation, index func(string) (uint32, error)) ([]byte, error) {
	dev, err := index(e.Dev)
	if err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(e.HardwareAddr)
	if err != nil {
		return nil, err
	}
	b = append(b, uint8(family(e.IP)), 0, 0, 0)
	b = native.AppendUint32(b, dev)
	b = native.AppendUint16(b, unix.NUD_PERMANENT)
	b = append(b, e.Flags, 0)
	b = appendAddr(b, unix.NDA_DST, e.IP)
	if o.deletes() {
		return b, nil
	}
	if e.Protocol != 0 {
		b = appendAttr(b, ndaProtocol, []byte{e.Protocol})
	}
	return appendAttr(b, unix.NDA_LLADDR, mac), nil
}

// dumpNeighs lists the entries of an interface, of both families.
func (n *Netns) dumpNeighs(s *State, index uint32) (batches int, err error) {
	start := n.conn.message(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
	n.conn.send = append(n.conn.send, make([]byte, unix.SizeofNdMsg)...)
	n.conn.send = appendU32(n.conn.send, unix.NDA_IFINDEX, index)
	n.conn.finish(start)
	return n.conn.ask(func(r reply) error {
		e, ok, err := decodeNeigh(r.body, n.name)
		if ok && native.Uint32(r.body[ndIndex:]) == index {
			s.Neighs = append(s.Neighs, e)
		}
		return err
	})
}

// decodeNeigh reads an RTM_NEWNEIGH message, without its header. Not ok are
// those that are not asked for and not kept from being: of multicast and of
// interfaces without neighbours, those that another program keeps up to date
// (NTF_EXT_LEARNED), and those of bridges.
func decodeNeigh(body []byte, name func(int) (string, error)) (e Neigh, ok bool, err error) {
	if len(body) < unix.SizeofNdMsg {
		return Neigh{}, false, errMalformed
	}
	family, state, flags := body[ndFamily], native.Uint16(body[ndState:]), body[ndFlags]
	permanent := state&unix.NUD_PERMANENT != 0
	e = Neigh{Learnt: !permanent, Flags: flags & (unix.NTF_ROUTER | unix.NTF_EXT_LEARNED)}
	for a, err := range attrs(body[unix.SizeofNdMsg:]) {
		if err != nil {
			return Neigh{}, false, err
		}
		switch a.typ {
		case unix.NDA_DST:
			e.IP = a.addr()
		case unix.NDA_LLADDR:
			e.HardwareAddr = net.HardwareAddr(a.data).String()
		case ndaProtocol:
			e.Protocol = a.u8()
		}
	}
	if family != unix.AF_INET && family != unix.AF_INET6 || e.IP.IsMulticast() || state&unix.NUD_NOARP != 0 ||
		!permanent && flags&unix.NTF_EXT_LEARNED != 0 {
		return Neigh{}, false, nil
	}
	if !e.IP.IsValid() {
		return Neigh{}, false, errMalformed
	}
	e.Dev, err = name(int(native.Uint32(body[ndIndex:])))
	return e, err == nil && e.Dev != "", err
}
