package acd

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func (n *node) announce(addrs ...string) {
	n.t.Helper()
	if err := Announce(context.Background(), n.ns, "net1", parsed(addrs)); err != nil {
		n.t.Error(err)
	}
}

// knows waits until a node has that hardware address for another's address.
func (n *node) knows(addr, mac string) {
	n.t.Helper()
	within(n.t, addr+" to be at "+mac, func() bool { return strings.Contains(n.IP("neigh show "+addr), " lladdr "+mac+" ") })
}

// Without the kernel's own announcement, of which macvlan's plugin makes use
// and others do not.
func TestNeighboursLearnANewMAC(t *testing.T) {
	l := newLAN(t)
	const old, now = "02:00:00:00:00:aa", "02:00:00:00:00:bb"
	pod, other := l.node("pod", "10.9.0.5/24", "fd00:9::5/64", "fe80::5/64"), l.node("other", "10.9.0.9/24", "fd00:9::9/64")
	addrs := []string{"10.9.0.5", "fd00:9::5", "fe80::5%net1"}
	for _, addr := range addrs {
		other.IP("neigh replace " + strings.TrimSuffix(addr, "%net1") + " lladdr " + old + " dev net1 nud reachable")
	}
	wire := other.tap()
	pod.IP("link set net1 address " + now)
	pod.probe(interval, 1, "10.9.0.77").free(t, interval)
	for _, addr := range addrs {
		other.knows(strings.TrimSuffix(addr, "%net1"), old) // nobody has told yet
	}
	pod.announce(addrs...)
	for _, addr := range addrs {
		addr = strings.TrimSuffix(addr, "%net1")
		other.knows(addr, now)
		if got := wire.wait(1, "the announcement", claims(pod.mac("net1"), addr)); len(got) != 1 {
			t.Errorf("%s was announced %d times", addr, len(got))
		}
	}
}

// RFC 4862 has a node keep silent about an address as long as it is tentative.
func TestTentativeAddressIsAnnounced(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other", "fd00:9::9/64")
	other.IP("neigh replace fd00:9::5 lladdr 02:00:00:00:00:aa dev net1 nud reachable")
	// Detection that does not end within the test.
	pod.Sysctl("net/ipv6/conf/net1/accept_dad", "1")
	pod.Sysctl("net/ipv6/conf/net1/dad_transmits", "1000")
	pod.IP("addr add fd00:9::5/64 dev net1")
	pod.announce("fd00:9::5")
	other.knows("fd00:9::5", pod.mac("net1").String())
	if tentative := pod.IP("-6 addr show dev net1 tentative"); !strings.Contains(tentative, "fd00:9::5") {
		t.Errorf("the address was not tentative:\n%s", pod.IP("addr show dev net1"))
	}
}

// The kernel has the same frames for the same purposes.
func TestKernelSendsTheSame(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other")
	wire := other.tap()
	for key, value := range map[string]string{
		"ipv4/conf/net1/arp_notify": "1", "ipv6/conf/net1/ndisc_notify": "1",
		"ipv6/conf/net1/accept_dad": "1", "ipv6/conf/net1/enhanced_dad": "0", "ipv6/conf/all/enhanced_dad": "0",
	} {
		pod.Sysctl("net/"+key, value)
	}
	mac := pod.mac("net1")
	pod.IP("addr add 10.9.0.5/24 dev net1", "addr add fd00:9::12:3456/64 dev net1")
	detection := wire.wait(1, "the kernel's solicitation", func(f []byte) bool {
		return claims(mac, "fd00:9::12:3456")(f) && f[54] == typeSolicitation
	})
	if diff := cmp.Diff(detection[0], solicitation(mac, netip.MustParseAddr("fd00:9::12:3456"))); diff != "" {
		t.Errorf("solicitation (-kernel +ours):\n%s", diff)
	}
	within(t, "the end of detection", func() bool { return !strings.Contains(pod.IP("addr show dev net1"), "tentative") })
	pod.IP("link set net1 address 02:00:00:00:00:bb")
	mac = pod.mac("net1")
	for addr, ours := range map[string][]byte{
		"10.9.0.5":        arpAnnouncement(mac, netip.MustParseAddr("10.9.0.5")),
		"fd00:9::12:3456": advertisement(mac, netip.MustParseAddr("fd00:9::12:3456")),
	} {
		kernels := wire.wait(1, "the kernel's announcement of "+addr, claims(mac, addr))
		if diff := cmp.Diff(kernels[0], ours); diff != "" {
			t.Errorf("announcement (-kernel +ours):\n%s", diff)
		}
	}
}
