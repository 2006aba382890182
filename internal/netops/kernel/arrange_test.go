package kernel

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
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
		if at := placeOf(&done.Del.Routes[0], pointers(netopstest.ParseRoutes(t, tt.now...).Routes)); at != tt.want {
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
		a := arrangement{have: pick(), target: pick()}
		ops, moved := a.operations()
		if got := simulate(a.have, ops); !slices.Equal(got, a.target) {
			t.Fatalf("of %v becomes %v, not %v, by %v", a.have, got, a.target, ops)
		}
		if len(moved) > 0 {
			moving++
			continue
		}
		for i := range ops {
			if len(a.have) > 0 && len(a.target) > 0 && len(simulate(a.have, ops[:i])) == 0 {
				t.Errorf("of %v becomes %v, with a moment without a route, by %v", a.have, a.target, ops)
			}
		}
	}
	if moving == 0 || moving == 20000 {
		t.Errorf("%d arrangements move routes", moving)
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
		del := netopstest.ParseState(t, tt.del...)
		var ops []netops.Operation
		for o := range del.All() {
			ops = append(ops, netops.Operation{Verb: netops.Delete, Object: o})
		}
		there, hidden := aimed(ops, netopstest.ParseState(t, tt.have...))
		for what, got := range map[string][]netops.Operation{tt.there: there, tt.hidden: hidden} {
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
