package show

import (
	"net/netip"
	"slices"
	"strings"
)

// Names reports whether a record is one of those asked for, before anything is
// known of what the kernel has.
func (q Query) Names(r *Record) bool {
	return !slices.ContainsFunc(q.Only, func(only string) bool {
		if matches, ok := destination(only); ok {
			return !slices.ContainsFunc(slices.Concat(r.Node, r.InPod), func(c Change) bool { return slices.ContainsFunc(c.Names, matches) }) &&
				!r.Kept.has(only)
		}
		return !r.called(only)
	})
}

// Narrow is what is asked for of a list: of records that are asked for by an
// address, the changes that have to do with it.
func (q Query) Narrow(list []Record) []Record {
	left := []Record{}
	for _, r := range list {
		if !q.Names(&r) || q.Wrong && !r.Wrong() {
			continue
		}
		for _, only := range q.Only {
			if matches, ok := destination(only); ok && !r.Kept.has(only) {
				r.Node, r.InPod = about(r.Node, matches), about(r.InPod, matches)
			}
		}
		left = append(left, r)
	}
	return left
}

func about(list []Change, matches func(netip.Prefix) bool) []Change {
	return slices.DeleteFunc(slices.Clone(list), func(c Change) bool { return !slices.ContainsFunc(c.Names, matches) })
}

// called reports whether that is a name of the record: as runtimes show
// container IDs, their first letters will do.
func (r *Record) called(name string) bool {
	const letters = 4
	return slices.Contains([]string{r.Pod, r.Netns.Path, r.ContainerID, r.Network, r.IfName, r.Plugin}, name) ||
		len(name) >= letters && strings.HasPrefix(r.ContainerID, name)
}

// destination is what to look for by an address or a subnet: what holds it or
// lies in it. A default route holds everything, and is found by its own name.
func destination(only string) (matches func(netip.Prefix) bool, ok bool) {
	if only == "default" {
		return func(p netip.Prefix) bool { return p.Bits() == 0 }, true
	}
	asked, err := netip.ParsePrefix(only)
	if err != nil {
		ip, err := netip.ParseAddr(only)
		if err != nil {
			return nil, false
		}
		asked = netip.PrefixFrom(ip, ip.BitLen())
	}
	asked = asked.Masked()
	return func(p netip.Prefix) bool {
		return p == asked || p.Bits() > 0 && asked.Bits() > 0 && p.Overlaps(asked)
	}, true
}
