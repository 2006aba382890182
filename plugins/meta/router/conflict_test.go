package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// probing is a call that probes so often.
func (p *pod) probing(interval string, retries int, keys ...string) call {
	return p.call(1, append([]string{fmt.Sprintf(`"ip_conflict": {"enabled": true, "interval": %q, "retries": %d}`, interval, retries)}, keys...)...)
}

// took is how long a verb takes that succeeds.
func (c call) took(verb string) time.Duration {
	c.TB.Helper()
	began := time.Now()
	c.OK(verb)
	return time.Since(began)
}

// What no test waits for: it would be a failure.
const long = "30s"

// An address that somebody on the LAN has is told with his MAC before the first
// interval is over, in both families; nothing is changed.
func TestConflict(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	before := s.state(p)
	peer := s.lan.HardwareAddr("eth0")
	for _, ip := range []string{"192.0.2.101", "2001:db8::101"} {
		s.lan.IP("addr add " + ip + " dev eth0")
		s.lan.Settle()
		began := time.Now()
		p.probing(long, 5, everything...).Refused("ADD", 102, ip, peer)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: it took %s", ip, took)
		}
		before.restored(ip)
		// Only ADD probes.
		p.probing(long, 5).OK("plan")
		s.lan.IP("addr del " + ip + s.bits(ip) + " dev eth0")
	}
	// Who does not ask does not know.
	s.lan.IP("addr add 192.0.2.101 dev eth0")
	for _, keys := range []string{`"ip_conflict": {}`, `"ip_conflict": {"enabled": false}`, `"ip_conflict": null`} {
		p.call(1, keys).OK("ADD")
		p.call(1, keys).OK("DEL")
	}
}

func (s *site) bits(ip string) string {
	if strings.Contains(ip, ":") {
		return "/128"
	}
	return "/32"
}

// A sibling on the same node is found as well.
func TestConflictWithAPodOfTheNode(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p, other := s.pod(1), s.pod(1)
	other.IP("addr add "+p.ip(1)+" dev net1", "addr add "+p.ip6(1)+" dev net1")
	other.AwaitIPv6("net1", p.ip6(1))
	p.probing(long, 1).Refused("ADD", 102, other.HardwareAddr("net1"))
}

// Free addresses cost interval × retries: for all of them at once, and for the
// attachment, not for each verb. That the pod's own kernel answers is no
// conflict.
func TestFreeAddresses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	before := s.state(p)
	const slack = 5 * time.Second // on a busy machine
	for _, tt := range []struct {
		interval string
		retries  int
		costs    time.Duration
	}{{"50ms", 1, 50 * time.Millisecond}, {"50ms", 4, 200 * time.Millisecond}, {"0.3s", 2, 600 * time.Millisecond}} {
		c := p.probing(tt.interval, tt.retries)
		if took := c.took("ADD"); took < tt.costs || took > tt.costs+slack {
			t.Errorf("%s × %d: took %s", tt.interval, tt.retries, took)
		}
		c = p.probing(long, tt.retries)
		for _, verb := range []string{"plan", "CHECK", "STATUS", "GC", "DEL"} {
			if took := c.took(verb); took > slack {
				t.Errorf("%s took %s", verb, took)
			}
		}
		before.restored(tt.interval)
	}
}

// An interval is one second unless it is told, and there are three.
func TestProbesUnlessTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	c := p.call(1, `"ip_conflict": {"enabled": true}`)
	if took := c.took("ADD"); took < 3*time.Second || took > 8*time.Second {
		t.Errorf("it took %s", took)
	}
}

// An address that the node holds is a conflict: a macvlan child cannot hear its
// parent.
func TestAddressOfTheNode(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	for ip, keys := range map[string]string{"192.0.2.101": `"sriov": false`, "2001:db8::101": `"sriov": true`} {
		s.node.IP("addr add " + ip + s.bits(ip) + " dev up0")
		s.node.Settle()
		before := s.state(p)
		for _, verb := range []string{"ADD", "plan"} {
			p.probing(long, 5, keys).Refused(verb, 102, ip, "address of the node")
			before.restored(verb)
		}
		s.node.IP("addr del " + ip + s.bits(ip) + " dev up0")
	}
}

// What the kernel's own detection has found is a conflict.
func TestDuplicateAddressDetectionFailed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	s.lan.IP("addr add 2001:db8::101 dev eth0")
	s.lan.Settle()
	s.sysctl(p.NS, "net/ipv6/conf/net1/accept_dad", "1")
	p.IP("addr del 2001:db8::101/64 dev net1", "addr add 2001:db8::101/64 dev net1")
	plugintest.Until(t, func() bool { return strings.Contains(p.IP("addr show dev net1"), "dadfailed") })
	s.lan.IP("addr del 2001:db8::101/128 dev eth0")
	before := s.state(p)
	for _, verb := range []string{"ADD", "plan"} {
		p.probing(long, 5).Refused(verb, 102, "2001:db8::101", "duplicate address detection")
		before.restored(verb)
	}
}

// SIGTERM ends an ADD that probes, and nothing has been changed.
func TestSignalWhileProbing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	before := s.state(p)
	adding := p.probing(long, 5).Begin("ADD")
	plugintest.Until(t, func() bool { return strings.Count(packets(t, p), "\n") > 1 }) // it listens
	adding.Terminate()
	if said := adding.Ends(1); !strings.Contains(said, "interrupted by a signal") {
		t.Errorf("it says %s", said)
	}
	before.restored("SIGTERM")
}

// Without a carrier nobody can be asked: that may pass.
func TestNoCarrier(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	p.IP("link set net1 down")
	p.probing("50ms", 2).Refused("ADD", 11, "net1")
	s.nothingLeft("ADD")
}
