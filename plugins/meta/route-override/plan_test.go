package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
)

// decided is what the plan for net1 is, as text: the commands, then the routes
// of the result.
func decided(t *testing.T, keys, prev string, pod netops.Snapshot) string {
	t.Helper()
	stdin := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": "route-override", %s, "prevResult": %s}`, keys, prev)
	planner, result, err := policy.Parse(routeOverride, decode, []byte(stdin), "net1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := planner.Plan(result, pod)
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	fmt.Fprintln(&out, d.Want.Pod)
	for _, l := range d.Listed {
		d.Result.Append(l.Entry)
	}
	for _, l := range d.Result.Routes {
		fmt.Fprint(&out, l.Dst)
		if l.Gw.IsValid() {
			fmt.Fprint(&out, " gw ", l.Gw)
		}
		if l.Scope != nil {
			fmt.Fprint(&out, " scope ", *l.Scope)
		}
		fmt.Fprintln(&out)
	}
	return lines(out.String())
}

func addr(dev, prefix string) netops.Addr {
	p := netip.MustParsePrefix(prefix)
	return netops.Addr{Dev: dev, Prefix: p, Subnet: p.Masked()}
}

// by is a route by 10.1.0.1.
func by(dst, dev string) netops.Route {
	return netops.Route{Dst: netip.MustParsePrefix(dst), Gw: netip.MustParseAddr("10.1.0.1"), Dev: dev, Protocol: 3}.Normalize()
}

// Which gateway and which interface a route of addroutes goes by.
func TestGatewayAndInterface(t *testing.T) {
	pod := netops.Snapshot{
		Links: []string{"net1", "net2", "eth0"},
		Addrs: []netops.Addr{addr("eth0", "10.244.0.5/24"), addr("net2", "10.2.0.5/16"), addr("net1", "10.1.0.5/16"),
			addr("eth0", "fe80::4/64"), addr("net2", "fe80::3/64"), addr("net1", "fe80::2/64")},
	}
	const both = `{"interfaces": [{"name": "net2", "sandbox": "x"}, {"name": "net1", "sandbox": "x"}], "ips": [
		{"address": "10.2.0.5/16", "gateway": "10.2.0.1", "interface": 0}, {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1}]}`
	const other = `{"interfaces": [{"name": "net2", "sandbox": "x"}, {"name": "net1", "sandbox": "x"}], "ips": [
		{"address": "10.2.0.5/16", "gateway": "10.2.0.1", "interface": 0}, {"address": "10.1.0.5/16", "interface": 1}]}`
	const none = `{"interfaces": [{"name": "net1", "sandbox": "x"}], "ips": [{"address": "10.1.0.5/16", "interface": 0}]}`
	const untold = `{"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}]}`
	for _, tt := range []struct{ name, prev, entry, want string }{
		{"CNI_IFNAME's gateway", both, `{"dst": "172.16.0.0/16"}`, "172.16.0.0/16 via 10.1.0.1 dev net1"},
		{"that of dev's address", both, `{"dst": "172.16.0.0/16", "dev": "net2"}`, "172.16.0.0/16 via 10.2.0.1 dev net2"},
		{"the first", other, `{"dst": "172.16.0.0/16"}`, "172.16.0.0/16 via 10.2.0.1 dev net2"},
		{"dev has none", other, `{"dst": "172.16.0.0/16", "dev": "net1"}`, "172.16.0.0/16 dev net1"},
		{"there is none", none, `{"dst": "172.16.0.0/16"}`, "172.16.0.0/16 dev net1"},
		{"none of the family", both, `{"dst": "fd00::/64"}`, "fd00::/64 dev net1"},
		{"not told whose", untold, `{"dst": "172.16.0.0/16", "dev": "net1"}`, "172.16.0.0/16 via 10.1.0.1 dev net1"},
		{"scope link", both, `{"dst": "172.16.0.0/16", "scope": 253}`, "172.16.0.0/16 dev net1"},
		{"in another subnet of the pod", both, `{"dst": "172.16.0.0/16", "gw": "10.244.0.1"}`, "172.16.0.0/16 via 10.244.0.1 dev eth0"},
		{"in none", both, `{"dst": "172.16.0.0/16", "gw": "192.0.2.1", "onlink": true}`, "172.16.0.0/16 via 192.0.2.1 dev net1 onlink"},
		{"in several", both, `{"dst": "fd00::/64", "gw": "fe80::9"}`, "fd00::/64 via fe80::9 dev net1"},
		{"each of several", both, `{"dst": "172.16.0.0/16", "gws": ["10.1.0.9", {"gw": "10.2.0.9", "weight": 2}, {"gw": "10.1.0.8", "dev": "eth0"}]}`,
			"172.16.0.0/16 nexthop via 10.1.0.9 dev net1 weight 1 nexthop via 10.2.0.9 dev net2 weight 2 nexthop via 10.1.0.8 dev eth0 weight 1"},
		{"one of several is one", both, `{"dst": "172.16.0.0/16", "gws": ["10.1.0.9"]}`, "172.16.0.0/16 via 10.1.0.9 dev net1"},
	} {
		got, _, _ := strings.Cut(decided(t, `"addroutes": [`+tt.entry+`]`, tt.prev, pod), "\n")
		got = strings.TrimPrefix(strings.TrimPrefix(got, "ip -6 route add "), "ip route add ")
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if got := decided(t, `"addroutes": [{"dst": "172.16.0.0/16", "onlink": true}]`, none, pod); !strings.Contains(got, "addroutes[0]: onlink: there is no gateway") {
		t.Errorf("onlink without a gateway: %s", got)
	}
}

// What becomes of the result's routes, listed or not in the kernel.
func TestResultRoutes(t *testing.T) {
	links := []string{"net1", "net2"}
	const ips = `"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}]`
	one := `{"interfaces": [{"name": "net1", "sandbox": "x"}], ` + ips + `, "routes": [%s]}`
	two := `{"interfaces": [{"name": "net1", "sandbox": "x"}, {"name": "net2", "sandbox": "x"}], ` + ips + `, "routes": [%s]}`
	for _, tt := range []struct {
		name, keys, prev, routes string
		kernel                   []netops.Route
		want                     string
	}{
		{"flushroutes takes what goes by a gateway, also implied", `"flushroutes": true`, one,
			`{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16", "gw": "10.1.0.9"}, {"dst": "172.18.0.0/16", "scope": 253}, {"dst": "169.254.9.0/24", "gw": "10.1.0.1"}, {"dst": "172.19.0.0/16", "table": 100}`,
			nil, "172.18.0.0/16 scope 253\n169.254.9.0/24 gw 10.1.0.1\n172.19.0.0/16"},
		{"delroutes: an entry without gw stands for the gateway of ips", `"delroutes": [{"dst": "172.16.0.0/16", "gw": "10.1.0.1"}, {"dst": "172.17.0.0/16", "gw": "10.1.0.9"}]`, one,
			`{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16"}`, nil, "172.17.0.0/16"},
		{"delroutes by src: the kernel decides", `"delroutes": [{"dst": "172.16.0.0/16", "src": "10.1.0.5"}, {"dst": "172.17.0.0/16", "src": "10.1.0.5"}]`, one,
			`{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16"}`,
			[]netops.Route{func() netops.Route {
				r := by("172.16.0.0/16", "net1")
				r.Src = netip.MustParseAddr("10.1.0.5")
				return r
			}(), by("172.17.0.0/16", "net1")},
			"ip route del 172.16.0.0/16 via 10.1.0.1 dev net1 src 10.1.0.5\n172.17.0.0/16"},
		{"delroutes by dev: the same way by another interface stays", `"delroutes": [{"dst": "172.16.0.0/16", "dev": "net1"}]`, two,
			`{"dst": "172.16.0.0/16", "gw": "10.1.0.1"}`,
			[]netops.Route{by("172.16.0.0/16", "net1"), func() netops.Route {
				r := by("172.16.0.0/16", "net2")
				r.Metric = 5
				return r
			}()},
			"ip route del 172.16.0.0/16 via 10.1.0.1 dev net1\n172.16.0.0/16 gw 10.1.0.1"},
		{"a removal that equals an addition is none", `"delroutes": [{"dst": "172.16.0.0/16"}], "addroutes": [{"dst": "172.16.0.0/16"}]`, one,
			`{"dst": "172.16.0.0/16", "gw": "10.1.0.1"}`, []netops.Route{by("172.16.0.0/16", "net1")},
			"ip route add 172.16.0.0/16 via 10.1.0.1 dev net1\n172.16.0.0/16 gw 10.1.0.1"},
		{"what addroutes keeps is listed as it came", `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16"}]`, one,
			`{"dst": "172.16.0.0/16", "gw": "10.1.0.1", "scope": 0}`, []netops.Route{by("172.16.0.0/16", "net1")},
			"ip route add 172.16.0.0/16 via 10.1.0.1 dev net1\n172.16.0.0/16 gw 10.1.0.1 scope 0"},
		{"listed already, by an implied gateway", `"addroutes": [{"dst": "172.16.0.0/16", "gw": "10.1.0.1"}]`, one,
			`{"dst": "172.16.0.0/16"}`, nil, "ip route add 172.16.0.0/16 via 10.1.0.1 dev net1\n172.16.0.0/16"},
		{"table 0 and priority 0 are the kernel's own", `"delroutes": [{"dst": "172.16.0.0/16", "dev": "net1"}]`, two,
			`{"dst": "172.16.0.0/16", "gw": "10.1.0.1", "table": 0, "priority": 0}`,
			[]netops.Route{by("172.16.0.0/16", "net1")}, "ip route del 172.16.0.0/16 via 10.1.0.1 dev net1"},
		{"on-link though there is a gateway", `"addroutes": [{"dst": "172.16.0.0/16", "dev": "net2"}]`, two, ``, nil,
			"ip route add 172.16.0.0/16 dev net2\n172.16.0.0/16 scope 253"},
	} {
		pod := netops.Snapshot{Links: links, Addrs: []netops.Addr{addr("net1", "10.1.0.5/16")}, State: netops.State{Routes: tt.kernel}}
		got := strings.TrimSpace(decided(t, tt.keys, fmt.Sprintf(tt.prev, tt.routes), pod))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// flushgateway takes no gateway from an entry of the result.
func TestFlushGatewayIsNoGateway(t *testing.T) {
	pod := netops.Snapshot{Links: []string{"net1"}, State: netops.State{Routes: []netops.Route{by("192.168.0.0/24", "net1")}}}
	const prev = `{"interfaces": [{"name": "net1", "sandbox": "x"}], "ips": [{"address": "10.1.0.5/16"}], "routes": [{"dst": "192.168.0.0/24", "gw": "10.1.0.1"}]}`
	const keys = `"delroutes": [{"dst": "192.168.0.0/24"}], "addroutes": [{"dst": "192.168.0.0/24"}]`
	want := "ip route del 192.168.0.0/24 via 10.1.0.1 dev net1\nip route add 192.168.0.0/24 dev net1\n192.168.0.0/24"
	for _, flush := range []string{"", `"flushgateway": true, `} {
		if diff := cmp.Diff(want, decided(t, flush+keys, prev, pod)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", flush, diff)
		}
	}
}

// Only what may matter is looked at: a few routes of a table of thousands.
func TestQuery(t *testing.T) {
	prev := &cniresult.Result{Interfaces: []cniresult.Interface{{Name: "cni0"}, {Name: "net2", Sandbox: "x"}}}
	some := config{ifName: "net1"}
	some.flushGateway = true
	if q := some.Query(prev); !q.To[netip.MustParsePrefix("0.0.0.0/0")] || !cmp.Equal(q.Links, []string{"net1", "net2"}) || !cmp.Equal(q.Tables, []uint32{254}) {
		t.Errorf("flushgateway looks at %+v", q)
	}
	some.flushRoutes = true
	if q := some.Query(prev); q.To != nil {
		t.Errorf("flushroutes leaves out routes: %+v", q)
	}
}
