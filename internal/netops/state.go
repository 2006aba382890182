package netops

import "net/netip"

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

// index finds routes by slot, in the order in which they were listed. Chains
// through next instead of one list a slot keep thousands of routes cheap.
type index struct {
	routes []Route
	first  map[Slot]int32
	next   []int32
}

const none = -1

func newIndex(routes []Route) index {
	ix := index{routes: routes, first: make(map[Slot]int32, len(routes)), next: make([]int32, len(routes))}
	for i := len(routes) - 1; i >= 0; i-- {
		s := routes[i].Slot()
		if later, ok := ix.first[s]; ok {
			ix.next[i] = later
		} else {
			ix.next[i] = none
		}
		ix.first[s] = int32(i)
	}
	return ix
}

// rivals calls visit with each route that has r's slot, until it returns
// false.
func (ix index) rivals(r Route, visit func(i int) bool) {
	i, ok := ix.first[r.Slot()]
	for ok && i != none {
		if !visit(int(i)) {
			return
		}
		i = ix.next[i]
	}
}

// find returns the first route of r's slot that match accepts, or none.
func (ix index) find(r Route, match func(have Route) bool) int {
	return ix.findIndex(r, func(i int) bool { return match(ix.routes[i]) })
}

func (ix index) findIndex(r Route, match func(i int) bool) int {
	found := none
	ix.rivals(r, func(i int) bool {
		if match(i) {
			found = i
		}
		return found == none
	})
	return found
}
