package netops

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

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
