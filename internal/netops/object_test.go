package netops_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

const mac1, mac2 = "02:00:00:00:00:01", "02:00:00:00:00:02"

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
		if got := (netops.Change{Add: netopstest.ParseState(t, line)}).String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	s := netopstest.ParseState(t, "rule pref 5 lookup 7", "neigh 192.0.2.1 lladdr "+mac1+" dev eth0")
	if got := s.Rules[0].Command(netops.Add) + "\n" + s.Neighs[0].Command(netops.Add); got != (netops.Change{Add: netops.State{Rules: s.Rules}}).String()+"\n"+(netops.Change{Add: netops.State{Neighs: s.Neighs}}).String() {
		t.Error(got)
	}
	if got := (netops.Change{Del: s}).String(); got != "ip neigh del 192.0.2.1 lladdr "+mac1+" dev eth0\nip rule del pref 5 lookup 7" {
		t.Error(got)
	}
}

// whole is a change with everything in it.
func whole(t testing.TB) netops.Change {
	return netops.Change{
		Del: netopstest.ParseState(t, "neigh 10.1.0.8 lladdr "+mac1+" dev eth0", "rule pref 7 lookup 100", "route default via 10.1.0.1 dev eth0"),
		Add: netopstest.ParseState(t, "net/ipv4/conf/eth0/rp_filter=2", "net/ipv6/conf/eth0/disable_ipv6=0", "link dev eth0 address "+mac2,
			"neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "rule pref 8 lookup 100", "route default via 10.1.0.1 dev eth0 table 100"),
		Flushed: netopstest.ParseState(t, "neigh 10.1.0.9 lladdr "+mac1+" dev eth0").Neighs,
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
		{name: "a rule of another protocol", have: lines("rule pref 5 lookup 100 proto 3"), add: lines("rule pref 5 lookup 100"), held: lines("rule pref 5 lookup 100")},
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
		c := netops.Change{Del: netopstest.ParseState(t, tt.del...), Add: netopstest.ParseState(t, tt.add...)}
		have := netopstest.ParseState(t, tt.have...)
		needed, held := c.Needed(have)
		netopstest.Same(t, tt.name+": needed", netops.Change{Del: netopstest.ParseState(t, tt.neededDel...), Add: netopstest.ParseState(t, tt.needed...)}, needed)
		netopstest.Same(t, tt.name+": held", netopstest.ParseState(t, tt.held...), held)
	}
}

// Of several that want the same, who made it may leave first.
func TestTransferOwnership(t *testing.T) {
	const neigh, rule = "neigh 10.1.0.7 lladdr " + mac1 + " dev eth0", "rule pref 5 lookup 100"
	lines := func(l ...string) []string { return l }
	for _, tt := range []struct {
		name                        string
		del, add                    []string // of who leaves
		ownerDel, ownerAdd, held    []string
		replaced, given             bool
		leftDel, leftAdd            []string
		thenDel, thenAdd, thenHolds []string
	}{
		{name: "found", add: lines(neigh, rule), held: lines(neigh), given: true, leftAdd: lines(rule), thenAdd: lines(neigh)},
		{name: "not found", add: lines(neigh), held: lines(rule), leftAdd: lines(neigh), thenHolds: lines(rule)},
		{name: "given before", add: lines(neigh), ownerAdd: lines(neigh), given: true, thenAdd: lines(neigh)},
		{name: "a value", del: lines("net/a/b=1"), add: lines("net/a/b=2"), held: lines("net/a/b=2"), given: true,
			thenDel: lines("net/a/b=1"), thenAdd: lines("net/a/b=2")},
		{name: "a value that is low enough", del: lines("net/a/b=1"), add: lines("net/a/b=0 or less"), held: lines("net/a/b=2 or less"), given: true,
			thenDel: lines("net/a/b=1"), thenAdd: lines("net/a/b=0 or less")},
		{name: "a value that there was not", add: lines("net/a/b=2"), held: lines("net/a/b=2"), given: true, thenAdd: lines("net/a/b=2")},
		{name: "a value given before", del: lines("net/a/b=1"), add: lines("net/a/b=2"), ownerDel: lines("net/a/b=1"), ownerAdd: lines("net/a/b=2"), given: true,
			thenDel: lines("net/a/b=1"), thenAdd: lines("net/a/b=2")},
		{name: "a value replaced", del: lines("net/a/b=1"), add: lines("net/a/b=2"), ownerDel: lines("net/a/b=2"), ownerAdd: lines("net/a/b=0"), replaced: true, given: true,
			thenDel: lines("net/a/b=1"), thenAdd: lines("net/a/b=0")},
		{name: "a value replaced, not given", del: lines("net/a/b=1"), add: lines("net/a/b=2"), ownerDel: lines("net/a/b=2"), ownerAdd: lines("net/a/b=0"),
			leftDel: lines("net/a/b=1"), leftAdd: lines("net/a/b=2"), thenDel: lines("net/a/b=2"), thenAdd: lines("net/a/b=0")},
		{name: "another's value replaced", del: lines("net/a/b=1"), add: lines("net/a/b=2"), ownerDel: lines("net/a/b=3"), ownerAdd: lines("net/a/b=0"), replaced: true,
			leftDel: lines("net/a/b=1"), leftAdd: lines("net/a/b=2"), thenDel: lines("net/a/b=3"), thenAdd: lines("net/a/b=0")},
	} {
		of := func(del, add []string) netops.Change {
			return netops.Change{Del: netopstest.ParseState(t, del...), Add: netopstest.ParseState(t, add...)}
		}
		c, newOwner, held := of(tt.del, tt.add), of(tt.ownerDel, tt.ownerAdd), netopstest.ParseState(t, tt.held...)
		given := c.TransferOwnership(&newOwner, &held)
		if tt.replaced {
			given = c.TransferReplaced(&newOwner) || given
		}
		if given != tt.given {
			t.Errorf("%s: given: %t", tt.name, given)
		}
		netopstest.Same(t, tt.name+": left", of(tt.leftDel, tt.leftAdd), c)
		netopstest.Same(t, tt.name+": the new owner's", of(tt.thenDel, tt.thenAdd), newOwner)
		netopstest.Same(t, tt.name+": what it finds", netopstest.ParseState(t, tt.thenHolds...), held)
	}
}

func TestBefore(t *testing.T) {
	c := whole(t)
	was := netopstest.ParseState(t, "link dev eth0 address "+mac1, "net/ipv4/conf/eth0/rp_filter=1", "net/ipv4/conf/all/rp_filter=0",
		"rule pref 7 lookup 100", "rule pref 9 lookup 100", "neigh 10.1.0.8 lladdr "+mac1+" dev eth0",
		"route default via 10.1.0.1 dev eth0", "route 10.9.0.0/16 via 10.1.0.2 dev eth0")
	needed, _ := c.Needed(was)
	after := netopstest.ParseState(t, "link dev eth0 address "+mac2, "net/ipv4/conf/eth0/rp_filter=2", "net/ipv4/conf/all/rp_filter=0",
		"neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "rule pref 8 lookup 100", "rule pref 9 lookup 100",
		"route default via 10.1.0.1 dev eth0 table 100", "route 10.9.0.0/16 via 10.1.0.2 dev eth0")
	sets := cmpopts.SortSlices(func(a, b any) bool { return fmt.Sprint(a) < fmt.Sprint(b) })
	if diff := cmp.Diff(was, after.Before(needed), sets, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-was +before):\n%s", diff)
	}
	// What somebody else has set since is no matter of that change.
	now := netopstest.ParseState(t, "net/ipv4/conf/eth0/rp_filter=0")
	if got := now.Before(needed).Sysctls; got[0].Value != "0" {
		t.Errorf("it was %v", got)
	}
}

// With an address go the permanent neighbours of that interface, which are
// others', but for those that are to go.
func TestLostNeighbours(t *testing.T) {
	have := netopstest.ParseState(t, "link dev eth0 address "+mac1, "neigh 10.1.0.1 lladdr "+mac1+" dev eth0", "neigh 10.1.0.2 lladdr "+mac1+" dev eth0",
		"neigh 10.1.0.3 lladdr "+mac1+" dev eth0 learnt", "neigh 10.1.0.4 lladdr "+mac1+" dev net1")
	c := netops.Change{Del: netopstest.ParseState(t, "neigh 10.1.0.2 lladdr "+mac1+" dev eth0"), Add: netopstest.ParseState(t, "link dev eth0 address "+mac2)}
	needed, _ := c.Needed(have)
	want := netopstest.ParseState(t, "neigh 10.1.0.1 lladdr "+mac1+" dev eth0").Neighs
	netopstest.Same(t, "lost", want, needed.Flushed)
	again, _ := needed.Needed(have)
	netopstest.Same(t, "again", needed, again)
	// In between somebody has added one, and changed one.
	now := netopstest.ParseState(t, "link dev eth0 address "+mac2, "neigh 10.1.0.1 lladdr "+mac2+" dev eth0", "neigh 10.1.0.5 lladdr "+mac1+" dev eth0")
	back, _ := needed.Reverse().Needed(now)
	netopstest.Same(t, "lost on the way back", now.Neighs, back.Flushed)
	back, _ = needed.Reverse().Needed(netopstest.ParseState(t, "link dev eth0 address "+mac1))
	netopstest.Same(t, "lost by a process that was killed", want, back.Flushed)
}

func TestRivalNeigh(t *testing.T) {
	want := &netopstest.ParseState(t, "neigh 10.1.0.7 lladdr "+mac1+" dev eth0").Neighs[0]
	for line, rival := range map[string]bool{
		"neigh 10.1.0.7 lladdr " + mac1 + " dev eth0":        false,
		"neigh 10.1.0.7 lladdr " + mac2 + " dev eth0":        true,
		"neigh 10.1.0.7 lladdr " + mac2 + " dev eth0 learnt": false,
		"neigh 10.1.0.7 lladdr " + mac2 + " dev net1":        false,
		"neigh 10.1.0.8 lladdr " + mac2 + " dev eth0":        false,
	} {
		if got := netopstest.ParseState(t, line).ConflictingNeigh(want); got != nil != rival {
			t.Errorf("%s: rival %v", line, got)
		}
	}
}

func TestWantsObjects(t *testing.T) {
	wants := netops.NewWants(netopstest.ParseState(t, "rule pref 5 lookup 100", "neigh 10.1.0.7 lladdr "+mac1+" dev eth0"))
	for line, want := range map[string]bool{
		"rule pref 5 lookup 100":                          true,
		"rule pref 5 lookup 100 proto 3":                  false,
		"neigh 10.1.0.7 lladdr " + mac1 + " dev eth0":     true,
		"neigh 10.1.0.7 lladdr " + mac2 + " dev eth0":     false,
		"neigh 10.1.0.7 lladdr " + mac1 + " dev net1":     false,
		"neigh fd00:10:1::7 lladdr " + mac1 + " dev eth0": false,
	} {
		have := netopstest.ParseState(t, line)
		for o := range have.All() {
			if got := wants.Has(o); got != want {
				t.Errorf("%s: %t", line, got)
			}
		}
	}
}

func TestDriftOfObjects(t *testing.T) {
	have := netopstest.ParseState(t, "rule pref 5 lookup 100", "neigh 10.1.0.7 lladdr "+mac2+" dev eth0", "neigh 10.1.0.8 lladdr "+mac1+" dev eth0 learnt",
		"neigh 10.1.0.9 lladdr "+mac1+" dev eth0", "net/a/b=0", "link dev eth0 address "+mac1, "neigh 10.1.0.10 lladdr "+mac1+" dev eth0 learnt")
	c := netops.Change{
		Del: netopstest.ParseState(t, "rule pref 5 lookup 100", "rule pref 9 lookup 100", "neigh 10.1.0.9 lladdr "+mac1+" dev eth0", "neigh 10.1.0.10 lladdr "+mac1+" dev eth0", "net/a/b=0"),
		Add: netopstest.ParseState(t, "rule pref 6 lookup 100", "neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "neigh 10.1.0.8 lladdr "+mac1+" dev eth0", "net/a/b=2", "net/a/c=1", "link dev eth0 address "+mac2),
	}
	var got []string
	for _, d := range c.Drift(have) {
		got = append(got, d.String())
	}
	want := []string{
		"ip link set dev eth0 address " + mac2 + ": found " + mac1 + " instead",
		"sysctl -w net.a.b=2: found 0 instead",
		"sysctl -w net.a.c=1: missing",
		"ip neigh del 10.1.0.9 lladdr " + mac1 + " dev eth0: present, should be absent",
		"ip neigh add 10.1.0.7 lladdr " + mac1 + " dev eth0 nud permanent: found 10.1.0.7 lladdr " + mac2 + " dev eth0 instead",
		"ip neigh add 10.1.0.8 lladdr " + mac1 + " dev eth0 nud permanent: found 10.1.0.8 lladdr " + mac1 + " dev eth0 (learnt by the kernel) instead",
		"ip rule del pref 5 lookup 100: present, should be absent",
		"ip rule add pref 6 lookup 100: missing",
	}
	netopstest.Same(t, "drift", want, got)
}

// What was before the first of several changes is what counts.
func TestThenWithObjects(t *testing.T) {
	first := netops.Change{Del: netopstest.ParseState(t, "net/a/b=0", "rule pref 9 lookup 1"), Add: netopstest.ParseState(t, "net/a/b=1", "net/a/c=1", "rule pref 5 lookup 100", "rule pref 6 lookup 100")}
	second := netops.Change{Del: netopstest.ParseState(t, "net/a/b=1", "rule pref 5 lookup 100"), Add: netopstest.ParseState(t, "net/a/b=2", "rule pref 9 lookup 1")}
	netopstest.Same(t, "then", netops.Change{Del: netopstest.ParseState(t, "net/a/b=0", "rule pref 5 lookup 100"),
		Add: netopstest.ParseState(t, "net/a/c=1", "net/a/b=2", "rule pref 6 lookup 100", "rule pref 9 lookup 1")}, first.Then(second))
	netopstest.Same(t, "overridden", netopstest.ParseState(t, "net/a/c=1", "rule pref 6 lookup 100"), first.Overridden(second).Add)
}

func TestChangesKeepObjects(t *testing.T) {
	c := whole(t)
	c.AddFirst = true
	rules := netops.State{Rules: c.Add.Rules}
	if c.IsZero() || rules.IsZero() || !(netops.Change{Flushed: c.Flushed}).IsZero() {
		t.Error("IsZero")
	}
	left := c.Without(c.Add.Routes)
	netopstest.Same(t, "Without", netops.State{Links: c.Add.Links, Sysctls: c.Add.Sysctls, Neighs: c.Add.Neighs, Rules: c.Add.Rules}, left.Add)
	netopstest.Same(t, "Without's deletions", c.Del, left.Del)
	netopstest.Same(t, "Taken", c, c.Taken())
	q := netops.Query{}
	q.Cover(c)
	netopstest.Same(t, "Cover", netops.Query{Links: []string{"eth0"}, HardwareAddrs: true, Tables: []uint32{netops.TableMain, 100}, Rules: true,
		Neighs: []string{"eth0", "eth0", "eth0"}, Sysctls: []string{"net/ipv4/conf/eth0/rp_filter", "net/ipv6/conf/eth0/disable_ipv6"}}, q)
}

func TestHostileObjects(t *testing.T) {
	neigh := netops.Neigh{Dev: "eth0", IP: netip.MustParseAddr("10.1.0.7"), HardwareAddr: mac1}
	rule := netops.Rule{Priority: 5, Table: 100}
	of := func(change func(s *netops.State, r *netops.Rule, e *netops.Neigh)) netops.State {
		var s netops.State
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
	for name, s := range map[string]netops.State{
		"up":               netopstest.ParseState(t, "net/../kernel/core_pattern=x"),
		"not net":          netopstest.ParseState(t, "kernel/core_pattern=x"),
		"net itself":       netopstest.ParseState(t, "net/x=1"),
		"absolute":         netopstest.ParseState(t, "/net/ipv4/x=1"),
		"double slash":     netopstest.ParseState(t, "net//ipv4/x=1"),
		"zero byte":        netopstest.ParseState(t, "net/ipv4/\x00x=1"),
		"long":             netopstest.ParseState(t, "net/ipv4/x="+strings.Repeat("1", 5000)),
		"no mac":           of(func(_ *netops.State, _ *netops.Rule, e *netops.Neigh) { e.HardwareAddr = "" }),
		"bad mac":          of(func(_ *netops.State, _ *netops.Rule, e *netops.Neigh) { e.HardwareAddr = "02:00" }),
		"MAC in capitals":  of(func(_ *netops.State, _ *netops.Rule, e *netops.Neigh) { e.HardwareAddr = "0A:00:00:00:00:01" }),
		"zone":             of(func(_ *netops.State, _ *netops.Rule, e *netops.Neigh) { e.IP = netip.MustParseAddr("fe80::1%eth0") }),
		"mapped":           of(func(_ *netops.State, _ *netops.Rule, e *netops.Neigh) { e.IP = netip.MustParseAddr("::ffff:10.1.0.7") }),
		"no address":       of(func(_ *netops.State, _ *netops.Rule, e *netops.Neigh) { e.IP = netip.Addr{} }),
		"device":           of(func(_ *netops.State, _ *netops.Rule, e *netops.Neigh) { e.Dev = "../eth0" }),
		"learnt":           of(func(_ *netops.State, _ *netops.Rule, e *netops.Neigh) { e.Learnt = true }),
		"no table":         of(func(_ *netops.State, r *netops.Rule, _ *netops.Neigh) { r.Table = 0 }),
		"more":             of(func(_ *netops.State, r *netops.Rule, _ *netops.Neigh) { r.MoreSelectors = true }),
		"family":           of(func(_ *netops.State, r *netops.Rule, _ *netops.Neigh) { r.From = netip.MustParsePrefix("fd00::/64") }),
		"host bits":        of(func(_ *netops.State, r *netops.Rule, _ *netops.Neigh) { r.To = netip.MustParsePrefix("10.1.0.5/16") }),
		"any":              of(func(_ *netops.State, r *netops.Rule, _ *netops.Neigh) { r.To = netip.MustParsePrefix("0.0.0.0/0") }),
		"interface's name": {Links: []netops.LinkAddr{{Dev: "a/b", HardwareAddr: mac1}}},
		"interface's MAC":  {Links: []netops.LinkAddr{{Dev: "eth0", HardwareAddr: "x"}}},
	} {
		for _, p := range []netops.Plan{{Host: s}, {Pod: netops.Change{Del: s}}, {Pod: netops.Change{Add: s}}} {
			if p.Validate() == nil {
				t.Errorf("%s is valid", name)
			}
		}
	}
	if (netops.Plan{Pod: netops.Change{Flushed: []netops.Neigh{{}}}}).Validate() == nil {
		t.Error("lost neighbours are not looked at")
	}
	if err := (netops.Plan{Pod: whole(t)}).Validate(); err != nil {
		t.Error(err)
	}
}

// randomObjects are few enough to meet each other often.
func randomObjects(t testing.TB, random *rand.Rand, n int) netops.State {
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	seen := map[any]bool{}
	var s netops.State
	for range n {
		one := netopstest.ParseState(t, pick(
			"net/ipv4/conf/eth0/rp_filter="+pick("0", "1", "2"), "net/ipv6/conf/eth0/disable_ipv6="+pick("0", "1"),
			"link dev "+pick("eth0", "net1")+" address "+pick(mac1, mac2),
			"neigh "+pick("10.1.0.7", "fd00::7")+" lladdr "+pick(mac1, mac2)+" dev "+pick("eth0", "net1"),
			"rule pref 5"+pick("", " from 10.1.0.5", " to 10.0.0.0/8", " to fd00::/64")+" lookup "+pick("1", "2")+pick("", " proto 3")))
		for o := range one.All() {
			if at := placeOf(o); !seen[at] { // one namespace has one of each
				seen[at] = true
				o.AddTo(&s)
			}
		}
	}
	return s
}

// placeOf is what only one object can have.
func placeOf(o netops.Object) any {
	switch o := o.(type) {
	case *netops.LinkAddr:
		return "link " + o.Dev
	case *netops.Sysctl:
		return "sysctl " + o.Key
	case *netops.Neigh:
		return "neigh " + o.Dev + " " + o.IP.String()
	case *netops.Rule:
		r := *o
		r.Protocol = 0
		return r
	}
	return o
}

// A route that an attachment found as it asked for it becomes its own to undo when
// the attachment that made it goes: by the next hop by which it was made, and as
// it asked for it. What is left of a route that was there before is not given.
func TestTransferOfARoute(t *testing.T) {
	made := netopstest.ParseRoute(t, "10.8.0.0/16 via 10.1.0.1 dev net1 mtu 1400")
	wish := netopstest.ParseRoute(t, "10.8.0.0/16 via 10.1.0.1 dev eth0")
	wish.AnyDev = true
	left := netopstest.ParseRoute(t, "10.7.0.0/16 dev net1")
	const boot = 3 // RTPROT_BOOT
	left.Protocol = boot
	left.Raw = message(&left)
	var to netops.Change
	held := netops.State{Routes: []netops.Route{netopstest.ParseRoute(t, "10.7.0.0/16 dev net1"), wish}}
	for range 2 { // a second time it has it already: an earlier DEL was killed
		c := netops.Change{Add: netops.State{Routes: []netops.Route{left, made, netopstest.ParseRoute(t, "10.6.0.0/16 dev net1")}}}
		if !c.TransferOwnership(&to, &held) {
			t.Fatal("nothing was given")
		}
		if got := c.String(); got != "ip route add 10.7.0.0/16 dev net1\nip route add 10.6.0.0/16 dev net1" {
			t.Errorf("left: %s", got)
		}
		if own := to.Add.Routes; len(own) != 1 || own[0].Dev != "net1" || own[0].MTU != 0 || !own[0].SameRoute(&made) {
			t.Errorf("the new owner has %v", own)
		}
		if len(held.Routes) != 1 || held.Routes[0].Dst != left.Dst {
			t.Errorf("it still holds %v", held.Routes)
		}
	}
}
