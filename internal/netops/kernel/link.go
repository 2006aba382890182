package kernel

import (
	"bytes"
	"context"
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

// appendLinkAddr encodes an RTM_SETLINK that gives an interface its address.
func appendLinkAddr(b []byte, l *netops.LinkAddr, index func(string) (uint32, error)) ([]byte, error) {
	dev, err := index(l.Dev)
	if err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(l.HardwareAddr)
	if err != nil {
		return nil, err
	}
	return rtattr.Append(append(b, ifInfo(dev).Serialize()...), unix.IFLA_ADDRESS, mac), nil
}

// link is an interface as the kernel describes it.
type link struct {
	netops.Link
	kind   string // veth, bridge, …
	parent uint32 // of a veth: its peer
	master uint32 // the bridge, say, that it is a port of
	// abroad says that the parent is in another namespace, of this number.
	abroad    bool
	namespace uint32
}

// link asks for one interface.
func (n *Netns) link(index uint32) (l link, err error) {
	_, err = n.conn.ask(request(unix.RTM_GETLINK, 0, ifInfo(index)), func(r reply) (err error) {
		l, err = decodeLink(r.body)
		return err
	})
	if err != nil {
		return link{}, fmt.Errorf("look at interface %d: %w", index, err)
	}
	return l, nil
}

// skipStats is RTEXT_FILTER_SKIP_STATS (linux/rtnetlink.h).
const skipStats = 1 << 3

// Links lists the interfaces of the namespace. The error is ErrInterrupted
// where they changed so fast that no whole list could be had.
func (n *Netns) Links(ctx context.Context) (links []netops.Link, err error) {
	err = n.repeat(ctx, "interfaces", func() error {
		links = nil
		// Counters are the longest part of an answer.
		mask := &nl.Uint32Attribute{Type: unix.IFLA_EXT_MASK, Value: skipStats}
		_, err := n.conn.ask(request(unix.RTM_GETLINK, unix.NLM_F_DUMP, ifInfo(0), mask), func(r reply) error {
			link, err := decodeLink(r.body)
			links = append(links, link.Link)
			return err
		})
		return err
	})
	return links, err
}

// decodeLink reads an RTM_NEWLINK message, without its header.
func decodeLink(body []byte) (l link, err error) {
	if len(body) < unix.SizeofIfInfomsg {
		return link{}, rtattr.ErrMalformed
	}
	m := nl.DeserializeIfInfomsg(body)
	l.Type, l.Index, l.Flags = m.Type, uint32(m.Index), m.Flags
	for a, err := range rtattr.All(body[unix.SizeofIfInfomsg:]) {
		if err != nil {
			return link{}, err
		}
		switch a.Type {
		case unix.IFLA_IFNAME:
			l.Name = a.Text()
		case unix.IFLA_ADDRESS:
			l.HardwareAddr = bytes.Clone(a.Data)
		case unix.IFLA_LINK:
			l.parent = a.Uint32()
		case unix.IFLA_MASTER:
			l.master = a.Uint32()
		case unix.IFLA_LINK_NETNSID:
			l.abroad, l.namespace = true, a.Uint32()
		case unix.IFLA_LINKINFO:
			for info := range rtattr.WellFormed(a.Data) {
				if info.Type == unix.IFLA_INFO_KIND {
					l.kind = info.Text()
				}
			}
		}
	}
	return l, nil
}

// ifInfo names an interface, or none, before the attributes of a message.
func ifInfo(index uint32) *nl.IfInfomsg {
	return &nl.IfInfomsg{IfInfomsg: unix.IfInfomsg{Index: int32(index)}}
}
