package netops

import (
	"fmt"
	"iter"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// State is a set of kernel objects. Interfaces and sysctls have a value at any
// time: to delete one is to say what it was before.
type State struct {
	Links   []LinkAddr `json:"links"`
	Sysctls []Sysctl   `json:"sysctls"`
	Neighs  []Neigh    `json:"neighs"`
	Routes  []Route    `json:"routes"`
	Rules   []Rule     `json:"rules"`
}

// IsZero reports whether there is nothing at all.
func (s *State) IsZero() bool { return s.Len() == 0 }

// Len is how many objects there are.
func (s *State) Len() (n int) {
	for _, k := range kinds {
		n += k.len(s)
	}
	return n
}

// Append adds the objects of another state.
func (s *State) Append(o State) {
	for _, k := range kinds {
		k.appendTo(s, &o)
	}
}

// All visits the objects, kind by kind, each in the list's order.
func (s *State) All() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for _, k := range kinds {
			for o := range k.all(s) {
				if !yield(o) {
					return
				}
			}
		}
	}
}

// StateOf is the state of one object.
func StateOf(o Object) State {
	var s State
	o.AddTo(&s)
	return s
}

// notRoutes visits the objects that are no routes.
func (s *State) notRoutes() iter.Seq[Object] {
	rest := *s
	rest.Routes = nil
	return rest.All()
}

// Addr is an address of an interface as it was found.
type Addr struct {
	Dev    string
	Prefix netip.Prefix // with its host bits: 10.1.0.5/16
	Subnet netip.Prefix // that is reached directly: the peer's, where there is one
	Scope  Scope
	Flags  uint32 // IFA_F_… (rtnetlink(7))
}

// Primary reports whether the address is global, and none that the kernel made
// for a while or that was added to another of its subnet. (IPv4 has no
// temporary ones: the bit is one.)
func (a Addr) Primary() bool {
	return a.Scope == ScopeGlobal && a.Flags&(unix.IFA_F_SECONDARY|unix.IFA_F_TEMPORARY) == 0
}

// Duplicate reports whether the kernel has found the address on another host of
// the link (RFC 4862, section 5.4).
func (a Addr) Duplicate() bool { return a.Flags&unix.IFA_F_DADFAILED != 0 }

// Usable reports whether the host would choose the address for what it sends.
func (a Addr) Usable() bool {
	return a.Primary() && !a.Duplicate() && a.Flags&unix.IFA_F_DEPRECATED == 0
}

// Link is an interface as it was found.
type Link struct {
	Name         string
	Index        uint32
	Type         uint16           // ARPHRD_… (linux/if_arp.h)
	Flags        uint32           // IFF_… (netdevice(7))
	HardwareAddr net.HardwareAddr // nil where it has none
}

// Peer is the other end of a pair of interfaces.
type Peer struct {
	Name         string
	Index        uint32
	HardwareAddr string
	Master       string // the bridge, say, that it is a port of; empty without
	MasterKind   string // "bridge", "openvswitch", …
}

// Snapshot is what a query found. It is never partial. Interfaces and addresses
// are facts: nothing here makes or removes them.
type Snapshot struct {
	State
	Links []string // names of the interfaces that were asked for and are there
	// HardwareAddrs are those of these interfaces, where they were asked for. So
	// are State.Links, and their indexes.
	HardwareAddrs map[string]string
	Indexes       map[string]uint32
	Addrs         []Addr
}

// Query says what a snapshot is to look at.
type Query struct {
	Links     []string // by name; those that do not exist are left out
	EveryLink bool     // all interfaces, with their hardware addresses
	Addrs     bool     // of all interfaces
	// HardwareAddrs asks for those of Links.
	HardwareAddrs bool
	// Defaults asks for the default routes of table main, of these families
	// ([IPv4Default], [IPv6Default]), without a list of all that is in it.
	Defaults []netip.Prefix
	Tables   []uint32 // routing tables, of both families; EveryTable is all but local
	// To, where it is not nil, leaves out routes to other destinations: of a
	// table of thousands few may matter.
	To map[netip.Prefix]bool
	// OnLink has those without a gateway in all the same: by them gateways are
	// reached.
	OnLink bool
	// Protocol, where it is not 0, leaves out routes of other protocols.
	Protocol uint8
	Rules    bool     // policy rules of both families that look up a table
	Neighs   []string // the interfaces whose neighbours to list
	Sysctls  []string // by key; those that do not exist are left out
	// LinkSysctls are sysctls of each interface that was found, with * in the
	// place of its name: net/ipv4/conf/*/rp_filter.
	LinkSysctls []string
}

// Cover makes the query look at everything that a change touches, too.
func (q *Query) Cover(c Change) {
	for _, s := range []*State{&c.Del, &c.Add} {
		for o := range s.All() {
			o.Cover(q)
		}
	}
}

// EveryTable stands for all tables but local, which is the kernel's own.
const EveryTable uint32 = unix.RT_TABLE_UNSPEC

// Identity tells a namespace from every other one that is found at its path
// later: by the kernel's cookie, which is unique until reboot
// (SO_NETNS_COOKIE, Linux 5.14), on older kernels by an interface in it.
// Inode numbers would not do: they are given again at once.
type Identity struct {
	Cookie       uint64 `json:"cookie"`
	LinkIndex    uint32 `json:"linkIndex"`
	HardwareAddr string `json:"hardwareAddr"`
}

// Claims are the routes that one configuration asks for, by key.
type Claims map[RouteKey]*Route

// Claim takes a route's key. It is not fresh where the same route has it; that
// another one does is an error.
func (s Claims) Claim(r *Route) (fresh bool, err error) {
	other, there := s[r.Key()]
	switch {
	case !there:
		s[r.Key()] = r
	case other.String() != r.String():
		return false, fmt.Errorf("%q and %q have destination, table and metric in common", other, r)
	}
	return !there, nil
}

// partition parts a list in two by a predicate.
func partition[T any](list []T, first func(T) bool) (yes, no []T) {
	for _, x := range list {
		if first(x) {
			yes = append(yes, x)
		} else {
			no = append(no, x)
		}
	}
	return yes, no
}
