package kernel

import (
	"strings"
	"testing"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

func TestPlace(t *testing.T) {
	const a, b, c, stranger = "default via 10.1.0.1 dev eth0", "default via 10.2.0.1 dev net1", "default via 10.3.0.1 dev net2", "default via 10.4.0.1 dev net3"
	const elsewhere = "10.9.0.0/16 dev eth0"
	for _, tt := range []struct {
		name      string
		removed   string
		now       []string
		want      place
		followers int
	}{
		{"first", a, []string{elsewhere, b, c}, place{index: 1, first: true}, 2},
		{"last", c, []string{a, b, elsewhere}, place{index: 3}, 0},
		{"in between", b, []string{a, elsewhere, c}, place{index: 2, between: true}, 1},
		{"those before are gone", b, []string{c}, place{index: 0, first: true}, 1},
		{"those after are gone", b, []string{a}, place{index: 1}, 0},
		{"alone", b, []string{elsewhere}, place{index: 1}, 0},
		{"beside a stranger", b, []string{stranger, c}, place{index: 1, between: true}, 1},
		{"with a stranger at the end", b, []string{a, c, stranger}, place{index: 1, between: true}, 2},
	} {
		done, _ := netops.Change{Del: netopstest.ParseRoutes(t, tt.removed)}.Needed(netopstest.ParseRoutes(t, a, b, c))
		at, followers := placeOf(&done.Del.Routes[0], netopstest.ParseRoutes(t, tt.now...).Routes)
		if at != tt.want || len(followers) != tt.followers {
			t.Errorf("%s: %+v with %d followers, want %+v with %d", tt.name, at, len(followers), tt.want, tt.followers)
		}
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
