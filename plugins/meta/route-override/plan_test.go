package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/cniroute"
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

// route is one of the kernel's.
func route(dst, gw, dev string, metric uint32) netops.Route {
	r := netops.Route{Dst: netip.MustParsePrefix(dst), Dev: dev, Metric: metric, Protocol: 3}
	if gw != "" {
		r.Gw = netip.MustParseAddr(gw)
	}
	return r.Normalize()
}

// Gateways that no subnet holds are reached by routes, as ip(8) has the kernel
// choose; on another attachment's interface its default gateway is the one.
func TestGatewaysByRoutes(t *testing.T) {
	inTable, onLink := route("10.50.0.0/16", "", "eth0", 0), route("::/0", "fd99::1", "eth1", 0)
	inTable.Table, onLink.OnLink = 100, true
	blackhole := route("10.60.0.0/16", "", "", 0)
	blackhole.Type = netops.Blackhole
	pod := netops.Snapshot{
		Links: []string{"net1", "eth0", "eth1", "eth2"},
		Addrs: []netops.Addr{addr("eth0", "10.42.7.5/32"), addr("net1", "10.1.0.5/16"), addr("lo", "10.77.0.1/24")},
		State: netops.State{Routes: []netops.Route{
			route("169.254.1.1/32", "", "eth0", 0), route("fd99::1/128", "", "eth0", 0),
			route("0.0.0.0/0", "169.254.1.1", "eth0", 100), route("0.0.0.0/0", "10.42.0.1", "eth0", 50), route("0.0.0.0/0", "10.1.0.1", "net1", 0),
			route("::/0", "fd99::1", "eth0", 0), onLink, route("0.0.0.0/0", "", "eth1", 9),
			route("10.30.0.0/16", "", "eth0", 0), route("10.30.1.0/24", "", "eth1", 0), route("10.30.2.0/24", "10.30.1.1", "net1", 0),
			route("10.40.0.0/16", "", "eth1", 7), route("10.40.0.0/16", "", "eth0", 5), route("10.41.0.0/16", "", "eth0", 5), route("10.41.0.0/16", "", "net1", 7),
			inTable, blackhole,
			route("10.90.0.0/16", "10.1.9.1", "eth1", 0), route("172.20.0.0/14", "10.1.9.2", "eth2", 7), route("172.24.0.0/14", "10.1.9.3", "eth2", 5),
			route("10.90.0.0/16", "10.1.9.4", "eth2", 0), route("172.0.0.0/8", "", "eth2", 0), route("fd90::/16", "fd99::2", "eth2", 0),
		}},
	}
	const prev = `{"interfaces": [{"name": "net1", "sandbox": "x"}], "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}]}`
	for _, tt := range []struct{ name, entries, want string }{
		{"Calico's", `{"dst": "10.43.0.0/16", "gw": "169.254.1.1"}`, "10.43.0.0/16 via 169.254.1.1 dev eth0"},
		{"IPv6", `{"dst": "fd43::/64", "gw": "fd99::1"}`, "fd43::/64 via fd99::1 dev eth0"},
		{"onlink does not lead astray", `{"dst": "10.43.0.0/16", "gw": "169.254.1.1", "onlink": true}`, "10.43.0.0/16 via 169.254.1.1 dev eth0 onlink"},
		{"dev tells", `{"dst": "10.43.0.0/16", "gw": "169.254.1.1", "dev": "net1"}`, "10.43.0.0/16 via 169.254.1.1 dev net1"},
		{"a subnet goes before a route", `{"dst": "10.43.0.0/16", "gw": "10.1.0.9"}`, "10.43.0.0/16 via 10.1.0.9 dev net1"},
		{"the most specific", `{"dst": "10.43.0.0/16", "gw": "10.30.1.7"}`, "10.43.0.0/16 via 10.30.1.7 dev eth1"},
		{"not by a gateway", `{"dst": "10.43.0.0/16", "gw": "10.30.2.7"}`, "10.43.0.0/16 via 10.30.2.7 dev eth0"},
		{"the least metric", `{"dst": "10.43.0.0/16", "gw": "10.40.0.7"}`, "10.43.0.0/16 via 10.40.0.7 dev eth0"},
		{"CNI_IFNAME before others", `{"dst": "10.43.0.0/16", "gw": "10.41.0.7"}`, "10.43.0.0/16 via 10.41.0.7 dev net1"},
		{"in its table", `{"dst": "10.43.0.0/16", "gw": "10.50.0.7", "table": 100}`, "10.43.0.0/16 via 10.50.0.7 dev eth0 table 100"},
		{"not in another table", `{"dst": "10.43.0.0/16", "gw": "10.50.0.7"}`, "10.43.0.0/16 via 10.50.0.7 dev eth1"},
		{"by an on-link default route", `{"dst": "10.43.0.0/16", "gw": "192.0.2.1"}`, "10.43.0.0/16 via 192.0.2.1 dev eth1"},
		{"which onlink does not mean", `{"dst": "10.43.0.0/16", "gw": "192.0.2.1", "onlink": true}`, "10.43.0.0/16 via 192.0.2.1 dev net1 onlink"},
		{"not by a blackhole", `{"dst": "10.43.0.0/16", "gw": "10.60.0.7"}`, "10.43.0.0/16 via 10.60.0.7 dev eth1"},
		{"each of several", `{"dst": "10.43.0.0/16", "gws": ["169.254.1.1", "10.1.0.9"]}`, "10.43.0.0/16 nexthop via 169.254.1.1 dev eth0 weight 1 nexthop via 10.1.0.9 dev net1 weight 1"},
		{"by a route of the same list", `{"dst": "10.43.0.0/16", "gw": "10.80.0.1"}, {"dst": "10.80.0.1", "gw": "0.0.0.0", "dev": "eth0"}`,
			"10.80.0.1 dev eth0\nip route add 10.43.0.0/16 via 10.80.0.1 dev eth0"},

		{"another's default gateway", `{"dst": "10.43.0.0/16", "dev": "eth0"}`, "10.43.0.0/16 via 10.42.0.1 dev eth0"},
		{"on-link as that is", `{"dst": "fd43::/64", "dev": "eth1"}`, "fd43::/64 via fd99::1 dev eth1 onlink"},
		{"another's that is on-link", `{"dst": "10.43.0.0/16", "dev": "eth1"}`, "10.43.0.0/16 dev eth1"},
		{"another's that has lost it: its widest route's", `{"dst": "10.43.0.0/16", "dev": "eth2"}, {"dst": "fd43::/64", "dev": "eth2"}`,
			"10.43.0.0/16 via 10.1.9.3 dev eth2\nfd43::/64 via fd99::2 dev eth2"},
		{"though it goes", `{"dst": "10.43.0.0/16", "dev": "eth0"}, {"dst": "0.0.0.0/0", "dev": "eth0", "metric": 7}`,
			"10.43.0.0/16 via 10.42.0.1 dev eth0\nip route add default via 10.42.0.1 dev eth0 metric 7"},
		{"asked to be on-link", `{"dst": "10.43.0.0/16", "dev": "eth0", "gw": "0.0.0.0"}`, "10.43.0.0/16 dev eth0"},
		{"of its own, that of the result", `{"dst": "10.43.0.0/16", "dev": "net1"}`, "10.43.0.0/16 via 10.1.0.1 dev net1"},
	} {
		keys, dels := `"addroutes": [`+tt.entries+`]`, 0
		if strings.Contains(tt.entries, "metric") {
			keys, dels = `"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}], `+keys, 2
		}
		var got []string
		for _, line := range strings.Split(decided(t, keys, prev, pod), "\n")[dels:] {
			if strings.HasPrefix(line, "ip ") {
				got = append(got, strings.TrimPrefix(line, "ip -6 route add "))
			}
		}
		if diff := cmp.Diff(tt.want, strings.TrimPrefix(strings.Join(got, "\n"), "ip route add ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}

	pod.Routes = pod.Routes[:1]
	const unreached = `ip route add 10.43.0.0/16 via 192.0.2.1 dev net1: network is unreachable: neither a subnet nor a route of the pod leads to 192.0.2.1 directly; name its interface by "dev", with "onlink": true if it is on the link all the same`
	for _, entry := range []string{`"gw": "192.0.2.1"`, `"gws": ["192.0.2.1"]`} {
		if got := decided(t, `"addroutes": [{"dst": "10.43.0.0/16", `+entry+`}]`, prev, pod); got != unreached {
			t.Errorf("%s: %s", entry, got)
		}
	}
}

// Routes of another attachment's interface go where it is named, and only there.
func TestAnotherInterface(t *testing.T) {
	pod := netops.Snapshot{Links: []string{"net1", "eth0"}, Addrs: []netops.Addr{addr("net1", "10.1.0.5/16"), addr("eth0", "10.244.1.5/24")}}
	pod.Routes = []netops.Route{route("0.0.0.0/0", "10.244.1.1", "eth0", 0), route("172.16.0.0/16", "10.244.1.1", "eth0", 0), by("172.17.0.0/16", "net1")}
	const prev = `{"interfaces": [{"name": "net1", "sandbox": "x"}], "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}],
		"routes": [{"dst": "0.0.0.0/0"}, {"dst": "172.16.0.0/16", "gw": "10.1.0.1"}, {"dst": "172.17.0.0/16", "gw": "10.1.0.1"}]}`
	const listed = "0.0.0.0/0\n172.16.0.0/16 gw 10.1.0.1\n172.17.0.0/16 gw 10.1.0.1"
	for _, tt := range []struct{ name, keys, want string }{
		{"named", `"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}, {"dst": "172.17.0.0/16", "dev": "eth0"}]`, "ip route del default via 10.244.1.1 dev eth0\n" + listed},
		{"named in gws", `"delroutes": [{"dst": "0.0.0.0/0", "gws": [{"gw": "10.244.1.1", "dev": "eth0"}]}]`, "ip route del default via 10.244.1.1 dev eth0\n" + listed},
		{"not named", `"delroutes": [{"dst": "172.16.0.0/16", "gw": "10.244.1.1"}]`, listed},
		{"flushed", `"flushgateway": true, "flushroutes": true, "delroutes": [{"dst": "172.16.0.0/16", "dev": "eth0"}]`,
			"ip route del 172.16.0.0/16 via 10.244.1.1 dev eth0\nip route del 172.17.0.0/16 via 10.1.0.1 dev net1"},
		{"in the way", `"addroutes": [{"dst": "0.0.0.0/0"}]`,
			`ip route add default via 10.1.0.1 dev net1: there is "default via 10.244.1.1 dev eth0" already; remove it by delroutes with "dev": "eth0", or give this one another metric`},
		{"its own in the way", `"addroutes": [{"dst": "172.17.0.0/16", "gw": "10.1.0.9"}]`,
			`ip route add 172.17.0.0/16 via 10.1.0.9 dev net1: there is "172.17.0.0/16 via 10.1.0.1 dev net1" already; remove it by delroutes, or give this one another metric`},
	} {
		got := strings.TrimSpace(decided(t, tt.keys, prev, pod))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// What is added of a family that the pod lacks there is left out, if that is asked
// for, and told.
func TestSkipMissingFamilies(t *testing.T) {
	const routes = `"addroutes": [{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16", "gw": "10.1.0.9"}, {"dst": "fd30::/64"}, {"dst": "fd31::/64", "gw": "fd01::9"}, {"dst": "fd32::/64", "type": "blackhole"},
		{"dst": "172.18.0.0/16", "dev": "eth0"}, {"dst": "fd33::/64", "gws": [{"gw": "fe80::1", "dev": "eth0"}]}],
		"addrules": [{"from": "10.1.0.0/16", "table": 100}, {"to": "fd01::/64", "table": 100, "priority": 7}]`
	const result = `{"interfaces": [{"name": "net1", "sandbox": "x"}], "ips": [%s]}`
	const v4, v6 = `{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}`, `{"address": "fd01::5/64", "gateway": "fd01::1", "interface": 0}`
	own4, own6, eth4, eth6 := addr("net1", "10.1.0.5/16"), addr("net1", "fd01::5/64"), addr("eth0", "10.244.1.5/24"), addr("eth0", "fd44::5/64")
	linkLocal4, linkLocal6 := addr("net1", "169.254.3.4/16"), addr("net1", "fe80::5/64")
	for _, tt := range []struct {
		name, ips string
		addrs     []netops.Addr
		left, why string
	}{
		{"both", v4 + "," + v6, []netops.Addr{own4, own6, eth4, eth6}, "172.16 172.17 fd30 fd31 fd32 172.18 fd33 30000 7", ""},
		{"IPv4", v4, []netops.Addr{own4, linkLocal6, eth4, eth6}, "172.16 172.17 172.18 fd33 30000",
			"left out, for want of an IPv6 address of the attachment: fd30::/64, fd31::/64, fd32::/64, rule pref 7 to fd01::/64 lookup 100"},
		{"IPv6", v6, []netops.Addr{own6, linkLocal4, eth6}, "fd30 fd31 fd32 fd33 7",
			"left out, for want of an IPv4 address of the attachment: 172.16.0.0/16, 172.17.0.0/16, rule pref 30000 from 10.1.0.0/16 lookup 100; left out, for want of an IPv4 address of eth0: 172.18.0.0/16"},
		{"IPv6 by a router advertisement", v4, []netops.Addr{own4, own6, eth4}, "172.16 172.17 fd30 fd31 fd32 172.18 30000 7", "left out, for want of an IPv6 address of eth0: fd33::/64"},
		{"none", "", nil, "", "left out, for want of an IPv4 address of the attachment: 172.16.0.0/16, 172.17.0.0/16, rule pref 30000 from 10.1.0.0/16 lookup 100; left out, for want of an IPv6 address of the attachment: fd30::/64, fd31::/64, fd32::/64, rule pref 7 to fd01::/64 lookup 100; " +
			"left out, for want of an IPv4 address of eth0: 172.18.0.0/16; left out, for want of an IPv6 address of eth0: fd33::/64"},
	} {
		planner, prev, err := policy.Parse(routeOverride, decode, []byte(fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": "route-override", "skipMissingFamilies": true, %s, "prevResult": `+result+`}`, routes, tt.ips)), "net1")
		if err != nil {
			t.Fatal(err)
		}
		pod := netops.Snapshot{Links: []string{"net1", "eth0"}, Addrs: tt.addrs}
		d, err := planner.Plan(prev, pod)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var left []string
		for _, r := range d.Want.Pod.Add.Routes {
			left = append(left, strings.TrimSuffix(strings.TrimSuffix(r.Dst.String(), "::/64"), ".0.0/16"))
		}
		for _, r := range d.Want.Pod.Add.Rules {
			left = append(left, fmt.Sprint(r.Priority))
		}
		if got := strings.Join(left, " "); got != tt.left {
			t.Errorf("%s: added %s, want %s", tt.name, got, tt.left)
		}
		if diff := cmp.Diff(tt.why, strings.Join(d.Warnings, "; ")); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", tt.name, diff)
		}
		if want, err := planner.Expect(prev, pod); err != nil || len(want.Pod.Add.Routes)+len(want.Pod.Add.Rules) != len(left) {
			t.Errorf("%s: CHECK expects %s, %v", tt.name, want.Pod, err)
		}
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
		{"delroutes by no gateway: an entry without one may be on-link", `"delroutes": [{"dst": "172.16.0.0/16", "gw": "0.0.0.0"}, {"dst": "172.17.0.0/16", "gw": "0.0.0.0"}]`, one,
			`{"dst": "172.16.0.0/16", "gw": "0.0.0.0"}, {"dst": "172.17.0.0/16"}`, []netops.Route{route("172.16.0.0/16", "", "net1", 0), by("172.17.0.0/16", "net1")},
			"ip route del 172.16.0.0/16 dev net1\n172.17.0.0/16"},
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
	byOthers := some
	byOthers.add = []cniroute.Route{{Dst: netops.IPv4Default, Dev: "net2"}, {Dst: netops.IPv4Default, Dev: "eth0"}}
	if q := byOthers.Query(prev); q.To != nil {
		t.Errorf("what may tell eth0's gateway is left out: %+v", q)
	}
	byOthers.add = byOthers.add[:1]
	if q := byOthers.Query(prev); q.To == nil {
		t.Error("all routes are looked at for net2, which is the attachment's own")
	}
	some.flushRoutes = true
	if q := some.Query(prev); q.To != nil {
		t.Errorf("flushroutes leaves out routes: %+v", q)
	}
}
