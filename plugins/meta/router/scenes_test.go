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

// What becomes of a pod whose networks come and go in any order, with a firewall
// between the LANs and nodes that drop what they have seen half of. At each moment
// each reaches whom it is to reach, by each address, every attachment's CHECK
// succeeds, and the rules and routes are those of testdata/scenes, whichever way
// led there. In the end pod and node are as before. What a family has does not
// depend on the other: a pod with one has the half of what one with both has.
func TestSweepScenes(t *testing.T) {
	var kinds []lab
	for _, f := range []families{dual, ipv4, ipv6} {
		for _, o := range []overlay{calico, bridge, ptp, cilium, ovs} {
			kinds = append(kinds, lab{overlay: o, families: f, underlay: f, guarded: true})
		}
	}
	for k := 0; k < len(kinds); k += netopstest.Sample(t, 12) {
		l := kinds[k]
		if *update && l.families != dual {
			continue
		}
		t.Run(fmt.Sprintf("%s_%s", l.overlay, l.families), func(t *testing.T) {
			t.Parallel()
			l.t, l.places = t, map[string]place{}
			makeLab(t, &l)
			routing := readGolden(t, "scenes", string(l.overlay))
			for i := range scenes {
				if l.families == dual || (k+i)%2 == 0 { // the other half is that of the other family
					l.playAll(&scenes[i], routing, k+i)
				}
			}
			routing.write()
			if left := plugintest.Left(t, l.stateDir); left != nil {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// scene is a pod that gets some networks.
type scene struct {
	name    string
	nets    []network
	prepare func(*play) // what there is beside them
	then    func(*play) // what comes when all of them have come
	linux   bool        // not with Open vSwitch, where the node has nothing
}

// network is netN, on a LAN.
type network struct {
	n, lan int
	keys   string
	plain  bool // without router, and there before those with it
}

var scenes = []scene{
	{name: "three networks", nets: []network{{n: 1, lan: 1}, {n: 2, lan: 2}, {n: 3, lan: 2}}},
	{name: "net1 comes again", nets: []network{{n: 1, lan: 1}, {n: 2, lan: 2}}, then: func(p *play) {
		p.del(p.scene.nets[0])
		p.holds()
		p.add(p.scene.nets[0])
		p.holds()
	}},
	{name: "net1 has no router", nets: []network{{n: 1, lan: 1, plain: true}, {n: 2, lan: 2}}},
	{name: "no default routes", nets: []network{{n: 1, lan: 1}, {n: 2, lan: 2}}, prepare: func(p *play) {
		p.routeless = true
		p.restore = append(p.restore, func() { p.routeless = false })
	}},
	{name: "a link without an address", nets: []network{{n: 1, lan: 1}, {n: 3, lan: 2}}, prepare: func(p *play) {
		p.pod.Batch("link add net2 type bridge", "link set net2 addrgenmode none up")
		p.restore = append(p.restore, func() { p.pod.Batch("link del net2") })
	}},
	{name: "one LAN for both", nets: []network{{n: 1, lan: 1}, {n: 2, lan: 1}}},
	{name: "eth0 has no default route", nets: []network{{n: 1, lan: 1}, {n: 2, lan: 2}}, prepare: func(p *play) {
		for _, family := range []string{"-4", "-6"} {
			if route, _, ok := strings.Cut(p.pod.IP(family+" route show default"), "\n"); ok {
				route, _, _ = strings.Cut(route, " metric 1024")
				p.pod.IP(family + " route del " + route)
				p.restore = append(p.restore, func() { p.pod.IP(family + " route add " + route) })
			}
		}
	}},
	{name: "the overlay has the default route", nets: []network{{n: 1, lan: 1, keys: `"default_route_interface": "overlay"`}, {n: 2, lan: 2}}},
	{name: "the host's end gets another address", linux: true, nets: []network{{n: 1, lan: 1}}, then: newHostAddress},
	{name: "a strict node", linux: true, nets: []network{{n: 1, lan: 1}, {n: 2, lan: 2}}, prepare: func(p *play) {
		strict := func(value string) { p.node.Enter(func() { write(p.t, "ipv4/conf/all/rp_filter", value) }) }
		strict("1")
		p.restore = append(p.restore, func() { strict("0") })
	}},
}

// newHostAddress has the kernel drop what the node was told of the pod, unless the
// host's end is a bridge's port. Then it asks by ARP; by neighbour discovery eth0
// does not answer for net1. Another ADD mends that.
func newHostAddress(p *play) {
	for l := range strings.Lines(p.node.IP("-br link show type veth")) {
		if name, _, _ := strings.Cut(l, "@"); strings.HasSuffix(name, "pod") {
			p.node.Batch("link set " + name + " address ee:ee:ee:ee:ee:ef")
			p.restore = append(p.restore, func() { p.node.Batch("link set " + name + " address ee:ee:ee:ee:ee:ee") })
		}
	}
	c := p.here[1].call
	if p.overlay == bridge {
		p.holds()
		return
	}
	p.node.Enter(func() { c.Refused("CHECK", 106, "neigh") })
	p.reach(ipv4, "net1, by ARP")
	p.node.Enter(func() { c.OK("ADD") })
	p.holds()
}

// order is one in which networks come and go.
type order struct{ adds, dels []network }

// orders are all of them.
func (s *scene) orders() (all []order) {
	for _, adds := range permutations(s.nets) {
		late := func(n network) bool { return n.plain }
		if i := slices.IndexFunc(adds, func(n network) bool { return !n.plain }); slices.ContainsFunc(adds[i:], late) {
			continue
		}
		for _, dels := range permutations(s.nets) {
			all = append(all, order{adds, dels})
		}
	}
	return all
}

func permutations(nets []network) (all [][]network) {
	if len(nets) == 0 {
		return [][]network{nil}
	}
	for i, first := range nets {
		for _, rest := range permutations(slices.Delete(slices.Clone(nets), i, i+1)) {
			all = append(all, append([]network{first}, rest...))
		}
	}
	return all
}

// playAll plays a scene. Where the pod has both families the overlays take the orders
// by turns, and have each of them together; otherwise, and of a sample, each takes
// one, which differs from scene to scene.
func (l *lab) playAll(s *scene, routing *golden, which int) {
	l.t.Helper()
	if s.linux && l.overlay == ovs {
		return
	}
	all := s.orders()
	switch {
	case *update: // these come to all states
		all = slices.DeleteFunc(all, func(o order) bool { return !slices.Equal(o.adds, o.dels) })
	case l.families != dual, !netopstest.Whole(l.t):
		all = all[which%len(all):][:1]
	default:
		const turns = 4 // Open vSwitch has not all scenes: its orders are another overlay's, too
		var own []order
		for i := which % min(turns, len(all)); i < len(all); i += turns {
			own = append(own, all[i])
		}
		all = own
	}
	for _, o := range all {
		p := &play{lab: l, scene: s, order: o, routing: routing, here: map[int]attachment{}}
		pod, node := l.state(l.pod), l.state(l.node)
		p.run()
		for _, diff := range []string{diffLines(pod, l.state(l.pod)), diffLines(node, l.state(l.node))} {
			if diff != "" {
				l.t.Errorf("%s: in the end it is not as before (-want +got):\n%s", p, diff)
			}
		}
	}
}

// play is a scene that is being played.
type play struct {
	*lab
	scene *scene
	order
	routing *golden
	here    map[int]attachment // with router, by the number of the network
	restore []func()
}

func (p *play) String() string {
	numbers := func(nets []network) (list []int) {
		for _, n := range nets {
			list = append(list, n.n)
		}
		return list
	}
	return fmt.Sprintf("%s, ADD of %d, DEL of %d", p.scene.name, numbers(p.adds), numbers(p.dels))
}

func (p *play) run() {
	p.t.Helper()
	if p.scene.prepare != nil {
		p.scene.prepare(p)
	}
	for _, n := range p.adds {
		p.add(n)
		p.holds()
	}
	if p.scene.then != nil {
		p.scene.then(p)
	}
	for _, n := range p.dels {
		p.del(n)
		p.holds()
	}
	for _, back := range slices.Backward(p.restore) {
		back()
	}
}

func (p *play) add(n network) {
	p.t.Helper()
	ifname, prev := p.plug(n.n, n.lan)
	if !n.plain {
		p.here[n.n] = p.lab.add(ifname, prev, n.keys)
	}
}

func (p *play) del(n network) {
	p.t.Helper()
	if !n.plain {
		p.lab.del(p.here[n.n])
		delete(p.here, n.n)
	}
	p.unplug(fmt.Sprint("net", n.n))
}

// holds fails the test unless all is as it has to be with the networks that are
// there, whatever came before.
func (p *play) holds() {
	p.t.Helper()
	if len(p.here) == 0 {
		return
	}
	p.node.Enter(func() {
		for _, a := range p.here {
			a.call.OK("CHECK")
		}
	})
	var names []string
	for n := range lansOf {
		if name := fmt.Sprint("net", n+1); p.placeOf(name).addrs != nil {
			names = append(names, name)
		}
	}
	p.reach(p.families, strings.Join(names, " and "))
}

// reach fails the test unless each reaches whom he is to reach, by addresses of
// these families, and rules and routes are as written.
func (p *play) reach(f families, moment string) {
	p.t.Helper()
	lost := p.lost(f, patience)
	if lost != nil {
		lost = p.lost(f, again)
	}
	if lost != nil {
		p.t.Errorf("%s: %s: unanswered:\n%s\npod:\n%s", p, moment, strings.Join(lost, "\n"), p.pod.Dump())
	}
	for _, six := range []bool{false, true} {
		if !p.families.has(six) {
			continue
		}
		title := fmt.Sprintf("%s, %s: %s", familyName(six), p.scene.name, moment)
		if diff := p.routing.diff(title, p.lab.routing(six)); diff != "" {
			p.t.Errorf("%s: %s (-want +got):\n%s", p, title, diff)
		}
	}
}

// lost are the questions that should have been answered.
func (p *play) lost(f families, wait time.Duration) (lines []string) {
	p.t.Helper()
	texts := map[*cell]string{}
	var all []*cell
	ask := func(c *cell, six bool, from, to, dev, other string) {
		if !p.cannot(dev, other) {
			all = append(all, c)
			texts[c] = fmt.Sprintf("%s: %s -> %s", familyName(six), from, to)
		}
	}
	for _, six := range []bool{false, true} {
		if !p.families.has(six) || !f.has(six) {
			continue
		}
		in, names := p.inward(six)
		for i, row := range in {
			for j, dev := range p.podDevs(six) {
				ask(row[j], six, names[i], dev, dev, names[i])
			}
		}
		out, names := p.outward(six)
		for i, row := range out {
			for j, target := range p.targets() {
				ask(row[j], six, names[i], target, names[i], target)
			}
		}
	}
	p.lab.run(all, wait)
	for _, c := range all {
		if !c.answered {
			lines = append(lines, texts[c]+": "+c.text)
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
		slices.ContainsFunc(p.scene.nets, func(n network) bool { return n.plain && dev == fmt.Sprint("net", n.n) })
}

// routing is what router decides about, of a family: the pod's rules and routes,
// but for those of the kernel, and what the node has of it.
func (l *lab) routing(six bool) string {
	l.t.Helper()
	var lines []string
	note := func(where, printed string, tables ...string) {
		for printedLine := range strings.Lines(printed) {
			if table, line := routingLine(printedLine); slices.Contains(tables, table) {
				lines = append(lines, strings.TrimSpace(where+" "+table)+"\t"+strings.ReplaceAll(line, l.mac, "that of eth0")+"\n")
			}
		}
	}
	options := "-oneline -4"
	if six {
		options = "-oneline -6"
	}
	note("pod", l.pod.IPWith(options, "rule show", "route show table all"), "rule", "main", "100", "101", "102", "103")
	note("node", l.node.IPWith(options, "rule show", "route show table all", "neigh show nud permanent"), "rule", "500", "neigh")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// routingLine is a line of ip(8) without what does not matter, and the table of the
// route; no table is that of what each namespace, or interface, has.
func routingLine(l string) (table, line string) {
	for _, kernels := range []string{"0:", "32766:", "32767:", "fe80::/64 ", "multicast ", "local ", "broadcast ", "anycast "} {
		if strings.HasPrefix(l, kernels) {
			return "", ""
		}
	}
	words := strings.Fields(strings.NewReplacer(" linkdown", "", " pref medium", "", `\`, "").Replace(l))
	line = strings.Join(words, " ")
	switch at := slices.Index(words, "table"); {
	case strings.HasSuffix(words[0], ":"):
		return "rule", line
	case slices.Contains(words, "lladdr"):
		return "neigh", line
	case at >= 0:
		return words[at+1], strings.Replace(line, " table "+words[at+1], "", 1)
	}
	return "main", line
}
