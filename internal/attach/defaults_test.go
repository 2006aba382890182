//go:build linux

package attach

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/record"
)

// sharing is a planner that prefers an interface for the pod's default routes.
type sharing struct {
	*decided
	prefers record.Default
}

func (p sharing) Beside(netops.State) Planner {
	d := *p.decided
	edit := d.decision
	d.decision = func(decision *Decision, pod netops.Snapshot) {
		if edit != nil {
			edit(decision, pod)
		}
		prefers := p.prefers
		decision.Default = &prefers
	}
	p.decided = &d
	return p
}

// parsed reads routes as ip(8) prints them.
func parsed(t *testing.T, lines ...string) (routes []netops.Route) {
	t.Helper()
	for _, l := range lines {
		parts := strings.Split(l, " nexthop ")
		r := netopstest.ParseRoute(t, parts[0])
		if len(parts) > 1 && strings.Contains(l, ":") {
			r.Dst, r.Metric = netops.IPv6Default, 1024
		}
		for _, hop := range parts[1:] {
			f := strings.Fields(hop) // via … dev …
			r.Hops = append(r.Hops, netops.NextHop{Gw: netip.MustParseAddr(f[1]), Dev: f[3]})
		}
		routes = append(routes, r)
	}
	return routes
}

func linesOf(routes []netops.Route) (lines []string) {
	for i := range routes {
		lines = append(lines, routes[i].String())
	}
	return lines
}

// The default routes of a family are those of one interface: of the one that is
// asked for last, else of the highest number, else of the last ADD; where none of
// these has any, all stay.
func TestChoose(t *testing.T) {
	const e, n1, n2, n3 = "default via 10.2.0.1 dev eth0", "default via 192.0.2.1 dev net1", "default via 198.51.100.1 dev net2", "default via 203.0.113.1 dev net3"
	numbered := func(n, order uint32) record.Default {
		return record.Default{Dev: fmt.Sprint("net", n), Number: n, Order: order}
	}
	asked := func(dev string, order uint32) record.Default {
		return record.Default{Dev: dev, Asked: true, Order: order}
	}
	for name, tt := range map[string]struct {
		preferences       []record.Default
		main, withheld    []string
		restored, removed []string
	}{
		"none prefers any":                {nil, []string{n1, e}, []string{n2}, []string{n2}, nil},
		"one":                             {[]record.Default{numbered(1, 1)}, []string{n1, e}, nil, nil, []string{e}},
		"the highest":                     {[]record.Default{numbered(2, 1), numbered(1, 2)}, []string{n2, n1, e}, nil, nil, []string{n1, e}},
		"a plain one beside":              {[]record.Default{numbered(1, 1)}, []string{n3, n1}, []string{e}, nil, []string{n3}},
		"the highest has none":            {[]record.Default{numbered(2, 1), numbered(1, 2)}, []string{n1, e}, nil, nil, []string{e}},
		"other names after numbers":       {[]record.Default{{Dev: "net3", Order: 1}, numbered(2, 2)}, []string{n2, n3}, nil, nil, []string{n2}},
		"other names by their order":      {[]record.Default{{Dev: "net3", Order: 1}, {Dev: "net1", Order: 2}}, []string{n1, n3}, nil, nil, []string{n3}},
		"asked for":                       {[]record.Default{asked("eth0", 1), numbered(1, 2)}, []string{n1}, []string{e}, []string{e}, []string{n1}},
		"asked for later":                 {[]record.Default{asked("net1", 1), asked("eth0", 2)}, []string{n1, e}, nil, nil, []string{n1}},
		"asked for, but it has none":      {[]record.Default{asked("net9", 1), numbered(1, 2)}, []string{n1, e}, nil, nil, []string{e}},
		"prefers none":                    {[]record.Default{{}}, []string{n1, e}, nil, nil, nil},
		"comes back":                      {[]record.Default{numbered(1, 1)}, []string{n2}, []string{e, n1}, []string{n1}, []string{n2}},
		"of an interface that came anew":  {[]record.Default{numbered(1, 1)}, []string{"default via 192.0.2.9 dev net1"}, []string{n1, e}, nil, nil},
		"withheld and there all the same": {[]record.Default{numbered(1, 1)}, []string{n1}, []string{n1, e, e}, nil, nil},
		"not those with other purposes":   {[]record.Default{numbered(1, 1)}, []string{n1, "unreachable default metric 9", "default via 10.2.0.1 dev eth0 table 7", "10.0.0.0/8 via 10.2.0.1 dev eth0"}, nil, nil, nil},
		"IPv4's of several interfaces":    {[]record.Default{numbered(1, 1)}, []string{n1, "default metric 5 nexthop via 10.2.0.1 dev eth0 weight 1 nexthop via 198.51.100.1 dev net2 weight 1"}, nil, nil, nil},
		"each family by itself":           {[]record.Default{numbered(2, 1), numbered(1, 2)}, []string{n1, n2, "default via fd00::1 dev eth0", "default via fd01::1 dev net1 metric 5"}, nil, nil, []string{n1, "default via fd00::1 dev eth0"}},
		"of IPv6 some next hops": {[]record.Default{numbered(1, 1)}, []string{"default nexthop via fd00::1 dev eth0 weight 1 nexthop via fd01::1 dev net1 weight 1 nexthop via fd02::1 dev net2 weight 1"}, nil, nil,
			[]string{"default via fd00::1 dev eth0", "default via fd02::1 dev net2"}},
	} {
		var preferences []preference
		for _, d := range tt.preferences {
			preferences = append(preferences, preference{d, record.Key{IfName: d.Dev}})
		}
		got := choose(preferences, parsed(t, tt.main...), parsed(t, tt.withheld...))
		if diff := cmp.Diff([][]string{tt.restored, tt.removed}, [][]string{linesOf(got.restore), linesOf(got.remove)}); diff != "" {
			t.Errorf("%s: (-want +got restored and removed):\n%s", name, diff)
		}
	}
}

// What is withheld is seen in the places that it had.
func TestWithOwed(t *testing.T) {
	original := parsed(t, "default via 203.0.113.1 dev net3", "default via 198.51.100.1 dev net2", "default via 192.0.2.1 dev net1", "10.0.0.0/8 dev net1")
	gone, _ := netops.Change{Del: netops.State{Routes: original[:3]}}.Needed(netops.State{Routes: original})
	for _, away := range [][]int{{0}, {1}, {2}, {0, 1}, {2, 0}, {1, 2}, {0, 1, 2}, {2, 1, 0}} {
		var left, withheld []netops.Route
		for i := range original {
			if !slices.Contains(away, i) {
				left = append(left, original[i])
			}
		}
		for _, i := range away {
			withheld = append(withheld, gone.Del.Routes[i])
		}
		defaults := slices.DeleteFunc(beforeRemoval(left, withheld), func(r netops.Route) bool { return !r.Default() })
		if diff := cmp.Diff(linesOf(original[:3]), linesOf(defaults)); diff != "" {
			t.Errorf("%v away (-want +got):\n%s", away, diff)
		}
	}
}

// Default routes are withheld as long as their interface is there; all else is.
func TestPayable(t *testing.T) {
	withheld := parsed(t, "default via 10.2.0.1 dev eth0", "default via 10.9.0.1 dev gone0", "10.0.0.0/8 via 10.9.0.1 dev gone0",
		"default nexthop via fd00::1 dev eth0 weight 1 nexthop via fd09::1 dev gone0 weight 1")
	want := []string{linesOf(withheld)[0], linesOf(withheld)[2], linesOf(withheld)[3]}
	if diff := cmp.Diff(want, linesOf(restorable(withheld, map[string]uint32{"eth0": 2}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The number at the end of an interface's name.
func TestTrailingNumber(t *testing.T) {
	for name, want := range map[string]uint32{"net1": 1, "net150": 150, "eth0": 0, "lan": 0, "": 0, "7": 7, "net99999999999999": 99999} {
		if got := trailingNumber(name); got != want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// second gives a pod another interface with a default route, before those that it
// has.
func second(pod *netopstest.NS, dev string) {
	pod.IP("link add "+dev+" type bridge", "link set "+dev+" addrgenmode none up", "addr add "+gatewayOf(dev).String()+"0/24 dev "+dev, "route prepend default via "+gatewayOf(dev).String()+" dev "+dev)
}

func gatewayOf(dev string) netip.Addr {
	return map[string]netip.Addr{"net1": netip.MustParseAddr("192.0.2.1"), "net2": netip.MustParseAddr("198.51.100.1")}[dev]
}

// The attachments of a pod come and go in any order, are killed and refused, and
// one of them has the default route: in the end all are there as before.
func TestDefaultRoutes(t *testing.T) {
	s := newScene(t)
	pod := s.pod("defaults")
	pod.IP("route add default via 10.2.0.1")
	second(pod, "net1")
	second(pod, "net2")
	main := func() string {
		return strings.Join(strings.Fields(strings.ReplaceAll(pod.IP("-4 route show default"), "\n", ",")), " ")
	}
	all := main()
	query := mainDefaults()
	of := func(dev string, prefers record.Default) call {
		prefers.Dev = dev
		c := s.of(pod, sharing{&decided{query: query}, prefers}).in("of-" + dev)
		return c
	}
	one, two, overlay := of("net1", record.Default{Number: 1}), of("net2", record.Default{Number: 2}), of("eth0", record.Default{Asked: true}).in("asks")
	expect := func(when, want string) {
		t.Helper()
		if got := main(); !strings.HasPrefix(got, want) || strings.Count(got, "default") != 1 {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	const n1, n2, e = "default via 192.0.2.1", "default via 198.51.100.1", "default via 10.2.0.1"
	for _, order := range [][]call{{one, two, overlay}, {overlay, two, one}, {two, overlay, one}, {two, one, overlay}} {
		one.ok("ADD")
		expect("net1", n1)
		two.ok("ADD")
		expect("net2", n2)
		overlay.ok("ADD")
		expect("the overlay is asked for", e)
		for _, c := range []call{one, two, overlay} {
			c.ok("ADD") // changes nothing
			c.ok("CHECK")
		}
		expect("once more", e)
		for _, c := range order {
			c.ok("DEL")
			if got := main(); !strings.Contains(got, "default") {
				t.Errorf("no default route: %s", got)
			}
		}
		if got := main(); got != all {
			t.Errorf("after the last DEL: %s, before: %s", got, all)
		}
		s.has()
	}

	// A later one that asks for another interface overrules; what others made since
	// is told.
	overlay.ok("ADD")
	asks := of("net1", record.Default{Asked: true})
	asks.ok("ADD")
	s.warned("asked for by several networks")
	overlay.refused("CHECK", 106, "eth0 is to have the pod's default route, but", "net1")
	pod.IP("route append default via 198.51.100.1 dev net2 metric 7")
	asks.refused("CHECK", 106, "ip route del default via 198.51.100.1 dev net2 metric 7: present, should be absent")
	pod.IP("route del default metric 7")
	asks.ok("DEL")
	expect("it is gone", e)
	overlay.ok("DEL")
	s.has()
}
