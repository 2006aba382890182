package netops

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/listindex"
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

// LinkAddr is the hardware address of an interface.
type LinkAddr struct {
	Dev          string `json:"dev"`
	HardwareAddr string `json:"hardwareAddr"` // as net.HardwareAddr prints it
}

// Sysctl is a kernel parameter of a network namespace.
type Sysctl struct {
	Key   string `json:"key"` // its path below /proc/sys: net/ipv4/conf/eth0/rp_filter
	Value string `json:"value"`
	// AtMost says that a smaller number is as good.
	AtMost bool `json:"atMost"`
}

// Neigh is a neighbour entry (ip-neighbour(8)). One that is wanted is
// permanent.
type Neigh struct {
	Dev          string     `json:"dev"`
	IP           netip.Addr `json:"ip"`
	HardwareAddr string     `json:"hardwareAddr"`
	// Learnt says that the kernel has it from the network, or tries to: it
	// gives way to one that is configured.
	Learnt bool `json:"learnt"`
	// Flags (NTF_ROUTER, NTF_EXT_LEARNED) and Protocol are those of an entry of
	// others, with which it goes back.
	Flags    uint8 `json:"flags"`
	Protocol uint8 `json:"protocol"`
}

// Rule is a policy rule (ip-rule(8)) that looks up a table.
type Rule struct {
	IPv6     bool         `json:"ipv6"`
	Priority uint32       `json:"priority"`
	From     netip.Prefix `json:"from"` // zero is any
	To       netip.Prefix `json:"to"`   // zero is any
	Table    uint32       `json:"table"`
	Protocol uint8        `json:"protocol"`
	// More says that it asks for more than this, a mark or an interface say: it
	// is another one's.
	MoreSelectors bool `json:"more"`
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

// Usable reports whether the host would choose the address for what it sends.
func (a Addr) Usable() bool {
	return a.Primary() && a.Flags&(unix.IFA_F_DEPRECATED|unix.IFA_F_DADFAILED) == 0
}

// Snapshot is what a query found. It is never partial. Interfaces and addresses
// are facts: nothing here makes or removes them.
type Snapshot struct {
	State
	Links []string // names of the interfaces that were asked for and are there
	// HardwareAddrs are those of these interfaces, where they were asked for. So
	// are State.Links.
	HardwareAddrs map[string]string
	Addrs         []Addr
}

// Len is how many objects there are.
func (s *State) Len() int { return len(s.Routes) + s.others() }

// Append adds the objects of another state.
func (s *State) Append(o State) {
	s.Links = append(s.Links, o.Links...)
	s.Sysctls = append(s.Sysctls, o.Sysctls...)
	s.Neighs = append(s.Neighs, o.Neighs...)
	s.Routes = append(s.Routes, o.Routes...)
	s.Rules = append(s.Rules, o.Rules...)
}

// Rival finds the route that keeps one from being added: another one that has
// its slot, where none that is there is as it is asked for.
func (s State) Conflict(want *Route) *Route {
	var rival *Route
	for i := range s.Routes {
		switch r := &s.Routes[i]; {
		case r.Key() != want.Key():
		case want.SatisfiedBy(r):
			return nil
		case rival == nil:
			rival = r
		}
	}
	return rival
}

// Slots are those that routes of one configuration take.
type Claims map[RouteKey]*Route

// Take takes a route's slot. It is not fresh where the same route has it; that
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

// index finds routes by slot, in the order in which they were listed.
type index struct {
	routes []Route
	slots  listindex.Index[RouteKey]
}

const none = -1

func newIndex(routes []Route) index {
	return index{routes, listindex.New(len(routes), func(i int) RouteKey { return routes[i].Key() })}
}

// find returns the first route of r's slot that match accepts, or none.
func (ix index) find(r *Route, match func(have *Route) bool) int {
	return ix.findIndex(r, func(i int) bool { return match(&ix.routes[i]) })
}

func (ix index) findIndex(r *Route, match func(i int) bool) int {
	if i, ok := ix.slots.Find(r.Key(), match); ok {
		return i
	}
	return none
}

func pointers(routes []Route) []*Route {
	list := make([]*Route, len(routes))
	for i := range routes {
		list[i] = &routes[i]
	}
	return list
}

func values(routes []*Route) []Route {
	list := make([]Route, len(routes))
	for i, r := range routes {
		list[i] = *r
	}
	return list
}

func destinations(routes []*Route) map[netip.Prefix]bool {
	to := make(map[netip.Prefix]bool, len(routes))
	for _, r := range routes {
		to[r.Dst] = true
	}
	return to
}

// split parts a list in two by a predicate.
func split[T any](list []T, first func(T) bool) (yes, no []T) {
	for _, x := range list {
		if first(x) {
			yes = append(yes, x)
		} else {
			no = append(no, x)
		}
	}
	return yes, no
}
