package netops

import "iter"

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
			if !k.visit(s, yield) {
				return
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
