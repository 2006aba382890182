package netops

import (
	"bytes"
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/jsonappend"
)

type linkAddr LinkAddr

func (l *linkAddr) command(string) string {
	return "ip link set dev " + l.Dev + " address " + l.HardwareAddr
}

type linkSlot string

func (l *linkAddr) instead() string        { return "it is " + l.HardwareAddr }
func (l *linkAddr) slot() any              { return linkSlot(l.Dev) }
func (l *linkAddr) holds(have object) bool { return l.HardwareAddr == have.(*linkAddr).HardwareAddr }
func (l *linkAddr) hits(o object) bool     { return l.slot() == o.slot() }
func (l *linkAddr) value() bool            { return true }
func (l *linkAddr) into(s *State)          { s.Links = append(s.Links, LinkAddr(*l)) }

// cover also asks for the neighbours that a new address would take away.
func (l *linkAddr) cover(q *Query) {
	q.Links, q.HardwareAddrs = append(q.Links, l.Dev), true
	q.Neighs = append(q.Neighs, l.Dev)
}

func (l *linkAddr) operation(del bool) (operation, stage) {
	if del {
		return operation{}, never
	}
	return operation{typ: unix.RTM_SETLINK, object: l}, setLinks
}

func (l *linkAddr) validate() error {
	if !ValidDevice(l.Dev) {
		return fmt.Errorf("interface %q has no such name", l.Dev)
	}
	return validHardwareAddr(l.HardwareAddr)
}

func appendLink(l *LinkAddr, b []byte) []byte {
	o := jsonappend.Open(b)
	o.Text("dev", l.Dev)
	o.Text("hardwareAddr", l.HardwareAddr)
	return o.Close()
}

func (l *linkAddr) encode(b []byte, _ operation, index func(string) (uint32, error)) ([]byte, error) {
	dev, err := index(l.Dev)
	if err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(l.HardwareAddr)
	if err != nil {
		return nil, err
	}
	b = append(b, make([]byte, unix.SizeofIfInfomsg)...)
	native.PutUint32(b[len(b)-unix.SizeofIfInfomsg+ifIndex:], dev)
	return appendAttr(b, unix.IFLA_ADDRESS, mac), nil
}

// link is an interface as the kernel describes it.
type link struct {
	mac    net.HardwareAddr
	kind   string // veth, bridge, …
	parent uint32 // of a veth: its peer
	master uint32 // the bridge, say, that it is a port of
	// abroad says that the parent is in another namespace, of this number.
	abroad    bool
	namespace uint32
}

// link asks for one interface.
func (n *Netns) link(index uint32) (l link, err error) {
	err = n.askLink(index, l.note)
	return l, err
}

// note reads an attribute.
func (l *link) note(a attr) {
	switch a.typ {
	case unix.IFLA_ADDRESS:
		l.mac = net.HardwareAddr(bytes.Clone(a.data))
	case unix.IFLA_LINK:
		l.parent = a.u32()
	case unix.IFLA_MASTER:
		l.master = a.u32()
	case unix.IFLA_LINK_NETNSID:
		l.abroad, l.namespace = true, a.u32()
	case unix.IFLA_LINKINFO:
		for info := range wellFormed(a.data) {
			if info.typ == unix.IFLA_INFO_KIND {
				l.kind = info.text()
			}
		}
	}
}

// Link is an interface as it was found.
type Link struct {
	Name         string
	Index        uint32
	Type         uint16           // ARPHRD_… (linux/if_arp.h)
	Flags        uint32           // IFF_… (netdevice(7))
	HardwareAddr net.HardwareAddr // nil where it has none
}

// skipStats is RTEXT_FILTER_SKIP_STATS (linux/rtnetlink.h).
const skipStats = 1 << 3

// Links lists the interfaces of the namespace. The error is ErrInterrupted
// where they changed so fast that no whole list could be had.
func (n *Netns) Links(ctx context.Context) (links []Link, err error) {
	err = n.repeat(ctx, "interfaces", func() error {
		links = nil
		c := n.conn
		start := c.message(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		c.send = append(c.send, make([]byte, unix.SizeofIfInfomsg)...)
		// Counters are the longest part of an answer.
		c.send = appendU32(c.send, unix.IFLA_EXT_MASK, skipStats)
		c.finish(start)
		_, err := c.ask(func(r reply) error {
			link, err := decodeLink(r.body)
			links = append(links, link)
			return err
		})
		return err
	})
	return links, err
}

// decodeLink reads an RTM_NEWLINK message, without its header.
func decodeLink(body []byte) (l Link, err error) {
	const typ, flags = 2, 8 // struct ifinfomsg
	err = visitLink(body, func(a attr) {
		switch a.typ {
		case unix.IFLA_IFNAME:
			l.Name = a.text()
		case unix.IFLA_ADDRESS:
			l.HardwareAddr = bytes.Clone(a.data)
		}
	})
	if err != nil {
		return Link{}, err
	}
	l.Type, l.Index, l.Flags = native.Uint16(body[typ:]), native.Uint32(body[ifIndex:]), native.Uint32(body[flags:])
	return l, nil
}
