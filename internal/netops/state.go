package netops

import (
	"net/netip"

	"github.com/cni-netops/plugins/internal/listindex"
)

// State is a set of kernel objects.
type State struct {
	Routes []Route `json:"routes"`
}

// Link is a network interface as it was found. It is a fact: nothing here
// makes or removes links.
type Link struct {
	Name  string
	Index int
}

// Addr is an address of an interface as it was found.
type Addr struct {
	Dev    string
	Prefix netip.Prefix // with its host bits: 10.1.0.5/16
	Subnet netip.Prefix // that is reached directly: the peer's, where there is one
}

// Snapshot is what a query found. It is never partial.
type Snapshot struct {
	State
	Links []Link
	Addrs []Addr
}

// Link finds an interface by name.
func (s Snapshot) Link(name string) (Link, bool) {
	for _, l := range s.Links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}

// index finds routes by slot, in the order in which they were listed.
type index struct {
	routes []Route
	slots  listindex.Index[Slot]
}

const none = -1

func newIndex(routes []Route) index {
	return index{routes, listindex.New(len(routes), func(i int) Slot { return routes[i].Slot() })}
}

// find returns the first route of r's slot that match accepts, or none.
func (ix index) find(r *Route, match func(have *Route) bool) int {
	return ix.findIndex(r, func(i int) bool { return match(&ix.routes[i]) })
}

func (ix index) findIndex(r *Route, match func(i int) bool) int {
	if i, ok := ix.slots.Find(r.Slot(), match); ok {
		return i
	}
	return none
}
