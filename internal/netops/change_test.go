package netops_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

func TestRoutesPrintAsIPCommands(t *testing.T) {
	gw, gw6 := netopstest.ParseRoute(t, "default via 10.1.0.1"), netopstest.ParseRoute(t, "default via fe80::1")
	for want, r := range map[string]netops.Route{
		"ip route add default via 10.1.0.1":                                            gw,
		"ip -6 route add default via fe80::1":                                          gw6,
		"ip route add 10.9.0.0/16 via 10.1.0.9 dev cni0":                               netopstest.ParseRoute(t, "10.9.0.0/16 via 10.1.0.9 dev cni0"),
		"ip route add 10.9.0.7 dev cni0":                                               netopstest.ParseRoute(t, "10.9.0.7 dev cni0"),
		"ip route add blackhole 10.9.0.0/16 metric 5":                                  netopstest.ParseRoute(t, "blackhole 10.9.0.0/16 metric 5"),
		"ip -6 route add fd00::/64 dev net1 table 100 metric 5":                        netopstest.ParseRoute(t, "fd00::/64 dev net1 table 100 metric 5"),
		"ip route add 10.9.0.0/16 dev net1 proto 99 src 10.1.0.5 mtu 1400 advmss 1300": netopstest.ParseRoute(t, "10.9.0.0/16 dev net1 proto 99 src 10.1.0.5 mtu 1400 advmss 1300"),
		"ip route add default via 10.1.0.1 proto static onlink":                        func() netops.Route { r := gw; r.OnLink, r.Protocol = true, 4; return r }(),
		"ip route add default via 10.1.0.1 scope site":                                 func() netops.Route { r := gw; r.Scope = netops.ScopeSite; return r }(),
		"ip -6 route add default via fe80::1 proto ra expires 30":                      func() netops.Route { r := gw6; r.Protocol, r.Expires = 9, 30; return r }(),
		"ip route add default via inet6 fe80::1 dev net1":                              func() netops.Route { r := gw; r.Gw, r.Dev = gw6.Gw, "net1"; return r }(),
		"ip route add 10.9.0.0/16 nexthop via 10.1.0.1 dev eth0 weight 1 nexthop dev net1 weight 3": func() netops.Route {
			r := netopstest.ParseRoute(t, "10.9.0.0/16")
			r.Hops = []netops.NextHop{{Gw: gw.Gw, Dev: "eth0"}, {Dev: "net1", Weight: 3}}
			return r
		}(),
	} {
		if got := r.Command(netops.Add); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A change prints in the order in which it is applied: gateways after the
// routes that make them reachable.
func TestChangePrintsInOrder(t *testing.T) {
	c := netops.Change{
		Del: netopstest.ParseRoutes(t, "default via 10.1.0.1 dev eth0"),
		Add: netopstest.ParseRoutes(t, "default via 10.9.0.1 dev eth0", "10.9.0.1 dev eth0", "blackhole 10.3.0.0/16"),
	}
	want := strings.TrimSpace(`
ip route del default via 10.1.0.1 dev eth0
ip route add 10.9.0.1 dev eth0
ip route add blackhole 10.3.0.0/16
ip route add default via 10.9.0.1 dev eth0`)
	if diff := cmp.Diff(want, c.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHeldBy(t *testing.T) {
	anyDev := func(line string) netops.Route { r := netopstest.ParseRoute(t, line); r.AnyDev = true; return r }
	for _, tt := range []struct {
		name string
		want netops.Route
		have string
		held bool
	}{
		{"the same", netopstest.ParseRoute(t, "10.9.0.0/16 via 10.1.0.1 dev eth0"), "10.9.0.0/16 via 10.1.0.1 dev eth0", true},
		{"whoever made it", netopstest.ParseRoute(t, "10.9.0.0/16 via 10.1.0.1 dev eth0"), "10.9.0.0/16 via 10.1.0.1 dev eth0 proto 3", true},
		{"whatever else it carries", netopstest.ParseRoute(t, "10.9.0.0/16 via 10.1.0.1 dev eth0"), "10.9.0.0/16 via 10.1.0.1 dev eth0 mtu 1400 src 10.1.0.5", true},
		{"mtu as asked", netopstest.ParseRoute(t, "10.9.0.0/16 via 10.1.0.1 dev eth0 mtu 1400"), "10.9.0.0/16 via 10.1.0.1 dev eth0 mtu 1400", true},
		{"another mtu", netopstest.ParseRoute(t, "10.9.0.0/16 via 10.1.0.1 dev eth0 mtu 1400"), "10.9.0.0/16 via 10.1.0.1 dev eth0", false},
		{"another advmss", netopstest.ParseRoute(t, "10.9.0.0/16 dev eth0 advmss 1400"), "10.9.0.0/16 dev eth0 advmss 1300", false},
		{"another src", netopstest.ParseRoute(t, "10.9.0.0/16 dev eth0 src 10.1.0.5"), "10.9.0.0/16 dev eth0 src 10.1.0.6", false},
		{"another gateway", netopstest.ParseRoute(t, "10.9.0.0/16 via 10.1.0.1 dev eth0"), "10.9.0.0/16 via 10.1.0.2 dev eth0", false},
		{"another device", netopstest.ParseRoute(t, "10.9.0.0/16 dev eth0"), "10.9.0.0/16 dev net1", false},
		{"a device that was not asked for", anyDev("10.9.0.0/16 via 10.1.0.1 dev eth0"), "10.9.0.0/16 via 10.1.0.1 dev net1", true},
		{"another metric", netopstest.ParseRoute(t, "10.9.0.0/16 dev eth0"), "10.9.0.0/16 dev eth0 metric 5", false},
		{"IPv6's own metric", netopstest.ParseRoute(t, "fd00::/64 dev eth0"), "fd00::/64 dev eth0 metric 1024", true},
		{"another table", netopstest.ParseRoute(t, "10.9.0.0/16 dev eth0"), "10.9.0.0/16 dev eth0 table 100", false},
		{"another type", netopstest.ParseRoute(t, "blackhole 10.9.0.0/16"), "prohibit 10.9.0.0/16", false},
	} {
		have := netopstest.ParseRoute(t, tt.have)
		if got := tt.want.SatisfiedBy(&have); got != tt.held {
			t.Errorf("%s: %q held by %q: %v", tt.name, tt.want, tt.have, got)
		}
	}
}

// IPv6 merges routes of one metric into one; IPv4 does not.
func TestHeldByAMergedRoute(t *testing.T) {
	for _, tt := range []struct {
		want, other string
		held        bool
	}{
		{"default via fd00::1 dev eth0", "fd00::2", true},
		{"default via 10.1.0.1 dev eth0", "10.1.0.2", false},
	} {
		want := netopstest.ParseRoute(t, tt.want)
		merged := want
		merged.Gw, merged.Dev = netopstest.ParseRoute(t, "default").Gw, ""
		merged.Hops = []netops.NextHop{{Gw: netopstest.ParseRoute(t, "default via "+tt.other).Gw, Dev: "net1"}, {Gw: want.Gw, Dev: "eth0"}}
		if got := want.SatisfiedBy(&merged); got != tt.held {
			t.Errorf("%q held by %q: %v", want, merged, got)
		}
	}
}

func TestNeeded(t *testing.T) {
	have := netopstest.ParseRoutes(t, "default via 10.1.0.1 dev eth0", "default via 10.2.0.1 dev net1", "10.9.0.0/16 dev eth0 proto 3")
	c := netops.Change{
		Del: netopstest.ParseRoutes(t, "default via 10.2.0.1 dev net1", "10.8.0.0/16 dev eth0"),
		Add: netopstest.ParseRoutes(t, "10.9.0.0/16 dev eth0", "10.7.0.0/16 dev eth0"),
	}
	needed, held := c.Needed(have)
	if diff := cmp.Diff("ip route del default via 10.2.0.1 dev net1\nip route add 10.7.0.0/16 dev eth0", needed.String()); diff != "" {
		t.Errorf("needed (-want +got):\n%s", diff)
	}
	if d := needed.Del.Routes[0]; d.Position != 1 || len(d.Siblings) != 1 || !d.Siblings[0].SameRoute(&have.Routes[0]) {
		t.Errorf("place among peers: %d of %v", d.Position, d.Siblings)
	}
	if len(held.Routes) != 1 || !held.Routes[0].SameRoute(&have.Routes[2]) {
		t.Errorf("held %v", held)
	}
}

func TestDrift(t *testing.T) {
	have := netopstest.ParseRoutes(t, "10.1.0.0/16 dev eth0 proto 2", "10.9.0.0/16 dev net1", "10.8.0.0/16 via 10.1.0.1 dev eth0 mtu 1300", "10.5.0.0/16 dev eth0")
	c := netops.Change{
		Del: netopstest.ParseRoutes(t, "10.1.0.0/16 dev eth0", "10.5.0.0/16 dev eth0", "10.4.0.0/16 dev eth0"),
		Add: netopstest.ParseRoutes(t, "10.9.0.0/16 dev net1", "10.8.0.0/16 via 10.1.0.1 dev eth0 mtu 1400", "10.7.0.0/16 dev eth0"),
	}
	var got []string
	for _, d := range c.Drift(have) {
		got = append(got, d.String())
	}
	want := []string{
		"ip route del 10.5.0.0/16 dev eth0: present, should be absent",
		"ip route add 10.8.0.0/16 via 10.1.0.1 dev eth0 mtu 1400: found 10.8.0.0/16 via 10.1.0.1 dev eth0 mtu 1300 instead",
		"ip route add 10.7.0.0/16 dev eth0: missing",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestThen(t *testing.T) {
	first := netops.Change{Del: netopstest.ParseRoutes(t, "default via 10.1.0.1 dev eth0"), Add: netopstest.ParseRoutes(t, "10.9.0.0/16 dev eth0", "10.8.0.0/16 dev eth0")}
	second := netops.Change{Del: netopstest.ParseRoutes(t, "10.9.0.0/16 dev eth0"), Add: netopstest.ParseRoutes(t, "default via 10.1.0.1 dev eth0")}
	want := "ip route del 10.9.0.0/16 dev eth0\nip route add 10.8.0.0/16 dev eth0\nip route add default via 10.1.0.1 dev eth0"
	if diff := cmp.Diff(want, first.Then(second).String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("ip route add 10.8.0.0/16 dev eth0", first.Overridden(second).String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzChange holds the laws of Change over random routes, few enough of them
// to meet each other often.
func FuzzChange(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed, uint8(seed), uint8(seed*7))
	}
	f.Fuzz(func(t *testing.T, seed uint64, changes, haves uint8) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := netops.Change{Del: randomState(t, random, int(changes%8)), Add: randomState(t, random, int(changes/8%8))}
		have := randomState(t, random, int(haves%16))
		beside := func(s *netops.State, n uint8) {
			routes := s.Routes
			*s = randomObjects(t, random, int(n%5))
			s.Routes = routes
		}
		beside(&c.Add, changes)
		beside(&c.Del, changes/5)
		c.Del.Sysctls, c.Del.Links = nil, nil // what they were is found out
		beside(&have, haves)
		c.AddFirst = seed%2 == 0
		same := func(what string, want, got any) {
			t.Helper()
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: of %s in %v (-want +got):\n%s", what, c, have, diff)
			}
		}
		same("Reverse twice", c, c.Reverse().Reverse())

		needed, held := c.Needed(have)
		again, heldAgain := needed.Needed(have)
		same("Needed of Needed", needed, again)
		same("Held of Needed", netops.State{}, heldAgain)
		if back, _ := needed.Reverse().Needed(have); len(back.Add.Sysctls)+len(back.Add.Links) > 0 {
			t.Errorf("%s is taken back from %v, where nothing was made", back, have)
		}
		if len(needed.Add.Routes)+len(held.Routes) != len(c.Add.Routes) {
			t.Errorf("of %d additions %d are needed and %d held", len(c.Add.Routes), len(needed.Add.Routes), len(held.Routes))
		}
		needed.AddFirst = needed.AddFirst && !needed.IsZero() // of nothing, nothing is written
		var back netops.Plan
		if err := json.Unmarshal(netops.Plan{Pod: needed}.AppendJSON(nil), &back); err != nil {
			t.Fatal(err)
		}
		same("JSON round trip", needed, back.Pod)
		if err := back.Validate(); err != nil {
			t.Errorf("a change of ours is not valid: %v", err)
		}
		reflected, err := json.Marshal(netops.Plan{Pod: needed})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(reflected, &back); err != nil {
			t.Fatal(err)
		}
		same("encoding/json", needed, back.Pod)
		same("Then nothing", c, c.Then(netops.Change{}))
		added := c.Add.Len()
		if n, all := len(c.Drift(have)), len(c.Drift(netops.State{})); n > c.Del.Len()+added || all != added {
			t.Errorf("drift: %d, in an empty namespace %d", n, all)
		}
	})
}

func randomState(t *testing.T, random *rand.Rand, n int) netops.State {
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	var s netops.State
	for range n {
		line := pick("default via 10.1.0.1", "10.9.0.0/16 via 10.1.0.1", "10.9.0.0/16", "default via fe80::1", "fd09::/64") +
			pick(" dev eth0", " dev net1") + pick("", " metric 5") + pick("", " table 100") + pick("", " mtu 1400") + pick("", " proto 3")
		r := netopstest.ParseRoute(t, line)
		switch random.IntN(4) {
		case 0:
			r.Hops = []netops.NextHop{{Gw: r.Gw, Dev: "eth0"}, {Gw: r.Gw, Dev: "net1", Weight: uint16(random.IntN(3)), OnLink: random.IntN(2) == 0}}
			r.Gw, r.Dev = netopstest.ParseRoute(t, "10.9.0.0/16").Gw, ""
		case 1:
			r.Raw = message(&r)
		}
		if !slices.ContainsFunc(s.Routes, func(o netops.Route) bool { return excludes(&o, &r) }) {
			s.Routes = append(s.Routes, r)
		}
	}
	return s
}

// message is a route as the kernel would list it, as far as tests need.
func message(r *netops.Route) []byte {
	b := []byte{byte(rtattr.Family(r.Dst.Addr())), byte(r.Dst.Bits()), 0, r.Tos, 0, r.Protocol, byte(r.DefaultScope()), byte(r.Type), 0, 0, 0, 0}
	b = rtattr.AppendUint32(b, unix.RTA_TABLE, r.Table)
	if !r.Default() {
		b = rtattr.AppendAddr(b, unix.RTA_DST, r.Dst.Addr())
	}
	b = rtattr.AppendUint32(b, unix.RTA_PRIORITY, r.Metric)
	return netops.AppendNextHops(b, r, []uint32{2, 3})
}

// excludes reports whether no kernel lists both: IPv4 has no two that are
// alike, IPv6 no two that share a way.
func excludes(a, b *netops.Route) bool {
	if a.Key() != b.Key() {
		return false
	}
	shared := slices.ContainsFunc(a.NextHops(), func(h netops.NextHop) bool { return slices.ContainsFunc(b.NextHops(), h.SameHop) })
	return a.SameAttributes(b) || a.Is6() && shared
}

// Which interface a route leaves by may be our choice: where it is there already,
// any will do; where it is made, it is the one.
func TestNeededByAnyDevice(t *testing.T) {
	want := netopstest.ParseRoute(t, "10.9.0.0/16 via 10.1.0.1 dev eth0")
	want.AnyDev = true
	c, elsewhere := netops.Change{Add: netops.State{Routes: []netops.Route{want}}}, netopstest.ParseRoutes(t, "10.9.0.0/16 via 10.1.0.1 dev net1")
	if needed, _ := c.Needed(elsewhere); !needed.IsZero() {
		t.Errorf("needed although it is there: %s", needed)
	}
	made, _ := c.Needed(netops.State{})
	if drift := made.Drift(elsewhere); len(drift) != 1 {
		t.Errorf("made on eth0 and found on net1: %v", drift)
	}
}

// So may the gateway: whatever leads by the interface will do.
func TestNeededByAnyGateway(t *testing.T) {
	want := netopstest.ParseRoute(t, "192.0.2.10 via 10.1.0.1 dev eth0 onlink")
	want.AnyGw = true
	c := netops.Change{Add: netops.State{Routes: []netops.Route{want}}}
	for line, will := range map[string]bool{
		"192.0.2.10 via 10.1.0.9 dev eth0":          true,
		"192.0.2.10 dev eth0 scope link":            true,
		"192.0.2.10 via 10.1.0.1 dev net1":          false,
		"192.0.2.10 dev net1 scope link":            false,
		"blackhole 192.0.2.10":                      false,
		"192.0.2.10 via 10.1.0.9 dev eth0 metric 5": false,
	} {
		have := netopstest.ParseRoutes(t, line)
		if needed, _ := c.Needed(have); needed.IsZero() != will {
			t.Errorf("%s: needed %q", line, needed)
		}
		if drift := c.Drift(have); (len(drift) == 0) != will {
			t.Errorf("%s: drift %v", line, drift)
		}
	}
}
