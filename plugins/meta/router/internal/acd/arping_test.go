package acd

import (
	"net"
	"net/netip"
	"testing"

	"github.com/j-keck/arping"
)

// ping has arping ask for an address from a node.
func (n *node) ping(addr string) (mac net.HardwareAddr) {
	n.t.Helper()
	n.Enter(func() {
		var err error
		if mac, _, err = arping.PingOverIfaceByName(net.ParseIP(addr), "net1"); err != nil {
			n.t.Errorf("arping %s: %v", addr, err)
		}
	})
	return mac
}

// Another implementation of ARP, arping's, finds whom we find, and is understood
// when it asks and when it announces. Its sockets are its own, and so are its
// frames: it has a target's hardware address of ones where we have zeroes.
func TestArping(t *testing.T) {
	arping.SetTimeout(patience)
	l := newLAN(t)
	pod, other, third := l.node("pod", "10.9.0.2/24"), l.node("other", "10.9.0.7/24"), l.node("third", "10.9.0.9/24")
	if got := pod.ping("10.9.0.7"); got.String() != other.mac("net1").String() {
		t.Errorf("arping finds 10.9.0.7 at %s", got)
	}
	pod.probe(long, 1, "10.9.0.7").found(t, "10.9.0.7", other.mac("net1"))

	// From here on the kernel answers for no address there: the answers are arping's.
	other.Sysctl("net/ipv4/conf/net1/arp_ignore", "8")
	wire := other.tap()
	for addr, tell := range map[string]func(){
		"10.9.0.7": func() { other.ping("10.9.0.9") },
		"10.9.0.5": func() {
			other.Enter(func() {
				if err := arping.GratuitousArpOverIfaceByName(net.ParseIP("10.9.0.5"), "net1"); err != nil {
					t.Error(err)
				}
			})
		},
	} {
		done := pod.probes(long, 1, addr)
		wire.wait(1, "a probe", equal(probeFor(pod.mac("net1"), addr)))
		tell()
		(<-done).found(t, addr, other.mac("net1"))
	}

	// What we announce, it would have sent but for the target's hardware address.
	heard := third.tap()
	pod.announce("10.9.0.2")
	pod.Enter(func() {
		if err := arping.GratuitousArpOverIfaceByName(net.ParseIP("10.9.0.2"), "net1"); err != nil {
			t.Error(err)
		}
	})
	same := arpAnnouncement(pod.mac("net1"), netip.MustParseAddr("10.9.0.2"))
	heard.wait(2, "two announcements", func(f []byte) bool {
		return len(f) >= len(same) && string(f[:etherLen+arpTarget]) == string(same[:etherLen+arpTarget]) &&
			string(f[etherLen+arpTargetIP:etherLen+arpLen]) == string(same[etherLen+arpTargetIP:])
	})
}
