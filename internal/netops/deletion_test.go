package netops_test

import (
	"strings"
	"testing"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// Each deletion hits what it means, or is not tried.
func TestAim(t *testing.T) {
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
		there, hidden := netops.Aim(ops, netopstest.ParseState(t, tt.have...))
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
