package netops_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

func TestPlaceOf(t *testing.T) {
	const a, b, c, stranger = "default via 10.1.0.1 dev eth0", "default via 10.2.0.1 dev net1", "default via 10.3.0.1 dev net2", "default via 10.4.0.1 dev net3"
	for _, tt := range []struct {
		name    string
		removed string
		now     []string
		want    int
	}{
		{"first", a, []string{b, c}, 0},
		{"last", c, []string{a, b}, 2},
		{"in between", b, []string{a, c}, 1},
		{"those before are gone", b, []string{c}, 0},
		{"those after are gone", b, []string{a}, 1},
		{"alone", b, nil, 0},
		{"beside a stranger", b, []string{stranger, c}, 1},
		{"with a stranger at the end", b, []string{a, c, stranger}, 1},
	} {
		done, _ := netops.Change{Del: netopstest.ParseRoutes(t, tt.removed)}.Needed(netopstest.ParseRoutes(t, a, b, c))
		if at := netops.PlaceOf(&done.Del.Routes[0], pointers(netopstest.ParseRoutes(t, tt.now...).Routes)); at != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, at, tt.want)
		}
	}
}

// Every arrangement can be made, by what the kernel does; and there is a route at
// any time where there is one before and after, unless one has to be moved.
func TestArrangements(t *testing.T) {
	all := pointers(netopstest.ParseRoutes(t, "default via 10.1.0.1 dev eth0", "default via 10.2.0.1 dev net1", "default via 10.3.0.1 dev net2",
		"default via 10.1.0.1 dev eth0 mtu 1400", "default via 10.1.0.1 dev eth0 proto 4").Routes)
	for _, hops := range [][]int{{0, 1}, {1, 0}, {0, 1, 2}, {1, 2}} {
		r := *all[0]
		r.Gw, r.Dev = netip.Addr{}, ""
		for _, i := range hops {
			r.Hops = append(r.Hops, netops.NextHop{Gw: all[i].Gw, Dev: all[i].Dev, Weight: 1})
		}
		all = append(all, &r)
	}
	random := rand.New(rand.NewPCG(1, 2))
	pick := func() []*netops.Route {
		list := slices.Clone(all)
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list[:random.IntN(6)]
	}
	moving := 0
	for range 20000 {
		have, target := pick(), pick()
		a := netops.NewArrangement(have, target)
		ops, moved := a.Operations()
		if got := netops.Simulate(have, ops); !slices.Equal(got, target) {
			t.Fatalf("of %v becomes %v, not %v, by %v", have, got, target, ops)
		}
		if len(moved) > 0 {
			moving++
			continue
		}
		for i := range ops {
			if len(have) > 0 && len(target) > 0 && len(netops.Simulate(have, ops[:i])) == 0 {
				t.Errorf("of %v becomes %v, with a moment without a route, by %v", have, target, ops)
			}
		}
	}
	if moving == 0 || moving == 20000 {
		t.Errorf("%d arrangements move routes", moving)
	}
}

// The commands of a change are those that are sent: where the kernel would take
// another route for the one that goes, that one is put behind it first.
func TestCommandsAmongSiblings(t *testing.T) {
	const stays, goes = "default via 10.1.0.1 dev eth0", "default via 10.1.0.1 dev eth0 mtu 1400"
	needed, _ := netops.Change{Del: netopstest.ParseRoutes(t, goes)}.Needed(netopstest.ParseRoutes(t, stays, goes))
	if got := needed.String(); got != "ip route del "+stays+"\nip route append "+stays+"\nip route del "+goes {
		t.Error(got)
	}
}

func pointers(routes []netops.Route) (list []*netops.Route) {
	for i := range routes {
		list = append(list, &routes[i])
	}
	return list
}
