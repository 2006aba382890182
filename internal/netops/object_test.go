package netops

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const mac1, mac2 = "02:00:00:00:00:01", "02:00:00:00:00:02"

// parseObjects reads objects as ip(8) and sysctl(8) take them, as far as tests
// need; "learnt" at a neighbour's end stands for one that is.
func parseObjects(t testing.TB, lines ...string) State {
	t.Helper()
	var s State
	for _, line := range lines {
		words := strings.Fields(line)
		value := func(key string) string {
			if i := slices.Index(words, key); i >= 0 {
				return words[i+1]
			}
			return ""
		}
		switch words[0] {
		case "rule":
			r := Rule{Protocol: Protocol, IPv6: strings.Contains(line, ":"), Priority: parseNumber(t, value("pref")), Table: parseNumber(t, value("lookup"))}
			r.From, r.To = parseSelector(value("from")), parseSelector(value("to"))
			if p := value("proto"); p != "" {
				r.Protocol = uint8(parseNumber(t, p))
			}
			s.Rules = append(s.Rules, r)
		case "neigh":
			s.Neighs = append(s.Neighs, Neigh{IP: netip.MustParseAddr(words[1]), HardwareAddr: value("lladdr"), Dev: value("dev"), Learnt: words[len(words)-1] == "learnt"})
		case "link":
			s.Links = append(s.Links, LinkAddr{value("dev"), value("address")})
		case "route":
			s.Routes = append(s.Routes, parse(t, strings.TrimPrefix(line, "route ")))
		default:
			key, v, _ := strings.Cut(line, "=")
			v, atMost := strings.CutSuffix(v, " or less")
			s.Sysctls = append(s.Sysctls, Sysctl{Key: key, Value: v, AtMost: atMost})
		}
	}
	return s
}

func parseNumber(t testing.TB, s string) uint32 {
	t.Helper()
	n := uint32(0)
	for _, c := range s {
		n = n*10 + uint32(c-'0')
	}
	return n
}

func parseSelector(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return p
	}
	ip := netip.MustParseAddr(s)
	return netip.PrefixFrom(ip, ip.BitLen())
}

func TestObjectsPrintAsCommands(t *testing.T) {
	for line, want := range map[string]string{
		"rule pref 1000 lookup 500":                        "ip rule add pref 1000 lookup 500",
		"rule pref 1000 from 10.1.0.5 lookup 100":          "ip rule add pref 1000 from 10.1.0.5 lookup 100",
		"rule pref 1 to fd00::/64 lookup 100":              "ip -6 rule add pref 1 to fd00::/64 lookup 100",
		"rule pref 1 to 10.0.0.0/8 lookup 7 proto 99":      "ip rule add pref 1 to 10.0.0.0/8 lookup 7 proto 99",
		"neigh 192.0.2.1 lladdr " + mac1 + " dev eth0":     "ip neigh add 192.0.2.1 lladdr " + mac1 + " dev eth0 nud permanent",
		"link dev eth0 address " + mac1:                    "ip link set dev eth0 address " + mac1,
		"net/ipv4/conf/eth0/rp_filter=2":                   "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
		"net/ipv4/conf/eth0.7/rp_filter=2":                 "sysctl -w net/ipv4/conf/eth0.7/rp_filter=2",
		"neigh fd00::1 lladdr " + mac1 + " dev net1.7":     "ip neigh add fd00::1 lladdr " + mac1 + " dev net1.7 nud permanent",
		"rule pref 5 from fd00::5 to fd01::/64 lookup 100": "ip -6 rule add pref 5 from fd00::5 to fd01::/64 lookup 100",
	} {
		if got := (Change{Add: parseObjects(t, line)}).String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	s := parseObjects(t, "rule pref 5 lookup 7", "neigh 192.0.2.1 lladdr "+mac1+" dev eth0")
	if got := s.Rules[0].AddCommand() + "\n" + s.Neighs[0].AddCommand(); got != (Change{Add: State{Rules: s.Rules}}).String()+"\n"+(Change{Add: State{Neighs: s.Neighs}}).String() {
		t.Error(got)
	}
	if got := (Change{Del: s}).String(); got != "ip neigh del 192.0.2.1 lladdr "+mac1+" dev eth0\nip rule del pref 5 lookup 7" {
		t.Error(got)
	}
}

// whole is a change with everything in it.
func whole(t testing.TB) Change {
	return Change{
		Del: parseObjects(t, "neigh 10.1.0.8 lladdr "+mac1+" dev eth0", "rule pref 7 lookup 100", "route default via 10.1.0.1 dev eth0"),
		Add: parseObjects(t, "net/ipv4/conf/eth0/rp_filter=2", "net/ipv6/conf/eth0/disable_ipv6=0", "link dev eth0 address "+mac2,
			"neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "rule pref 8 lookup 100", "route default via 10.1.0.1 dev eth0 table 100"),
		Flushed: parseObjects(t, "neigh 10.1.0.9 lladdr "+mac1+" dev eth0").Neighs,
	}
}

func TestOrder(t *testing.T) {
	const before = `sysctl -w net.ipv6.conf.eth0.disable_ipv6=0
ip neigh del 10.1.0.8 lladdr 02:00:00:00:00:01 dev eth0
ip link set dev eth0 address 02:00:00:00:00:02
ip neigh add 10.1.0.9 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
ip neigh add 10.1.0.7 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
`
	for addFirst, want := range map[bool]string{
		false: `ip rule del pref 7 lookup 100
ip route del default via 10.1.0.1 dev eth0
ip route add default via 10.1.0.1 dev eth0 table 100
ip rule add pref 8 lookup 100
`,
		true: `ip route add default via 10.1.0.1 dev eth0 table 100
ip rule add pref 8 lookup 100
ip rule del pref 7 lookup 100
ip route del default via 10.1.0.1 dev eth0
`,
	} {
		c := whole(t)
		c.AddFirst = addFirst
		if diff := cmp.Diff(before+want+"sysctl -w net.ipv4.conf.eth0.rp_filter=2", c.String()); diff != "" {
			t.Errorf("AddFirst %t (-want +got):\n%s", addFirst, diff)
		}
	}
}

func TestNeededObjects(t *testing.T) {
	lines := func(l ...string) []string { return l }
	for _, tt := range []struct {
		name                    string
		have, del, add          []string
		neededDel, needed, held []string
	}{
		{name: "a rule", add: lines("rule pref 5 lookup 100"), needed: lines("rule pref 5 lookup 100")},
		{name: "a rule that is there", have: lines("rule pref 5 lookup 100"), add: lines("rule pref 5 lookup 100"), held: lines("rule pref 5 lookup 100")},
		{name: "a rule of another protocol", have: lines("rule pref 5 lookup 100 proto 3"), add: lines("rule pref 5 lookup 100"), needed: lines("rule pref 5 lookup 100")},
		{name: "a rule that is gone", have: lines("rule pref 5 lookup 100 proto 3"), del: lines("rule pref 5 lookup 100")},
		{name: "a rule that goes", have: lines("rule pref 5 lookup 100", "rule pref 6 lookup 100"), del: lines("rule pref 6 lookup 100"), neededDel: lines("rule pref 6 lookup 100")},
		{name: "a rule that goes and comes", have: lines("rule pref 5 lookup 100"), del: lines("rule pref 5 lookup 100"), add: lines("rule pref 5 lookup 100"),
			neededDel: lines("rule pref 5 lookup 100"), needed: lines("rule pref 5 lookup 100")},
		{name: "a neighbour that is there", have: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0"), add: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0"),
			held: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0")},
		{name: "one on another interface", have: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev net1"), add: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0"),
			needed: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0")},
		{name: "one that was learnt", have: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0 learnt"), add: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0"),
			needed: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0")},
		{name: "one of another's", have: lines("neigh 10.1.0.7 lladdr " + mac2 + " dev eth0"), add: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0"),
			needed: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0")},
		{name: "to delete what became another", have: lines("neigh 10.1.0.7 lladdr " + mac2 + " dev eth0"), del: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0")},
		{name: "to delete what was learnt since", have: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0 learnt"), del: lines("neigh 10.1.0.7 lladdr " + mac1 + " dev eth0")},
		{name: "a value", have: lines("net/a/b=0"), add: lines("net/a/b=2"), neededDel: lines("net/a/b=0"), needed: lines("net/a/b=2")},
		{name: "a value that it has", have: lines("net/a/b=2"), add: lines("net/a/b=2"), held: lines("net/a/b=2")},
		{name: "a value that is less", have: lines("net/a/b=1"), add: lines("net/a/b=2 or less"), held: lines("net/a/b=2 or less")},
		{name: "a value that is more", have: lines("net/a/b=2"), add: lines("net/a/b=1 or less"), neededDel: lines("net/a/b=2"), needed: lines("net/a/b=1 or less")},
		{name: "a value that is none", have: lines("net/a/b=x"), add: lines("net/a/b=1 or less"), neededDel: lines("net/a/b=x"), needed: lines("net/a/b=1 or less")},
		{name: "a value that there is not", add: lines("net/a/b=2"), needed: lines("net/a/b=2")},
		{name: "a value to be put back", have: lines("net/a/b=2"), del: lines("net/a/b=2"), add: lines("net/a/b=0"), neededDel: lines("net/a/b=2"), needed: lines("net/a/b=0")},
		{name: "one that is another's by now", have: lines("net/a/b=1"), del: lines("net/a/b=2"), add: lines("net/a/b=0")},
		{name: "one that is back", have: lines("net/a/b=0"), del: lines("net/a/b=2"), add: lines("net/a/b=0"), held: lines("net/a/b=0")},
		{name: "one that is gone", del: lines("net/a/b=2"), add: lines("net/a/b=0")},
		{name: "an address", have: lines("link dev eth0 address "+mac1, "link dev net1 address "+mac2), add: lines("link dev eth0 address " + mac2),
			neededDel: lines("link dev eth0 address " + mac1), needed: lines("link dev eth0 address " + mac2)},
	} {
		c := Change{Del: parseObjects(t, tt.del...), Add: parseObjects(t, tt.add...)}
		have := parseObjects(t, tt.have...)
		needed, held := c.Needed(have)
		same(t, tt.name+": needed", Change{Del: parseObjects(t, tt.neededDel...), Add: parseObjects(t, tt.needed...)}, needed)
		same(t, tt.name+": held", parseObjects(t, tt.held...), held)
	}
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// Of several that want the same, who made it may leave first.
func TestBequeath(t *testing.T) {
	const neigh, rule = "neigh 10.1.0.7 lladdr " + mac1 + " dev eth0", "rule pref 5 lookup 100"
	lines := func(l ...string) []string { return l }
	for _, tt := range []struct {
		name                        string
		del, add                    []string // of who leaves
		heirDel, heirAdd, held      []string
		built, given                bool
		leftDel, leftAdd            []string
		thenDel, thenAdd, thenHolds []string
	}{
		{name: "found", add: lines(neigh, rule), held: lines(neigh), given: true, leftAdd: lines(rule), thenAdd: lines(neigh)},
		{name: "not found", add: lines(neigh), held: lines(rule), leftAdd: lines(neigh), thenHolds: lines(rule)},
		{name: "given before", add: lines(neigh), heirAdd: lines(neigh), given: true, thenAdd: lines(neigh)},
		{name: "a value", del: lines("net/a/b=1"), add: lines("net/a/b=2"), held: lines("net/a/b=2"), given: true,
			thenDel: lines("net/a/b=1"), thenAdd: lines("net/a/b=2")},
		{name: "a value that is low enough", del: lines("net/a/b=1"), add: lines("net/a/b=0 or less"), held: lines("net/a/b=2 or less"), given: true,
			thenDel: lines("net/a/b=1"), thenAdd: lines("net/a/b=0 or less")},
		{name: "a value that there was not", add: lines("net/a/b=2"), held: lines("net/a/b=2"), given: true, thenAdd: lines("net/a/b=2")},
		{name: "a value given before", del: lines("net/a/b=1"), add: lines("net/a/b=2"), heirDel: lines("net/a/b=1"), heirAdd: lines("net/a/b=2"), given: true,
			thenDel: lines("net/a/b=1"), thenAdd: lines("net/a/b=2")},
		{name: "a value replaced", del: lines("net/a/b=1"), add: lines("net/a/b=2"), heirDel: lines("net/a/b=2"), heirAdd: lines("net/a/b=0"), built: true, given: true,
			thenDel: lines("net/a/b=1"), thenAdd: lines("net/a/b=0")},
		{name: "a value replaced, others first", del: lines("net/a/b=1"), add: lines("net/a/b=2"), heirDel: lines("net/a/b=2"), heirAdd: lines("net/a/b=0"),
			leftDel: lines("net/a/b=1"), leftAdd: lines("net/a/b=2"), thenDel: lines("net/a/b=2"), thenAdd: lines("net/a/b=0")},
		{name: "another's value replaced", del: lines("net/a/b=1"), add: lines("net/a/b=2"), heirDel: lines("net/a/b=3"), heirAdd: lines("net/a/b=0"), built: true,
			leftDel: lines("net/a/b=1"), leftAdd: lines("net/a/b=2"), thenDel: lines("net/a/b=3"), thenAdd: lines("net/a/b=0")},
	} {
		of := func(del, add []string) Change {
			return Change{Del: parseObjects(t, del...), Add: parseObjects(t, add...)}
		}
		c, heir, held := of(tt.del, tt.add), of(tt.heirDel, tt.heirAdd), parseObjects(t, tt.held...)
		if given := c.TransferOwnership(&heir, &held, tt.built); given != tt.given {
			t.Errorf("%s: given: %t", tt.name, given)
		}
		same(t, tt.name+": left", of(tt.leftDel, tt.leftAdd), c)
		same(t, tt.name+": the heir's", of(tt.thenDel, tt.thenAdd), heir)
		same(t, tt.name+": what he finds", parseObjects(t, tt.thenHolds...), held)
	}
}

func TestBefore(t *testing.T) {
	c := whole(t)
	was := parseObjects(t, "link dev eth0 address "+mac1, "net/ipv4/conf/eth0/rp_filter=1", "net/ipv4/conf/all/rp_filter=0",
		"rule pref 7 lookup 100", "rule pref 9 lookup 100", "neigh 10.1.0.8 lladdr "+mac1+" dev eth0",
		"route default via 10.1.0.1 dev eth0", "route 10.9.0.0/16 via 10.1.0.2 dev eth0")
	needed, _ := c.Needed(was)
	after := parseObjects(t, "link dev eth0 address "+mac2, "net/ipv4/conf/eth0/rp_filter=2", "net/ipv4/conf/all/rp_filter=0",
		"neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "rule pref 8 lookup 100", "rule pref 9 lookup 100",
		"route default via 10.1.0.1 dev eth0 table 100", "route 10.9.0.0/16 via 10.1.0.2 dev eth0")
	sets := cmpopts.SortSlices(func(a, b any) bool { return fmt.Sprint(a) < fmt.Sprint(b) })
	if diff := cmp.Diff(was, after.Before(needed), sets, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-was +before):\n%s", diff)
	}
	// What somebody else has set since is no matter of that change.
	now := parseObjects(t, "net/ipv4/conf/eth0/rp_filter=0")
	if got := now.Before(needed).Sysctls; got[0].Value != "0" {
		t.Errorf("it was %v", got)
	}
}

// With an address go the permanent neighbours of that interface, which are
// others', but for those that are to go.
func TestLostNeighbours(t *testing.T) {
	have := parseObjects(t, "link dev eth0 address "+mac1, "neigh 10.1.0.1 lladdr "+mac1+" dev eth0", "neigh 10.1.0.2 lladdr "+mac1+" dev eth0",
		"neigh 10.1.0.3 lladdr "+mac1+" dev eth0 learnt", "neigh 10.1.0.4 lladdr "+mac1+" dev net1")
	c := Change{Del: parseObjects(t, "neigh 10.1.0.2 lladdr "+mac1+" dev eth0"), Add: parseObjects(t, "link dev eth0 address "+mac2)}
	needed, _ := c.Needed(have)
	want := parseObjects(t, "neigh 10.1.0.1 lladdr "+mac1+" dev eth0").Neighs
	same(t, "lost", want, needed.Flushed)
	again, _ := needed.Needed(have)
	same(t, "again", needed, again)
	// In between somebody has added one, and changed one.
	now := parseObjects(t, "link dev eth0 address "+mac2, "neigh 10.1.0.1 lladdr "+mac2+" dev eth0", "neigh 10.1.0.5 lladdr "+mac1+" dev eth0")
	back, _ := needed.Reverse().Needed(now)
	same(t, "lost on the way back", now.Neighs, back.Flushed)
	back, _ = needed.Reverse().Needed(parseObjects(t, "link dev eth0 address "+mac1))
	same(t, "lost by a process that was killed", want, back.Flushed)
}

func TestRivalNeigh(t *testing.T) {
	want := &parseObjects(t, "neigh 10.1.0.7 lladdr "+mac1+" dev eth0").Neighs[0]
	for line, rival := range map[string]bool{
		"neigh 10.1.0.7 lladdr " + mac1 + " dev eth0":        false,
		"neigh 10.1.0.7 lladdr " + mac2 + " dev eth0":        true,
		"neigh 10.1.0.7 lladdr " + mac2 + " dev eth0 learnt": false,
		"neigh 10.1.0.7 lladdr " + mac2 + " dev net1":        false,
		"neigh 10.1.0.8 lladdr " + mac2 + " dev eth0":        false,
	} {
		if got := parseObjects(t, line).ConflictingNeigh(want); got != nil != rival {
			t.Errorf("%s: rival %v", line, got)
		}
	}
}

func TestWantsObjects(t *testing.T) {
	s := parseObjects(t, "rule pref 5 lookup 100", "neigh 10.1.0.7 lladdr "+mac1+" dev eth0")
	for line, want := range map[string]bool{
		"rule pref 5 lookup 100":                          true,
		"rule pref 5 lookup 100 proto 3":                  false,
		"neigh 10.1.0.7 lladdr " + mac1 + " dev eth0":     true,
		"neigh 10.1.0.7 lladdr " + mac2 + " dev eth0":     false,
		"neigh 10.1.0.7 lladdr " + mac1 + " dev net1":     false,
		"neigh fd00:10:1::7 lladdr " + mac1 + " dev eth0": false,
	} {
		if got := s.Wants(parseObjects(t, line)); got != want {
			t.Errorf("%s: %t", line, got)
		}
	}
}

func TestDriftOfObjects(t *testing.T) {
	have := parseObjects(t, "rule pref 5 lookup 100", "neigh 10.1.0.7 lladdr "+mac2+" dev eth0", "neigh 10.1.0.8 lladdr "+mac1+" dev eth0 learnt",
		"neigh 10.1.0.9 lladdr "+mac1+" dev eth0", "net/a/b=0", "link dev eth0 address "+mac1, "neigh 10.1.0.10 lladdr "+mac1+" dev eth0 learnt")
	c := Change{
		Del: parseObjects(t, "rule pref 5 lookup 100", "rule pref 9 lookup 100", "neigh 10.1.0.9 lladdr "+mac1+" dev eth0", "neigh 10.1.0.10 lladdr "+mac1+" dev eth0", "net/a/b=0"),
		Add: parseObjects(t, "rule pref 6 lookup 100", "neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "neigh 10.1.0.8 lladdr "+mac1+" dev eth0", "net/a/b=2", "net/a/c=1", "link dev eth0 address "+mac2),
	}
	var got []string
	for _, d := range c.Drift(have) {
		got = append(got, d.String())
	}
	want := []string{
		"ip neigh del 10.1.0.9 lladdr " + mac1 + " dev eth0: it is there",
		"ip rule del pref 5 lookup 100: it is there",
		"sysctl -w net.a.b=2: it is 0",
		"sysctl -w net.a.c=1: it is not there",
		"ip link set dev eth0 address " + mac2 + ": it is " + mac1,
		"ip neigh add 10.1.0.7 lladdr " + mac1 + " dev eth0 nud permanent: there is 10.1.0.7 lladdr " + mac2 + " dev eth0",
		"ip neigh add 10.1.0.8 lladdr " + mac1 + " dev eth0 nud permanent: there is 10.1.0.8 lladdr " + mac1 + " dev eth0, which the kernel has learnt",
		"ip rule add pref 6 lookup 100: it is not there",
	}
	same(t, "drift", want, got)
}

// What was before the first of several changes is what counts.
func TestThenWithObjects(t *testing.T) {
	first := Change{Del: parseObjects(t, "net/a/b=0", "rule pref 9 lookup 1"), Add: parseObjects(t, "net/a/b=1", "net/a/c=1", "rule pref 5 lookup 100", "rule pref 6 lookup 100")}
	second := Change{Del: parseObjects(t, "net/a/b=1", "rule pref 5 lookup 100"), Add: parseObjects(t, "net/a/b=2", "rule pref 9 lookup 1")}
	same(t, "then", Change{Del: parseObjects(t, "net/a/b=0", "rule pref 5 lookup 100"),
		Add: parseObjects(t, "net/a/c=1", "net/a/b=2", "rule pref 6 lookup 100", "rule pref 9 lookup 1")}, first.Then(second))
	same(t, "overridden", parseObjects(t, "net/a/c=1", "rule pref 6 lookup 100"), first.Overridden(second).Add)
}

func TestChangesKeepObjects(t *testing.T) {
	c := whole(t)
	c.AddFirst = true
	if c.IsZero() || (State{Rules: c.Add.Rules}).IsZero() || !(Change{Flushed: c.Flushed}).IsZero() {
		t.Error("IsZero")
	}
	left := c.Without(c.Add.Routes)
	same(t, "Without", State{Links: c.Add.Links, Sysctls: c.Add.Sysctls, Neighs: c.Add.Neighs, Rules: c.Add.Rules}, left.Add)
	same(t, "Without's deletions", c.Del, left.Del)
	same(t, "Taken", c, c.Taken())
	same(t, "Tables", []uint32{TableMain, 100}, c.Tables())
	q := Query{}
	q.Cover(c)
	same(t, "Cover", Query{Links: []string{"eth0"}, HardwareAddrs: true, Tables: []uint32{TableMain, 100}, Rules: true,
		Neighs: []string{"eth0", "eth0", "eth0"}, Sysctls: []string{"net/ipv4/conf/eth0/rp_filter", "net/ipv6/conf/eth0/disable_ipv6"}}, q)
}

func TestHostileObjects(t *testing.T) {
	neigh := Neigh{Dev: "eth0", IP: netip.MustParseAddr("10.1.0.7"), HardwareAddr: mac1}
	rule := Rule{Priority: 5, Table: 100}
	of := func(change func(s *State, r *Rule, e *Neigh)) State {
		var s State
		r, e := rule, neigh
		change(&s, &r, &e)
		if r != rule {
			s.Rules = append(s.Rules, r)
		}
		if e != neigh {
			s.Neighs = append(s.Neighs, e)
		}
		return s
	}
	for name, s := range map[string]State{
		"up":               parseObjects(t, "net/../kernel/core_pattern=x"),
		"not net":          parseObjects(t, "kernel/core_pattern=x"),
		"net itself":       parseObjects(t, "net/x=1"),
		"absolute":         parseObjects(t, "/net/ipv4/x=1"),
		"double slash":     parseObjects(t, "net//ipv4/x=1"),
		"zero byte":        parseObjects(t, "net/ipv4/\x00x=1"),
		"long":             parseObjects(t, "net/ipv4/x="+strings.Repeat("1", 5000)),
		"no mac":           of(func(_ *State, _ *Rule, e *Neigh) { e.HardwareAddr = "" }),
		"bad mac":          of(func(_ *State, _ *Rule, e *Neigh) { e.HardwareAddr = "02:00" }),
		"MAC in capitals":  of(func(_ *State, _ *Rule, e *Neigh) { e.HardwareAddr = "0A:00:00:00:00:01" }),
		"zone":             of(func(_ *State, _ *Rule, e *Neigh) { e.IP = netip.MustParseAddr("fe80::1%eth0") }),
		"mapped":           of(func(_ *State, _ *Rule, e *Neigh) { e.IP = netip.MustParseAddr("::ffff:10.1.0.7") }),
		"no address":       of(func(_ *State, _ *Rule, e *Neigh) { e.IP = netip.Addr{} }),
		"device":           of(func(_ *State, _ *Rule, e *Neigh) { e.Dev = "../eth0" }),
		"learnt":           of(func(_ *State, _ *Rule, e *Neigh) { e.Learnt = true }),
		"no table":         of(func(_ *State, r *Rule, _ *Neigh) { r.Table = 0 }),
		"more":             of(func(_ *State, r *Rule, _ *Neigh) { r.MoreSelectors = true }),
		"family":           of(func(_ *State, r *Rule, _ *Neigh) { r.From = netip.MustParsePrefix("fd00::/64") }),
		"host bits":        of(func(_ *State, r *Rule, _ *Neigh) { r.To = netip.MustParsePrefix("10.1.0.5/16") }),
		"any":              of(func(_ *State, r *Rule, _ *Neigh) { r.To = netip.MustParsePrefix("0.0.0.0/0") }),
		"interface's name": {Links: []LinkAddr{{"a/b", mac1}}},
		"interface's MAC":  {Links: []LinkAddr{{"eth0", "x"}}},
	} {
		for _, p := range []Plan{{Host: s}, {Pod: Change{Del: s}}, {Pod: Change{Add: s}}} {
			if p.Validate() == nil {
				t.Errorf("%s is valid", name)
			}
		}
	}
	if (Plan{Pod: Change{Flushed: []Neigh{{}}}}).Validate() == nil {
		t.Error("lost neighbours are not looked at")
	}
	if err := (Plan{Pod: whole(t)}).Validate(); err != nil {
		t.Error(err)
	}
}

// Each deletion hits what it means, or is not tried.
func TestAimed(t *testing.T) {
	for _, tt := range []struct {
		name                 string
		have, del            []string
		there, hidden, order string
	}{
		{name: "gone", del: []string{"rule pref 5 lookup 1"}},
		{name: "behind a stranger", have: []string{"rule pref 5 from 10.1.0.5 lookup 1", "rule pref 5 lookup 1"}, del: []string{"rule pref 5 lookup 1"},
			hidden: "ip rule del pref 5 lookup 1"},
		{name: "before a stranger", have: []string{"rule pref 5 lookup 1", "rule pref 5 from 10.1.0.5 lookup 1"}, del: []string{"rule pref 5 lookup 1"},
			there: "ip rule del pref 5 lookup 1"},
		{name: "behind another protocol's", have: []string{"rule pref 5 lookup 1 proto 3", "rule pref 5 lookup 1"}, del: []string{"rule pref 5 lookup 1"},
			there: "ip rule del pref 5 lookup 1"},
		{name: "behind one that goes too", have: []string{"rule pref 5 from 10.1.0.5 lookup 1", "rule pref 5 lookup 1"},
			del:   []string{"rule pref 5 lookup 1", "rule pref 5 from 10.1.0.5 lookup 1"},
			there: "ip rule del pref 5 from 10.1.0.5 lookup 1\nip rule del pref 5 lookup 1"},
		{name: "another's neighbour", have: []string{"neigh 10.1.0.7 lladdr " + mac2 + " dev eth0"}, del: []string{"neigh 10.1.0.7 lladdr " + mac1 + " dev eth0"}},
	} {
		stage := dropRules
		if strings.HasPrefix(tt.del[0], "neigh") {
			stage = dropNeighs
		}
		there, hidden := aimed(everyKind{}.operations(&Change{Del: parseObjects(t, tt.del...)}, stage), parseObjects(t, tt.have...))
		for what, got := range map[string][]operation{tt.there: there, tt.hidden: hidden} {
			lines := make([]string, len(got))
			for i, op := range got {
				lines[i] = op.String()
			}
			if strings.Join(lines, "\n") != what {
				t.Errorf("%s: %q, want %q", tt.name, lines, what)
			}
		}
	}
}

// randomObjects are few enough to meet each other often.
func randomObjects(t testing.TB, random *rand.Rand, n int) State {
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	seen := map[any]bool{}
	var s State
	for range n {
		one := parseObjects(t, pick(
			"net/ipv4/conf/eth0/rp_filter="+pick("0", "1", "2"), "net/ipv6/conf/eth0/disable_ipv6="+pick("0", "1"),
			"link dev "+pick("eth0", "net1")+" address "+pick(mac1, mac2),
			"neigh "+pick("10.1.0.7", "fd00::7")+" lladdr "+pick(mac1, mac2)+" dev "+pick("eth0", "net1"),
			"rule pref 5"+pick("", " from 10.1.0.5", " to 10.0.0.0/8", " to fd00::/64")+" lookup "+pick("1", "2")+pick("", " proto 3")))
		for _, o := range objects(&one) {
			if slot := o.slot(); !seen[slot] { // one namespace has one of each
				seen[slot] = true
				o.into(&s)
			}
		}
	}
	return s
}

// FuzzDecodeObjects feeds the decoders what a kernel never sends: no panic, and
// what is taken can be sent and read again.
func FuzzDecodeObjects(f *testing.F) {
	index := func(string) (uint32, error) { return 2, nil }
	name := func(int) (string, error) { return "eth0", nil }
	seeds := parseObjects(f, "rule pref 5 from 10.1.0.5 to 10.0.0.0/8 lookup 100", "rule pref 5 to fd00::/64 lookup 100",
		"neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "neigh fd00::7 lladdr "+mac1+" dev eth0", "link dev eth0 address "+mac1)
	for _, o := range objects(&seeds) {
		op, _ := o.operation(false)
		body, err := op.append(nil, index)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var l link
		_ = visitLink(body, l.note)
		if r, ok, err := decodeRule(body); err == nil && ok && !r.MoreSelectors && r.Table != 0 {
			if err := (*rule)(&r).validate(); err != nil {
				t.Error(err)
			}
			again, _ := (*rule)(&r).encode(nil, operation{}, index)
			if back, ok, err := decodeRule(again); back != r || !ok || err != nil {
				t.Errorf("%+v is read back as %+v, %v", r, back, err)
			}
		}
		e, ok, err := decodeNeigh(body, name)
		if err != nil || !ok || (*neigh)(&e).validate() != nil {
			return
		}
		again, err := (*neigh)(&e).encode(nil, operation{}, index)
		if err != nil {
			t.Fatal(err)
		}
		if back, _, err := decodeNeigh(again, name); back != e || err != nil {
			t.Errorf("%+v is read back as %+v, %v", e, back, err)
		}
	})
}
