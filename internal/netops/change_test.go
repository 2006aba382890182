package netops

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

func TestRoutesPrintAsIPCommands(t *testing.T) {
	gw, gw6 := parse(t, "default via 10.1.0.1"), parse(t, "default via fe80::1")
	for want, r := range map[string]Route{
		"ip route add default via 10.1.0.1":                                            gw,
		"ip -6 route add default via fe80::1":                                          gw6,
		"ip route add 10.9.0.0/16 via 10.1.0.9 dev cni0":                               parse(t, "10.9.0.0/16 via 10.1.0.9 dev cni0"),
		"ip route add 10.9.0.7 dev cni0":                                               parse(t, "10.9.0.7 dev cni0"),
		"ip route add blackhole 10.9.0.0/16 metric 5":                                  parse(t, "blackhole 10.9.0.0/16 metric 5"),
		"ip -6 route add fd00::/64 dev net1 table 100 metric 5":                        parse(t, "fd00::/64 dev net1 table 100 metric 5"),
		"ip route add 10.9.0.0/16 dev net1 proto 99 src 10.1.0.5 mtu 1400 advmss 1300": parse(t, "10.9.0.0/16 dev net1 proto 99 src 10.1.0.5 mtu 1400 advmss 1300"),
		"ip route add default via 10.1.0.1 proto static onlink":                        func() Route { r := gw; r.OnLink, r.Protocol = true, 4; return r }(),
		"ip route add default via 10.1.0.1 scope site":                                 func() Route { r := gw; r.Scope = ScopeSite; return r }(),
		"ip -6 route add default via fe80::1 proto ra expires 30":                      func() Route { r := gw6; r.Protocol, r.Expires = 9, 30; return r }(),
		"ip route add default via inet6 fe80::1 dev net1":                              func() Route { r := gw; r.Gw, r.Dev = gw6.Gw, "net1"; return r }(),
		"ip route add 10.9.0.0/16 nexthop via 10.1.0.1 dev eth0 weight 1 nexthop dev net1 weight 3": func() Route {
			r := parse(t, "10.9.0.0/16")
			r.Hops = []NextHop{{Gw: gw.Gw, Dev: "eth0"}, {Dev: "net1", Weight: 3}}
			return r
		}(),
	} {
		if got := r.AddCommand(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A change prints in the order in which it is applied: gateways after the
// routes that make them reachable.
func TestChangePrintsInOrder(t *testing.T) {
	c := Change{
		Del: parseAll(t, "default via 10.1.0.1 dev eth0"),
		Add: parseAll(t, "default via 10.9.0.1 dev eth0", "10.9.0.1 dev eth0", "blackhole 10.3.0.0/16"),
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
	anyDev := func(line string) Route { r := parse(t, line); r.AnyDev = true; return r }
	for _, tt := range []struct {
		name string
		want Route
		have string
		held bool
	}{
		{"the same", parse(t, "10.9.0.0/16 via 10.1.0.1 dev eth0"), "10.9.0.0/16 via 10.1.0.1 dev eth0", true},
		{"whoever made it", parse(t, "10.9.0.0/16 via 10.1.0.1 dev eth0"), "10.9.0.0/16 via 10.1.0.1 dev eth0 proto 3", true},
		{"whatever else it carries", parse(t, "10.9.0.0/16 via 10.1.0.1 dev eth0"), "10.9.0.0/16 via 10.1.0.1 dev eth0 mtu 1400 src 10.1.0.5", true},
		{"mtu as asked", parse(t, "10.9.0.0/16 via 10.1.0.1 dev eth0 mtu 1400"), "10.9.0.0/16 via 10.1.0.1 dev eth0 mtu 1400", true},
		{"another mtu", parse(t, "10.9.0.0/16 via 10.1.0.1 dev eth0 mtu 1400"), "10.9.0.0/16 via 10.1.0.1 dev eth0", false},
		{"another advmss", parse(t, "10.9.0.0/16 dev eth0 advmss 1400"), "10.9.0.0/16 dev eth0 advmss 1300", false},
		{"another src", parse(t, "10.9.0.0/16 dev eth0 src 10.1.0.5"), "10.9.0.0/16 dev eth0 src 10.1.0.6", false},
		{"another gateway", parse(t, "10.9.0.0/16 via 10.1.0.1 dev eth0"), "10.9.0.0/16 via 10.1.0.2 dev eth0", false},
		{"another device", parse(t, "10.9.0.0/16 dev eth0"), "10.9.0.0/16 dev net1", false},
		{"a device that was not asked for", anyDev("10.9.0.0/16 via 10.1.0.1 dev eth0"), "10.9.0.0/16 via 10.1.0.1 dev net1", true},
		{"another metric", parse(t, "10.9.0.0/16 dev eth0"), "10.9.0.0/16 dev eth0 metric 5", false},
		{"IPv6's own metric", parse(t, "fd00::/64 dev eth0"), "fd00::/64 dev eth0 metric 1024", true},
		{"another table", parse(t, "10.9.0.0/16 dev eth0"), "10.9.0.0/16 dev eth0 table 100", false},
		{"another type", parse(t, "blackhole 10.9.0.0/16"), "prohibit 10.9.0.0/16", false},
	} {
		have := parse(t, tt.have)
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
		want := parse(t, tt.want)
		merged := want
		merged.Gw, merged.Dev = parse(t, "default").Gw, ""
		merged.Hops = []NextHop{{Gw: parse(t, "default via "+tt.other).Gw, Dev: "net1"}, {Gw: want.Gw, Dev: "eth0"}}
		if got := want.SatisfiedBy(&merged); got != tt.held {
			t.Errorf("%q held by %q: %v", want, merged, got)
		}
	}
}

func TestNeeded(t *testing.T) {
	have := parseAll(t, "default via 10.1.0.1 dev eth0", "default via 10.2.0.1 dev net1", "10.9.0.0/16 dev eth0 proto 3")
	c := Change{
		Del: parseAll(t, "default via 10.2.0.1 dev net1", "10.8.0.0/16 dev eth0"),
		Add: parseAll(t, "10.9.0.0/16 dev eth0", "10.7.0.0/16 dev eth0"),
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

// Which interface a route leaves by may be our choice: where it is there already,
// any will do; where it is made, it is the one.
func TestNeededByAnyDevice(t *testing.T) {
	want := parse(t, "10.9.0.0/16 via 10.1.0.1 dev eth0")
	want.AnyDev = true
	c, elsewhere := Change{Add: State{Routes: []Route{want}}}, parseAll(t, "10.9.0.0/16 via 10.1.0.1 dev net1")
	if needed, _ := c.Needed(elsewhere); !needed.IsZero() {
		t.Errorf("needed although it is there: %s", needed)
	}
	made, _ := c.Needed(State{})
	if drift := made.Drift(elsewhere); len(drift) != 1 {
		t.Errorf("made on eth0 and found on net1: %v", drift)
	}
}

func TestPlace(t *testing.T) {
	const a, b, c, stranger = "default via 10.1.0.1 dev eth0", "default via 10.2.0.1 dev net1", "default via 10.3.0.1 dev net2", "default via 10.4.0.1 dev net3"
	const elsewhere = "10.9.0.0/16 dev eth0"
	for _, tt := range []struct {
		name      string
		removed   string
		now       []string
		want      position
		followers int
	}{
		{"first", a, []string{elsewhere, b, c}, position{index: 1, first: true}, 2},
		{"last", c, []string{a, b, elsewhere}, position{index: 3}, 0},
		{"in between", b, []string{a, elsewhere, c}, position{index: 2, between: true}, 1},
		{"those before are gone", b, []string{c}, position{index: 0, first: true}, 1},
		{"those after are gone", b, []string{a}, position{index: 1}, 0},
		{"alone", b, []string{elsewhere}, position{index: 1}, 0},
		{"beside a stranger", b, []string{stranger, c}, position{index: 1, between: true}, 1},
		{"with a stranger at the end", b, []string{a, c, stranger}, position{index: 1, between: true}, 2},
	} {
		done, _ := Change{Del: parseAll(t, tt.removed)}.Needed(parseAll(t, a, b, c))
		at, followers := place(&done.Del.Routes[0], parseAll(t, tt.now...).Routes)
		if at != tt.want || len(followers) != tt.followers {
			t.Errorf("%s: %+v with %d followers, want %+v with %d", tt.name, at, len(followers), tt.want, tt.followers)
		}
	}
}

func TestDrift(t *testing.T) {
	have := parseAll(t, "10.1.0.0/16 dev eth0 proto 2", "10.9.0.0/16 dev net1", "10.8.0.0/16 via 10.1.0.1 dev eth0 mtu 1300", "10.5.0.0/16 dev eth0")
	c := Change{
		Del: parseAll(t, "10.1.0.0/16 dev eth0", "10.5.0.0/16 dev eth0", "10.4.0.0/16 dev eth0"),
		Add: parseAll(t, "10.9.0.0/16 dev net1", "10.8.0.0/16 via 10.1.0.1 dev eth0 mtu 1400", "10.7.0.0/16 dev eth0"),
	}
	var got []string
	for _, d := range c.Drift(have) {
		got = append(got, d.String())
	}
	want := []string{
		"ip route del 10.5.0.0/16 dev eth0: it is there",
		"ip route add 10.8.0.0/16 via 10.1.0.1 dev eth0 mtu 1400: there is 10.8.0.0/16 via 10.1.0.1 dev eth0 mtu 1300",
		"ip route add 10.7.0.0/16 dev eth0: it is not there",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestThen(t *testing.T) {
	first := Change{Del: parseAll(t, "default via 10.1.0.1 dev eth0"), Add: parseAll(t, "10.9.0.0/16 dev eth0", "10.8.0.0/16 dev eth0")}
	second := Change{Del: parseAll(t, "10.9.0.0/16 dev eth0"), Add: parseAll(t, "default via 10.1.0.1 dev eth0")}
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
		c := Change{Del: randomState(t, random, int(changes%8)), Add: randomState(t, random, int(changes/8%8))}
		have := randomState(t, random, int(haves%16))
		beside := func(s *State, n uint8) {
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
		same("Held of Needed", State{}, heldAgain)
		if back, _ := needed.Reverse().Needed(have); len(back.Add.Sysctls)+len(back.Add.Links) > 0 {
			t.Errorf("%s is taken back from %v, where nothing was made", back, have)
		}
		if len(needed.Add.Routes)+len(held.Routes) != len(c.Add.Routes) {
			t.Errorf("of %d additions %d are needed and %d held", len(c.Add.Routes), len(needed.Add.Routes), len(held.Routes))
		}
		needed.AddFirst = needed.AddFirst && !needed.IsZero() // of nothing, nothing is written
		var back Plan
		if err := json.Unmarshal(Plan{Pod: needed}.AppendJSON(nil), &back); err != nil {
			t.Fatal(err)
		}
		same("JSON round trip", needed, back.Pod)
		if err := back.Validate(); err != nil {
			t.Errorf("a change of ours is not valid: %v", err)
		}
		reflected, err := json.Marshal(Plan{Pod: needed})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(reflected, &back); err != nil {
			t.Fatal(err)
		}
		same("encoding/json", needed, back.Pod)
		same("Then nothing", c, c.Then(Change{}))
		added := len(c.Add.Routes) + c.Add.others()
		if n, all := len(c.Drift(have)), len(c.Drift(State{})); n > len(c.Del.Routes)+c.Del.others()+added || all != added {
			t.Errorf("drift: %d, in an empty namespace %d", n, all)
		}
	})
}

func randomState(t *testing.T, random *rand.Rand, n int) State {
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	var s State
	for range n {
		line := pick("default via 10.1.0.1", "10.9.0.0/16 via 10.1.0.1", "10.9.0.0/16", "default via fe80::1", "fd09::/64") +
			pick(" dev eth0", " dev net1") + pick("", " metric 5") + pick("", " table 100") + pick("", " mtu 1400") + pick("", " proto 3")
		r := parse(t, line)
		switch random.IntN(4) {
		case 0:
			r.Hops = []NextHop{{Gw: r.Gw, Dev: "eth0"}, {Gw: r.Gw, Dev: "net1", Weight: uint16(random.IntN(3)), OnLink: random.IntN(2) == 0}}
			r.Gw, r.Dev = parse(t, "10.9.0.0/16").Gw, ""
		case 1:
			index := func(name string) (uint32, error) { return map[string]uint32{"eth0": 2, "net1": 3}[name], nil }
			raw, err := appendRoute(nil, &r, index)
			if err != nil {
				t.Fatal(err)
			}
			r.Raw = raw
		}
		if !slices.ContainsFunc(s.Routes, func(o Route) bool { return excludes(&o, &r) }) {
			s.Routes = append(s.Routes, r)
		}
	}
	return s
}

// excludes reports whether no kernel lists both: IPv4 has no two that are
// alike, IPv6 no two that share a way.
func excludes(a, b *Route) bool {
	if a.Key() != b.Key() {
		return false
	}
	shared, _ := split(a.NextHops(), func(h NextHop) bool { return slices.ContainsFunc(b.NextHops(), h.sameHop) })
	return a.SameAttributes(b) || a.Is6() && len(shared) > 0
}

// FuzzDecodeRoute feeds the decoder what a kernel never sends: no panic, and
// what it takes can be encoded again.
func FuzzDecodeRoute(f *testing.F) {
	index := func(string) (uint32, error) { return 2, nil }
	for _, line := range []string{"default via 10.1.0.1 dev eth0 mtu 1400", "fd00::/64 dev eth0 metric 7", "blackhole 10.0.0.0/8"} {
		r := parse(f, line)
		raw, err := appendRoute(nil, &r, index)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		name := func(int) (string, error) { return "eth0", nil }
		r, err := decodeRoute(body, name)
		if err != nil {
			return
		}
		again, err := appendRoute(nil, &r, index)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRoute(again, name); err != nil {
			t.Errorf("%s cannot be read back: %v", r, err)
		}
		if ways := r.NextHops(); len(ways) > 1 {
			part := r.withNextHops(ways[:1])
			if _, err := appendRoute(nil, &part, index); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestUnited(t *testing.T) {
	at := func(texts ...string) (list []Addr) {
		for _, text := range texts {
			list = append(list, Addr{Dev: "eth0", Prefix: netip.MustParsePrefix(text)})
		}
		return list
	}
	for _, tt := range []struct{ first, second, want []Addr }{
		{at("10.0.0.1/8", "10.0.0.2/8"), at("10.0.0.1/8", "10.0.0.2/8"), at("10.0.0.1/8", "10.0.0.2/8")},
		{at("10.0.0.3/8", "10.0.0.1/8"), at("10.0.0.1/8", "10.0.0.2/8", "10.0.0.3/8"), at("10.0.0.3/8", "10.0.0.1/8", "10.0.0.2/8")},
		{nil, at("10.0.0.1/8"), at("10.0.0.1/8")},
	} {
		if got := united(tt.first, tt.second); !slices.Equal(got, tt.want) {
			t.Errorf("%v and %v are %v", tt.first, tt.second, got)
		}
	}
	tentative := at("fd01::5/64")
	tentative[0].Flags = unix.IFA_F_TENTATIVE
	if got := united(at("fd01::5/64"), tentative); len(got) != 1 || got[0].Flags != 0 {
		t.Errorf("one that is tentative no more is %v", got)
	}
}

// FuzzReplies feeds the other decoders what a kernel never sends.
func FuzzReplies(f *testing.F) {
	addr := make([]byte, unix.SizeofIfAddrmsg)
	f.Add(appendAddr(addr, unix.IFA_LOCAL, netip.MustParseAddr("10.1.0.5")))
	f.Add(appendU32(appendAddr(addr, unix.IFA_ADDRESS, netip.MustParseAddr("fd01::5")), unix.IFA_FLAGS, 1<<20))
	f.Add(appendAttr(make([]byte, 20), unix.NLMSGERR_ATTR_MSG, []byte("a reason\x00")))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := decodeAddr(body, func(int) (string, error) { return "eth0", nil })
		if err == nil && a.Prefix.IsValid() && a.Prefix.Bits() > a.Prefix.Addr().BitLen() {
			t.Errorf("an address of %d bits: %v", a.Prefix.Bits(), a)
		}
		for _, typ := range []uint16{unix.NLMSG_ERROR, unix.NLMSG_DONE} {
			var k *KernelError
			if err := (reply{typ: typ, flags: unix.NLM_F_ACK_TLVS, body: body}).verdict(); err != nil && (!errors.As(err, &k) || err.Error() == "") {
				t.Errorf("verdict %#v", err)
			}
		}
		for _, to := range []map[netip.Prefix]bool{nil, {netip.MustParsePrefix("10.0.0.0/8"): true}} {
			routeQuery{family: unix.AF_INET, to: to}.wants(body)
		}
	})
}
