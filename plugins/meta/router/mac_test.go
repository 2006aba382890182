package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// packets lists the packet sockets of a pod.
func packets(t *testing.T, p *pod) (text string) {
	t.Helper()
	p.Enter(func() {
		b, err := os.ReadFile("/proc/thread-self/net/packet")
		if err != nil {
			t.Error(err)
		}
		text = string(b)
	})
	return text
}

// The hardware address is the prefix and the last four bytes of the first
// address; the result says it, the LAN learns it at once, and DEL puts the old
// one back. Permanent neighbours that others have there stay. Where the kernel
// announces a new address by itself, as it does for interfaces of macvlan's plugin,
// that is left to it.
func TestMACPrefix(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, mac string
		edit      func(ips []any) []any
		notify    string // the kernel does
	}{
		{"IPv4 first", "0a:0b:c0:00:02:65", func(ips []any) []any { return ips }, "0"},
		{"IPv6 first", "0a:0b:00:00:01:01", func(ips []any) []any { return []any{ips[1], ips[0]} }, "0"},
		{"told by the kernel", "0a:0b:c0:00:02:65", func(ips []any) []any { return ips }, "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.pod(1)
			p.IP("neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev net1 nud permanent", "neigh add 2001:db8::77 lladdr 02:00:00:00:00:78 dev net1 nud permanent")
			s.sysctl(p.NS, "net/ipv4/conf/net1/arp_notify", tt.notify)
			s.sysctl(p.NS, "net/ipv6/conf/net1/ndisc_notify", tt.notify)
			old := p.HardwareAddr("net1")
			for _, ip := range []string{p.ip(1), p.ip6(1)} { // the peer has talked to the pod
				s.lan.IP("neigh add " + ip + " lladdr " + old + " dev eth0 nud stale")
			}
			before := s.state(p)
			c := p.call(1, `"mac_prefix": "0A:0b"`).Edit(func(conf map[string]any) {
				prev := conf["prevResult"].(map[string]any)
				prev["ips"] = tt.edit(prev["ips"].([]any))
			})
			added := c.OK("ADD")
			if got := p.HardwareAddr("net1"); got != tt.mac {
				t.Errorf("it is %s, want %s", got, tt.mac)
			}
			if diff := cmp.Diff(strings.ReplaceAll(prevResultOf(t, c), old, tt.mac), canonical(t, added.Stdout)); diff != "" {
				t.Errorf("the result (-want +got):\n%s", diff)
			}
			plugintest.Until(t, func() bool { return strings.Count(s.lan.IP("neigh show"), "lladdr "+tt.mac) == 2 })
			has(t, "the pod", p.IP("neigh show nud permanent"), "192.0.2.77 dev net1 lladdr 02:00:00:00:00:77 PERMANENT", "2001:db8::77 dev net1 lladdr 02:00:00:00:00:78 PERMANENT")
			c.After(added).OK("CHECK")
			c.After(added).OK("DEL")
			before.restored("DEL")
		})
	}
}

// canonical is JSON in one form.
func canonical(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func prevResultOf(t *testing.T, c call) string {
	t.Helper()
	var conf struct{ PrevResult json.RawMessage }
	if err := json.Unmarshal([]byte(c.Conf), &conf); err != nil {
		t.Fatal(err)
	}
	return canonical(t, string(conf.PrevResult))
}

// only_op_mac changes the hardware address, and nothing else; it asks for no
// subnets and no overlay.
func TestOnlyOpMAC(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	before := s.state(p)
	old := p.HardwareAddr("net1")
	c := p.call(1, `"only_op_mac": true`, `"mac_prefix": "0a:0b"`, `"overlay_interface": "eth7"`, `"rp_filter": {"value": 0, "set_host": true}`).
		Edit(func(conf map[string]any) {
			delete(conf, "overlay_hijack_subnet")
			delete(conf, "service_hijack_subnet")
		})
	added := c.OK("ADD")
	const mac = "0a:0b:c0:00:02:65"
	for ns, was := range before.was {
		if diff := cmp.Diff(strings.ReplaceAll(was, old, mac), dump(t, ns)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", ns.Name, diff)
		}
	}
	if !strings.Contains(added.Stdout, mac) {
		t.Errorf("result: %s", added.Stdout)
	}
	c.After(added).OK("CHECK")
	p.IP("link set net1 address 02:00:00:00:00:05")
	c.After(added).Refused("CHECK", 106, "ip link set dev net1 address "+mac+": found 02:00:00:00:00:05 instead")
	p.IP("link set net1 address " + mac)
	c.OK("DEL")
	before.restored("DEL")
}

// A hardware address that somebody else has set since stays.
func TestMACThatOthersSet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	c := p.call(1, everything...)
	c.OK("ADD")
	p.IP("link set net1 address 02:00:00:00:00:05")
	c.OK("DEL")
	if got := p.HardwareAddr("net1"); got != "02:00:00:00:00:05" {
		t.Errorf("it is %s", got)
	}
	s.nothingLeft("DEL")
}
