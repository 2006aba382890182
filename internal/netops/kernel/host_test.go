package kernel

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// onHost is a route as a plugin wants it on the host.
func onHost(dst, gw, dev string) netops.Route {
	r := netops.Route{Dst: netip.MustParsePrefix(dst), Dev: dev, AnyDev: dev == "", Protocol: netops.Protocol}
	if gw != "" {
		r.Gw = netip.MustParseAddr(gw)
	}
	return r.Normalize()
}

func commands(routes []netops.Route) string {
	var lines []string
	for i := range routes {
		lines = append(lines, routes[i].String())
	}
	return strings.Join(lines, "\n")
}

// hostLike is a namespace that stands for the host.
func hostLike(t *testing.T, lines ...string) (*netopstest.NS, *Netns) {
	t.Helper()
	ns := netopstest.Namespace(t, "host")
	ns.Veth("eth0", "10.1.0.1/16", "fd01::1/64")
	ns.IP(lines...)
	return ns, enter(t, ns)
}

func TestHereIsOurOwnNamespace(t *testing.T) {
	n, err := Here()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	s, err := n.Snapshot(context.Background(), netops.Query{Links: []string{"lo"}, Addrs: true})
	if err != nil || !cmp.Equal(s.Links, []string{"lo"}) || len(s.Addrs) == 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestAddEachGoesOn(t *testing.T) {
	ns, n := hostLike(t, "route add 10.9.2.0/24 via 10.1.0.8")
	added, failed := n.AddEach(context.Background(), []netops.Route{onHost("10.9.1.0/24", "", "eth0"), onHost("10.9.2.0/24", "", "eth0"),
		onHost("10.9.3.0/24", "", "nope"), onHost("10.9.4.0/24", "10.77.0.1", ""), onHost("fd09::/64", "fd01::9", "")})
	if got, want := commands(added), "10.9.1.0/24 dev eth0\nfd09::/64 via fd01::9"; got != want {
		t.Errorf("added %s, want %s", got, want)
	}
	if len(failed) != 3 || !failed[0].Exists() || failed[0].Missing() || !failed[1].Missing() || failed[2].Exists() || failed[2].Missing() {
		t.Errorf("%v", failed)
	}
	if got := ns.IP("route show proto 77"); !strings.HasPrefix(got, "10.9.1.0/24 ") || strings.Count(got, "\n") != 1 {
		t.Errorf("routes:\n%s", got)
	}
}

// A deletion hits a route of our protocol only, whatever else is alike.
func TestDeleteEachLeavesTheRoutesOfOthers(t *testing.T) {
	ns, n := hostLike(t, "route add 10.9.1.0/24 dev eth0 proto static", "-6 route add fd09::/64 dev eth0 proto static", "-6 route add fd0a::/64 via fd01::9")
	before := ns.Dump()
	if failed := n.DeleteEach(context.Background(), []netops.Route{onHost("10.9.1.0/24", "", "eth0"), onHost("fd09::/64", "", "eth0"), onHost("fd0a::/64", "fd01::9", "eth0")}); failed != nil {
		t.Errorf("what is not ours is not there: %v", failed)
	}
	restored(t, ns, before)
}

// What has a place is found, whether the kernel would use it or not.
func TestFind(t *testing.T) {
	_, n := hostLike(t,
		"route add 10.9.0.0/24 via 10.1.0.9 proto 77", "route add 10.9.0.0/25 via 10.1.0.8", "route add 10.9.0.0/32 via 10.1.0.7", // hidden by others
		"route add 10.8.0.0/24 via 10.1.0.9 table 100 proto 77", // no rule leads there
		"route add 10.7.0.0/24 via 10.1.0.9", "route add blackhole 10.6.0.0/24", "route add default via 10.1.0.9 proto 77",
		"route add 10.5.0.0/24 via 10.1.0.9 metric 5", "route append 10.5.0.0/24 via 10.1.0.8 metric 5 proto 77",
		"-6 route add fd09::/64 via fd01::9 proto 77", "-6 route add unreachable fd08::/64", "-6 route add default via fd01::9")
	for _, tt := range []struct {
		want      netops.Route
		all, ours string
	}{
		{onHost("10.9.0.0/24", "10.1.0.9", ""), "10.9.0.0/24 via 10.1.0.9 dev eth0", "10.9.0.0/24 via 10.1.0.9 dev eth0"},
		{onHost("10.9.0.0/24", "10.1.0.5", ""), "10.9.0.0/24 via 10.1.0.9 dev eth0", "10.9.0.0/24 via 10.1.0.9 dev eth0"},
		{netops.Route{Dst: netip.MustParsePrefix("10.8.0.0/24"), Table: 100, Dev: "eth0"}.Normalize(), "10.8.0.0/24 via 10.1.0.9 dev eth0 table 100", "10.8.0.0/24 via 10.1.0.9 dev eth0 table 100"},
		{onHost("10.7.0.0/24", "10.1.0.9", ""), "10.7.0.0/24 via 10.1.0.9 dev eth0", ""},
		{netops.Route{Dst: netip.MustParsePrefix("10.6.0.0/24"), Type: netops.Blackhole}.Normalize(), "blackhole 10.6.0.0/24", ""},
		{onHost("0.0.0.0/0", "10.1.0.9", ""), "default via 10.1.0.9 dev eth0", "default via 10.1.0.9 dev eth0"},
		{netops.Route{Dst: netip.MustParsePrefix("10.5.0.0/24"), Metric: 5, Gw: netip.MustParseAddr("10.1.0.8"), AnyDev: true}.Normalize(),
			"10.5.0.0/24 via 10.1.0.8 dev eth0 metric 5", "10.5.0.0/24 via 10.1.0.8 dev eth0 metric 5"},
		{onHost("fd09::/64", "fd01::9", ""), "fd09::/64 via fd01::9 dev eth0", "fd09::/64 via fd01::9 dev eth0"},
		{netops.Route{Dst: netip.MustParsePrefix("fd08::/64"), Type: netops.Unreachable}.Normalize(), "unreachable fd08::/64", ""},
		{onHost("::/0", "fd01::9", ""), "default via fd01::9 dev eth0", ""},
		{onHost("10.4.0.0/24", "10.1.0.9", ""), "", ""},
	} {
		for onlyOurs, want := range map[bool]string{false: tt.all, true: tt.ours} {
			found, err := n.Find(context.Background(), []netops.Route{tt.want}, onlyOurs)
			if err != nil {
				t.Fatal(err)
			}
			if got := commands(found); got != want {
				t.Errorf("%s, ours only %t: %q, want %q", tt.want, onlyOurs, got, want)
			}
		}
	}
}

// The default routes are those that are used, also where something else answers
// for every address that one could ask for.
func TestDefaults(t *testing.T) {
	eth1 := []string{"link add eth1 type veth peer name down1", "addr add 10.2.0.1/16 dev eth1", "link set eth1 up"} // without a carrier
	for name, tt := range map[string]struct {
		lines []string
		want  string
	}{
		"none": {},
		"one of each": {[]string{"route add default via 10.1.0.9", "-6 route add default via fd01::9"},
			"default via 10.1.0.9 dev eth0\ndefault via fd01::9 dev eth0"},
		"all of IPv4, whichever is used": {[]string{"route add default via 10.1.0.9 metric 200", "route add default via 10.1.0.8 metric 100", "route add 0.0.0.0/8 via 10.1.0.7"},
			"default via 10.1.0.8 dev eth0 metric 100\ndefault via 10.1.0.9 dev eth0 metric 200"},
		"hidden": {[]string{"route add default via 10.1.0.9", "route add 203.0.113.0/24 via 10.1.0.7", "-6 route add default via fd01::9", "-6 route add 2001:db8::/32 via fd01::7"},
			"default via 10.1.0.9 dev eth0\ndefault via fd01::9 dev eth0"},
		"another table's": {[]string{"rule add lookup 100", "route add default via 10.1.0.7 table 100", "route add default via 10.1.0.9"}, "default via 10.1.0.9 dev eth0"},
		"one that rejects": {[]string{"route add unreachable default", "route add default via 10.1.0.9 metric 5"},
			"unreachable default\ndefault via 10.1.0.9 dev eth0 metric 5"},
		"several next hops, one of which is dead": {append(slices.Clone(eth1), "route add default nexthop via 10.2.0.9 nexthop via 10.1.0.9 nexthop via 10.1.0.8", "link set eth1 down"),
			"default nexthop via 10.1.0.9 dev eth0 weight 1 nexthop via 10.1.0.8 dev eth0 weight 1"},
		"all but one are dead": {append(slices.Clone(eth1), "route add default nexthop via 10.2.0.9 nexthop via 10.1.0.9", "link set eth1 down"), "default via 10.1.0.9 dev eth0"},
		"without a carrier":    {append(slices.Clone(eth1), "route add default via 10.2.0.9", "route add default via 10.1.0.9 metric 5"), "default via 10.1.0.9 dev eth0 metric 5"},
	} {
		ns, n := hostLike(t, tt.lines...)
		ns.Sysctl("net/ipv4/conf/all/ignore_routes_with_linkdown", "1")
		s, err := n.Snapshot(context.Background(), netops.Query{Defaults: []netip.Prefix{netops.IPv4Default, netops.IPv6Default}})
		if err != nil {
			t.Fatal(err)
		}
		if got := commands(s.Routes); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		netopstest.Host(t).IP("netns del host")
	}
}

// Await looks again at what matters, and at nothing else.
func TestAwait(t *testing.T) {
	ns, n := hostLike(t)
	for line, shown := range map[string]string{
		"addr add 10.5.0.1/24 dev eth0": "10.5.0.1", "link add br0 type bridge": "br0", "route add default via 10.1.0.9": "via 10.1.0.9",
		"addr add fd05::1/64 dev eth0": "fd05::1", "-6 route add default via fd01::9": "via fd01::9",
	} {
		looks := 0
		go func() {
			for i := range 50 {
				ns.IP("route add 10.9." + string(rune('0'+i%10)) + ".0/24 dev eth0 metric " + string(rune('1'+i/10)))
			}
			time.Sleep(50 * time.Millisecond)
			ns.IP(line)
		}()
		there, err := n.Await(context.Background(), time.Now().Add(20*time.Second), func() (bool, error) {
			looks++
			return strings.Contains(ns.IP("addr show", "route show default", "-6 route show default"), shown), nil
		})
		if !there || err != nil {
			t.Errorf("%s: %t, %v", line, there, err)
		}
		if looks > 20 {
			t.Errorf("%s: looked %d times", line, looks)
		}
		ns.IP("route flush dev eth0 scope link proto boot")
	}
	// Who comes to look only after the deadline sees what came before it.
	late := 0
	if there, err := n.Await(context.Background(), time.Now(), func() (bool, error) { late++; return late == 2, nil }); !there || err != nil {
		t.Errorf("looked %d times: %t, %v", late, there, err)
	}
	began := time.Now()
	if there, err := n.Await(context.Background(), began.Add(100*time.Millisecond), func() (bool, error) { return false, nil }); there || err != nil || time.Since(began) < 100*time.Millisecond {
		t.Errorf("after %s: %t, %v", time.Since(began), there, err)
	}
}
