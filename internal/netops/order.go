package netops

import (
	"cmp"
	"slices"
)

// Verb is what is done with an object, as ip(8) calls it.
type Verb string

// The verbs. Add is exclusive: it fails where another object has the key.
// Append and Prepend put a route behind or before its siblings (IPv6 keeps no
// order: there both merge).
const (
	Add     Verb = "add"
	Append  Verb = "append"
	Prepend Verb = "prepend"
	Replace Verb = "replace"
	Delete  Verb = "del"
)

// Operation is one thing to do with one object.
type Operation struct {
	Verb   Verb
	Object Object
	// Tagged says that a deletion hits a route of these plugins' protocol only.
	Tagged bool
}

func (o Operation) String() string { return o.Object.Command(o.Verb) }

// Deletes reports whether the operation removes the object.
func (o Operation) Deletes() bool { return o.Verb == Delete }

// OperationsOn are the same for each of several routes.
func OperationsOn(verb Verb, routes []*Route) []Operation {
	ops := make([]Operation, len(routes))
	for i, r := range routes {
		ops[i] = Operation{Verb: verb, Object: r}
	}
	return ops
}

// Stage is a part of a change.
type Stage uint8

// The stages.
const (
	Never Stage = iota
	SwitchIPv6
	DropNeighs
	SetLinks
	RestoreNeighs // which the kernel has flushed
	AddNeighs
	DropRules
	AddRules
	SetSysctls
	DropRoutes
	ExchangeRoutes
	AddRoutes
	stages // how many there are, Never included
)

// Order is that in which a change is made. IPv6 is switched on before anything
// needs it. A new hardware address has the kernel delete the interface's
// permanent neighbours, so that those to be added come after it. A rule leads
// to routes, and is there while these are.
func (c *Change) Order() []Stage {
	if c.AddFirst {
		return []Stage{SwitchIPv6, DropNeighs, SetLinks, RestoreNeighs, AddNeighs,
			AddRoutes, AddRules, DropRules, ExchangeRoutes, DropRoutes, SetSysctls}
	}
	return []Stage{SwitchIPv6, DropNeighs, SetLinks, RestoreNeighs, AddNeighs,
		DropRules, DropRoutes, ExchangeRoutes, AddRoutes, AddRules, SetSysctls}
}

// UndoOrder is that in which a change that takes another one back is made: what
// was made last goes first. A new hardware address takes neighbours away, so that
// they come after it here, too; to switch IPv6 off again flushes all that the
// interface has of it. Rules are there again before the routes, whose gateways
// may be reached by them. Routes that give way to others of their key come with
// those that are added: one may be the other's gateway.
func (c *Change) UndoOrder() []Stage {
	links := []Stage{DropNeighs, SetLinks, RestoreNeighs, AddNeighs, SwitchIPv6}
	if c.AddFirst { // no moment without a route on the way back, either
		return append([]Stage{SetSysctls, AddRoutes, ExchangeRoutes, DropRules, AddRules, DropRoutes}, links...)
	}
	return append([]Stage{SetSysctls, DropRules, AddRules, DropRoutes, AddRoutes, ExchangeRoutes}, links...)
}

// Operations are what is done to make the change, in order.
func (c *Change) Operations() (ops []Operation) {
	routes := c.RouteSteps()
	for _, at := range c.Order() {
		switch at {
		case DropRoutes:
			ops = append(ops, OperationsOn(Delete, routes.Del)...)
		case ExchangeRoutes:
			ops = append(ops, routes.arranged()...)
		case AddRoutes:
			ops = append(ops, Additions(routes.Add)...)
		default:
			ops = append(ops, c.At(at)...)
		}
	}
	return ops
}

// At are the operations of a stage that are about other objects than routes.
func (c *Change) At(at Stage) (ops []Operation) {
	del, add := &c.Del, &c.Add
	if at == RestoreNeighs {
		del, add, at = &State{}, &State{Neighs: c.Flushed}, AddNeighs
	}
	pick := func(s *State, verb Verb) {
		if s.Len() == len(s.Routes) {
			return // as mostly: each stage asks
		}
		for o := range s.notRoutes() {
			if o.stage(verb) == at {
				ops = append(ops, Operation{Verb: verb, Object: o})
			}
		}
	}
	pick(del, Delete)
	pick(add, Add)
	return ops
}

// RouteSteps are the routes of a change as it is made: those that go, those that
// go from among siblings that IPv4 keeps in order, those that give way to others
// of the same key which have more or fewer of their next hops, those that come.
type RouteSteps struct {
	Del, Among []*Route
	Exchanges  []Exchange
	Add        []*Route
}

// Leaving are those that the kernel may take another one for: see [Arrange].
func (s RouteSteps) Leaving() []*Route {
	leaving := slices.Clone(s.Among)
	for _, x := range s.Exchanges {
		leaving = append(leaving, x.Out)
	}
	return leaving
}

// arranged are the operations of [Arrange], as far as the routes remember how the
// kernel had them.
func (s RouteSteps) arranged() (all []Operation) {
	for _, a := range Arrange(remembered(s.Leaving()), s) {
		ops, _ := a.Operations()
		if ops == nil {
			ops, _ = a.WithoutMoving()
		}
		all = append(all, ops...)
	}
	return all
}

// Exchange is an IPv4 multipath route that gets other next hops: one object for
// the kernel, which has to give way to another.
type Exchange struct{ Out, In *Route }

// RouteSteps sorts the routes of the change.
func (c *Change) RouteSteps() RouteSteps {
	var s RouteSteps
	deleted := routesOf(c.Del.Routes)
	exchanged := make([]bool, len(c.Del.Routes))
	for in := range each(c.Add.Routes) {
		at := none
		if in.Raw != nil && !in.Is6() {
			at = deleted.find(in, func(i int) bool { return !exchanged[i] && in.shares(&c.Del.Routes[i]) })
		}
		if at == none {
			s.Add = append(s.Add, in)
			continue
		}
		exchanged[at] = true
		s.Exchanges = append(s.Exchanges, Exchange{Out: &c.Del.Routes[at], In: in})
	}
	for i := range c.Del.Routes {
		switch r := &c.Del.Routes[i]; {
		case exchanged[i]:
		case len(r.Siblings) > 0 && !r.Is6():
			s.Among = append(s.Among, r)
		default:
			s.Del = append(s.Del, r)
		}
	}
	return s
}

// shares reports whether one of the two has some of the other's next hops.
func (r *Route) shares(o *Route) bool {
	a, b := r.NextHops(), o.NextHops()
	return r.Type == o.Type && len(a) != len(b) && (containsAll(a, b) || containsAll(b, a))
}

// Additions are exclusive, and in the order of their dependencies: each gateway
// is reachable when its route is added. Interface routes come first, then
// on-link ones, then those by a gateway.
func Additions(routes []*Route) []Operation {
	class := func(r *Route) int {
		switch {
		case r.single() && !r.Gw.IsValid():
			return 0
		case r.OnLink:
			return 1
		}
		return 2
	}
	sorted := slices.Clone(routes)
	slices.SortStableFunc(sorted, func(a, b *Route) int { return cmp.Compare(class(a), class(b)) })
	return OperationsOn(Add, sorted)
}
