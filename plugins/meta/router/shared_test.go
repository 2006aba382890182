package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// What pods share on the node stays until the last of them goes.
func TestPodsShareTheNode(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][]int{"first goes first": {0, 1}, "first goes last": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			pods := []*pod{s.pod(1), s.pod(1)}
			before := s.state(pods...)
			for _, p := range pods {
				p.call(1, everything...).OK("ADD")
			}
			once := dump(t, s.node)
			if got := strings.Count(once, "lookup 500"); got != 2 { // one of each family
				t.Errorf("%d rules", got)
			}
			gone, left := pods[order[0]], pods[order[1]]
			gone.call(1).OK("DEL")
			node := dump(t, s.node)
			has(t, "the node", node, "1000:	from all lookup 500 proto 77", "net/ipv4/conf/all/rp_filter = 0",
				left.ip(1)+" dev "+left.veth(), "unicast "+left.ip(1)+" dev "+left.veth()+" table 500 proto 77")
			lacks(t, "the node", node, gone.ip(1))
			left.call(1, everything...).OK("CHECK")
			left.call(1).OK("DEL")
			before.restored("the last DEL")
		})
	}
}

// Who wants another value of the host's sysctls sets it; what it was before all
// of them comes back when the last has gone.
func TestPodsDisagreeAboutTheNode(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		s := newSite(t)
		s.sysctl(s.node, "net/ipv4/conf/up0/rp_filter", "1")
		pods := []*pod{s.pod(1), s.pod(1)}
		before := s.state(pods...)
		calls := []call{pods[0].call(1, `"rp_filter": {"value": 2, "set_host": true}`), pods[1].call(1, `"rp_filter": {"value": 0, "set_host": true}`)}
		calls[0].OK("ADD")
		if a := calls[1].OK("ADD"); !strings.Contains(a.Stderr, "level=WARN") || !strings.Contains(a.Stderr, "up0/rp_filter") {
			t.Errorf("no warning: %s", a.Stderr)
		}
		if got := s.value(s.node, "net/ipv4/conf/up0/rp_filter"); got != "0" {
			t.Errorf("the last does not count: %s", got)
		}
		calls[order[0]].OK("DEL")
		want := []string{"2", "0"}[order[1]]
		if got := s.value(s.node, "net/ipv4/conf/up0/rp_filter"); got != want {
			t.Errorf("with one left it is %s, want %s", got, want)
		}
		calls[order[1]].OK("CHECK")
		calls[order[1]].OK("DEL")
		before.restored("the last DEL")
	}
}

// What somebody else has set since is his.
func TestSysctlsThatOthersSet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	c := p.call(1, everything...)
	c.OK("ADD")
	s.sysctl(s.node, "net/ipv4/conf/all/rp_filter", "2")
	s.sysctl(p.NS, "net/ipv4/conf/eth0/rp_filter", "2")
	c.OK("DEL")
	if got := s.value(s.node, "net/ipv4/conf/all/rp_filter"); got != "2" {
		t.Errorf("the node's is %s", got)
	}
	if got := s.value(p.NS, "net/ipv4/conf/eth0/rp_filter"); got != "2" {
		t.Errorf("the pod's is %s", got)
	}
	s.nothingLeft("DEL")
}

// A note that is damaged is in no DEL's way.
func TestDamagedNote(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	c := p.call(1, everything...)
	c.OK("ADD")
	note := filepath.Join(s.records, "host", "sysctl:net:ipv4:conf:all:rp_filter")
	text, err := os.Readlink(note)
	if err == nil {
		err = os.Remove(note)
	}
	if err == nil {
		err = os.Symlink(text+"x", note)
	}
	if err != nil {
		t.Fatal(err)
	}
	if a := c.OK("DEL"); !strings.Contains(a.Stderr, "level=WARN") || !strings.Contains(a.Stderr, "all/rp_filter") {
		t.Errorf("no warning: %s", a.Stderr)
	}
	s.nothingLeft("DEL")
}

// An interface of the node that came anew under the same name is another one.
func TestNodeInterfaceCameAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.node.IP("link add br7 type bridge", "link set br7 addrgenmode none up", "addr add 198.18.0.10/24 dev br7")
	s.sysctl(s.node, "net/ipv4/conf/br7/rp_filter", "1")
	p := s.pod(1)
	c := p.call(1, everything...)
	c.OK("ADD")
	s.node.IP("link del br7", "link add br7 type bridge", "link set br7 addrgenmode none up")
	s.sysctl(s.node, "net/ipv4/conf/br7/rp_filter", "0")
	c.OK("DEL")
	if got := s.value(s.node, "net/ipv4/conf/br7/rp_filter"); got != "0" {
		t.Errorf("the new interface has %s", got)
	}
	s.nothingLeft("DEL")
}

// A bridge that the overlay's host end is a port of is on the way, too.
func TestHostBridge(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.node.IP("link add cni0 type bridge", "link set cni0 addrgenmode none up")
	s.sysctl(s.node, "net/ipv4/conf/cni0/rp_filter", "1")
	p := s.pod(1)
	s.node.IP("link set " + p.veth() + " master cni0")
	before := s.state(p)
	c := p.call(1, everything...)
	c.OK("ADD")
	if got := s.value(s.node, "net/ipv4/conf/cni0/rp_filter"); got != "0" {
		t.Errorf("the bridge has %s", got)
	}
	c.OK("DEL")
	before.restored("DEL")
}

// What strangers have made as we would have it is fine, and stays.
func TestStrangersObjects(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	mac := p.HardwareAddr("eth0")
	s.node.IP("rule add pref 1000 lookup 500", "neigh add 192.0.2.101 lladdr "+mac+" dev cali1 nud permanent",
		"route add 192.0.2.101 dev cali1 table 500 src 192.0.2.10")
	p.IP("route add 192.0.2.10 dev eth0 proto static",
		"rule add pref 31000 to 10.244.0.0/16 lookup 77")
	before := s.state(p)
	c := p.call(1)
	c.OK("ADD")
	c.OK("CHECK")
	if got := strings.Count(s.node.IP("rule show"), "lookup 500"); got != 1 {
		t.Errorf("%d rules", got)
	}
	c.OK("DEL")
	before.restored("DEL")
}

// A permanent neighbour with another hardware address is somebody else's; one
// that the kernel has learnt gives way.
func TestNeighboursOnTheNode(t *testing.T) {
	t.Parallel()
	for _, ip := range []string{"192.0.2.101", "2001:db8::101"} {
		s := newSite(t)
		p := s.pod(1)
		s.node.IP("neigh add " + ip + " lladdr 02:00:00:00:00:99 dev cali1 nud permanent")
		before := s.state(p)
		c := p.call(1)
		for _, verb := range []string{"ADD", "plan"} {
			c.Refused(verb, 101, "ip neigh add "+ip, "02:00:00:00:00:99", "not ours")
			before.restored(verb)
		}
		s.node.IP("neigh replace " + ip + " lladdr 02:00:00:00:00:99 dev cali1 nud stale")
		c.OK("ADD")
		has(t, "the node", dump(t, s.node), ip+" dev cali1 lladdr "+p.HardwareAddr("eth0")+" PERMANENT proto 77")
		c.OK("DEL")
		if got := s.node.IP("neigh show " + ip + " nud permanent"); got != "" {
			t.Errorf("left: %s", got)
		}
	}
}

// sameAddress gives a pod the address that another one has on netN.
func (p *pod) sameAddress(of *pod, n int) call {
	c := p.call(n, everything[0], everything[2]) // macvlan keeps track of hardware addresses itself
	c.Conf = strings.NewReplacer(p.ip(n)+"/", of.ip(n)+"/", p.ip6(n)+"/", of.ip6(n)+"/").Replace(c.Conf)
	return c
}

// The address of a pod that lives is refused, also where the node has no route to
// it that would stand in the way.
func TestAddressOfALivingPod(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 2; n++ {
		s := newSite(t)
		one, two := s.pod(2), s.pod(2)
		one.call(n, everything...).OK("ADD")
		before := s.state(one, two)
		for _, table := range []string{"500", "501"} {
			for _, verb := range []string{"plan", "ADD"} {
				two.sameAddress(one, n).set("host_rule_table", table).Refused(verb, 101, one.ip(n), "container "+one.Name, "network lan")
			}
		}
		one.call(n, everything...).OK("plan")
		before.same("a refused ADD")
		two.call(n).OK("DEL")
		before.same("its DEL")
		one.call(n, everything...).OK("CHECK")
		one.call(n).OK("DEL")
		two.sameAddress(one, n).OK("ADD")
		two.call(n).OK("DEL")
		s.nothingLeft("DEL")
	}
}

// That of a leaked pod, whose namespace is gone, is taken over; the leaked
// attachment's DEL or GC then hits nothing of the new one's.
func TestAddressOfALeakedPod(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 2; n++ {
		for _, verb := range []string{"DEL", "GC"} {
			s := newSite(t)
			leaked, fresh := s.pod(2), s.pod(2)
			before := s.state(fresh)
			old := leaked.call(n, everything...)
			old.OK("ADD")
			// Its veth stays on the node, as it does for a while.
			leaked.IP("link set eth0 netns " + s.lan.Name + " name away")
			s.lan.IP("link set away up")
			leaked.Remove()
			c := fresh.sameAddress(leaked, n)
			if a := c.OK("ADD"); !strings.Contains(a.Stderr, "level=WARN") {
				t.Errorf("net%d: no warning: %s", n, a.Stderr)
			}
			with := s.state(fresh)
			has(t, "the node", with.was[s.node], leaked.ip(n)+" dev "+fresh.veth()+" lladdr "+fresh.HardwareAddr("eth0")+" PERMANENT proto 77")
			lacks(t, "the node", with.was[s.node], leaked.ip(n)+" dev "+leaked.veth())
			old.OK(verb)
			with.same(verb + " of the leaked one")
			c.OK("CHECK")
			c.OK("DEL")
			old.OK("GC")
			before.restored("DEL")
		}
	}
}

// Without any record, or note, what carries our tag is nobody's.
func TestRecordsLost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	c := p.call(1)
	c.OK("ADD")
	s.node.IP("route flush table 500", "route add 192.0.2.101 dev up0 table 500 proto 77")
	s.loseRecords()
	other := s.pod(1)
	next := other.sameAddress(p, 1)
	s.node.IP("neigh flush all nud permanent dev " + p.veth())
	if a := next.OK("ADD"); !strings.Contains(a.Stderr, "gives way") {
		t.Errorf("no warning: %s", a.Stderr)
	}
	has(t, "the node", dump(t, s.node), "unicast 192.0.2.101 dev "+other.veth()+" table 500 proto 77")
	next.OK("DEL")
	lacks(t, "the node", dump(t, s.node), "proto 77")
	s.nothingLeft("DEL")
}

// loseRecords removes all that is kept.
func (s *site) loseRecords() {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.records, "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range files {
		if err := os.RemoveAll(f); err != nil {
			s.t.Fatal(err)
		}
	}
}

// A neighbour by a bridge is there after its pod. Without any record it gives way to
// that of the next pod that has the address.
func TestNeighbourWithoutRecord(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.node.IP("link add cni0 type bridge", "link set cni0 addrgenmode none up")
	p, next := s.pod(1), s.pod(1)
	for _, port := range []*pod{p, next} {
		s.node.IP("link set " + port.veth() + " master cni0")
	}
	before := s.state(next)
	p.call(1).OK("ADD")
	s.loseRecords()
	p.call(1).OK("DEL")
	for _, ip := range []string{p.ip(1), p.ip6(1)} {
		has(t, "the node", dump(t, s.node), ip+" dev cni0 lladdr "+p.HardwareAddr("eth0")+" PERMANENT proto 77")
	}
	c := next.sameAddress(p, 1)
	c.OK("plan")
	if a := c.OK("ADD"); strings.Count(a.Stderr, "a neighbour of ours that no attachment wants any more gives way") != 2 {
		t.Errorf("it says %s", a.Stderr)
	}
	c.OK("DEL")
	before.restored("DEL")
}

// GC sweeps what a record that was lost has noted.
func TestGCSweepsNotes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	c := p.call(1, everything...)
	c.OK("ADD")
	if err := os.RemoveAll(filepath.Join(s.records, router.Name)); err != nil {
		t.Fatal(err)
	}
	c.OK("GC")
	if notes, _ := filepath.Glob(filepath.Join(s.records, "host", "address:*")); notes != nil {
		t.Errorf("left: %v", notes)
	}
}

// Two networks of one pod that disagree about its reverse path filter.
func TestNetworksOfAPodDisagree(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{1, 2}, {2, 1}} {
		s := newSite(t)
		p := s.pod(2)
		before := s.state(p)
		p.call(1, `"rp_filter": {"value": 1}`).OK("ADD")
		p.call(2, `"rp_filter": {"value": 0}`).OK("ADD")
		p.call(order[0]).OK("DEL")
		p.call(order[1]).OK("DEL")
		before.restored("DEL")
	}
}

// The host's table may be another one, for each network.
func TestHostRuleTable(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	pods := []*pod{s.pod(1), s.pod(1)}
	before := s.state(pods...)
	pods[0].call(1, `"host_rule_table": 4294967295`).OK("ADD")
	pods[1].call(1).OK("ADD")
	has(t, "the node", dump(t, s.node), "1000:	from all lookup 4294967295 proto 77", "1000:	from all lookup 500 proto 77",
		"unicast "+pods[0].ip(1)+" dev cali1 table 4294967295 proto 77", "unicast "+pods[1].ip(1)+" dev cali2 table 500 proto 77")
	pods[1].call(1).OK("DEL")
	has(t, "the node", dump(t, s.node), "1000:	from all lookup 4294967295 proto 77")
	lacks(t, "the node", dump(t, s.node), "lookup 500 ")
	pods[0].call(1).OK("DEL")
	before.restored("DEL")
}

// What an ADD that was killed wants, stays as long as the runtime has not
// deleted it.
func TestKilledBesideOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	killed, other := s.pod(1), s.pod(1)
	before := s.state(killed, other)
	for n := range 6 {
		other.call(1, everything...).OK("ADD")
		c := killed.call(1, everything...)
		c.Failing(plugintest.Fault{At: "after", N: n, Kill: syscall.SIGKILL}).Do("ADD")
		other.call(1).OK("DEL")
		has(t, "the node", dump(t, s.node), "1000:	from all lookup 500 proto 77")
		if n%2 == 0 {
			c.OK("DEL")
		} else { // GC of a network in which it is valid all the same
			c.Edit(func(conf map[string]any) {
				conf["cni.dev/valid-attachments"] = []any{map[string]string{"containerID": killed.Name, "ifname": "net1"}}
			}).OK("GC")
		}
		before.restored("the killed one's end")
	}
}

// A record of a later version may be a living pod's.
func TestAddressInALaterVersionsRecord(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.pod(2), s.pod(2)
	one.call(2).OK("ADD")
	path := filepath.Join(s.records, router.Name, "lan2", one.Name+":net2", "1.finished")
	text := strings.Replace(readFile(t, path), `"format":1`, `"format":9`, 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"plan", "ADD"} {
		two.sameAddress(one, 2).set("host_rule_table", "501").Refused(verb, 101, one.ip(2), "record")
	}
}
