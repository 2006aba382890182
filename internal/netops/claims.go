package netops

import "fmt"

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
