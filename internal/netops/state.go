package netops

import (
	"net/netip"

	"github.com/cni-netops/plugins/internal/listindex"
)

// State is a set of kernel objects.
type State struct {
	Routes []Route `json:"routes"`
}

// Addr is an address of an interface as it was found.
type Addr struct {
	Dev    string
	Prefix netip.Prefix // with its host bits: 10.1.0.5/16
	Subnet netip.Prefix // that is reached directly: the peer's, where there is one
}

// Snapshot is what a query found. It is never partial. Interfaces and addresses
// are facts: nothing here makes or removes them.
type Snapshot struct {
	State
	Links []string // names of the interfaces that were asked for and are there
	Addrs []Addr
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
