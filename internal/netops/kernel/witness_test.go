package kernel

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// A witness tells what the kernel has by a decoder that is not ours, netlink's
// own, so that a mistake in ours does not agree with itself. It cannot see all:
// see visible.
type witness struct {
	handle *netlink.Handle
	names  map[int]string // of interfaces
}

// witnessed is what a namespace has in the eyes of netlink: all routes of all
// tables, rules that look up a table, permanent neighbours, and hardware
// addresses.
func witnessed(t testing.TB, ns *netopstest.NS) (s netops.State) {
	t.Helper()
	w := witness{names: map[int]string{}}
	var err error
	ns.Enter(func() { w.handle, err = netlink.NewHandle() })
	if err != nil {
		t.Fatal(err)
	}
	defer w.handle.Close()
	links := listed(t, w.handle.LinkList)
	for _, l := range links {
		w.names[l.Attrs().Index] = l.Attrs().Name
		s.Links = append(s.Links, netops.LinkAddr{Dev: l.Attrs().Name, HardwareAddr: l.Attrs().HardwareAddr.String()})
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		everyTable := func() ([]netlink.Route, error) {
			return w.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		}
		for _, r := range listed(t, everyTable) {
			s.Routes = append(s.Routes, w.route(&r))
		}
		for _, r := range listed(t, func() ([]netlink.Rule, error) { return w.handle.RuleList(family) }) {
			s.Rules = append(s.Rules, netops.Rule{IPv6: family == unix.AF_INET6, Priority: uint32(r.Priority), From: prefix(r.Src), To: prefix(r.Dst),
				Table: uint32(r.Table), Protocol: r.Protocol, MoreSelectors: r.Mark != 0})
		}
		for _, e := range listed(t, func() ([]netlink.Neigh, error) { return w.handle.NeighList(0, family) }) {
			if e.State&unix.NUD_PERMANENT != 0 {
				s.Neighs = append(s.Neighs, netops.Neigh{Dev: w.names[e.LinkIndex], IP: addr(e.IP), HardwareAddr: e.HardwareAddr.String(),
					Flags: uint8(e.Flags & (unix.NTF_ROUTER | unix.NTF_EXT_LEARNED))})
			}
		}
	}
	return visible(s)
}

func listed[T any](t testing.TB, list func() ([]T, error)) []T {
	t.Helper()
	all, err := list()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (w witness) route(r *netlink.Route) netops.Route {
	seen := netops.Route{Dst: prefix(r.Dst), Table: uint32(r.Table), Metric: uint32(r.Priority), Type: netops.Type(r.Type), Src: addr(r.Src),
		Dev: w.names[r.LinkIndex], Gw: gateway(r.Gw, r.Via), OnLink: r.Flags&unix.RTNH_F_ONLINK != 0,
		MTU: uint32(r.MTU), AdvMSS: uint32(r.AdvMSS), Protocol: uint8(r.Protocol), Tos: uint8(r.Tos)}
	if r.Family == unix.AF_INET {
		seen.Scope = netops.Scope(r.Scope)
		if r.Scope == netlink.SCOPE_UNIVERSE {
			seen.Scope = netops.ScopeGlobal
		}
	}
	if seen.Type.Rejects() {
		seen.Dev = "" // IPv6 says lo
	}
	for _, h := range r.MultiPath {
		seen.Hops = append(seen.Hops, netops.NextHop{Gw: gateway(h.Gw, h.Via), Dev: w.names[h.LinkIndex], Weight: uint16(h.Hops) + 1,
			OnLink: h.Flags&unix.RTNH_F_ONLINK != 0})
	}
	return seen
}

func gateway(gw net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok {
		return addr(v.Addr)
	}
	return addr(gw)
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap() // 0.0.0.0 comes with 16 bytes
}

func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr(n.IP), bits)
}

// visible is what netlink shows of a state, in an order that says nothing. Of an
// interface it loses an address of zeroes, lo's; of a route the lifetime, the
// source that it is for, the nexthop object, and all that the kernel's message
// has beside the model; of a neighbour the protocol.
func visible(s netops.State) netops.State {
	for i := range s.Routes {
		r := &s.Routes[i]
		r.From, r.NhID, r.Expires, r.Raw, r.Siblings, r.Position = netip.Prefix{}, 0, 0, nil, nil, 0
		slices.SortFunc(r.Hops, func(a, b netops.NextHop) int { return a.Gw.Compare(b.Gw) })
	}
	for i := range s.Neighs {
		s.Neighs[i].Protocol = 0
	}
	for i := range s.Links {
		if s.Links[i].HardwareAddr == "00:00:00:00:00:00" {
			s.Links[i].HardwareAddr = ""
		}
	}
	slices.SortStableFunc(s.Links, func(a, b netops.LinkAddr) int { return cmp.Compare(a.Dev, b.Dev) })
	slices.SortStableFunc(s.Routes, func(a, b netops.Route) int { return cmp.Compare(a.String(), b.String()) })
	slices.SortStableFunc(s.Rules, func(a, b netops.Rule) int { return cmp.Compare(a.Command(netops.Add), b.Command(netops.Add)) })
	slices.SortStableFunc(s.Neighs, func(a, b netops.Neigh) int { return cmp.Compare(a.String(), b.String()) })
	return s
}

// TestWitness has both decoders read one kernel: routes of every kind, rules,
// neighbours and addresses.
func TestWitness(t *testing.T) {
	pod := furnished(t)
	pod.IP("neigh add 10.1.0.8 lladdr "+mac1+" dev eth0 nud permanent", "neigh add fd01::9 lladdr "+mac2+" dev net1 nud permanent router proto 5",
		"rule add pref 7 from 10.1.0.0/24 to 10.9.0.0/16 lookup 4000000000", "-6 rule add pref 8 to fd09::/64 lookup 101 proto 98",
		"rule add pref 9 fwmark 5 lookup 100")
	s, err := enter(t, pod).Snapshot(t.Context(), netops.Query{EveryLink: true, HardwareAddrs: true, Tables: append(allTables, netops.TableMain), Rules: true,
		Neighs: []string{"eth0", "net1"}})
	if err != nil {
		t.Fatal(err)
	}
	s.Neighs, _ = netops.Partition(s.Neighs, func(e netops.Neigh) bool { return !e.Learnt })
	other := witnessed(t, pod)
	other.Routes, _ = netops.Partition(other.Routes, func(r netops.Route) bool { return r.Table != unix.RT_TABLE_LOCAL })
	if len(other.Routes) < len(others)-4 || len(other.Rules) < 8 || len(other.Neighs) != 2 || len(other.Links) < 3 {
		t.Fatalf("netlink sees %d routes, %d rules, %d neighbours and %d interfaces", len(other.Routes), len(other.Rules), len(other.Neighs), len(other.Links))
	}
	netopstest.Same(t, "netlink's eyes and ours", other, visible(s.State))
}
