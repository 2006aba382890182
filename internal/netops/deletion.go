package netops

import (
	"slices"

	"golang.org/x/sys/unix"
)

// A deletion is meant for one object, and hits the first that the kernel finds by
// what the message names. Where that is another one, the object is hidden.

// Aim puts deletions of rules and neighbours into an order in which each hits
// what it means, and tells which are hidden behind objects that stay. What is not
// there is left out.
func Aim(ops []Operation, have State) (inOrder, hidden []Operation) {
	there := slices.Collect(have.All())
	hidden = ops
	for before := -1; before != len(inOrder); {
		before = len(inOrder)
		var pending []Operation
		for _, op := range hidden {
			itself := func(have Object) bool { return hits(op.Object, have) && meant(op.Object, have) }
			at := slices.IndexFunc(there, func(have Object) bool { return hits(op.Object, have) })
			switch {
			case !slices.ContainsFunc(there, itself):
			case !itself(there[at]):
				pending = append(pending, op)
			default:
				inOrder = append(inOrder, op)
				there = slices.Delete(there, at, at+1)
			}
		}
		hidden = pending
	}
	return inOrder, hidden
}

// hits reports whether the kernel, asked to delete o, may take have: of most kinds
// it looks at the key alone.
func hits(o, have Object) bool {
	if r, ok := o.(*Rule); ok {
		h, ok := have.(*Rule)
		return ok && r.hits(h)
	}
	return SameKey(o, have)
}

// hits reports whether the kernel, asked to delete r, may take have: what is not
// named may be anything (rule_find in net/core/fib_rules.c, fib4_rule_compare).
func (r *Rule) hits(have *Rule) bool {
	return r.IPv6 == have.IPv6 && r.Priority == have.Priority && r.Table == have.Table &&
		(r.Protocol == unix.RTPROT_UNSPEC || r.Protocol == have.Protocol) &&
		(!r.From.IsValid() || r.From == have.From) && (!r.To.IsValid() || r.To == have.To)
}

// firstHit is which IPv4 route of a key's list a deletion hits; -1 where it hits
// none.
func firstHit(list []*Route, r *Route) int {
	return slices.IndexFunc(list, func(have *Route) bool { return have == r || r.hits(have) })
}

// hits reports whether the kernel, asked to delete r, takes have, another IPv4
// route of its key: one that has its type and protocol, and its next hops as far
// as the shorter of the two lists goes (fib_table_delete in net/ipv4/fib_trie.c,
// fib_nh_match in net/ipv4/fib_semantics.c). The kernel looks at more than that,
// which can only spare a route.
func (r *Route) hits(have *Route) bool {
	if have.Type != r.Type || have.Protocol != r.Protocol || have.NhID != r.NhID {
		return false
	}
	there, asked := have.NextHops(), r.NextHops()
	if len(asked) == 1 {
		there = there[:min(1, len(there))]
	}
	return len(there) <= len(asked) && slices.EqualFunc(there, asked[:len(there)], NextHop.SameHop)
}

// Hidden reports whether the kernel would delete another route than this one of
// IPv6: one by a nexthop object is found by its key alone (ip6_route_del in
// net/ipv6/route.c).
func (r *Route) Hidden() bool {
	return r.Is6() && r.NhID == 0 && slices.ContainsFunc(r.Siblings, func(s Route) bool { return s.NhID != 0 })
}
