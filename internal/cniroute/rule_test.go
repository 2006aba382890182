package cniroute

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// Rules as ip(8) takes them, or what is wrong with them.
func TestDecodeRules(t *testing.T) {
	for _, tt := range []struct{ list, want string }{
		{`[]`, ``},
		{`[{"from": "10.1.0.5", "table": 100}]`, `ip rule add pref 30000 from 10.1.0.5 lookup 100`},
		{`[{"to": "10.1.2.3/16", "table": 4294967295, "priority": 7}]`, `ip rule add pref 7 to 10.1.0.0/16 lookup 4294967295`},
		{`[{"from": "fd01::5", "to": "fd02::/64", "table": 254, "priority": 32765}]`, `ip -6 rule add pref 32765 from fd01::5 to fd02::/64 lookup 254`},
		{`[{"from": "0.0.0.0/0", "table": 100}, {"to": "::/0", "table": 100}]`, "ip rule add pref 30000 lookup 100\nip -6 rule add pref 30000 lookup 100"},
		{`[{"from": "10.1.0.5", "to": "", "table": 100, "priority": null}, {"to": null, "from": "10.1.0.5/32", "priority": 30000, "table": 100}]`, `ip rule add pref 30000 from 10.1.0.5 lookup 100`},
		{`[{"FROM": "10.1.0.5", "table": 100}]`, "r[0].FROM: taken for \"from\"\nip rule add pref 30000 from 10.1.0.5 lookup 100"},

		{`{}`, `r: {} is not a list`},
		{`[null, 5]`, "r[0]: null is not an object\nr[1]: 5 is not an object"},
		{`[{}]`, "r[0].table: missing\nr[0]: neither from nor to"},
		{`[{"from": "", "to": null, "table": null}]`, "r[0].table: missing\nr[0]: neither from nor to"},
		{`[{"from": 5, "to": "x", "table": 0, "priority": 0}]`, "r[0].priority: 0 is not a whole number from 1 to 4294967295\nr[0].table: 0 is not a whole number from 1 to 4294967295\n" +
			"r[0].from: 5 is not a string\nr[0].to: \"x\" is not an IP address or subnet"},
		{`[{"from": "10.1.0.0/16", "to": "fd01::/64", "table": 1}]`, `r[0]: from 10.1.0.0/16 and to fd01::/64 are of different address families`},
		{`[{"from": "::ffff:10.1.0.0/112", "table": 1}]`, `r[0].from: "::ffff:10.1.0.0/112" is not an IP address or subnet`},
		{`[{"from": "10.1.0.5", "fom": 100}]`, "r[0].fom: unknown key; did you mean \"from\"?\nr[0].table: missing"},
		{`[{"from": "10.1.0.5", "table": 100, "fwmark": 1}]`, "r[0].fwmark: unknown key; there are from, to, table, priority"},
	} {
		p := &strictjson.Problems{}
		rules := DecodeRules(strictjson.NewValue([]byte(tt.list), "r", p))
		got := append([]string{}, p.Warnings...)
		for _, problem := range p.List {
			got = append(got, problem.String())
		}
		for i := range rules {
			if len(p.List) == 0 {
				got = append(got, rules[i].Command(netops.Add))
			}
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.list, diff)
		}
	}
}
