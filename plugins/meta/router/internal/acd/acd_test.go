package acd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

const interval = 50 * time.Millisecond

func ten(format string) (list []string) {
	for i := range 10 {
		list = append(list, fmt.Sprintf(format, i+1))
	}
	return list
}

// probeFor is the frame by which an address is asked for.
func probeFor(mac net.HardwareAddr, addr string) []byte {
	return frames(mac, parsed([]string{addr}), arpProbe, solicitation)[0]
}

func TestFreeAddresses(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other", "10.9.0.99/24", "fd00:9::99/64")
	addrs := append(ten("10.9.0.%d"), ten("fd00:9::%d")...)
	wire := other.tap()
	pod.probe(interval, 4, addrs...).free(t, 4*interval)
	for _, a := range addrs {
		want := equal(probeFor(pod.mac("net1"), a))
		if got := len(wire.wait(4, "probes", want)); got != 4 {
			t.Errorf("%s was asked for %d times, want 4", a, got)
		}
	}
}

func TestTakenAddresses(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other", "10.9.0.7/24", "fd00:9::7/64", "fe80::7/64")
	for name, tt := range map[string]struct {
		addrs []string
		taken string
	}{
		"IPv4":                  {[]string{"10.9.0.7"}, "10.9.0.7"},
		"IPv6":                  {[]string{"fd00:9::7"}, "fd00:9::7"},
		"one of ten, IPv4":      {append(ten("fd00:9::1:%d"), ten("10.9.0.%d")...), "10.9.0.7"},
		"one of ten, IPv6":      {append(ten("10.9.1.%d"), ten("fd00:9::%d")...), "fd00:9::7"},
		"link-local, with zone": {[]string{"fe80::7%net1"}, "fe80::7"},
		"IPv4 written as IPv6":  {[]string{"::ffff:10.9.0.7"}, "10.9.0.7"},
	} {
		t.Run(name, func(t *testing.T) {
			pod.probe(long, 3, tt.addrs...).found(t, tt.taken, other.mac("net1"))
		})
	}
}

// A pod's interface on an underlay is mostly a macvlan's.
func TestMacvlan(t *testing.T) {
	l := newLAN(t)
	host, other := l.node("host"), l.node("other", "10.9.0.7/24", "fd00:9::7/64")
	pod, sibling := l.macvlan(host, "pod"), l.macvlan(host, "sibling", "10.9.0.8/24", "fd00:9::8/64")
	pod.probe(long, 1, "10.9.0.7").found(t, "10.9.0.7", other.mac("net1"))
	pod.probe(long, 1, "fd00:9::7").found(t, "fd00:9::7", other.mac("net1"))
	pod.probe(long, 1, "10.9.0.8").found(t, "10.9.0.8", sibling.mac("net1"))
	pod.probe(long, 1, "fd00:9::8").found(t, "fd00:9::8", sibling.mac("net1"))
	pod.probe(interval, 2, "10.9.0.9", "fd00:9::9").free(t, 2*interval)
}

// RFC 5227, 2.1.1: none of the host's interfaces is in conflict with it. The
// kernel answers for IPv4 on every interface of that LAN.
func TestOwnAnswersAreNoConflict(t *testing.T) {
	l := newLAN(t)
	pod := l.node("pod", "10.9.0.5/24", "fd00:9::5/64")
	pod.plug("net2", "10.9.0.6/24")
	wire := pod.tap()
	pod.probe(interval, 2, "10.9.0.5", "10.9.0.6", "fd00:9::5").free(t, 2*interval)
	wire.wait(1, "net2's answer", claims(pod.mac("net2"), "10.9.0.6"))
}

// Whoever adds another network to the pod at the same time may give that another
// hardware address.
func TestOwnAddressChanges(t *testing.T) {
	l := newLAN(t)
	pod := l.node("pod")
	pod.plug("net2", "10.9.0.6/24")
	wire := pod.tap()
	done := pod.probes(interval, 20, "10.9.0.6")
	wire.wait(1, "net2's answer", claims(pod.mac("net2"), "10.9.0.6"))
	pod.IP("link set net2 address 02:00:00:00:0b:0b")
	wire.wait(1, "its answer with the other address", claims(net.HardwareAddr{2, 0, 0, 0, 0xb, 0xb}, "10.9.0.6"))
	(<-done).free(t, 20*interval)
}

// Nor is what the pod sends, for others (a virtual machine, say), or what the
// link sends back to it (RFC 7527).
func TestOwnFramesAreNoConflict(t *testing.T) {
	l := newLAN(t)
	pod, mirror := l.node("pod"), l.node("mirror")
	wire := mirror.tap()
	done := pod.probes(interval, 4, "10.9.0.5", "fd00:9::5")
	wire.wait(1, "a probe", equal(probeFor(pod.mac("net1"), "10.9.0.5")))
	pod.tap().send(arpAnnouncement(net.HardwareAddr{2, 9, 9, 9, 9, 9}, ip4))
	for _, addr := range []string{"10.9.0.5", "fd00:9::5"} {
		probe := equal(probeFor(pod.mac("net1"), addr))
		wire.send(wire.wait(1, "a probe", probe)...)
	}
	(<-done).free(t, 4*interval)
}

func TestLateHolder(t *testing.T) {
	for _, addr := range []string{"10.9.0.5", "fd00:9::5"} {
		t.Run(addr, func(t *testing.T) {
			l := newLAN(t)
			pod, other := l.node("pod"), l.node("other")
			wire := other.tap()
			done := pod.probes(interval, 1000, addr)
			wire.wait(3, "probes", equal(probeFor(pod.mac("net1"), addr)))
			other.IP("addr add " + addr + " dev net1")
			(<-done).found(t, addr, other.mac("net1"))
		})
	}
}

// An answer to the last probe counts until the last interval is over.
func TestLateAnswer(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other")
	mac := other.mac("net1")
	for addr, answer := range map[string][]byte{
		"10.9.0.5":  arpRequest(mac, ip4, ip4),
		"fd00:9::5": advertisement(mac, netip.MustParseAddr("fd00:9::5")),
	} {
		wire := other.tap()
		done := pod.probes(long, 1, addr)
		wire.wait(1, "a probe", equal(probeFor(pod.mac("net1"), addr)))
		time.Sleep(2 * interval)
		wire.send(answer)
		(<-done).found(t, addr, mac)
	}
}

// What arrived in time counts, however late the process is woken.
func TestAnswerReadTooLate(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other")
	// What listens last is given a frame first.
	seen := pod.tap()
	link, _, _, err := lookup(context.Background(), pod.ns, "net1")
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(pod.ns, link, func(s *socket) error { return s.listen(nil) })
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	p := prober{socket: s, ns: pod.ns, addrs: []netip.Addr{ip4}}
	ended, end := context.WithCancel(context.Background())
	end()
	if c, err := p.hear(ended, time.Now().Add(long)); c != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("heard %v, %v", c, err)
	}
	if c, err := p.hear(context.Background(), time.Now().Add(-time.Second)); c != nil || err != nil {
		t.Fatalf("heard %v, %v", c, err)
	}
	other.tap().send(arpAnnouncement(other.mac("net1"), ip4))
	seen.wait(1, "the answer", claims(other.mac("net1"), ip4.String()))
	c, err := p.hear(context.Background(), time.Now().Add(-time.Second))
	if err != nil || c == nil || !c.by(other.mac("net1")) {
		t.Errorf("heard %v, %v", c, err)
	}
}

// RFC 5227, 2.1.1, and RFC 4862, 5.4.3: of two who probe at once one has to
// hear of the other.
func TestSimultaneousProbes(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other")
	wire := other.tap()
	for _, addr := range []string{"10.9.0.5", "fd00:9::5"} {
		done := pod.probes(long, 1, addr)
		wire.wait(1, "a probe", equal(probeFor(pod.mac("net1"), addr)))
		beside := other.probes(interval, 1, addr)
		(<-done).found(t, addr, other.mac("net1"))
		<-beside
	}
}

// The kernel of another node is looking whether it may use the address.
func TestSimultaneousDetection(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other")
	other.Sysctl("net/ipv6/conf/net1/accept_dad", "1")
	wire := other.tap()
	done := pod.probes(long, 1, "fd00:9::5")
	wire.wait(1, "a probe", equal(probeFor(pod.mac("net1"), "fd00:9::5")))
	other.IP("addr add fd00:9::5/64 dev net1")
	(<-done).found(t, "fd00:9::5", other.mac("net1"))
}

// Many talk on the link: of other addresses, to these, and nonsense.
func TestNoise(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod", "10.9.0.5/24", "fd00:9::5/64"), l.node("other", "10.9.0.9/24", "fd00:9::9/64")
	wire, mac := other.tap(), other.mac("net1")
	addr6 := netip.MustParseAddr("fd00:9::5")
	reply, adv := arpAnnouncement(mac, ip4), advertisement(mac, addr6)
	tag := func(frame []byte) []byte { return slices.Concat(frame[:12], []byte{0x81, 0, 0, 10}, frame[12:]) }
	noise := [][]byte{
		arpAnnouncement(mac, netip.MustParseAddr("10.9.0.9")), advertisement(mac, netip.MustParseAddr("fd00:9::9")),
		arpProbe(mac, netip.MustParseAddr("10.9.0.6")), solicitation(mac, netip.MustParseAddr("fd00:9::6")),
		arpRequest(mac, netip.MustParseAddr("10.9.0.9"), ip4), changed(solicitation(mac, addr6), 22, 0xfd),
		changed(reply, 21, 9), changed(adv, 21, 64), append(adv[:55:55], make([]byte, 31)...),
		tag(reply), tag(adv), reply[:30], adv[:60],
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			wire.send(noise...)
		}
	}()
	pod.probe(interval, 6, "10.9.0.5", "fd00:9::5").free(t, 6*interval)
	stop()
	<-ended
}

// A priority tag leaves a frame in the LAN itself.
func TestPriorityTag(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other")
	wire := other.tap()
	done := pod.probes(long, 1, "10.9.0.5")
	wire.wait(1, "a probe", equal(probeFor(pod.mac("net1"), "10.9.0.5")))
	reply := arpAnnouncement(other.mac("net1"), ip4)
	wire.send(slices.Concat(reply[:12], []byte{0x81, 0, 0x20, 0}, reply[12:]))
	(<-done).found(t, "10.9.0.5", other.mac("net1"))
}

// Where IPv6 is switched off, as it is on a macvlan until router has switched
// it on, the interface has joined no group, and gets nothing sent to one.
func TestWithoutIPv6InThePod(t *testing.T) {
	l := newLAN(t)
	pod, other := l.macvlan(l.node("host"), "pod"), l.node("other", "fd00:9::7/64")
	pod.Sysctl("net/ipv6/conf/net1/disable_ipv6", "1")
	pod.probe(long, 1, "fd00:9::7").found(t, "fd00:9::7", other.mac("net1"))

	wire := other.tap()
	done := pod.probes(long, 1, "fd00:9::5")
	wire.wait(1, "a probe", equal(probeFor(pod.mac("net1"), "fd00:9::5")))
	wire.send(probeFor(other.mac("net1"), "fd00:9::5"))
	(<-done).found(t, "fd00:9::5", other.mac("net1"))
}

func TestCancellation(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other")
	signal := errors.New("a signal")
	ctx, cancel := context.WithCancelCause(context.Background())
	wire, probe := other.tap(), equal(probeFor(pod.mac("net1"), "10.9.0.5"))
	go func() {
		for len(wire.seen(probe)) == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel(signal)
	}()
	for _, when := range []string{"meanwhile", "before"} {
		if p := pod.probeUntil(ctx, "net1", long, 3, "10.9.0.5"); !errors.Is(p.err, signal) || p.conflict != nil || p.took >= long {
			t.Errorf("%s: %v, %v after %v", when, p.conflict, p.err, p.took)
		}
	}
}

func TestNothingToAsk(t *testing.T) {
	l := newLAN(t)
	pod := l.node("pod")
	pod.plug("net2")
	pod.IP("link set net2 arp off")
	for _, p := range []probing{
		pod.probe(long, 3),
		pod.probe(long, 0, "10.9.0.5"),
		pod.probeUntil(context.Background(), "lo", long, 3, "10.9.0.5", "fd00:9::5"),
		pod.probeUntil(context.Background(), "net2", long, 3, "10.9.0.5", "fd00:9::5"),
	} {
		if p.err != nil || p.conflict != nil || p.took >= long {
			t.Errorf("%v, %v after %v", p.conflict, p.err, p.took)
		}
	}
	for _, dev := range []string{"lo", "net2"} {
		if err := Announce(context.Background(), pod.ns, dev, parsed([]string{"10.9.0.5", "fd00:9::5"})); err != nil {
			t.Error(err)
		}
	}
	if err := Announce(context.Background(), pod.ns, "absent", nil); err != nil {
		t.Error(err)
	}
}

func TestUnusableInterfaces(t *testing.T) {
	l := newLAN(t)
	pod := l.node("pod")
	pod.plug("net2")
	pod.IP("link set net2 down")
	pod.plug("net3")
	l.IP("link set pod-net3 down")
	within(t, "the loss of the carrier", func() bool { return !strings.Contains(pod.IP("link show net3"), "LOWER_UP") })
	for dev, want := range map[string]struct {
		err  error
		text string
	}{
		"absent": {netops.ErrNoLink, `no such interface: "absent"`},
		"net2":   {ErrDown, "net2: the link is down"},
		"net3":   {ErrNoCarrier, "net3: the link has no carrier"},
	} {
		p := pod.probeUntil(context.Background(), dev, interval, 2, "10.9.0.5")
		if !errors.Is(p.err, want.err) || p.err.Error() != "probe for address conflicts: "+want.text {
			t.Errorf("%s: %v, want %v", dev, p.err, want)
		}
		if waits := dev == "net3"; waits != (p.took >= 2*interval) {
			t.Errorf("%s took %v", dev, p.took)
		}
		err := Announce(context.Background(), pod.ns, dev, []netip.Addr{ip4})
		if !errors.Is(err, want.err) || err.Error() != "announce addresses: "+want.text {
			t.Errorf("%s: %v, want %v", dev, err, want)
		}
	}
}

// InfiniBand's frames are others. There is none here: a tunnel has none at all.
func TestNotEthernet(t *testing.T) {
	l := newLAN(t)
	pod := l.bare("pod")
	pod.IP("tuntap add tun0 mode tun", "link set tun0 arp on up")
	if p := pod.probeUntil(context.Background(), "tun0", long, 1, "10.9.0.5"); !errors.Is(p.err, ErrNotEthernet) {
		t.Errorf("%v, %v", p.conflict, p.err)
	}
}

func TestInterfaceGoesAway(t *testing.T) {
	for name, tt := range map[string]string{"down": "link set net1 down", "removed": "link del net1"} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			pod, other := l.node("pod"), l.node("other")
			wire, probe := other.tap(), probeFor(pod.mac("net1"), "10.9.0.5")
			done := pod.probes(long, 3, "10.9.0.5")
			wire.wait(1, "a probe", equal(probe))
			pod.IP(tt)
			if p := <-done; !errors.Is(p.err, ErrDown) || p.took >= long {
				t.Errorf("%v, %v after %v", p.conflict, p.err, p.took)
			}
		})
	}
}

func TestCarrierComesLate(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other", "10.9.0.7/24")
	l.IP("link set pod-net1 down")
	within(t, "the loss of the carrier", func() bool { return !strings.Contains(pod.IP("link show net1"), "LOWER_UP") })
	done := pod.probes(long, 1, "10.9.0.7")
	time.Sleep(interval)
	// Without its forward delay the bridge passes frames on at once.
	l.IP("link set pod-net1 up")
	(<-done).found(t, "10.9.0.7", other.mac("net1"))
}

// What a full queue refuses is sent when it has emptied.
func TestQueueIsFull(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other", "10.9.0.7/24")
	tc := func(args string) {
		t.Helper()
		if out, err := exec.Command("tc", append([]string{"-n", "pod"}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
			t.Fatalf("tc %s: %v: %s", args, err, out)
		}
	}
	tc("qdisc add dev net1 root tbf rate 8bit burst 8 limit 8")
	if p := pod.probe(interval, 2, "10.9.0.7"); !errors.Is(p.err, unix.ENOBUFS) || p.took < 2*interval {
		t.Errorf("%v, %v after %v", p.conflict, p.err, p.took)
	}
	// While queues are exchanged frames get lost.
	done := pod.probes(interval, 1000, "10.9.0.7")
	time.Sleep(interval / 2)
	tc("qdisc del dev net1 root")
	(<-done).found(t, "10.9.0.7", other.mac("net1"))
}

// Once everybody was asked there is an answer, which may be none.
func TestCarrierGoesAway(t *testing.T) {
	l := newLAN(t)
	pod, other := l.node("pod"), l.node("other")
	wire := other.tap()
	probe := equal(probeFor(pod.mac("net1"), "10.9.0.5"))
	done := pod.probes(4*interval, 2, "10.9.0.5")
	wire.wait(1, "a probe", probe)
	l.IP("link set pod-net1 down")
	(<-done).free(t, 8*interval)
}

func openFiles(t *testing.T) []string {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, n := range names {
		if to, err := os.Readlink("/proc/self/fd/" + n.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			list = append(list, to)
		}
	}
	return list
}

func TestNothingStaysOpen(t *testing.T) {
	l := newLAN(t)
	pod, _ := l.node("pod"), l.node("other", "10.9.0.7/24")
	before := openFiles(t)
	pod.probe(interval, 1, "10.9.0.5")
	pod.probe(long, 1, "10.9.0.7")
	if err := Announce(context.Background(), pod.ns, "net1", []netip.Addr{ip4}); err != nil {
		t.Error(err)
	}
	within(t, "the sockets to be closed", func() bool { return slices.Equal(openFiles(t), before) })
}
