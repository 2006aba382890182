package main

import (
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// BenchmarkHello compares an attachment of both families with a process that does
// nothing: with what is usual, with all that is done without waiting, and as the
// second of its pod.
func BenchmarkHello(b *testing.B) {
	s := newSite(b)
	p := s.pod(1)
	// As macvlan's plugin makes it.
	s.sysctl(p.NS, "net/ipv4/conf/net1/arp_notify", "1")
	s.sysctl(p.NS, "net/ipv6/conf/net1/ndisc_notify", "1")
	second := s.pod(2)
	second.call(1).OK("ADD")
	for name, c := range map[string]call{
		"usual":  p.call(1),
		"full":   p.call(1, `"rp_filter": {"set_host": true, "value": 0}`, `"additional_hijack_subnet": ["172.30.0.0/16", "fd00:30::/64"]`),
		"mac":    p.call(1, `"mac_prefix": "0a:1b"`),
		"second": second.call(2),
	} {
		b.Run(name, func(b *testing.B) {
			c := plugintest.Call{TB: b, Plugin: c.Plugin, Conf: c.Conf, Env: c.Env}
			s.node.Enter(func() {
				plugintest.BesideHello(b, router.Name, c.As("ADD"), c.As("CHECK"), c.As("DEL"), c.As("STATUS"))
			})
		})
	}
}
