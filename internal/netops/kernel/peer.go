package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

// HostPeer finds the host's end of a pod's interface. It is not ok where that is
// no veth, or where the other end is in another namespace than host. Both ends
// have to name the other, and its namespace: an index alone may be a
// stranger's.
func (n *Netns) HostPeer(host *Netns, dev string) (p netops.Peer, ok bool, err error) {
	n.forget()
	index, err := n.index(dev)
	if err != nil {
		return netops.Peer{}, false, err
	}
	inner, err := n.link(index)
	if err != nil {
		return netops.Peer{}, false, err
	}
	if ok, err = n.leads(inner, host); err != nil || !ok {
		return netops.Peer{}, false, err
	}
	outer, err := host.link(inner.parent)
	if err != nil {
		return netops.Peer{}, false, fmt.Errorf("host's end of %s: %w", dev, err)
	}
	back, err := host.leads(outer, n)
	if err != nil {
		return netops.Peer{}, false, err
	}
	if !back || outer.parent != index {
		return netops.Peer{}, false, fmt.Errorf("host's end of %s: %w", dev, netops.ErrInterrupted)
	}
	p = netops.Peer{Name: outer.Name, Index: outer.Index, HardwareAddr: outer.HardwareAddr.String()}
	if outer.master != 0 {
		master, err := host.link(outer.master)
		if err != nil {
			return netops.Peer{}, false, err
		}
		p.Master, p.MasterKind = master.Name, master.kind
	}
	return p, true, nil
}

// leads reports whether an interface is one end of a pair whose other end is in
// that namespace.
func (n *Netns) leads(l link, to *Netns) (bool, error) {
	if l.kind != "veth" || !l.abroad {
		return false, nil
	}
	id, err := n.namespaceID(to)
	return err == nil && id == l.namespace, err
}

// namespaceID is the number by which the kernel calls another namespace in this
// one (RTM_GETNSID).
func (n *Netns) namespaceID(of *Netns) (id uint32, err error) {
	handle := of.handle
	if handle < 0 {
		if handle, err = openOwn(); err != nil {
			return 0, err
		}
		defer func() { _ = unix.Close(handle) }()
	}
	head := nl.NewRtGenMsg()
	q := request(unix.RTM_GETNSID, 0, head, &nl.Uint32Attribute{Type: unix.NETNSA_FD, Value: uint32(handle)})
	_, err = n.conn.ask(q, func(r reply) error {
		if len(r.body) < head.Len() {
			return rtattr.ErrMalformed
		}
		for a, err := range rtattr.All(r.body[head.Len():]) {
			if err != nil {
				return err
			}
			if a.Type == unix.NETNSA_NSID {
				id = a.Uint32() // -1 where it has none, which no interface says
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the number of %s: %w", of.path, err)
	}
	return id, nil
}

// LinkIndex is an interface's index, which tells it from every other one that
// has its name later. The error is ErrNoLink where there is none.
func (n *Netns) LinkIndex(name string) (uint32, error) {
	n.forget()
	return n.index(name)
}

// SourceTo is the address from which the namespace would send to another one.
// It is not valid where there is no way to it.
func (n *Netns) SourceTo(ip netip.Addr) (src netip.Addr, err error) {
	_, err = n.conn.ask(routeTo(ip, 0), func(answer reply) error {
		route, err := netops.DecodeRoute(nil, answer.body, func(int) (string, error) { return "", nil })
		src = route.Src
		return err
	})
	if noRoute(err) || noFamily(err) {
		return netip.Addr{}, nil
	}
	return src, err
}

// noRoute reports whether the kernel has no route to a destination, or one that
// rejects.
func noRoute(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) ||
		errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EACCES)
}
