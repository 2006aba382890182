package main

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
)

// Every key at its best and at its worst.
var configs = []string{
	`{}`, `null`, `[]`, `{"name": "net"}`,
	conf(``),
	conf(`"flushroutes": true, "flushgateway": true, "skipcheck": false, "ignoreErrors": true`),
	conf(`"delroutes": [{"dst": "192.168.0.0/24", "gw": "10.1.0.1"}, {"dst": "::/0", "metric": 50}, {"dst": "0.0.0.0/0", "gws": ["10.1.0.1", "10.1.0.2"]}, {"dst": "172.20.0.0/16", "type": "blackhole"}]`),
	conf(`"addroutes": [{"dst": "172.16.5.5"}, {"dst": "172.17.1.2/16", "mtu": 1400, "advmss": 1300, "priority": 5, "src": "10.1.0.5"},
		{"dst": "172.18.0.0/16", "scope": 253}, {"dst": "172.19.0.0/16", "gw": "10.99.0.1", "onlink": true}, {"dst": "172.20.0.0/16", "type": "blackhole"},
		{"dst": "172.21.0.0/16", "gws": ["10.1.0.1", {"gw": "10.1.0.2", "dev": "net1", "weight": 3}]}, {"dst": "172.22.0.0/16", "dev": "eth0", "table": 100}, {"dst": "fd30::1", "gw": "fe80::1"}]`),
	conf(`"addroutes": [null, 7, {}, {"dst": 1, "gw": [], "mtu": "x", "Table": -1}, {"dst": "10.0.0.0/33", "gws": [null, {}, 7, ""]}], "delroutes": "x", "addroute": []`),
	conf(`"args": {"cni": {"addRoutes": [{"dst": "172.16.0.0/16"}], "flushroutes": null, "stateDir": "/x"}}, "stateDir": "/y", "log_options": {"log_level": "debug", "log_max_size": 1}`),
	`{"name": "net", "flushgateway": true, "prevResult": {"interfaces": [null], "ips": [{"address": ""}], "routes": [{}]}}`,
	`{"name": "net", "flushgateway": true, "addroutes": [{"dst": "fd02::/64"}], "prevResult": {"routes": [{"dst": "fd02::/64", "priority": 0, "table": 0, "scope": 253}, {"dst": "0.0.0.0/0", "gw": "::"}]}}`,
}

// Whatever stands on stdin is refused with a code that tells why, or decides
// on every pod without fault.
func FuzzConfig(f *testing.F) {
	for _, c := range configs {
		f.Add([]byte(c))
	}
	f.Fuzz(func(t *testing.T, stdin []byte) {
		planner, prev, err := policy.Parse(routeOverride, decode, stdin, "net1")
		if err != nil {
			if prev != nil || err.Error() == "" {
				t.Fatalf("%v, and yet a result", err)
			}
			return
		}
		q := planner.Query(prev)
		for _, pod := range []netops.Snapshot{{}, {Links: q.Links}, {Links: q.Links, State: someRoutes(), Addrs: someAddrs()}} {
			decides(t, planner, prev, pod)
		}
	})
}

// The same for configurations that are well formed: a route in both lists, of
// whatever values, and a result that lists one.
func FuzzRoutes(f *testing.F) {
	f.Add("172.16.0.0/16", "10.1.0.1", "", "", "172.16.0.0/16", "10.1.0.1", uint32(5), uint32(100), uint8(0), uint8(0b1111))
	f.Add("192.168.0.0/24", "", "net1", "10.1.0.5", "0.0.0.0/0", "", uint32(0), uint32(0), uint8(253), uint8(0b10011))
	f.Add("::/0", "fe80::1", "eth0", "", "fd20::/64", "fd01::1", uint32(50), uint32(254), uint8(200), uint8(0b101100))
	f.Add("172.21.0.0/16", "10.1.0.1", "", "", "172.21.0.0/16", "10.1.0.1", uint32(0), uint32(254), uint8(0), uint8(0b1000011))
	f.Fuzz(func(t *testing.T, dst, gw, dev, src, listedDst, listedGw string, metric, table uint32, scope, which uint8) {
		given := func(bit int) bool { return which>>bit&1 == 1 }
		route, entry := map[string]any{"dst": dst}, map[string]any{"dst": listedDst}
		for key, v := range map[string]string{"gw": gw, "dev": dev, "src": src} {
			if v != "" {
				route[key] = v
			}
		}
		if listedGw != "" {
			entry["gw"] = listedGw
		}
		for bit, field := range []struct {
			key   string
			value any
		}{{"metric", metric}, {"table", table}, {"scope", scope}, {"onlink", true}} {
			if given(bit) {
				route[field.key] = field.value
			}
			if given(bit) && given(7) && field.key == "metric" {
				entry["priority"] = field.value
			} else if given(bit) && given(7) && bit != 3 {
				entry[field.key] = field.value
			}
		}
		conf := map[string]any{"name": "net", "flushroutes": given(4), "flushgateway": given(5), "ignoreErrors": given(6),
			"prevResult": map[string]any{"interfaces": []any{map[string]any{"name": "net1", "sandbox": "x"}},
				"ips":    []any{map[string]any{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}, map[string]any{"address": "fd01::5/64", "gateway": "fd01::1"}},
				"routes": []any{entry}}}
		for _, lists := range [][]string{{"addroutes"}, {"delroutes"}, {"addroutes", "delroutes"}} {
			delete(conf, "addroutes")
			for _, key := range lists {
				conf[key] = []any{route}
			}
			stdin, err := json.Marshal(conf)
			if err != nil {
				t.Fatal(err)
			}
			planner, prev, err := policy.Parse(routeOverride, decode, stdin, "net1")
			if err != nil {
				continue
			}
			pod := netops.Snapshot{Links: planner.Query(prev).Links, State: someRoutes(), Addrs: someAddrs()}
			decides(t, planner, prev, pod)
		}
	})
}

// decides lets the planner decide, and its decisions speak.
func decides(t *testing.T, planner attach.Planner, prev *cniresult.Result, pod netops.Snapshot) {
	planner.SkipCheck()
	if d, err := planner.Plan(prev, pod); err == nil {
		if d.Result == nil {
			t.Fatal("neither an error nor a result")
		}
		needed, _ := d.Want.Pod.Needed(pod.State)
		_ = needed.Commands()
		if err := d.Want.Validate(); err != nil {
			t.Fatalf("a plan that no record may hold: %v", err)
		}
		for _, l := range d.Listed {
			before := len(d.Result.Routes)
			d.Result.Append(l.Entry)
			if d.Result.Append(l.Entry); len(d.Result.Routes) > before+1 {
				t.Fatalf("%+v is listed twice", l.Entry)
			}
			if !d.Result.Lists(l.For) && len(l.For.Hops) == 0 {
				t.Fatalf("%+v is listed, and not found: %+v", l.For, d.Result.Routes)
			}
		}
	}
	if want, err := planner.Expect(prev, pod); err == nil {
		for _, d := range want.Pod.Drift(pod.State) {
			_ = d.String()
		}
	}
}

func someAddrs() []netops.Addr {
	return []netops.Addr{
		addr("eth0", "10.244.1.5/24"), addr("net1", "10.1.0.5/16"), addr("net1", "fd01::5/64"), addr("net1", "fe80::5/64"),
	}
}

func someRoutes() netops.State {
	var s netops.State
	add := func(dst, gw, dev string, edit func(*netops.Route)) {
		r := netops.Route{Dst: netip.MustParsePrefix(dst), Dev: dev}
		if gw != "" {
			r.Gw = netip.MustParseAddr(gw)
		}
		if edit != nil {
			edit(&r)
		}
		s.Routes = append(s.Routes, r.Normalize())
	}
	add("0.0.0.0/0", "10.244.1.1", "eth0", nil)
	add("0.0.0.0/0", "10.1.0.1", "net1", func(r *netops.Route) { r.Metric = 50 })
	add("10.7.0.0/16", "", "net1", func(r *netops.Route) { r.Scope = netops.ScopeLink })
	add("192.168.0.0/24", "10.1.0.1", "net1", nil)
	add("169.254.7.0/24", "10.1.0.1", "net1", nil)
	add("172.20.0.0/16", "", "", func(r *netops.Route) { r.Type = netops.Blackhole })
	add("172.21.0.0/16", "", "", func(r *netops.Route) {
		r.Hops = []netops.NextHop{{Gw: netip.MustParseAddr("10.244.1.1"), Dev: "eth0"}, {Gw: netip.MustParseAddr("10.1.0.1"), Dev: "net1", Weight: 2}}
	})
	add("::/0", "fd01::1", "net1", func(r *netops.Route) { r.Metric = 50 })
	add("fd20::/64", "fd01::1", "net1", nil)
	return s
}
