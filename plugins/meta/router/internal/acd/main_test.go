package acd

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

func TestMain(m *testing.M) { os.Exit(netopstest.Main(m).Run()) }

const (
	// patience is how long a test waits for what must come: no measure of
	// anything on a machine with more to do.
	patience = 20 * time.Second
	// long is an interval that no test waits for.
	long = time.Minute
)

// lan is a bridge in a namespace of its own.
type lan struct {
	*netopstest.NS
	t     testing.TB
	ports int
}

func newLAN(t testing.TB) *lan {
	l := &lan{NS: netopstest.Namespace(t, "lan"), t: t}
	l.IP("link add br0 type bridge", "link set br0 up")
	return l
}

// node is a namespace with interfaces on a LAN, net1 at first.
type node struct {
	*netopstest.NS
	t   testing.TB
	lan *lan
	ns  *kernel.Netns
}

func (l *lan) node(name string, addrs ...string) *node {
	l.t.Helper()
	n := l.bare(name)
	n.plug("net1", addrs...)
	return n
}

// macvlan is a node whose net1 is a child of another's.
func (l *lan) macvlan(parent *node, name string, addrs ...string) *node {
	l.t.Helper()
	n := l.bare(name)
	parent.IP("link add link net1 name net1 netns " + name + " type macvlan mode bridge")
	n.add("net1", addrs...)
	n.IP("link set net1 up")
	return n
}

// bare is a node without an interface on the LAN.
func (l *lan) bare(name string) *node {
	l.t.Helper()
	n := &node{NS: netopstest.Namespace(l.t, name), t: l.t, lan: l}
	var err error
	if n.ns, err = kernel.Open(n.Path); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(n.ns.Close)
	return n
}

// plug gives the node one more interface on the LAN, and waits for its
// carrier and its addresses. Its port has the same name with the node's before it.
func (n *node) plug(dev string, addrs ...string) {
	n.t.Helper()
	n.lan.ports++
	port := n.Name + "-" + dev
	n.lan.IP("link add "+port+" type veth peer name "+dev+" netns "+n.Name, "link set "+port+" master br0 up")
	n.IP("link set " + dev + " address " + fmt.Sprintf("02:00:00:00:00:%02x", n.lan.ports))
	n.add(dev, addrs...)
	n.IP("link set " + dev + " up")
	within(n.t, "the bridge's port", func() bool {
		return strings.Contains(n.lan.IP("-d link show "+port), "state forwarding")
	})
	within(n.t, "a carrier of "+dev, func() bool { return strings.Contains(n.IP("link show "+dev), "LOWER_UP") })
	n.AwaitIPv6(dev, addrs...)
}

func (n *node) add(dev string, addrs ...string) {
	for _, a := range addrs {
		n.IP("addr add " + a + " dev " + dev)
	}
}

func (n *node) mac(dev string) net.HardwareAddr {
	n.t.Helper()
	mac, err := net.ParseMAC(n.HardwareAddr(dev))
	if err != nil {
		n.t.Fatal(err)
	}
	return mac
}

// within waits until something is so.
func within(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// tap sees all that net1 of a node receives and sends.
type tap struct {
	t       testing.TB
	fd      int
	to      unix.SockaddrLinklayer
	mu      sync.Mutex
	frames  [][]byte
	stopped chan struct{}
}

func (n *node) tap() *tap {
	n.t.Helper()
	p := &tap{t: n.t, stopped: make(chan struct{})}
	n.Enter(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			n.t.Fatal(err)
		}
		link, err := net.InterfaceByName("net1")
		if err != nil {
			n.t.Fatal(err)
		}
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		p.fd, p.to = fd, unix.SockaddrLinklayer{Ifindex: link.Index, Protocol: all}
		if err := unix.Bind(fd, &p.to); err != nil {
			n.t.Fatal(err)
		}
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 10_000})
	})
	ended := make(chan struct{})
	go func() { defer close(ended); p.read() }()
	n.t.Cleanup(func() {
		close(p.stopped)
		<-ended
		_ = unix.Close(p.fd)
	})
	return p
}

func (p *tap) read() {
	b := make([]byte, 4096)
	for {
		n, err := unix.Read(p.fd, b)
		select {
		case <-p.stopped:
			return
		default:
		}
		if err == nil {
			p.mu.Lock()
			p.frames = append(p.frames, append([]byte(nil), b[:n]...))
			p.mu.Unlock()
		}
	}
}

func (p *tap) send(frames ...[]byte) {
	p.t.Helper()
	for _, f := range frames {
		if err := unix.Sendto(p.fd, f, 0, &p.to); err != nil {
			p.t.Error(err)
		}
	}
}

// seen are the frames so far that are wanted.
func (p *tap) seen(wanted func([]byte) bool) (frames [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.frames {
		if wanted(f) {
			frames = append(frames, f)
		}
	}
	return frames
}

// wait waits until so many frames are there that are wanted.
func (p *tap) wait(count int, what string, wanted func([]byte) bool) [][]byte {
	p.t.Helper()
	within(p.t, what, func() bool { return len(p.seen(wanted)) >= count })
	return p.seen(wanted)
}

// equal wants one frame, which may be padded.
func equal(frame []byte) func([]byte) bool {
	return func(f []byte) bool { return strings.HasPrefix(string(f), string(frame)) }
}

// claims wants frames in which somebody has an address.
func claims(mac net.HardwareAddr, addr string) func([]byte) bool {
	return func(f []byte) bool {
		c, ok := claim(f)
		return ok && c.by(mac) && c.Addr == netip.MustParseAddr(addr)
	}
}

// probing is what a probe found, and how long it took.
type probing struct {
	conflict *Conflict
	err      error
	took     time.Duration
}

func (n *node) probeUntil(ctx context.Context, dev string, interval time.Duration, retries int, addrs ...string) probing {
	start := time.Now()
	c, err := Probe(ctx, n.ns, dev, parsed(addrs), interval, retries)
	return probing{c, err, time.Since(start)}
}

func (n *node) probe(interval time.Duration, retries int, addrs ...string) probing {
	return n.probeUntil(context.Background(), "net1", interval, retries, addrs...)
}

// probes probes beside the test.
func (n *node) probes(interval time.Duration, retries int, addrs ...string) <-chan probing {
	done := make(chan probing, 1)
	go func() { done <- n.probe(interval, retries, addrs...) }()
	return done
}

func parsed(addrs []string) (list []netip.Addr) {
	for _, a := range addrs {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

// found fails the test unless that conflict was found, before an interval was
// over.
func (p probing) found(t *testing.T, addr string, mac net.HardwareAddr) {
	t.Helper()
	want := addr + " is in use by " + mac.String()
	if p.err != nil || p.conflict == nil || p.conflict.String() != want || p.took >= long {
		t.Errorf("found %v, %v after %v; want %s", p.conflict, p.err, p.took, want)
	}
}

// free fails the test unless nothing was found in all that time.
func (p probing) free(t *testing.T, least time.Duration) {
	t.Helper()
	t.Logf("%v for %v", p.took, least)
	if p.err != nil || p.conflict != nil || p.took < least || p.took > least+patience {
		t.Errorf("found %v, %v after %v; want nothing after %v", p.conflict, p.err, p.took, least)
	}
}
