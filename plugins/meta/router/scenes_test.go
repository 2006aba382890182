package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// What becomes of a pod whose networks come and go, with a firewall between the
// LANs and nodes that drop what they have seen half of: who is to reach whom does,
// by each address, at each moment that is looked at, and in the end pod and node
// are as before.
func TestScenes(t *testing.T) {
	type kind struct {
		overlay  overlay
		families families
	}
	var kinds []kind
	for _, f := range []families{dual, ipv4, ipv6} {
		for _, o := range []overlay{calico, bridge, ptp, cilium, ovs} {
			kinds = append(kinds, kind{o, f})
		}
	}
	for i := 0; i < len(kinds); i += netopstest.Sample(len(kinds)/2 - 1) {
		k := kinds[i]
		t.Run(fmt.Sprintf("%s_%s", k.overlay, k.families), func(t *testing.T) {
			t.Parallel()
			l := makeLab(t, &lab{t: t, overlay: k.overlay, families: k.families, underlay: k.families, places: map[string]place{}, guarded: true})
			for _, s := range scenes {
				pod, node := l.state(l.pod), l.state(l.node)
				act := &play{lab: l, name: s.name, attached: map[int]attachment{}}
				s.run(act)
				act.end()
				for _, diff := range []string{diffLines(pod, l.state(l.pod)), diffLines(node, l.state(l.node))} {
					if diff != "" {
						t.Errorf("%s: in the end it is not as before (-want +got):\n%s", s.name, diff)
					}
				}
			}
			if left := plugintest.Left(t, l.stateDir); left != nil {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// play is a scene that is being played.
type play struct {
	*lab
	name     string
	attached map[int]attachment
	plain    []int // interfaces without router
	fourOnly bool  // IPv6 is not looked at
	restore  []func()
}

var scenes = []struct {
	name string
	run  func(*play)
}{
	{"net1", func(p *play) {
		p.add(1, 1)
		p.holds("net1")
	}},
	{"net1 and net2", func(p *play) {
		p.add(1, 1)
		p.add(2, 2)
		p.holds("both")
		p.del(1)
		p.holds("net1 is gone")
		p.add(1, 1)
		p.holds("net1 has come again")
		p.del(2)
		p.holds("net2 is gone")
	}},
	{"net2 before net1", func(p *play) {
		p.add(2, 2)
		p.holds("net2")
		p.add(1, 1)
		p.holds("both")
		p.del(2)
		p.holds("net2 is gone")
	}},
	{"net1 without router", func(p *play) {
		p.plug(1, 1)
		p.plain = []int{1}
		p.add(2, 2)
		p.holds("net2")
		p.del(2)
		p.unplug("net1")
		p.plain = nil
	}},
	{"without default routes", func(p *play) {
		p.routeless = true
		p.add(1, 1)
		p.add(2, 2)
		p.holds("both")
		p.routeless = false
	}},
	{"a link without an address between", func(p *play) {
		p.add(1, 1)
		p.pod.Batch("link add net2 type bridge", "link set net2 addrgenmode none up")
		p.restore = append(p.restore, func() { p.pod.Batch("link del net2") })
		p.add(3, 2)
		p.holds("net1 and net3")
		p.del(1)
		p.holds("net1 is gone")
	}},
	{"one LAN for both", func(p *play) {
		p.add(1, 1)
		p.add(2, 1)
		p.holds("both")
	}},
	{"without eth0's default route", func(p *play) {
		for _, family := range []string{"-4", "-6"} {
			if route, _, ok := strings.Cut(p.pod.IP(family+" route show default"), "\n"); ok {
				route, _, _ = strings.Cut(route, " metric 1024")
				p.pod.IP(family + " route del " + route)
				p.restore = append(p.restore, func() { p.pod.IP(family + " route add " + route) })
			}
		}
		p.add(1, 1)
		p.add(2, 2)
		p.holds("both")
	}},
	{"the overlay has the default route", func(p *play) {
		p.add(1, 1, `"default_route_interface": "overlay"`)
		p.holds("net1")
		p.add(2, 2)
		p.holds("both")
	}},
	{"the host's end gets another hardware address", func(p *play) {
		if p.overlay == ovs {
			return
		}
		p.add(1, 1)
		veth := ""
		for l := range strings.Lines(p.node.IP("-br link show type veth")) {
			if name, _, _ := strings.Cut(l, "@"); strings.HasSuffix(name, "pod") {
				veth = name
			}
		}
		p.node.Batch("link set " + veth + " address ee:ee:ee:ee:ee:ef")
		p.restore = append(p.restore, func() { p.node.Batch("link set " + veth + " address ee:ee:ee:ee:ee:ee") })
		// The kernel drops the node's entries: then it asks by ARP. By neighbour
		// discovery eth0 does not answer for net1.
		p.fourOnly = p.overlay != bridge
		p.holds("net1")
		p.fourOnly = false
		p.node.Enter(func() { p.attached[1].call.OK("ADD") })
		p.holds("net1, after another ADD")
	}},
	{"a strict node", func(p *play) {
		if p.overlay == ovs {
			return
		}
		strict := func(value string) { p.node.Enter(func() { write(p.t, "ipv4/conf/all/rp_filter", value) }) }
		strict("1")
		p.restore = append(p.restore, func() { strict("0") })
		p.add(1, 1)
		p.add(2, 2)
		p.holds("both")
	}},
}

func (p *play) add(n, lan int, keys ...string) {
	p.t.Helper()
	ifname, prev := p.plug(n, lan)
	p.attached[n] = p.lab.add(ifname, prev, strings.Join(keys, ", "))
}

func (p *play) del(n int) {
	p.t.Helper()
	p.lab.del(p.attached[n])
	p.unplug(fmt.Sprint("net", n))
	delete(p.attached, n)
}

// end takes away what is left, the lowest first.
func (p *play) end() {
	p.t.Helper()
	for n := 1; n <= lansOf; n++ {
		if _, there := p.attached[n]; there {
			p.del(n)
		}
	}
	for _, back := range slices.Backward(p.restore) {
		back()
	}
}

// holds fails the test unless each reaches whom he is to reach.
func (p *play) holds(when string) {
	p.t.Helper()
	lost := p.lost(patience)
	if lost != nil {
		lost = p.lost(again)
	}
	if lost != nil {
		p.t.Errorf("%s: %s: unanswered:\n%s\npod:\n%s", p.name, when, strings.Join(lost, "\n"), p.pod.Dump())
	}
}

// lost are the questions that should have been answered.
func (p *play) lost(wait time.Duration) (lines []string) {
	p.t.Helper()
	type asked struct {
		*cell
		text, dev, other string
	}
	var list []asked
	var all []*cell
	note := func(c *cell, six bool, from, to, dev, other string) {
		list = append(list, asked{c, fmt.Sprintf("%s -> %s, IPv6 %t", from, to, six), dev, other})
		all = append(all, c)
	}
	for _, six := range []bool{false, true} {
		if p.families == ipv4 && six || p.families == ipv6 && !six || six && p.fourOnly {
			continue
		}
		in, names := p.inward(six)
		for i, row := range in {
			for j, dev := range p.podDevs(six) {
				note(row[j], six, names[i], dev, dev, names[i])
			}
		}
		out, names := p.outward(six)
		for i, row := range out {
			for j, target := range p.targets() {
				note(row[j], six, names[i], target, names[i], target)
			}
		}
	}
	p.run(all, wait)
	for _, a := range list {
		if !a.answered && !p.cannot(a.dev, a.other) {
			lines = append(lines, a.text+": "+a.cell.text)
		}
	}
	return lines
}

// cannot reports whether two need not reach each other, of which one is the pod by
// an address of its own.
func (p *play) cannot(dev, other string) bool {
	if dev == "eth0" || dev == "any" {
		return false
	}
	byOverlay := []string{"node", "node1", "node2", service, "peer"}
	return other == "far" || // whose node sees half of it
		p.overlay == bridge && other == "peer" || // of one bridge, without br_netfilter
		p.overlay == ovs && slices.Contains(byOverlay, other) ||
		slices.ContainsFunc(p.plain, func(n int) bool { return dev == fmt.Sprint("net", n) })
}
