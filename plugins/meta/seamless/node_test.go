package main

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

// nodeOf is a node with these addresses, "<interface> <address> [<peer's
// subnet>]", in the kernel's order, and these routes.
func nodeOf(addrs []string, flags map[string]uint32, routes ...netops.Route) netops.Snapshot {
	node := netops.Snapshot{State: netops.State{Routes: routes}}
	for _, line := range addrs {
		words := strings.Fields(line)
		p := netip.MustParsePrefix(words[1])
		a := netops.Addr{Dev: words[0], Prefix: p, Subnet: p.Masked(), Scope: netops.ScopeGlobal, Flags: flags[words[1]]}
		if p.Addr().IsLoopback() {
			a.Scope = netops.Scope(unix.RT_SCOPE_HOST)
		}
		if len(words) > 2 {
			a.Subnet = netip.MustParsePrefix(words[2])
		}
		node.Addrs = append(node.Addrs, a)
		node.Links = append(node.Links, a.Dev)
	}
	return node
}

// by is a default route of the gateway's family.
func by(gw, dev string, change ...func(*netops.Route)) netops.Route {
	r := netops.Route{Dev: dev, Gw: netip.MustParseAddr(gw)}
	r.Dst = netip.PrefixFrom(r.Gw, 0)
	for _, c := range change {
		c(&r)
	}
	return r.Normalize()
}

func from(src string) func(*netops.Route) {
	return func(r *netops.Route) { r.Src = netip.MustParseAddr(src) }
}

// Which of a node's addresses is the one that the kernel itself would use.
func TestNodeAddress(t *testing.T) {
	onLink := func(r *netops.Route) { r.Gw = netip.Addr{} }
	advertised := func(r *netops.Route) { r.Protocol = unix.RTPROT_RA }
	for _, tt := range []struct {
		name   string
		addrs  []string
		flags  map[string]uint32
		routes []netops.Route
		told   string // hostInterface
		want   string
		says   string // where there is none
	}{
		{"NodeLocal DNS cache first", []string{"eth1 169.254.20.10/32", "eth1 10.0.32.2/24"}, nil, []netops.Route{by("10.0.32.1", "eth1")}, "", "10.0.32.2", ""},
		{"the same, by an on-link default route", []string{"eth1 169.254.20.10/32", "eth1 10.0.32.2/24"}, nil, []netops.Route{by("10.0.32.1", "eth1", onLink)}, "", "10.0.32.2", ""},
		{"the same, whose gateway is link-local", []string{"eth1 169.254.20.10/16", "eth1 10.0.32.2/32"}, nil, []netops.Route{by("169.254.1.1", "eth1")}, "", "10.0.32.2", ""},
		{"the same, which the route prefers", []string{"eth1 169.254.20.10/32", "eth1 10.0.32.2/24"}, nil, []netops.Route{by("10.0.32.1", "eth1", from("169.254.20.10"))}, "", "10.0.32.2", ""},
		{"nothing else", []string{"eth1 169.254.20.10/32"}, nil, []netops.Route{by("10.0.32.1", "eth1")}, "", "", "the node's eth1 has no global ipv4 address; hostIPs or hostInterface tell another"},
		{"a virtual address first", []string{"eth1 10.0.32.100/32", "eth1 10.0.32.2/24"}, nil, []netops.Route{by("10.0.32.1", "eth1")}, "", "10.0.32.2", ""},
		{"another subnet first", []string{"eth1 172.16.0.5/24", "eth1 10.0.32.2/24"}, nil, []netops.Route{by("10.0.32.1", "eth1")}, "", "10.0.32.2", ""},
		{"two that hold the gateway", []string{"eth1 10.0.32.2/24", "eth1 10.0.33.2/16"}, nil, []netops.Route{by("10.0.32.1", "eth1")}, "", "10.0.32.2", ""},
		{"none that holds the gateway", []string{"eth1 10.0.32.2/32", "eth1 172.16.0.5/24"}, nil, []netops.Route{by("192.0.2.1", "eth1")}, "", "10.0.32.2", ""},
		{"a peer's subnet holds it", []string{"eth1 172.16.0.5/24", "eth1 10.0.32.2/32 192.0.2.1/32"}, nil, []netops.Route{by("192.0.2.1", "eth1")}, "", "10.0.32.2", ""},
		{"a secondary one holds it", []string{"eth1 10.0.32.2/24", "eth1 10.0.32.3/24"}, map[string]uint32{"10.0.32.2/24": unix.IFA_F_SECONDARY}, []netops.Route{by("10.0.32.1", "eth1")}, "", "10.0.32.3", ""},
		{"another interface's subnet holds it", []string{"eth0 10.0.32.9/24", "eth1 172.16.0.5/32"}, nil, []netops.Route{by("10.0.32.1", "eth1")}, "", "172.16.0.5", ""},
		{"what the route prefers", []string{"eth1 10.0.32.2/24", "eth1 10.0.32.100/32"}, nil, []netops.Route{by("10.0.32.1", "eth1", from("10.0.32.100"))}, "", "10.0.32.100", ""},
		{"what it prefers, on another interface", []string{"lo 198.51.100.1/32", "eth1 10.0.32.2/24"}, nil, []netops.Route{by("10.0.32.1", "eth1", from("198.51.100.1"))}, "", "198.51.100.1", ""},

		{"none, but one of lo", []string{"lo 127.0.0.1/8", "lo 198.51.100.1/32", "eth0 10.0.32.2/24", "eth1 169.254.3.4/16"}, nil,
			[]netops.Route{by("169.254.1.1", "eth1")}, "", "198.51.100.1", ""},
		{"none, and none of lo, but others", []string{"lo 127.0.0.1/8", "eth0 169.254.20.10/32", "eth0 10.0.32.2/24", "eth2 10.1.32.2/24"}, nil,
			[]netops.Route{by("10.1.32.1", "eth1")}, "", "10.0.32.2", ""},
		{"none anywhere", []string{"lo 127.0.0.1/8", "eth0 169.254.20.10/32"}, nil,
			[]netops.Route{by("10.0.32.1", "eth1")}, "", "", "the node's eth1 has no global ipv4 address"},

		{"IPv6: a unique local address first", []string{"eth1 fd00::2/64", "eth1 fd00::3/64", "eth1 2001:db8::2/64", "eth1 2001:db8::3/64"}, nil, []netops.Route{by("fe80::1", "eth1")}, "", "2001:db8::2", ""},
		{"IPv6: unique local addresses only", []string{"eth1 fd00::2/64", "eth1 fd00::3/64"}, nil, []netops.Route{by("fe80::1", "eth1")}, "", "fd00::2", ""},
		{"IPv6: a unique local gateway", []string{"eth1 2001:db8::2/64", "eth1 fd00::2/64"}, nil, []netops.Route{by("fd00::1", "eth1")}, "", "fd00::2", ""},
		{"IPv6: a virtual address first", []string{"eth1 2001:db8::100/128", "eth1 2001:db8::2/64"}, nil, []netops.Route{by("2001:db8::1", "eth1")}, "", "2001:db8::2", ""},
		{"IPv6: a link-local gateway", []string{"eth1 2001:db8::2/64", "eth1 fd00::2/64", "eth1 fe80::2/64"}, nil, []netops.Route{by("fe80::1", "eth1")}, "", "2001:db8::2", ""},
		{"IPv6: a temporary and a deprecated one hold it", []string{"eth1 2001:db8::100/64", "eth1 2001:db8::101/64", "eth1 2001:db8::2/64"},
			map[string]uint32{"2001:db8::100/64": unix.IFA_F_TEMPORARY, "2001:db8::101/64": unix.IFA_F_DEPRECATED}, []netops.Route{by("2001:db8::1", "eth1")}, "", "2001:db8::2", ""},
		{"IPv6: none", []string{"eth1 fe80::2/64", "eth1 10.0.32.2/24"}, nil, []netops.Route{by("fe80::1", "eth1")}, "", "", "the node's eth1 has no global ipv6 address"},

		{"IPv6: none, but others", []string{"cni0 fd00::1/64", "node0 2001:db8::2/128", "eth1 fe80::2/64"}, nil, []netops.Route{by("fe80::1", "eth1")}, "", "2001:db8::2", ""},
		{"IPv6: one that is a duplicate, and others", []string{"cni0 fd00::1/64", "eth1 2001:db8::2/64"}, map[string]uint32{"2001:db8::2/64": unix.IFA_F_DADFAILED},
			[]netops.Route{by("fe80::1", "eth1")}, "", "", "the node's eth1 has no global ipv6 address"},
		{"IPv6: none yet, of a link with a router", []string{"cni0 fd00::1/64", "eth1 fe80::2/64"}, nil, []netops.Route{by("fe80::1", "eth1", advertised)}, "", "", "the node's eth1 has no global ipv6 address"},
		{"IPv6: none, of a link with a router, but one of lo", []string{"lo 2001:db8::2/128", "cni0 2001:db8::1/64", "eth1 fe80::2/64"}, nil, []netops.Route{by("fe80::1", "eth1", advertised)}, "", "2001:db8::2", ""},

		{"hostInterface", []string{"eth0 10.0.32.2/24", "eth1 169.254.20.10/32", "eth1 172.16.0.5/24"}, nil, []netops.Route{by("10.0.32.1", "eth0")}, "eth1", "172.16.0.5", ""},
		{"hostInterface with a default route of its own", []string{"eth0 10.0.32.2/24", "eth1 172.16.0.100/32", "eth1 172.16.0.5/24"}, nil,
			[]netops.Route{by("10.0.32.1", "eth0"), by("172.16.0.1", "eth1", func(r *netops.Route) { r.Metric = 200 })}, "eth1", "172.16.0.5", ""},
		{"hostInterface, whose route prefers another's address", []string{"lo 198.51.100.1/32", "eth1 172.16.0.5/24"}, nil, []netops.Route{by("172.16.0.1", "eth1", from("198.51.100.1"))}, "eth1", "172.16.0.5", ""},
		{"hostInterface, whose route prefers one of its own", []string{"eth1 172.16.0.5/24", "eth1 172.17.0.5/24"}, nil, []netops.Route{by("172.16.0.1", "eth1", onLink, from("172.17.0.5"))}, "eth1", "172.17.0.5", ""},
		{"hostInterface without an address", []string{"eth0 10.0.32.2/24", "eth1 169.254.20.10/32"}, nil, []netops.Route{by("10.0.32.1", "eth0")}, "eth1", "", "the node's eth1 has no global ipv4 address"},
		{"no such hostInterface", []string{"eth0 10.0.32.2/24"}, nil, []netops.Route{by("10.0.32.1", "eth0")}, "eth1", "", `hostInterface: no such interface: "eth1"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := ipv4
			if tt.routes[0].Dst.Addr().Is6() {
				f = ipv6
			}
			ip, err := config{hostInterface: tt.told}.nodeAddress(nodeOf(tt.addrs, tt.flags, tt.routes...), f)
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v, %v; want %q", ip, err, tt.says)
				}
			} else if err != nil || ip.String() != tt.want {
				t.Errorf("%v, %v; want %s", ip, err, tt.want)
			}
		})
	}
}

// The kernel, asked for what it would use, says the same, in whatever order the
// addresses stand.
func TestNodeAddressIsTheKernels(t *testing.T) {
	for name, lines := range map[string][]string{
		"NodeLocal DNS cache":        {"addr add 169.254.20.10/32 dev up0", "addr add 192.0.2.10/24 dev up0", "route add default via 192.0.2.1"},
		"a virtual address":          {"addr add 192.0.2.100/32 dev up0", "addr add 192.0.2.10/24 dev up0", "route add default via 192.0.2.1"},
		"a virtual address, later":   {"addr add 192.0.2.10/24 dev up0", "addr add 192.0.2.100/32 dev up0", "route add default via 192.0.2.1"},
		"several subnets":            {"addr add 198.51.100.10/24 dev up0", "addr add 192.0.2.10/24 dev up0", "route add default via 192.0.2.1"},
		"no subnet holds the way":    {"addr add 198.51.100.10/32 dev up0", "addr add 192.0.2.10/32 dev up0", "route add default via 203.0.113.1 dev up0 onlink"},
		"a peer":                     {"addr add 198.51.100.10/24 dev up0", "addr add 192.0.2.10 peer 192.0.2.1/32 dev up0", "route add default via 192.0.2.1"},
		"the route prefers a source": {"addr add 192.0.2.10/24 dev up0", "addr add 192.0.2.100/32 dev up0", "route add default via 192.0.2.1 src 192.0.2.100"},
		"unnumbered, another":        {"link add node0 type bridge", "link set node0 addrgenmode none up", "addr add 198.51.100.7/32 dev node0", "addr add 192.0.2.10/24 dev up0 scope link", "route add default via 192.0.2.1"},
		"IPv6, unnumbered, another":  {"link add node0 type bridge", "link set node0 addrgenmode none up", "addr add 2001:db8:7::1/128 dev node0 nodad", "-6 route add default via fe80::1 dev up0"},
		"unnumbered, lo":             {"addr add 198.51.100.7/32 dev lo", "addr add 169.254.3.4/16 dev up0 scope link", "route add default via 169.254.1.1 dev up0"},
		"IPv6, unnumbered, lo":       {"addr add 2001:db8:7::1/128 dev lo nodad", "-6 route add default via fe80::1 dev up0"},
		"IPv6, unique local":         {"addr add 2001:db8::10/64 dev up0 nodad", "addr add fd00::10/64 dev up0 nodad", "-6 route add default via fe80::1 dev up0"},
		"IPv6, a link-local gateway": {"addr add 2001:db8::10/64 dev up0 nodad", "addr add 2001:db8::100/128 dev up0 nodad preferred_lft 0", "-6 route add default via fe80::1 dev up0"},
	} {
		t.Run(name, func(t *testing.T) {
			node := newNode(t, lines...)
			t.Cleanup(func() {
				node.IP("-4 addr flush dev lo scope global", "-6 addr flush dev lo scope global")
				_ = runIP("link del node0")
			})
			keys, to, pod := "", "203.0.113.9", "10.131.0.43/23"
			if strings.HasPrefix(name, "IPv6") {
				keys, to, pod = `"families": ["ipv6"]`, "2001:db8:f::9", "fd01::5/64"
			}
			used := regexp.MustCompile(` src (\S+)`).FindStringSubmatch(node.IP("route get " + to))[1]
			planned := call(t, newPod(t, pod), keys).OK("plan").Stdout
			if !strings.Contains(planned, "route add "+used+" via ") {
				t.Errorf("the kernel uses %s:\n%s", used, planned)
			}
		})
	}
}
