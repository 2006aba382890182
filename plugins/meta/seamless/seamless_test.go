package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// Which address of the node is meant, and by which gateway of the pod; after
// each, CHECK is content, and DEL leaves what was there before.
func TestRoute(t *testing.T) {
	const both = `"families": ["ipv4", "ipv6"]`
	for name, tt := range map[string]struct {
		node, pod []string // addresses of the pod's eth0, then commands
		keys      string
		want      string
	}{
		"nothing but the type": {node: usual, pod: []string{"10.131.0.43/23", "fd01::5/64"}, want: "192.0.2.10 via 10.131.0.1 dev eth0 proto 77"},
		"both families": {node: usual, pod: []string{"10.131.0.43/23", "fd01::5/64"}, keys: both,
			want: "192.0.2.10 via 10.131.0.1 dev eth0 proto 77\n2001:db8::10 via fd01::1 dev eth0 proto 77 metric 1024"},
		"only IPv6": {node: usual, pod: []string{"fd01::5/64"}, keys: `"families": ["ipv6"]`, want: "2001:db8::10 via fd01::1 dev eth0 proto 77 metric 1024"},
		"a preferred source": {node: []string{"addr add 192.0.2.10/24 dev up0", "addr add 192.0.2.11/24 dev up0", "route add default via 192.0.2.1 src 192.0.2.11"},
			pod: []string{"10.131.0.43/23"}, want: "192.0.2.11 via 10.131.0.1 dev eth0 proto 77"},
		"a secondary address": {node: []string{"addr add 192.0.2.10/24 dev up0", "addr add 192.0.2.11/24 dev up0", "route add default via 192.0.2.1"},
			pod: []string{"10.131.0.43/23"}, want: "192.0.2.10 via 10.131.0.1 dev eth0 proto 77"},
		"addresses that do not count": {node: []string{"addr add 192.0.2.10/24 dev up0 scope link", "addr add 198.51.100.10/24 dev up0",
			"addr add 2001:db8::10/64 dev up0 nodad", "addr add 2001:db8::11/64 dev up0 nodad preferred_lft 0", "route add default via 192.0.2.1", "-6 route add default via 2001:db8::1"},
			pod: []string{"10.131.0.43/23", "fd01::5/64"}, keys: both,
			want: "198.51.100.10 via 10.131.0.1 dev eth0 proto 77\n2001:db8::10 via fd01::1 dev eth0 proto 77 metric 1024"},
		"several default routes": {node: []string{"addr add 192.0.2.10/24 dev up0", "link add up1 type bridge", "link set up1 up", "addr add 198.51.100.10/24 dev up1",
			"route add default via 192.0.2.1 metric 200", "route add default via 198.51.100.1 metric 100", "route add blackhole default metric 50", "route add default via 192.0.2.1 table 100"},
			pod: []string{"10.131.0.43/23"}, want: "198.51.100.10 via 10.131.0.1 dev eth0 proto 77"},
		"a multipath default route": {node: []string{"addr add 192.0.2.10/24 dev up0", "link add up1 type bridge", "link set up1 up", "addr add 198.51.100.10/24 dev up1",
			"route add default nexthop via 198.51.100.1 weight 1 nexthop via 192.0.2.1 weight 9"},
			pod: []string{"10.131.0.43/23"}, want: "198.51.100.10 via 10.131.0.1 dev eth0 proto 77"},
		"more specific routes, and a rule": {node: append([]string{"route add 203.0.113.0/24 dev up0", "rule add pref 10 lookup 100", "route add default dev up0 table 100",
			"-6 route add 2001:db8::1 dev up0", "-6 route add 2001:db8::/127 dev up0"}, usual...),
			pod: []string{"10.131.0.43/23", "fd01::5/64"}, keys: both,
			want: "192.0.2.10 via 10.131.0.1 dev eth0 proto 77\n2001:db8::10 via fd01::1 dev eth0 proto 77 metric 1024"},
		"hostInterface": {node: append([]string{"link add up1 type bridge", "link set up1 up", "addr add 198.51.100.10/24 dev up1"}, usual...),
			pod: []string{"10.131.0.43/23"}, keys: `"hostInterface": "up1"`, want: "198.51.100.10 via 10.131.0.1 dev eth0 proto 77"},
		"hostIPs": {pod: []string{"10.131.0.43/23", "fd01::5/64"}, keys: both + `, "hostIPs": ["198.51.100.1", "198.51.100.2", "2001:db8:5::1", "198.51.100.1"]`,
			want: "198.51.100.1 via 10.131.0.1 dev eth0 proto 77\n198.51.100.2 via 10.131.0.1 dev eth0 proto 77\n2001:db8:5::1 via fd01::1 dev eth0 proto 77 metric 1024"},
		"gateway": {node: usual, pod: []string{"10.131.0.43/23"}, keys: `"gateway": "10.131.0.254"`, want: "192.0.2.10 via 10.131.0.254 dev eth0 proto 77"},
		"a gateway for each family": {node: usual, pod: []string{"10.131.0.43/23", "fd01::5/64"}, keys: both + `, "gateway": ["fe80::1", "10.131.0.254"]`,
			want: "192.0.2.10 via 10.131.0.254 dev eth0 proto 77\n2001:db8::10 via fe80::1 dev eth0 proto 77 metric 1024"},
		"a gateway for one of two": {node: usual, pod: []string{"10.131.0.43/23", "fd01::5/64"}, keys: both + `, "gateway": "fe80::1"`,
			want: "192.0.2.10 via 10.131.0.1 dev eth0 proto 77\n2001:db8::10 via fe80::1 dev eth0 proto 77 metric 1024"},
		"the first address of the pod": {node: usual, pod: []string{"10.131.0.43/23", "10.140.0.5/24", "10.131.0.44/23"}, want: "192.0.2.10 via 10.131.0.1 dev eth0 proto 77"},
		"no subnet: /32": {node: usual, pod: []string{"10.131.0.43/32", "ip route add 169.254.1.1 dev eth0", "ip route add default via 169.254.1.1 dev eth0"},
			want: "169.254.1.1 dev eth0 scope link\ndefault via 169.254.1.1 dev eth0\n192.0.2.10 via 169.254.1.1 dev eth0 proto 77"},
		"no subnet: an on-link default": {node: usual, pod: []string{"10.131.0.43/32", "ip route add default via 169.254.1.1 dev eth0 onlink"},
			want: "default via 169.254.1.1 dev eth0 onlink\n192.0.2.10 via 169.254.1.1 dev eth0 proto 77 onlink"},
		"no subnet: a multipath default": {node: usual, pod: []string{"10.131.0.43/32", "ip link add x0 type bridge", "ip link set x0 addrgenmode none up", "ip route add 169.254.1.1 dev eth0", "ip route add 169.254.1.2 dev x0",
			"ip route add default nexthop via 169.254.1.2 dev x0 nexthop via 169.254.1.1 dev eth0"},
			want: "169.254.1.1 dev eth0 scope link\n169.254.1.2 dev x0 scope link\ndefault\nnexthop via 169.254.1.2 dev x0 weight 1\nnexthop via 169.254.1.1 dev eth0 weight 1\n192.0.2.10 via 169.254.1.1 dev eth0 proto 77"},
		"no subnet: another interface's default before": {node: usual, pod: []string{"10.131.0.43/32", "ip link add x0 type bridge", "ip link set x0 addrgenmode none up", "ip route add 169.254.1.1 dev eth0", "ip route add 169.254.1.2 dev x0",
			"ip route add default via 169.254.1.2 dev x0 metric 1", "ip route add default via 169.254.1.1 dev eth0 metric 7"},
			want: "169.254.1.1 dev eth0 scope link\n169.254.1.2 dev x0 scope link\ndefault via 169.254.1.2 dev x0 metric 1\ndefault via 169.254.1.1 dev eth0 metric 7\n192.0.2.10 via 169.254.1.1 dev eth0 proto 77"},
		"no subnet: by a route to the node, the default route being elsewhere": {node: usual, keys: `"routes": [{"dst": "172.16.0.0/12"}]`, pod: []string{"10.131.0.43/32", "ip link add x0 type bridge", "ip link set x0 addrgenmode none up",
			"ip route add 169.254.1.1 dev eth0", "ip route add 192.0.2.10 via 169.254.1.1 dev eth0", "ip route add default dev x0"},
			want: "169.254.1.1 dev eth0 scope link\n192.0.2.10 via 169.254.1.1 dev eth0\ndefault dev x0 scope link\n172.16.0.0/12 via 169.254.1.1 dev eth0 proto 77"},
		"a peer's subnet": {node: usual, pod: []string{"10.131.0.43 peer 10.140.0.9/24"}, want: "192.0.2.10 via 10.140.0.1 dev eth0 proto 77"},
		"another interface's subnet holds the node": {node: usual, pod: []string{"10.131.0.43/23", "ip link add x0 type bridge", "ip link set x0 addrgenmode none up", "ip addr add 192.0.2.99/24 dev x0"},
			want: "192.0.2.10 via 10.131.0.1 dev eth0 proto 77"},
		"a secondary address of the pod first": {node: usual, pod: []string{"10.131.0.43/23", "10.131.0.44/23", "10.140.0.5/24"}, want: "192.0.2.10 via 10.131.0.1 dev eth0 proto 77"},
		"a temporary address of the node, and one that failed": {node: append([]string{"addr add 2001:db8::11/64 dev up0 nodad preferred_lft 0"}, usual...), pod: []string{"fd01::5/64"}, keys: `"families": ["ipv6"]`,
			want: "2001:db8::10 via fd01::1 dev eth0 proto 77 metric 1024"},
		"no subnet: /31": {node: usual, pod: []string{"10.131.0.43/31", "ip route add default via 10.131.0.42 dev eth0 metric 7"},
			want: "default via 10.131.0.42 dev eth0 metric 7\n192.0.2.10 via 10.131.0.42 dev eth0 proto 77"},
		"no subnet: /128": {node: usual, pod: []string{"fd01::5/128", "ip -6 route add default via fe80::1 dev eth0"}, keys: `"families": ["ipv6"]`,
			want: "default via fe80::1 dev eth0 metric 1024\n2001:db8::10 via fe80::1 dev eth0 proto 77 metric 1024"},
		"no subnet: /127, but a gateway": {node: usual, pod: []string{"fd01::5/127"}, keys: `"families": ["ipv6"], "gateway": "fd01::4"`,
			want: "2001:db8::10 via fd01::4 dev eth0 proto 77 metric 1024"},
		"the node in the pod's subnet": {node: usual, pod: []string{"192.0.2.99/24"}, want: ""},
		"the node in the pod's second subnet, and further addresses not": {pod: []string{"10.131.0.43/23", "192.0.2.99/24"}, keys: `"hostIPs": ["192.0.2.10", "198.51.100.1"], "routes": [{"dst": "172.16.0.0/12"}]`,
			want: "198.51.100.1 via 10.131.0.1 dev eth0 proto 77\n172.16.0.0/12 via 10.131.0.1 dev eth0 proto 77"},
		"in the pod's subnet, which has no gateway": {node: usual, pod: []string{"192.0.2.1/24"}, want: ""},
		"routes": {node: usual, pod: []string{"10.131.0.43/23", "ip link add x0 type bridge", "ip link set x0 addrgenmode none up", "ip addr add 10.50.0.5/24 dev x0"}, keys: `"routes": [
			{"dst": "172.16.0.0/12"}, {"dst": "172.32.0.0/16", "metric": 7, "mtu": 1400}, {"dst": "172.33.0.0/16", "gw": "10.131.0.9"}, {"dst": "172.34.0.0/16", "dev": "x0"},
			{"dst": "172.35.0.0/16", "gw": "10.50.0.9", "dev": "x0"}, {"dst": "172.36.0.0/16", "type": "blackhole"}, {"dst": "172.37.0.0/16", "scope": 253},
			{"dst": "172.38.0.0/16", "gws": ["10.131.0.8", {"gw": "10.50.0.9", "dev": "x0", "weight": 3}]}, {"dst": "fd20::/64", "dev": "eth0"}, {"dst": "192.0.2.10"},
			{"dst": "172.39.0.0/16", "gws": ["10.131.0.8"]}, {"dst": "172.40.0.0/16", "gw": "10.99.0.1", "onlink": true}]`, want: `
			192.0.2.10 via 10.131.0.1 dev eth0 proto 77
			172.16.0.0/12 via 10.131.0.1 dev eth0 proto 77
			172.32.0.0/16 via 10.131.0.1 dev eth0 proto 77 metric 7 mtu 1400
			172.33.0.0/16 via 10.131.0.9 dev eth0 proto 77
			172.34.0.0/16 dev x0 proto 77 scope link
			172.35.0.0/16 via 10.50.0.9 dev x0 proto 77
			blackhole 172.36.0.0/16 proto 77
			172.37.0.0/16 dev eth0 proto 77 scope link
			172.38.0.0/16 proto 77
			nexthop via 10.131.0.8 dev eth0 weight 1
			nexthop via 10.50.0.9 dev x0 weight 3
			fd20::/64 dev eth0 proto 77 metric 1024
			172.39.0.0/16 via 10.131.0.8 dev eth0 proto 77
			172.40.0.0/16 via 10.99.0.1 dev eth0 proto 77 onlink`},
		"a route that is there": {node: usual, pod: []string{"10.131.0.43/23", "ip route add 192.0.2.10 via 10.131.0.1 mtu 1400 proto static"},
			want: "192.0.2.10 via 10.131.0.1 dev eth0 proto static mtu 1400"},
		"a route that is there by another gateway": {node: usual, pod: []string{"10.131.0.43/23", "fd01::5/64", "ip route add 192.0.2.10 via 10.131.0.9", "ip -6 route add 2001:db8::10 via fe80::9 dev eth0"}, keys: both,
			want: "192.0.2.10 via 10.131.0.9 dev eth0\n2001:db8::10 via fe80::9 dev eth0 metric 1024"},
		"a route that is there without a gateway": {node: usual, pod: []string{"10.131.0.43/23", "ip route add 192.0.2.10 dev eth0"},
			want: "192.0.2.10 dev eth0 scope link"},
	} {
		t.Run(name, func(t *testing.T) {
			node := newNode(t, tt.node...)
			t.Cleanup(func() {
				if strings.Contains(strings.Join(tt.node, " "), "up1") {
					node.IP("link del up1")
				}
				if strings.Contains(strings.Join(tt.node, " "), "rule add") {
					node.IP("rule del pref 10")
				}
				node.IP("route flush type blackhole")
			})
			addrs, commands := tt.pod, []string(nil)
			for i, a := range tt.pod {
				if command, ok := strings.CutPrefix(a, "ip "); ok {
					addrs = tt.pod[:min(i, len(addrs))]
					commands = append(commands, command)
				}
			}
			pod := newPod(t, addrs...)
			pod.IP(commands...)
			before := pod.Dump()
			c := call(t, pod, tt.keys)
			planned := c.OK("plan").Stdout
			if got := pod.Dump(); got != before {
				t.Errorf("plan changes something:\n%s", got)
			}
			added := c.OK("ADD")
			if added.Stderr != "" {
				t.Errorf("stderr: %s", added.Stderr)
			}
			hasRoutes(t, pod, tt.want)
			if did := pod.Dump() != before; did != (planned != "") {
				t.Errorf("planned: %q", planned)
			}
			c.After(added).OK("CHECK")
			_ = os.RemoveAll(stateDir + "/seamless/net")
			c.After(added).OK("CHECK") // without a record
			c.After(added).OK("ADD")   // finds all in place
			c.OK("DEL")
			if !strings.Contains(name, "there") && planned != "" {
				pod.IP("route flush proto 77", "-6 route flush proto 77") // whose record is lost
			}
			restored(t, pod, before)
			c.OK("ADD")
			c.OK("DEL")
			c.OK("DEL")
			restored(t, pod, before)
		})
	}
}

// What cannot be told is an error that names the way out, and nothing is
// changed.
func TestRefused(t *testing.T) {
	const at = `"hostTimeout": "0s", "podTimeout": "0s"`
	for name, tt := range map[string]struct {
		node []string
		pod  []string
		keys string
		code uint
		says string
	}{
		"no default route":                            {pod: []string{"10.131.0.43/23"}, code: 11, says: "seamless: the node has no ipv4 default route; hostIPs or hostInterface tell its address without one"},
		"none of the family":                          {node: usual[:1], pod: []string{"10.131.0.43/23"}, keys: `"families": ["ipv6"]`, code: 11, says: "the node has no ipv6 default route"},
		"only one that rejects":                       {node: []string{"route add blackhole default"}, pod: []string{"10.131.0.43/23"}, code: 11, says: "the node has no ipv4 default route"},
		"an interface without an address":             {node: []string{"route add default dev up0"}, pod: []string{"10.131.0.43/23"}, code: 11, says: "the node's up0 has no global ipv4 address; hostIPs or hostInterface tell another"},
		"no such hostInterface":                       {node: usual, pod: []string{"10.131.0.43/23"}, keys: `"hostInterface": "up9"`, code: 11, says: `hostInterface: no such interface: "up9"`},
		"a hostInterface without one":                 {node: usual[2:2], pod: []string{"10.131.0.43/23"}, keys: `"hostInterface": "up0"`, code: 11, says: "the node's up0 has no global ipv4 address"},
		"no address in the pod":                       {node: usual, code: 11, says: "the pod's eth0 has no global ipv4 address"},
		"only another family's":                       {node: usual, pod: []string{"fd01::5/64"}, code: 11, says: "the pod's eth0 has no global ipv4 address"},
		"no such interface in the pod":                {node: usual, pod: []string{"10.131.0.43/23"}, keys: `"interface": "eth9"`, code: 11, says: `the pod: no such interface: "eth9"`},
		"the pod is the gateway":                      {node: usual, pod: []string{"10.131.0.1/23"}, code: 7, says: `10.131.0.1, the first address of 10.131.0.0/23, is the pod's own: "gateway" has to be given`},
		"another interface has the gateway's address": {node: usual, pod: []string{"10.131.0.43/23", "ip addr add 10.131.0.1/32 dev lo"}, code: 7, says: `10.131.0.1, the first address of 10.131.0.0/23, is the pod's own`},
		"the gateway given is the pod":                {node: usual, pod: []string{"10.131.0.43/23"}, keys: `"gateway": "10.131.0.43"`, code: 7, says: `gateway: 10.131.0.43 is the pod's own address`},
		"no subnet, no default route":                 {node: usual, pod: []string{"10.131.0.43/32"}, code: 7, says: `the pod's ipv4 10.131.0.43/32 has no subnet, and eth0 no ipv4 default route: "gateway" has to be given`},
		"a route of another way":                      {node: usual, pod: []string{"10.131.0.43/23", "ip link add x0 type bridge", "ip link set x0 addrgenmode none up", "ip route add 192.0.2.10 dev x0"}, code: 101, says: `ip route add 192.0.2.10 via 10.131.0.1 dev eth0: there is "192.0.2.10 dev x0" already`},
		"a destination of routes, another way":        {node: usual, pod: []string{"10.131.0.43/23", "ip route add 172.16.0.0/12 via 10.131.0.9"}, keys: `"routes": [{"dst": "172.16.0.0/12"}]`, code: 101, says: `there is "172.16.0.0/12 via 10.131.0.9 dev eth0" already`},
		"two ways":                                    {node: usual, pod: []string{"10.131.0.43/23"}, keys: `"routes": [{"dst": "192.0.2.10", "gw": "10.131.0.9"}]`, code: 7, says: `routes[0]: "192.0.2.10 via 10.131.0.1 dev eth0" and "192.0.2.10 via 10.131.0.9 dev eth0" have destination, table and metric in common`},
	} {
		t.Run(name, func(t *testing.T) {
			node := newNode(t, tt.node...)
			t.Cleanup(func() { node.IP("route flush type blackhole") })
			var addrs, commands []string
			for _, a := range tt.pod {
				if command, ok := strings.CutPrefix(a, "ip "); ok {
					commands = append(commands, command)
				} else {
					addrs = append(addrs, a)
				}
			}
			pod := newPod(t, addrs...)
			pod.IP(commands...)
			before := pod.Dump()
			keys := at
			if tt.keys != "" {
				keys += ", " + tt.keys
			}
			call(t, pod, keys).Refused("ADD", tt.code, tt.says)
			call(t, pod, keys).Refused("plan", tt.code, tt.says)
			restored(t, pod, before)
			call(t, pod, keys).OK("DEL")
			restored(t, pod, before)
		})
	}
	t.Run("an unreachable gateway", func(t *testing.T) {
		newNode(t, usual...)
		pod := newPod(t, "10.131.0.43/23")
		before := pod.Dump()
		call(t, pod, `"routes": [{"dst": "172.16.0.0/12"}, {"dst": "172.32.0.0/16", "gw": "10.99.0.1"}]`).
			Refused("ADD", 100, "seamless: ip route add 172.32.0.0/16 via 10.99.0.1 dev eth0: network is unreachable")
		restored(t, pod, before)
	})
}

// later runs ip(8) commands some time after this.
func later(t *testing.T, ns *netopstest.NS, after time.Duration, lines ...string) {
	t.Helper()
	done := make(chan struct{})
	timer := time.AfterFunc(after, func() { defer close(done); ns.IP(lines...) })
	t.Cleanup(func() {
		if !timer.Stop() {
			<-done
		}
	})
}

// soon is much more than anything takes on a busy machine that does not wait
// for its time to run out.
const soon = 8 * time.Second

// ADD waits for what comes late, and no longer than that.
func TestWaiting(t *testing.T) {
	const late = 300 * time.Millisecond
	took := func(t *testing.T, c plugintest.Call) time.Duration {
		t.Helper()
		began := time.Now()
		c.OK("ADD")
		return time.Since(began)
	}
	for name, tt := range map[string]struct {
		node, pod []string // that are there at once
		keys      string
		lateNode  []string
		latePod   []string
	}{
		"a default route":        {node: usual[:1], pod: []string{"10.131.0.43/23"}, lateNode: usual[2:3]},
		"an address of the node": {node: []string{"route add default dev up0"}, pod: []string{"10.131.0.43/23"}, lateNode: usual[:1]},
		"an interface of the node": {pod: []string{"10.131.0.43/23"}, keys: `"hostInterface": "up1"`,
			lateNode: []string{"link add up1 type bridge", "link set up1 up", "addr add 192.0.2.10/24 dev up1"}},
		"an address of the pod":     {node: usual, latePod: []string{"addr add 10.131.0.43/23 dev eth0"}},
		"an interface of the pod":   {node: usual, pod: []string{"10.9.0.5/24"}, keys: `"interface": "net7"`, latePod: []string{"link add net7 type bridge", "link set net7 up", "addr add 10.131.0.43/23 dev net7"}},
		"the second family":         {node: usual, pod: []string{"10.131.0.43/23"}, keys: `"families": ["ipv4", "ipv6"]`, latePod: []string{"addr add fd01::5/64 dev eth0"}},
		"both, one after the other": {node: usual[:1], lateNode: usual[2:3], latePod: []string{"addr add 10.131.0.43/23 dev eth0"}},
	} {
		t.Run(name, func(t *testing.T) {
			node := newNode(t, tt.node...)
			pod := newPod(t, tt.pod...)
			if tt.lateNode != nil {
				later(t, node, late, tt.lateNode...)
			}
			if tt.latePod != nil {
				later(t, pod, late, tt.latePod...)
			}
			t.Cleanup(func() {
				if strings.Contains(strings.Join(tt.lateNode, " "), "up1") {
					node.IP("link del up1")
				}
			})
			// What has nothing to do with it does not hold it up.
			noise := make(chan struct{})
			defer close(noise)
			go func() {
				for i := 0; ; i++ {
					select {
					case <-noise:
						return
					case <-time.After(5 * time.Millisecond):
						_ = runIP(fmt.Sprintf("route replace 198.18.%d.0/24 dev lo", i%200))
					}
				}
			}()
			c := call(t, pod, tt.keys)
			if d := took(t, c); d < late-50*time.Millisecond || d > late+soon {
				t.Errorf("ADD took %s", d)
			}
			c.OK("DEL")
		})
	}
}

// Nothing waits for longer than it is told to, and only ADD at all.
func TestTimeouts(t *testing.T) {
	for name, tt := range map[string]struct {
		node, pod []string
		keys      string
		least     time.Duration
		says      string
	}{
		"node":            {pod: []string{"10.131.0.43/23"}, keys: `"hostTimeout": "400ms"`, least: 400 * time.Millisecond, says: "the node has no ipv4 default route; hostIPs or hostInterface tell its address without one (waited until 400ms after the start)"},
		"pod":             {node: usual, keys: `"podTimeout": "400ms"`, least: 400 * time.Millisecond, says: "the pod's eth0 has no global ipv4 address (waited until 400ms after the start)"},
		"not at all":      {pod: []string{"10.131.0.43/23"}, keys: `"hostTimeout": "0s"`, says: "the node has no ipv4 default route"},
		"pod, not at all": {node: usual, keys: `"podTimeout": "0s"`, says: "the pod's eth0 has no global ipv4 address"},
	} {
		t.Run(name, func(t *testing.T) {
			newNode(t, tt.node...)
			c := call(t, newPod(t, tt.pod...), tt.keys)
			began := time.Now()
			c.Refused("ADD", 11, tt.says)
			if took := time.Since(began); took < tt.least || took > tt.least+soon {
				t.Errorf("ADD took %s", took)
			}
			c = c.Edit(func(conf map[string]any) { conf["hostTimeout"], conf["podTimeout"] = "1m", "1m" })
			for _, verb := range []string{"plan", "CHECK", "STATUS", "DEL", "GC"} {
				began := time.Now()
				c.Do(verb)
				if took := time.Since(began); took > soon {
					t.Errorf("%s took %s", verb, took)
				}
			}
		})
	}
}

// A tentative address counts.
func TestTentative(t *testing.T) {
	newNode(t, usual...)
	pod := newPod(t)
	pod.Sysctl("net/ipv6/conf/eth0/accept_dad", "1")
	pod.Sysctl("net/ipv6/conf/eth0/dad_transmits", "50")
	pod.IP("addr add fd01::5/64 dev eth0")
	if !strings.Contains(pod.IP("-6 addr show dev eth0"), "tentative") {
		t.Fatal("it is not tentative")
	}
	began := time.Now()
	call(t, pod, `"families": ["ipv6"]`).OK("ADD")
	if took := time.Since(began); took > soon { // duplicate address detection takes 50 s
		t.Errorf("ADD took %s", took)
	}
}

// With a result of before it goes out again, with the routes.
func TestChained(t *testing.T) {
	newNode(t, usual...)
	pod := newPod(t, "10.131.0.43/23")
	c := call(t, pod, `"routes": [{"dst": "172.16.0.0/12", "metric": 7}, {"dst": "172.32.0.0/16", "type": "blackhole"}]`)
	var got, want map[string]any
	for into, text := range map[*map[string]any]string{&got: c.OK("ADD").Stdout, &want: prevResult} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	want["routes"] = []any{map[string]any{"dst": "0.0.0.0/0"}, map[string]any{"dst": "192.0.2.10/32", "gw": "10.131.0.1"},
		map[string]any{"dst": "172.16.0.0/12", "gw": "10.131.0.1", "priority": 7.0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Alone it reports the pod's interface, in the words of each version.
func TestAlone(t *testing.T) {
	newNode(t, usual...)
	pod := newPod(t, "10.131.0.43/23", "10.140.0.5/24", "fd01::5/64")
	mac := pod.HardwareAddr("eth0")
	const routes = `"routes":[{"dst":"192.0.2.10/32","gw":"10.131.0.1"}]`
	interfaces := `"interfaces":[{"name":"eth0","mac":"` + mac + `","sandbox":"/run/netns/pod"}]`
	old := `{"cniVersion":"%s","ip4":{"ip":"10.131.0.43/23",` + routes + `},"ip6":{"ip":"fd01::5/64"}}`
	middle := `{"cniVersion":"%s",` + interfaces + `,"ips":[{"version":"4","address":"10.131.0.43/23","interface":0},{"version":"4","address":"10.140.0.5/24","interface":0},{"version":"6","address":"fd01::5/64","interface":0}],` + routes + `}`
	today := strings.NewReplacer(`"version":"4",`, "", `"version":"6",`, "").Replace(middle)
	for version, want := range map[string]string{"0.1.0": old, "0.2.0": old, "0.3.0": middle, "0.3.1": middle, "0.4.0": middle, "1.0.0": today, "1.1.0": today} {
		c := alone(t, pod, "").Edit(func(conf map[string]any) { conf["cniVersion"] = version })
		added := c.OK("ADD")
		if diff := cmp.Diff(fmt.Sprintf(want, version)+"\n", added.Stdout); diff != "" {
			t.Errorf("%s (-want +got):\n%s", version, diff)
		}
		if version >= "0.4.0" {
			c.OK("CHECK")
			pod.IP("route del 192.0.2.10")
			c.Refused("CHECK", 106, "ip route add 192.0.2.10 via 10.131.0.1 dev eth0: missing")
		}
		c.OK("DEL")
	}
	// A result of such a version goes out with the route as well.
	c := alone(t, pod, `"prevResult": {"cniVersion": "0.2.0", "ip4": {"ip": "10.131.0.43/23", "routes": [{"dst": "0.0.0.0/0"}]}, "dns": {}}`).
		Edit(func(conf map[string]any) { conf["cniVersion"] = "0.2.0" })
	want := `{"cniVersion":"0.2.0","dns":{},"ip4":{"ip":"10.131.0.43/23","routes":[{"dst":"0.0.0.0/0"},{"dst":"192.0.2.10/32","gw":"10.131.0.1"}]}}` + "\n"
	if got := c.OK("ADD").Stdout; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	c.OK("DEL")
}

// CHECK judges what the chain's result still lists.
func TestCheck(t *testing.T) {
	newNode(t, usual...)
	pod := newPod(t, "10.131.0.43/23")
	c := call(t, pod, "")
	added := c.OK("ADD")
	pod.IP("route del 192.0.2.10")
	c.After(added).Refused("CHECK", 106, "ip route add 192.0.2.10 via 10.131.0.1 dev eth0: missing")
	c.OK("CHECK") // whose prevResult does not list it any more
	pod.IP("link add x0 type bridge", "link set x0 up", "route add 192.0.2.10 dev x0")
	c.After(added).Refused("CHECK", 106, "found 192.0.2.10 dev x0 instead")
	pod.IP("route replace 192.0.2.10 via 10.131.0.9")
	c.After(added).OK("CHECK") // it leads to the node
	// DEL does not touch what another process has put there.
	c.OK("DEL")
	hasRoutes(t, pod, "192.0.2.10 via 10.131.0.9 dev eth0")
}

func TestStatus(t *testing.T) {
	node := newNode(t, usual...)
	c := alone(t, newPod(t), "").With(map[string]string{"CNI_CONTAINERID": "", "CNI_IFNAME": "", "CNI_NETNS": ""})
	c.OK("STATUS")
	node.IP("route del default")
	c.Refused("STATUS", 50, "the node has no ipv4 default route; hostIPs or hostInterface tell its address without one")
	c.Edit(func(conf map[string]any) { conf["hostIPs"] = []string{"192.0.2.10"} }).OK("STATUS")
	c.Edit(func(conf map[string]any) { conf["hostInterface"] = "up0" }).OK("STATUS")
	c.Edit(func(conf map[string]any) { conf["hostIPs"] = "x" }).Refused("STATUS", 7, `hostIPs: "x" is not a list`)
	c.Edit(func(conf map[string]any) { conf["stateDir"] = "/proc/x"; conf["hostInterface"] = "up0" }).Refused("STATUS", 50, "records cannot be saved")
}

// The pod gone, its record goes, whatever the configuration says by then.
func TestDelOfAPodThatIsGone(t *testing.T) {
	newNode(t, usual...)
	pod := newPod(t, "10.131.0.43/23")
	c := call(t, pod, "")
	c.OK("ADD")
	pod.Remove()
	c.Edit(func(conf map[string]any) { conf["hostIPs"] = 5 }).With(map[string]string{"CNI_NETNS": ""}).OK("DEL")
	if left := plugintest.Left(t, stateDir); left != nil {
		t.Errorf("left: %v", left)
	}
}

// What a result of an old version has wrong is told before anything is changed.
func TestOldResultsThatAreNone(t *testing.T) {
	newNode(t, usual...)
	pod := newPod(t, "10.131.0.43/23")
	before := pod.Dump()
	with := func(prev string) plugintest.Call {
		return alone(t, pod, `"prevResult": `+prev).Edit(func(conf map[string]any) { conf["cniVersion"] = "0.2.0" })
	}
	for prev, says := range map[string]string{
		`{"ip4": 5}`: "prevResult: ip4: ", `{"ip4": {"routes": 5}}`: "prevResult: ip4: routes: ", `{"ip6": {"routes": [null]}}`: "prevResult: ip6: routes[0] is null",
		`{"ip4": {"routes": [{"dst": "x"}]}}`: `prevResult: ip4: routes[0].dst: "x" is not a subnet`,
	} {
		with(prev).Refused("ADD", 6, says)
		restored(t, pod, before)
	}
	for prev, want := range map[string]string{
		`{"ip4": null}`: `{"cniVersion":"0.2.0","ip4":null}`,
		`{"ip4": {"ip": "10.131.0.43/23", "routes": [{"dst": "192.0.2.10/32", "gw": "10.131.0.1"}]}}`: `{"cniVersion":"0.2.0","ip4":{"ip":"10.131.0.43/23","routes":[{"dst":"192.0.2.10/32","gw":"10.131.0.1"}]}}`,
	} {
		c := with(prev)
		if got := strings.TrimSpace(c.OK("ADD").Stdout); got != want {
			t.Errorf("%s: %s, want %s", prev, got, want)
		}
		c.OK("DEL")
		restored(t, pod, before)
	}
}

// A route without a gateway is listed so that no plugin takes it for one with that
// of the pod's address.
func TestOnLinkRoutesAreListedAsSuch(t *testing.T) {
	newNode(t, usual...)
	c := call(t, newPod(t, "10.131.0.43/23"), `"routes": [{"dst": "10.140.0.0/16", "dev": "eth0"}]`)
	if got := c.OK("ADD").Stdout; !strings.Contains(got, `{"dst":"10.140.0.0/16","scope":253}`) {
		t.Errorf("%s", got)
	}
}

// Without a record the result tells which route was made: the node may have
// another address today, or none.
func TestCheckWithoutRecord(t *testing.T) {
	node := newNode(t, usual...)
	pod := newPod(t, "10.131.0.43/23")
	c := call(t, pod, "")
	added := c.OK("ADD")
	_ = os.RemoveAll(stateDir)
	node.IP("route del default", "addr del 192.0.2.10/24 dev up0", "addr add 192.0.2.77/24 dev up0")
	c.After(added).OK("CHECK")
	node.IP("route add default via 192.0.2.1")
	c.After(added).OK("CHECK")
	pod.IP("route del 192.0.2.10")
	c.After(added).Refused("CHECK", 106, "ip route add 192.0.2.10 via 10.131.0.1 dev eth0: missing")
}

// An ADD that waits on a busy node takes little of it.
func TestWaitingCostsLittle(t *testing.T) {
	node := newNode(t, usual[:1]...)
	for i := range 100 {
		node.IP(fmt.Sprintf("addr add 10.60.%d.1/24 dev up0", i))
	}
	c := call(t, newPod(t, "10.131.0.43/23"), `"hostTimeout": "1500ms"`)
	ended, noise := make(chan struct{}), sync.WaitGroup{}
	noise.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
				_ = runIP("addr add 10.61.0.1/24 dev up0")
				_ = runIP("addr del 10.61.0.1/24 dev up0")
			}
		}
	})
	cmd := exec.Command(c.Plugin)
	cmd.Env, cmd.Stdin = c.Environ("ADD"), strings.NewReader(c.Conf)
	began := time.Now()
	out, _ := cmd.Output()
	took := time.Since(began)
	close(ended)
	noise.Wait()
	if took < 1500*time.Millisecond || !strings.Contains(string(out), "waited until 1.5s after the start") {
		t.Errorf("it waited for %s only: %s", took, out)
	}
	if used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); used > 600*time.Millisecond {
		t.Errorf("it used %s of a processor in 1.5 s", used)
	}
}

// SIGTERM ends an ADD that waits, with an error.
func TestSignalWhileWaiting(t *testing.T) {
	newNode(t)
	c := call(t, newPod(t, "10.131.0.43/23"), "")
	cmd := exec.Command(c.Plugin)
	var out strings.Builder
	cmd.Env, cmd.Stdin, cmd.Stdout = c.Environ("ADD"), strings.NewReader(c.Conf), &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listens(t)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	began := time.Now()
	_ = cmd.Wait()
	if took := time.Since(began); took > soon {
		t.Errorf("it ended after %s", took)
	}
	if !strings.Contains(out.String(), `"code": 11`) || !strings.Contains(out.String(), "interrupted by a signal") {
		t.Errorf("it says %q", out.String())
	}
}

// listens waits until a process of the node has subscribed to rtnetlink's
// multicast groups, as one does that waits.
func listens(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(2 * time.Millisecond) {
		sockets, err := os.ReadFile("/proc/thread-self/net/netlink") // proc_net(5): sk, Eth, Pid, Groups
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(sockets)) {
			if f := strings.Fields(line); len(f) > 3 && f[1] == "0" && f[3] != "00000000" {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no process listens:\n%s", sockets)
		}
	}
}
