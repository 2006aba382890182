package main

import (
	"net/netip"
	"testing"
	"time"
)

// Topologies and configurations of which a few cells matter.

// way asks one question. The pod goes by the names of its interfaces, and by
// "any" where it asks from no address in particular.
func (l *lab) way(from, to string, six bool) string {
	l.t.Helper()
	asker, there := l.places[from]
	var src netip.Addr
	if !there { // one of the pod's interfaces, or any
		asker = l.placeOf("eth0")
		if from != "any" {
			src = of(l.placeOf(from), six)
		}
	} else if from == outside { // or it would ask from an address on the LAN
		src = of(asker, six)
	}
	asked, there := l.places[to]
	if !there {
		asked = l.placeOf(to)
	}
	c := l.newCell(asker, asked, src, six)
	l.run([]*cell{c}, patience)
	return c.text
}

// byOverlay fails the test unless a question and its answer go by eth0.
func (l *lab) byOverlay(from, to string) {
	l.t.Helper()
	for _, six := range []bool{false, true} {
		if six && l.underlay == ipv4 || !six && l.underlay == ipv6 {
			continue
		}
		if got := l.way(from, to, six); got != "eth0" {
			l.t.Errorf("%s -> %s, IPv6 %t: %s", from, to, six, got)
		}
	}
}

// The pod resolves its overlay gateway by the address of whatever packet goes
// first (arp_announce 0), and a strict node answers only where it would route
// that address back: after ADD it has to, or one connection from an underlay
// address keeps all of the pod's cluster traffic waiting for seconds.
func TestColdGateway(t *testing.T) {
	t.Parallel()
	for lan := 1; lan <= lansOf; lan++ {
		l := newLab(t, calico, ipv4)
		ifname, prev := l.attach(lan)
		l.add(ifname, prev, "")
		first := l.newCell(l.placeOf(ifname), l.places[service], of(l.placeOf(ifname), false), false)
		then := l.newCell(l.placeOf("eth0"), l.places["peer"], netip.Addr{}, false)
		shut := l.echo([]*cell{first, then})
		l.forget()
		l.askAll([]*cell{first}, patience)
		began := time.Now()
		l.askAll([]*cell{then}, again)
		shut()
		if took := time.Since(began); !first.answered || !then.answered || took > patience {
			t.Errorf("LAN %d: the service answers %s: %t; after that another pod answers: %t, after %v", lan, ifname, first.answered, then.answered, took)
		}
	}
}

// A strict node lets the traffic pass that router sends through it: what counts
// is the greater of the filter of all and the interface's.
func TestStrictNode(t *testing.T) {
	t.Parallel()
	for _, o := range []overlay{calico, bridge} {
		for _, value := range []string{"0", "2"} {
			t.Run(string(o)+" "+value, func(t *testing.T) {
				l := newLab(t, o, ipv4)
				l.node.Enter(func() { write(t, "ipv4/conf/all/rp_filter", "1") })
				ifname, prev := l.attach(1)
				before := l.state(l.node)
				a := l.add(ifname, prev, `"rp_filter": {"set_host": true, "value": `+value+`}`)
				l.byOverlay("node1", ifname)
				l.byOverlay("peer", ifname)
				l.byOverlay(ifname, "node1")
				l.byOverlay(ifname, service)
				l.del(a)
				if now := l.state(l.node); now != before {
					t.Errorf("the node is not as before: %s", now)
				}
			})
		}
	}
}

// A node may have an address that is not the node's for the pod, and yet the
// first that the kernel thinks of on an interface without one: on lo, say, as
// nodes have it that announce themselves by BGP.
func TestLoopbackAddress(t *testing.T) {
	t.Parallel()
	for _, o := range []overlay{calico, bridge} {
		t.Run(string(o), func(t *testing.T) {
			l := newLab(t, o, dual)
			l.node.Batch(address("lo", "172.30.0.1/32", "fd00:30::1/128")...)
			ifname, prev := l.attach(1)
			l.add(ifname, prev, "")
			l.byOverlay("node1", ifname)
			l.byOverlay(ifname, "node1")
		})
	}
}

// Additional subnets are reached through the overlay, by later interfaces too.
func TestAdditional(t *testing.T) {
	t.Parallel()
	for _, o := range []overlay{calico, bridge} {
		t.Run(string(o), func(t *testing.T) {
			l := newLab(t, o, dual)
			for lan := 1; lan <= lansOf; lan++ {
				ifname, prev := l.attach(lan)
				l.add(ifname, prev, `"additional_hijack_subnet": ["100.64.0.0/16", "2001:db8:9::/48"]`)
				l.byOverlay("any", outside)
				l.byOverlay("eth0", outside)
				l.byOverlay("any", service)
			}
		})
	}
}

// T has place for one route of a destination and metric: the first that the
// interface has. What a router announces, and goes on to prolong, is copied for
// good.
func TestRoutesInOnePlace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(2)
	p.IP("route append default via 198.51.100.2 dev net2", "-6 route add default via fe80::9 dev net2 metric 50 expires 1800")
	before := s.state(p)
	calls := []call{p.call(1), p.call(2, `"additional_hijack_subnet": ["192.0.2.10/32", "172.30.0.0/16"]`)}
	for _, c := range calls {
		c.OK("ADD")
		c.OK("CHECK")
	}
	got := p.IP("route show table 102")
	has(t, "T", got, "default via 198.51.100.1 dev net2", "192.0.2.10 via 169.254.1.1 dev eth0 proto 77")
	lacks(t, "T", got, "198.51.100.2 ")
	got = p.IP("-6 route show table 102")
	has(t, "T", got, "default via fe80::9 dev net2 proto 77 metric 50")
	lacks(t, "T", got, "expires")
	for _, c := range calls {
		c.OK("DEL")
	}
	before.restored("DEL")
}

// Without a default route on the underlay the overlay keeps its own.
func TestNoDefaultOnUnderlay(t *testing.T) {
	t.Parallel()
	l := newLab(t, calico, dual)
	l.routeless = true
	for lan := 1; lan <= 2; lan++ {
		ifname, prev := l.attach(lan)
		l.add(ifname, prev, "")
		l.byOverlay("any", outside)
		l.byOverlay(outside, "eth0")
		l.byOverlay("node1", ifname)
	}
}
