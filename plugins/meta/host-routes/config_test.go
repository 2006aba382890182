package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops"
)

func TestTries(t *testing.T) {
	for value, want := range map[string]int{
		`1`: 1, `3`: 3, `7`: 7, `10`: 10, `1e1`: 10, `4.0`: 4, `11`: 10, `99`: 10, `1e300`: 10,
		`0`: 3, `-1`: 3, `2.5`: 3, `"x"`: 3, `"5"`: 3, `true`: 3, `[]`: 3, `{}`: 3, `null`: 3, `1e400`: 10, `-1e400`: 3,
	} {
		p, _, err := policy.Parse(hostRoutes, decode, []byte(conf(`[]`, `"tries": `+value)), "eth0")
		if err != nil {
			t.Errorf("%s: %v", value, err)
		} else if got := p.(config).tries; got != want {
			t.Errorf("tries %s: %d, want %d", value, got, want)
		}
	}
	if p, _, err := policy.Parse(hostRoutes, decode, []byte(conf(`[]`)), "eth0"); err != nil || p.(config).tries != 3 {
		t.Errorf("without tries: %v, %v", p, err)
	}
}

// What a list of routings means, in ip(8)'s words.
func TestRoutings(t *testing.T) {
	for _, tt := range []struct{ value, want string }{
		{`[]`, ``},
		{`[{"prefix": "10.9.0.5", "device": "cni0"}]`, `ip route add 10.9.0.5 dev cni0`},
		{`[{"prefix": "10.9.0.5/24", "gateway": "10.1.0.9"}]`, `ip route add 10.9.0.0/24 via 10.1.0.9`},
		{`[{"prefix": "10.9.0.0/24", "gateway": "10.1.0.9", "device": "cni0"}]`, `ip route add 10.9.0.0/24 via 10.1.0.9 dev cni0`},
		{`[{"prefix": "0.0.0.0/0", "gateway": "10.1.0.9", "metric": 500}]`, `ip route add default via 10.1.0.9 metric 500`},
		{`[{"prefix": "fd09::5", "device": "cni0"}]`, `ip -6 route add fd09::5 dev cni0`},
		{`[{"prefix": "::/0", "gateway": "fd01::9"}]`, `ip -6 route add default via fd01::9`},
		{`[{"prefix": "10.9.0.0/24", "gateway": "10.99.0.1", "device": "cni0", "onlink": true}]`, `ip route add 10.9.0.0/24 via 10.99.0.1 dev cni0 onlink`},
		{`[{"prefix": "10.9.0.0/24", "device": "cni0", "onlink": false}]`, `ip route add 10.9.0.0/24 dev cni0`},
		{`[{"prefix": "10.9.0.0/24", "device": "cni0", "table": 100, "metric": 7, "src": "10.1.0.1", "scope": 0, "mtu": 1400, "advmss": 1300}]`,
			`ip route add 10.9.0.0/24 dev cni0 table 100 scope global src 10.1.0.1 metric 7 mtu 1400 advmss 1300`},
		{`[{"prefix": "10.9.0.0/24", "type": "blackhole"}, {"prefix": "fd09::/64", "type": "unreachable"}, {"prefix": "10.8.0.0/24", "type": "prohibit"}]`,
			"ip route add blackhole 10.9.0.0/24\nip -6 route add unreachable fd09::/64\nip route add prohibit 10.8.0.0/24"},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "gateway": null, "metric": null, "type": null}]`, `ip route add 10.9.0.5 dev cni0`},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "gateway": "0.0.0.0"}, {"prefix": "fd09::5", "device": "cni0", "gateway": "::"}]`,
			"ip route add 10.9.0.5 dev cni0\nip -6 route add fd09::5 dev cni0"},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "gateway": ""}, {"prefix": "10.9.0.6", "gateway": "10.1.0.9", "device": ""}]`,
			"ip route add 10.9.0.5 dev cni0\nip route add 10.9.0.6 via 10.1.0.9"},
		{`[{"Prefix": "10.9.0.5", "device": "cni0"}]`, `ip route add 10.9.0.5 dev cni0`},
		// The same twice is one; another table or metric is another route.
		{`[{"prefix": "10.9.0.5", "device": "cni0"}, {"device": "cni0", "prefix": "10.9.0.5/32", "type": "unicast"}]`, `ip route add 10.9.0.5 dev cni0`},
		{`[{"prefix": "fd09::5", "device": "cni0"}, {"prefix": "fd09::5", "device": "cni0", "metric": 1024}]`, `ip -6 route add fd09::5 dev cni0`},
		{`[{"prefix": "10.9.0.5", "device": "cni0"}, {"prefix": "10.9.0.5", "device": "cni1", "metric": 1}, {"prefix": "10.9.0.5", "device": "cni1", "table": 9}]`,
			"ip route add 10.9.0.5 dev cni0\nip route add 10.9.0.5 dev cni1 metric 1\nip route add 10.9.0.5 dev cni1 table 9"},
	} {
		var c config
		if err := c.take([]byte(tt.value)); err != nil {
			t.Errorf("%s: %v", tt.value, err)
			continue
		}
		if diff := cmp.Diff(tt.want, netops.Change{Add: c.want().Host}.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.value, diff)
		}
		if len(c.elements) != len(c.routes) {
			t.Errorf("%s: %d elements for %d routes", tt.value, len(c.elements), len(c.routes))
		}
	}
}

// What is wrong with routings is named by element and key, all of it at once.
func TestRoutingsThatAreNone(t *testing.T) {
	for _, tt := range []struct {
		value string
		says  []string
	}{
		{`{"prefix": "10.9.0.5"}`, []string{`routing: it yields {"prefix":"10.9.0.5"}, where a list of routes is wanted`}},
		{`null`, []string{`it yields null, where`}},
		{`"10.9.0.5 dev cni0"`, []string{`it yields "10.9.0.5 dev cni0", where`}},
		{`[null]`, []string{`routing[0]: null is not an object`}},
		{`["10.9.0.5"]`, []string{`routing[0]: "10.9.0.5" is not an object`}},
		{`[[]]`, []string{`routing[0]: [] is not an object`}},
		{`[{}]`, []string{`routing[0].prefix: missing`}},
		{`[{"prefix": "10.9.0.5"}]`, []string{`routing[0]: neither device nor gateway`}},
		{`[{"prefix": "10.9.0.5", "device": ""}]`, []string{`routing[0]: neither device nor gateway`}},
		{`[{"prefix": "10.9.0.300", "device": "cni0"}]`, []string{`routing[0].prefix: "10.9.0.300" is not an IP address or subnet`}},
		{`[{"prefix": 5, "device": "cni0"}]`, []string{`routing[0].prefix: 5 is not a string`}},
		{`[{"prefix": "::ffff:10.9.0.5", "device": "cni0"}]`, []string{`routing[0].prefix: `}},
		{`[{"prefix": "fe80::1%cni0", "device": "cni0"}]`, []string{`routing[0].prefix: `}},
		{`[{"prefix": "10.9.0.5", "device": "a/b"}]`, []string{`routing[0].device: "a/b" is not the name of an interface`}},
		{`[{"prefix": "10.9.0.5", "device": "0123456789abcdef"}]`, []string{`routing[0].device: `}},
		{`[{"prefix": "10.9.0.5", "device": 1}]`, []string{`routing[0].device: 1 is not a string`}},
		{`[{"prefix": "10.9.0.5", "gateway": "x"}]`, []string{`routing[0].gateway: "x" is not an IP address`}},
		{`[{"prefix": "10.9.0.5", "gateway": "0.0.0.0"}]`, []string{`routing[0]: neither device nor gateway`}},
		{`[{"prefix": "10.9.0.5", "gateway": "fd01::1"}]`, []string{`routing[0].gateway: fd01::1 is of another address family than prefix 10.9.0.5/32`}},
		{`[{"prefix": "fd09::5", "device": "cni0", "src": "10.1.0.1"}]`, []string{`routing[0].src: 10.1.0.1 is of another address family`}},
		{`[{"prefix": "10.9.0.5", "gateway": "10.1.0.9", "onlink": true}]`, []string{`routing[0].onlink: goes with device and gateway`}},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "onlink": true}]`, []string{`routing[0].onlink: goes with device and gateway`}},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "onlink": 1}]`, []string{`routing[0].onlink: 1 is not true or false`}},
		{`[{"prefix": "10.9.0.5", "type": "blackhole", "device": "cni0"}]`, []string{`routing[0].type: a route of type blackhole goes without gateway, device and onlink`}},
		{`[{"prefix": "10.9.0.5", "type": "prohibit", "gateway": "10.1.0.9"}]`, []string{`routing[0].type: `}},
		{`[{"prefix": "10.9.0.5", "type": "unreachable", "onlink": true}]`, []string{`routing[0].type: `}},
		{`[{"prefix": "10.9.0.5", "type": "throw"}]`, []string{`routing[0].type: "throw" is not unicast, blackhole, unreachable or prohibit`}},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "table": 0}]`, []string{`routing[0].table: 0 is not a whole number from 1 to`}},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "metric": -1}]`, []string{`routing[0].metric: -1 is not a whole number`}},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "mtu": 67}]`, []string{`routing[0].mtu: 67 `}},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "advmss": 0}]`, []string{`routing[0].advmss: 0 `}},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "scope": 256}]`, []string{`routing[0].scope: 256 `}},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "priority": 5}]`, []string{`routing[0].priority: unknown key`}},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "gws": ["10.1.0.9"]}]`, []string{`routing[0].gws: unknown key`}},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "": 5}]`, []string{`routing[0]."": unknown key`}},
		{`[{"prefix": "10.9.0.5", "device": "cni0", "gatewy": "10.1.0.9"}]`, []string{`routing[0].gatewy: unknown key; did you mean "gateway"?`}},
		{`[{"dst": "10.9.0.5", "dev": "cni0"}]`, []string{
			`routing[0].dst: unknown key; there are prefix, gateway, mtu, advmss, metric, table, scope, device, src, onlink, type`, `routing[0].dev: unknown key`, `routing[0].prefix: missing`}},
		{`[{"prefix": "10.9.0.5", "device": "cni0"}, {"prefix": "10.9.0.5", "device": "cni1"}]`,
			[]string{`routing[1]: "10.9.0.5 dev cni0" and "10.9.0.5 dev cni1" have destination, table and metric in common`}},
		{`[{"prefix": "10.9.0.5", "device": "cni0"}, {"prefix": "10.9.0.5", "device": "cni0", "mtu": 1400}]`, []string{`routing[1]: `}},
		{`[{"prefix": "fd09::5", "device": "cni0"}, {"prefix": "fd09::5", "gateway": "fd01::9", "metric": 1024}]`, []string{`routing[1]: `}},
		{`[{"prefix": "x", "device": "cni0"}, {"prefix": "10.9.0.5", "device": "cni0"}, {"prefix": "10.9.0.6", "gateway": "y", "metric": "z"}]`,
			[]string{`(and 2 more)`, `routing[0].prefix: "x"`, `routing[2].gateway: "y"`, `routing[2].metric: "z"`}},
	} {
		var c config
		err := c.take([]byte(tt.value))
		if err == nil {
			t.Errorf("%s: taken for %s", tt.value, netops.Change{Add: c.want().Host})
			continue
		}
		for _, says := range tt.says {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %q does not say %q", tt.value, err, says)
			}
		}
		if strings.Count(err.Error(), "\n") >= len(tt.says) {
			t.Errorf("%s: more than that: %q", tt.value, err)
		}
	}
}

// FuzzRoutings: no value that an expression yields makes a panic; what is taken
// is a plan that a record may hold.
func FuzzRoutings(f *testing.F) {
	for _, value := range []string{`[]`, `null`, `{`, `[{"prefix":"10.9.0.5","device":"cni0"}]`, `[{"prefix":"fd09::/64","gateway":"fe80::1","device":"a","onlink":true}]`,
		`[{"prefix":"0.0.0.0/0","type":"blackhole","metric":1},5]`, `[{"prefix":"10.9.0.5","device":"cni0","":0}]`} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if !json.Valid(value) {
			return // an expression yields JSON, without white space around it
		}
		var c config
		if value = []byte(strings.TrimSpace(string(value))); c.take(value) != nil {
			return
		}
		want := c.want()
		if err := want.Validate(); err != nil {
			t.Fatal(err)
		}
		var elements []any
		if err := json.Unmarshal(value, &elements); err != nil || len(c.routes) > len(elements) {
			t.Fatalf("%d routes of %s: %v", len(c.routes), value, err)
		}
		_ = fmt.Sprint(netops.Change{Add: want.Host}.Commands())
	})
}
