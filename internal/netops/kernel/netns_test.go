package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

func TestMain(m *testing.M) {
	os.Exit(netopstest.Main(m).Run())
}

// enter opens a namespace of the test.
func enter(t testing.TB, ns *netopstest.NS) *Netns {
	t.Helper()
	n, err := Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func snapshot(t testing.TB, n *Netns, tables ...uint32) netops.Snapshot {
	t.Helper()
	s, err := n.Snapshot(context.Background(), netops.Query{Links: []string{"eth0", "net1", "absent"}, Addrs: true, Tables: append(tables, netops.TableMain)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// restored fails the test unless the pod's routing is as it was.
func restored(t *testing.T, pod *netopstest.NS, before string) {
	t.Helper()
	if diff := cmp.Diff(netopstest.Unordered(before), netopstest.Unordered(pod.Dump())); diff != "" {
		t.Errorf("not as before (-want +got):\n%s", diff)
	}
}

func TestOpenRefusesWhatIsNoNetworkNamespace(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		filepath.Join(dir, "missing"): fs.ErrNotExist,
		file:                          netops.ErrNotNamespace,
		fifo:                          netops.ErrNotNamespace,
		dir:                           netops.ErrNotNamespace,
		"/proc/self/ns/mnt":           netops.ErrNotNamespace,
	} {
		if _, err := Open(path); !errors.Is(err, want) {
			t.Errorf("Open(%s) = %v, want %v", path, err, want)
		}
	}
}

// That the kernel does not answer does not make a namespace something else.
func TestWhatIsNoAnswer(t *testing.T) {
	for errno, none := range map[unix.Errno]bool{unix.ENOTTY: true, unix.EINVAL: true, unix.ENOMEM: false, unix.EPERM: false, unix.EINTR: false} {
		if err := isNetwork(-1, errno); errors.Is(err, netops.ErrNotNamespace) != none || !none && !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}

func TestIdentityTellsNamespacesApart(t *testing.T) {
	seen := map[netops.Identity]bool{}
	for range 4 {
		// Made and removed in turn they have the same inode number.
		pod := netopstest.Namespace(t, "again")
		n := enter(t, pod)
		id, err := n.Identity("eth0")
		if err != nil || id == (netops.Identity{}) || seen[id] {
			t.Fatalf("identity %v, %v; seen %v", id, err, seen)
		}
		if own, err := n.Own(); own || err != nil {
			t.Fatalf("another namespace is our own: %v, %v", own, err)
		}
		seen[id] = true
		pod.Remove()
	}
	n, err := Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if own, err := n.Own(); !own || err != nil {
		t.Errorf("our own namespace is not: %v, %v", own, err)
	}
}

// IsOwn looks from outside, and judges what is there as Open does.
func TestIsOwn(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		own bool
		err error
	}{
		"/proc/thread-self/ns/net": {own: true}, pod.Path: {}, plain: {err: netops.ErrNotNamespace},
		"/proc/self/ns/mnt": {err: netops.ErrNotNamespace}, "/nowhere": {err: fs.ErrNotExist}, "": {err: fs.ErrNotExist},
	} {
		if own, err := IsOwn(path); own != want.own || !errors.Is(err, want.err) {
			t.Errorf("%s: %v, %v", path, own, err)
		}
	}
}

// On a kernel without cookies an interface tells.
func TestIdentityByLink(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0")
	pod.IP("link set eth0 address 02:00:00:00:00:07")
	id, err := enter(t, pod).linkIdentity("eth0")
	if err != nil || id.HardwareAddr != "02:00:00:00:00:07" || id.LinkIndex == 0 {
		t.Errorf("identity %+v, %v", id, err)
	}
	if id, err := enter(t, pod).linkIdentity("absent"); err != nil || id != (netops.Identity{}) {
		t.Errorf("identity by an interface that is not there: %+v, %v", id, err)
	}
}

func TestSnapshot(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd00::5/64")
	pod.IP("route add default via 10.1.0.1 mtu 1400 metric 5", "-6 route add default via fd00::1",
		"route add blackhole 10.7.0.0/16", "-6 route add unreachable fd07::/64", "route add 10.8.0.0/16 dev eth0 table 100")
	s := snapshot(t, enter(t, pod), 100, 4711)

	if diff := cmp.Diff([]string{"eth0"}, s.Links); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
	var addrs []string
	for _, a := range s.Addrs {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			addrs = append(addrs, a.Dev+" "+a.Prefix.String())
		}
	}
	want := []string{"lo 127.0.0.1/8", "eth0 10.1.0.5/16", "lo ::1/128", "eth0 fd00::5/64"}
	if diff := cmp.Diff(want, addrs); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	var routes []string
	for _, r := range s.Routes {
		routes = append(routes, r.String())
	}
	want = []string{
		"10.8.0.0/16 dev eth0 table 100",
		"default via 10.1.0.1 dev eth0 metric 5 mtu 1400",
		"10.1.0.0/16 dev eth0 proto kernel src 10.1.0.5",
		"blackhole 10.7.0.0/16",
		"fd00::/64 dev eth0 proto kernel metric 256",
		"unreachable fd07::/64",
		"fe80::/64 dev eth0 proto kernel metric 256",
		"default via fd00::1 dev eth0",
	}
	if diff := cmp.Diff(want, routes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

// Of a long table only some destinations may be asked for, and those routes by
// which gateways are reached.
func TestSnapshotOfSomeDestinations(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd00::5/64")
	pod.IP("route add default via 10.1.0.1", "route add 10.7.0.0/16 via 10.1.0.1", "route add 10.8.0.0/16 dev eth0", "route add 10.9.0.0/16 nexthop via 10.1.0.2 nexthop via 10.1.0.3",
		"-6 route add fd07::/64 via fd00::1", "-6 route add fd08::/64 dev eth0", "route add 10.6.0.0/16 via inet6 fe80::1 dev eth0")
	q := netops.Query{Tables: []uint32{netops.TableMain}, To: map[netip.Prefix]bool{netops.IPv4Default: true}}
	for onLink, want := range map[bool]string{
		false: "default via 10.1.0.1 dev eth0",
		true:  "default via 10.1.0.1 dev eth0, 10.1.0.0/16 dev eth0, 10.8.0.0/16 dev eth0, 10.9.0.0/16 nexthop via 10.1.0.2 dev eth0 weight 1 nexthop via 10.1.0.3 dev eth0 weight 1, fd00::/64 dev eth0, fd08::/64 dev eth0, fe80::/64 dev eth0",
	} {
		q.OnLink = onLink
		s, err := enter(t, pod).Snapshot(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		var routes []string
		for _, r := range s.Routes {
			r.Protocol, r.Src, r.Metric = netops.Protocol, netip.Addr{}, 0
			routes = append(routes, r.Normalize().String())
		}
		if diff := cmp.Diff(want, strings.Join(routes, ", ")); diff != "" {
			t.Errorf("on-link %v (-want +got):\n%s", onLink, diff)
		}
	}
}

// All tables are listed but that of the kernel, and none twice.
func TestSnapshotOfEveryTable(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd00::5/64")
	pod.IP("route add 10.8.0.0/16 dev eth0 table 100", "-6 route add fd08::/64 dev eth0 table 4000000000", "route add 10.9.0.0/16 dev eth0")
	s, err := enter(t, pod).Snapshot(context.Background(), netops.Query{Tables: []uint32{netops.TableMain, netops.EveryTable, 100}})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, r := range s.Routes {
		found[r.String()]++
		if r.Table == unix.RT_TABLE_LOCAL {
			t.Errorf("%s", &r)
		}
	}
	for _, want := range []string{"10.8.0.0/16 dev eth0 table 100", "fd08::/64 dev eth0 table 4000000000", "10.9.0.0/16 dev eth0"} {
		if found[want] != 1 {
			t.Errorf("%s: %d times in %v", want, found[want], found)
		}
	}
}

// others are routes that somebody else made, of every kind that must come back
// exactly: main's, and those of further tables.
var others = []string{
	"route add default via 10.1.0.1",
	"route append default via 10.2.0.1 mtu 1400 advmss 1300 window 20000 initcwnd 12",
	"route append default via 10.1.0.9 src 10.1.0.5 proto 99",
	"route add default via 10.1.0.7 metric 100",
	"route add 10.20.0.0/16 nexthop via 10.1.0.1 weight 3 nexthop via 10.2.0.1 weight 1",
	"route add 10.21.0.0/16 via 10.99.0.1 dev eth0 onlink",
	"route add 10.22.0.0/16 dev eth0 scope host realm 5",
	"route add 10.23.0.0/16 via inet6 fe80::1 dev eth0",
	"route add 10.24.0.0/16 via 10.1.0.1 tos 0x10",
	"route add 10.25.0.0/16 via 10.1.0.1 mtu lock 1300 congctl reno",
	"route add blackhole 10.26.0.0/16",
	"route add prohibit 10.27.0.0/16 metric 7",
	"route add throw 10.28.0.0/16",
	"route add 10.29.0.0/16 dev net1 table 4000000000 metric 4294967295",
	"nexthop add id 5 via 10.1.0.1 dev eth0", "nexthop add id 6 via 10.2.0.1 dev net1", "nexthop add id 10 group 5/6",
	"route add 10.30.0.0/16 nhid 10",
	"route add 10.31.0.0/16 encap ip id 7 dst 10.1.0.3 via 10.1.0.1 dev eth0",
	"-6 route add default via fd01::1",
	"-6 route append default via fd02::1 dev net1",
	"-6 route add default via fd01::7 metric 100 mtu 1300 pref high",
	"-6 route add fd20::/64 nexthop via fd01::1 weight 3 nexthop via fd02::1 weight 1",
	"-6 route add fd21::/64 via fe80::1 dev net1 src fd02::5 hoplimit 7",
	"-6 route add blackhole fd22::/64",
	"-6 route add prohibit fd23::/64 metric 9",
	"-6 route add fd24::/64 dev eth0 metric 3",
	"-6 route append fd24::/64 dev net1 metric 3",
	"-6 route add fd25::/64 via fd01::1 table 200",
	"-6 nexthop add id 7 via fd01::1 dev eth0", "-6 route add fd26::/64 nhid 7",
}

func furnished(t testing.TB) *netopstest.NS {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd01::5/64")
	pod.Veth("net1", "10.2.0.5/16", "fd02::5/64")
	pod.Batch(others...)
	return pod
}

var allTables = []uint32{200, 4000000000}

// removeAll takes all routes out that the kernel did not make by itself.
func removeAll(s netops.Snapshot) netops.Change {
	var c netops.Change
	for _, r := range s.Routes {
		if !r.Learnt() {
			c.Del.Routes = append(c.Del.Routes, r)
		}
	}
	return c
}

// Each route by itself, and all at once: removed, and put back as they were.
func TestUndoOfARemovalRestoresEveryAttributeAndTheOrder(t *testing.T) {
	pod := furnished(t)
	n := enter(t, pod)
	before, atFirst := pod.Dump(), witnessed(t, pod)
	all := removeAll(snapshot(t, n, allTables...))
	changes := []netops.Change{all}
	for _, r := range all.Del.Routes {
		changes = append(changes, netops.Change{Del: netops.State{Routes: []netops.Route{r}}})
	}
	for _, c := range changes {
		done, _ := c.Needed(snapshot(t, n, allTables...).State)
		if err := n.Apply(t.Context(), done); err != nil {
			t.Fatalf("%s\n%v", done, err)
		}
		if pod.Dump() == before {
			t.Fatalf("nothing was removed by\n%s", done)
		}
		if err := n.Undo(t.Context(), done); err != nil {
			t.Errorf("%s\n%v", done, err)
		}
		if diff := cmp.Diff(netopstest.Unordered(before), netopstest.Unordered(pod.Dump())); diff != "" {
			t.Fatalf("not as before (-want +got) after\n%s\n%s", done, diff)
		}
		netopstest.Same(t, "in netlink's eyes", atFirst, witnessed(t, pod))
	}
}

func TestOneWayOfAMultipathRoute(t *testing.T) {
	pod := furnished(t)
	n := enter(t, pod)
	before := pod.Dump()
	have := snapshot(t, n, allTables...)
	var c netops.Change
	for _, r := range have.Routes {
		c.Remove(&r, func(h netops.NextHop) bool { return len(r.Hops) > 1 && h.Dev == "net1" })
	}
	done, _ := c.Needed(have.State)
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.20.0.0/16 via 10.1.0.1 dev eth0", "10.30.0.0/16 via 10.1.0.1 dev eth0"} {
		if !strings.Contains(pod.IP("route"), want) {
			t.Errorf("%s is missing in\n%s", want, pod.IP("route"))
		}
	}
	for _, r := range snapshot(t, n, allTables...).Routes {
		if len(r.Hops) > 0 {
			t.Errorf("still over two ways: %s", r)
		}
	}
	if err := n.Undo(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	restored(t, pod, before)
}

// A change that is refused at any operation leaves the namespace as it was.
func TestApplyIsAllOrNothing(t *testing.T) {
	pod := furnished(t)
	n := enter(t, pod)
	before := pod.Dump()
	have := snapshot(t, n, allTables...)
	want := removeAll(have)
	for _, line := range []string{"192.168.1.0/24 via 10.1.0.1 dev eth0", "192.168.2.0/24 dev net1", "fd99::/64 via fd01::1 dev eth0"} {
		want.Add.Routes = append(want.Add.Routes, netopstest.ParseRoute(t, line))
	}
	done, _ := want.Needed(have.State)
	count := 0
	counting := WithFault(t.Context(), func(_ context.Context, at, _ string) error {
		if at == "before" {
			count++
		}
		return nil
	})
	if err := n.Apply(counting, done); err != nil {
		t.Fatal(err)
	}
	operations := len(done.Commands())
	if count < operations {
		t.Fatalf("%d operations for %d objects", count, operations)
	}
	if err := n.Undo(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	for _, errno := range []unix.Errno{unix.EPERM, unix.ENOBUFS} {
		for k := range operations {
			i := -1
			failing := WithFault(t.Context(), func(_ context.Context, at, _ string) error {
				if at == "before" {
					i++
				}
				if i == k && at == "before" {
					return &netops.KernelError{Errno: errno}
				}
				return nil
			})
			err := n.Apply(failing, done)
			if !errors.Is(err, errno) || errors.Is(err, netops.ErrNotRestored) {
				t.Fatalf("operation %d: %v", k, err)
			}
			if diff := cmp.Diff(netopstest.Unordered(before), netopstest.Unordered(pod.Dump())); diff != "" {
				t.Fatalf("operation %d refused: not as before (-want +got):\n%s", k, diff)
			}
		}
	}
}

// The kernel's own refusal, in the middle of a batch: it goes on after one, so
// that all of the batch has to be taken back.
func TestRefusalByTheKernel(t *testing.T) {
	pod := furnished(t)
	n := enter(t, pod)
	before := pod.Dump()
	c := netops.Change{Add: netops.State{Routes: []netops.Route{
		netopstest.ParseRoute(t, "192.168.1.0/24 via 10.1.0.1 dev eth0"),
		netopstest.ParseRoute(t, "192.168.2.0/24 via 172.16.0.1 dev eth0"),
		netopstest.ParseRoute(t, "192.168.3.0/24 via 10.1.0.1 dev eth0"),
	}}}
	err := n.Apply(t.Context(), c)
	const want = "ip route add 192.168.2.0/24 via 172.16.0.1 dev eth0: network is unreachable (Nexthop has invalid gateway)"
	if err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	restored(t, pod, before)
	failed, err := n.Try(t.Context(), c)
	if err != nil || len(failed) != 1 || !failed[0].Object.(*netops.Route).SameRoute(&c.Add.Routes[1]) {
		t.Errorf("Try left out %v, %v", failed, err)
	}
	if got := pod.IP("route show proto 77"); strings.Count(got, "\n") != 2 {
		t.Errorf("routes after Try:\n%s", got)
	}
}

func TestAddIsExclusive(t *testing.T) {
	pod := furnished(t)
	n := enter(t, pod)
	before := pod.Dump()
	for _, line := range []string{"10.21.0.0/16 via 10.1.0.1 dev eth0", "fd21::/64 via fd01::1 dev eth0", "fd01::/64 dev net1 metric 256"} {
		err := n.Apply(t.Context(), netops.Change{Add: netops.State{Routes: []netops.Route{netopstest.ParseRoute(t, line)}}})
		if !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: %v, want EEXIST", line, err)
		}
	}
	restored(t, pod, before)
}

func TestUndoToleratesWhatIsGone(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16")
	pod.Veth("net1", "10.2.0.5/16")
	pod.IP("route add 10.20.0.0/16 via 10.1.0.1", "route add 10.21.0.0/16 via 10.2.0.1")
	n := enter(t, pod)
	have := snapshot(t, n)
	c := removeAll(have)
	c.Add.Routes = []netops.Route{netopstest.ParseRoute(t, "192.168.1.0/24 via 10.1.0.1 dev eth0"), netopstest.ParseRoute(t, "192.168.2.0/24 via 10.2.0.1 dev net1")}
	done, _ := c.Needed(have.State)
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	pod.IP("route del 192.168.1.0/24", "link del net1")
	for range 3 {
		if err := n.Undo(t.Context(), done); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.TrimSpace(pod.IP("route show proto boot")), "10.20.0.0/16 via 10.1.0.1 dev eth0"; got != want {
			t.Fatalf("routes\n%s\nwant\n%s", got, want)
		}
	}
}

// What others have put in the place of a removed route is theirs.
func TestUndoLeavesWhatTookThePlace(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16")
	pod.IP("route add default via 10.1.0.1")
	n := enter(t, pod)
	have := snapshot(t, n)
	done, _ := removeAll(have).Needed(have.State)
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	pod.IP("route add default via 10.1.0.2")
	err := n.Undo(t.Context(), done)
	if !errors.Is(err, unix.EEXIST) || netops.Passing(err) {
		t.Errorf("Undo = %v, want EEXIST", err)
	}
	if got := pod.IP("route show default"); !strings.Contains(got, "10.1.0.2") || strings.Contains(got, "10.1.0.1 ") {
		t.Errorf("default route\n%s", got)
	}
}

// An interface that comes back under its name has another index.
func TestUndoFindsInterfacesByName(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16")
	pod.IP("route add 10.20.0.0/16 via 10.1.0.1")
	n := enter(t, pod)
	have := snapshot(t, n)
	done, _ := removeAll(have).Needed(have.State)
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	pod.IP("link del eth0")
	pod.Veth("eth0", "10.1.0.5/16")
	if err := n.Undo(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if got := pod.IP("route show 10.20.0.0/16"); !strings.Contains(got, "via 10.1.0.1 dev eth0") {
		t.Errorf("route\n%s", got)
	}
}

func TestRoutesLearntFromRouterAdvertisements(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0")
	pod.IP("-6 route add default via fe80::1 dev eth0 proto ra expires 1800 metric 1024")
	n := enter(t, pod)
	have := snapshot(t, n)
	var c netops.Change
	for _, r := range have.Routes {
		if r.Default() {
			c.Del.Routes = append(c.Del.Routes, r)
		}
	}
	done, _ := c.Needed(have.State)
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if err := n.Undo(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if got := pod.IP("-6 route show default"); !strings.Contains(got, "proto ra metric 1024 expires 1") {
		t.Errorf("route\n%s", got)
	}
	if drift := c.Drift(snapshot(t, n).State); len(drift) != 0 {
		t.Errorf("a route that the kernel learnt anew is drift: %v", drift)
	}
}

func TestIPv6Disabled(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16")
	pod.Sysctl("net/ipv6/conf/all/disable_ipv6", "1")
	n := enter(t, pod)
	c := netops.Change{Add: netops.State{Routes: []netops.Route{netopstest.ParseRoute(t, "192.168.1.0/24 via 10.1.0.1 dev eth0")}}}
	snapshot(t, n)
	if err := n.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := n.Undo(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	err := n.Apply(t.Context(), netops.Change{Add: netops.State{Routes: []netops.Route{netopstest.ParseRoute(t, "fd99::/64 via fd01::1 dev eth0")}}})
	var refused *netops.KernelError
	if !errors.As(err, &refused) {
		t.Errorf("an IPv6 route without IPv6: %v", err)
	}
}

// More messages than a receive buffer has room for the answers of.
func TestLargeChange(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd01::5/64")
	before := pod.Dump()
	n := enter(t, pod)
	if err := unix.SetsockoptInt(n.conn.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 208<<10/2); err != nil {
		t.Fatal(err)
	}
	c := netops.Change{Add: netops.State{Routes: many(t, 1000)}}
	if err := n.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if drift := c.Drift(snapshot(t, n).State); len(drift) != 0 {
		t.Fatalf("%d routes are not there", len(drift))
	}
	// All are there already: every single message is refused.
	if err := n.Apply(t.Context(), c); !errors.Is(err, unix.EEXIST) || errors.Is(err, netops.ErrNotRestored) {
		t.Fatalf("again: %v", err)
	}
	if drift := c.Drift(snapshot(t, n).State); len(drift) != 0 {
		t.Fatalf("the refused change took %d routes with it", len(drift))
	}
	if err := n.Undo(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	restored(t, pod, before)
}

// Answers that do not fit into the receive buffer are lost; what was sent may
// have happened and is taken back.
func TestLostAnswers(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16")
	before := pod.Dump()
	n := enter(t, pod)
	buffer := func(bytes int) {
		if err := unix.SetsockoptInt(n.conn.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes); err != nil {
			t.Fatal(err)
		}
	}
	buffer(1)
	n.OnSend = func(string, time.Duration, error) { buffer(1 << 20) }
	bad := many(t, 120)
	for i := range bad {
		if i%2 == 1 {
			bad[i] = netopstest.ParseRoute(t, strings.Replace(bad[i].String(), "10.1.0.1", "172.16.0.1", 1))
		}
	}
	err := n.Apply(t.Context(), netops.Change{Add: netops.State{Routes: bad}})
	if !errors.Is(err, unix.ENOBUFS) || errors.Is(err, netops.ErrNotRestored) || !netops.Passing(err) {
		t.Errorf("error %v, want ENOBUFS", err)
	}
	restored(t, pod, before)
}

// A context that ends in the middle takes everything back.
func TestApplyGivesUp(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16")
	before := pod.Dump()
	n := enter(t, pod)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the test says so")
	count := 0
	ctx = WithFault(ctx, func(_ context.Context, _, _ string) error {
		if count++; count == 5 {
			cancel(cause)
		}
		return nil
	})
	if err := n.Apply(ctx, netops.Change{Add: netops.State{Routes: many(t, 10)}}); !errors.Is(err, cause) {
		t.Errorf("error %v, want %v", err, cause)
	}
	restored(t, pod, before)
}

// IPv6 dumps of several batches miss routes while others change the table;
// every snapshot has all of those that stay.
func TestSnapshotUnderChurn(t *testing.T) {
	const stable = 2000
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "fd01::5/64")
	lines := make([]string, stable)
	for i := range lines {
		lines[i] = "-6 route add " + netip6(0xfd20, i).String() + " via fd01::1"
	}
	pod.Batch(lines...)
	n := enter(t, pod)
	stop := churn(t, pod)
	defer stop()
	whole, interrupted, told := 0, 0, 0
	n.OnSend = func(command string, _ time.Duration, err error) {
		if command != "list the routes" || !errors.Is(err, netops.ErrInterrupted) {
			t.Errorf("%s: %v", command, err)
		}
		told++
	}
	for until := time.Now().Add(time.Minute); whole < 40 || told == 0; {
		if time.Now().After(until) {
			t.Fatalf("%d snapshots whole, %d views that did not agree", whole, told)
		}
		s, err := n.Snapshot(t.Context(), netops.Query{Tables: []uint32{netops.TableMain}})
		if errors.Is(err, netops.ErrInterrupted) {
			interrupted++
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, r := range s.Routes {
			if r.Dst.Addr().As16()[1] == 0x20 {
				got++
			}
		}
		if got != stable {
			t.Fatalf("a snapshot with %d of %d routes", got, stable)
		}
		whole++
	}
	t.Logf("%d snapshots whole, %d given up, %d views that did not agree", whole, interrupted, told)
}

// churn adds and deletes routes of its own until it is stopped.
func churn(t *testing.T, pod *netopstest.NS) (stop func()) {
	t.Helper()
	script := `while :; do
		ip -n "$0" -6 route flush table main root fd30::/16 2>/dev/null
		i=0; while [ $i -lt 200 ]; do echo "route add fd30:0:$i::/64 via fd01::1"; i=$((i+1)); done | ip -n "$0" -batch -
	done`
	cmd := exec.Command("sh", "-c", script, pod.Name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}
}

// cut is the change by which a route loses its ways over net1.
func cut(t *testing.T, n *Netns, dst string) netops.Change {
	t.Helper()
	have := snapshot(t, n)
	var c netops.Change
	for i := range have.Routes {
		if r := &have.Routes[i]; r.Dst.String() == dst {
			c.Remove(r, func(h netops.NextHop) bool { return h.Dev == "net1" })
		}
	}
	done, _ := c.Needed(have.State)
	return done
}

// What is left of a multipath route belongs to others: it is never without a
// route, whatever becomes of the interface that was cut off.
func TestAMultipathRouteIsNeverLost(t *testing.T) {
	const whole = "172.30.0.0/16 mtu 1400 nexthop via 10.1.0.1 dev eth0 weight 1 nexthop via 10.2.0.1 dev net1 weight 2"
	for _, tt := range []struct{ name, then, want string }{
		{"interface gone", "link del net1", "172.30.0.0/16 via 10.1.0.1 dev eth0 mtu 1400"},
		{"interface down", "link set net1 down", "172.30.0.0/16 via 10.1.0.1 dev eth0 mtu 1400"},
		{"", "link set net1 up", whole},
	} {
		pod := netopstest.Namespace(t, "pod")
		pod.Veth("eth0", "10.1.0.5/16")
		pod.Veth("net1", "10.2.0.5/16")
		pod.Batch("route add " + whole)
		n := enter(t, pod)
		done := cut(t, n, "172.30.0.0/16")
		if diff := cmp.Diff([]string{"ip route append 172.30.0.0/16 via 10.1.0.1 dev eth0 mtu 1400",
			"ip route del " + snapshot(t, n).Routes[2].String()}, done.Commands()); diff != "" {
			t.Errorf("commands (-want +got):\n%s", diff)
		}
		if err := n.Apply(t.Context(), done); err != nil {
			t.Fatal(err)
		}
		pod.IP(tt.then)
		err := n.Undo(t.Context(), done)
		if refused := err != nil; refused != (tt.name == "interface down") {
			t.Errorf("%s: Undo: %v", tt.name, err)
		}
		got := strings.Join(strings.Fields(pod.IP("route show 172.30.0.0/16")), " ")
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		pod.Remove()
	}
}

// Nor is it doubled, where the whole is out of reach for good.
func TestAMultipathRouteIsNotDoubled(t *testing.T) {
	for _, others := range [][]string{nil, {"before"}, {"behind"}} {
		pod := netopstest.Namespace(t, "pod")
		pod.Veth("eth0", "10.1.0.5/16")
		pod.Veth("net1", "10.2.0.5/16")
		made := []string{"route append default nexthop via 10.1.0.1 dev eth0 nexthop via 10.2.0.1 dev net1"}
		want := []string{"default via 10.1.0.1 dev eth0"}
		switch {
		case others == nil:
		case others[0] == "before":
			made = append([]string{"route add default via 10.1.0.9"}, made...)
			want = append([]string{"default via 10.1.0.9 dev eth0"}, want...)
		default:
			made = append(made, "route append default via 10.1.0.9")
			want = append(want, "default via 10.1.0.9 dev eth0")
		}
		pod.Batch(made...)
		n := enter(t, pod)
		done := cut(t, n, "0.0.0.0/0")
		if err := n.Apply(t.Context(), done); err != nil {
			t.Fatal(err)
		}
		pod.IP("addr del 10.2.0.5/16 dev net1")
		if err := n.Rescue(t.Context(), n.Undo(t.Context(), done)); !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("%v: %v", others, err)
		}
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(pod.IP("route show default")), "\n") {
			got = append(got, strings.TrimSpace(line))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", others, diff)
		}
		pod.Remove()
	}
}

// Lenience is for routes that are added, not for what is left of one that was
// cut.
func TestTryDoesNotLeaveOutWhatIsLeft(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16")
	pod.Veth("net1", "10.2.0.5/16")
	pod.Batch("route add 172.30.0.0/16 nexthop via 10.1.0.1 nexthop via 10.2.0.1")
	pod.IP("route del 10.1.0.0/16 dev eth0") // no way to 10.1.0.1 any more
	before := pod.Dump()
	n := enter(t, pod)
	if failed, err := n.Try(t.Context(), cut(t, n, "172.30.0.0/16")); err == nil {
		t.Errorf("left out: %v", failed)
	}
	restored(t, pod, before)
}

// A route goes back between others only where these can come back as well.
func TestOthersAreNotLostForAPlace(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	for i, dev := range []string{"eth0", "net1", "net2"} {
		pod.Veth(dev, fmt.Sprintf("10.%d.0.5/16", i+1))
		pod.IP(fmt.Sprintf("route append default via 10.%d.0.1", i+1))
	}
	n := enter(t, pod)
	have := snapshot(t, n)
	var c netops.Change
	for _, r := range have.Routes {
		if r.Default() && r.Dev == "net1" {
			c.Del.Routes = append(c.Del.Routes, r)
		}
	}
	done, _ := c.Needed(have.State)
	order := func() (devs []string) {
		for _, r := range snapshot(t, n).Routes {
			if r.Default() {
				devs = append(devs, r.Dev)
			}
		}
		return devs
	}
	for _, tt := range []struct {
		then string
		fail string // which operation is refused, once
		want []string
	}{
		{"", "", []string{"eth0", "net1", "net2"}},
		{"", "ip route append default via 10.3.0.1 dev net2", []string{"eth0", "net1", "net2"}}, // the follower's return
		{"route del 10.3.0.0/16 dev net2", "", []string{"eth0", "net2", "net1"}},
	} {
		if err := n.Apply(t.Context(), done); err != nil {
			t.Fatal(err)
		}
		if tt.then != "" {
			pod.IP(tt.then)
		}
		refused := false
		ctx := WithFault(t.Context(), func(_ context.Context, at, command string) error {
			if at == "before" && command == tt.fail && !refused {
				refused = true
				return &netops.KernelError{Errno: unix.ENOMEM}
			}
			return nil
		})
		if err := n.Undo(ctx, done); err != nil {
			t.Errorf("Undo: %v", err)
		}
		if refused != (tt.fail != "") {
			t.Errorf("%q was refused: %t", tt.fail, refused)
		}
		if diff := cmp.Diff(tt.want, order()); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt, diff)
		}
	}
}

// Networks that each take their own default route put them back in any order.
func TestUndoBesideAnotherAttachment(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd01::5/64")
	pod.Veth("net1", "10.2.0.5/16", "fd02::5/64")
	pod.Batch("route add default via 10.1.0.1", "route append default via 10.2.0.1", "route add default via fd01::1", "route append default via fd02::1 dev net1")
	n := enter(t, pod)
	before := pod.Dump()
	take := func(dev string) netops.Change {
		have := snapshot(t, n)
		var c netops.Change
		for i := range have.Routes {
			if r := &have.Routes[i]; r.Default() {
				c.Remove(r, func(h netops.NextHop) bool { return h.Dev == dev })
			}
		}
		done, _ := c.Needed(have.State)
		if err := n.Apply(t.Context(), done); err != nil {
			t.Fatal(err)
		}
		return done
	}
	first, second := take("eth0"), take("net1")
	for _, done := range []netops.Change{first, second} {
		if err := n.Undo(t.Context(), done); err != nil {
			t.Error(err)
		}
	}
	restored(t, pod, before)
}

func TestOnLinkMultipath(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd01::5/64")
	n := enter(t, pod)
	var c netops.Change
	for _, dst := range []string{"172.30.0.0/16 via 10.99.0.", "fd30::/64 via fd99::"} {
		r := netopstest.ParseRoute(t, dst+"1 dev eth0")
		second := netopstest.ParseRoute(t, dst+"2 dev eth0")
		r.Hops, r.OnLink = []netops.NextHop{{Gw: r.Gw, Dev: r.Dev}, {Gw: second.Gw, Dev: r.Dev}}, true
		r.Gw, r.Dev = netopstest.ParseRoute(t, "default").Gw, ""
		c.Add.Routes = append(c.Add.Routes, r)
	}
	if err := n.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if drift := c.Drift(snapshot(t, n).State); drift != nil {
		t.Errorf("drift: %v", drift)
	}
	if err := n.Undo(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := pod.IP("route show proto 77") + pod.IP("-6 route show proto 77"); got != "" {
		t.Errorf("left:\n%s", got)
	}
}

// What an IPv6 deletion would hit instead is refused by name; what was listed
// and cannot be deleted is no success.
func TestDeletionsThatWouldHitAnother(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd01::5/64")
	pod.Veth("net1", "10.2.0.5/16", "fd02::5/64")
	pod.Batch("nexthop add id 7 via fd01::1 dev eth0", "route add fd30::/64 nhid 7", "route append fd30::/64 via fd02::1 dev net1",
		"nexthop add id 5 blackhole", "route add 10.22.0.0/16 nhid 5")
	n := enter(t, pod)
	before := pod.Dump()
	for _, tt := range []struct {
		dst  string
		want error
	}{{"fd30::/64", netops.ErrCannotDelete}, {"10.22.0.0/16", netops.ErrStillThere}} {
		have := snapshot(t, n)
		var c netops.Change
		for _, r := range have.Routes {
			if r.Dst.String() == tt.dst && (r.Dev == "net1" || r.Type == netops.Blackhole) {
				c.Del.Routes = append(c.Del.Routes, r)
			}
		}
		done, _ := c.Needed(have.State)
		err := n.Apply(t.Context(), done)
		if !errors.Is(err, tt.want) || len(done.Del.Routes) != 1 {
			t.Errorf("%s: %v, want %v", done, err, tt.want)
		}
		restored(t, pod, before)
	}
}

// A route that the kernel would delete in another one's place is moved for that.
// Whichever of these operations is refused, both are there again, also where the
// rest of a multipath route is like the moved one but for its mtu.
func TestRefusedMove(t *testing.T) {
	for name, tt := range map[string]struct {
		there []string
		goes  func(r *netops.Route, hop netops.NextHop) bool
	}{
		"a whole route": {
			[]string{"route append default via 10.1.0.1", "route append default nexthop via 10.1.0.1 nexthop via 10.2.0.1"},
			func(r *netops.Route, _ netops.NextHop) bool { return len(r.Hops) > 1 },
		},
		"a part of it": {
			[]string{"route append default via 10.1.0.1 mtu 1400", "route append default via 10.2.0.1", "route append default nexthop via 10.1.0.1 nexthop via 10.2.0.1"},
			func(_ *netops.Route, hop netops.NextHop) bool { return hop.Gw == netip.MustParseAddr("10.2.0.1") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := netopstest.Namespace(t, "pod")
			pod.Veth("eth0", "10.1.0.5/16")
			pod.Veth("net1", "10.2.0.5/16")
			pod.Batch(tt.there...)
			n := enter(t, pod)
			before := pod.Dump()
			for at := 0; ; at++ {
				have := snapshot(t, n)
				var c netops.Change
				for i := range have.Routes {
					c.Remove(&have.Routes[i], func(hop netops.NextHop) bool { return tt.goes(&have.Routes[i], hop) })
				}
				done, _ := c.Needed(have.State)
				reached, err := applyRefusing(t, n, done, at)
				if !reached {
					if err != nil || at < 3 {
						t.Errorf("%v after %d operations", err, at)
					}
					return
				}
				if errors.Is(err, netops.ErrNotRestored) {
					t.Errorf("operation %d refused: %v", at, err)
				}
				if err == nil { // of the probe, or tried again
					t.Logf("operation %d does not matter", at)
					pod.IP("route flush proto boot")
					pod.Batch(tt.there...)
				}
				restored(t, pod, before)
			}
		})
	}
}

// applyRefusing applies a change, of which the kernel refuses one operation, and
// tells whether it came to that.
func applyRefusing(t *testing.T, n *Netns, done netops.Change, at int) (reached bool, err error) {
	t.Helper()
	err = n.Apply(WithFault(t.Context(), func(_ context.Context, when, _ string) error {
		if when != "before" {
			return nil
		}
		if at--; at != -1 {
			return nil
		}
		reached = true
		return &netops.KernelError{Errno: unix.EPERM}
	}), done)
	return reached, err
}

// IPv6: a nexthop group is one object, merged routes of several protocols are
// one route, and ways have weights.
func TestOneWayOfMergedRoutes(t *testing.T) {
	for _, tt := range []struct{ name, made, left string }{
		{"nexthop group", "nexthop add id 6 via fd02::1 dev net1\nnexthop add id 7 via fd01::1 dev eth0\nnexthop add id 11 group 6/7\nroute add fd30::/64 nhid 11",
			"fd30::/64 via fd01::1 dev eth0 metric 1024 pref medium"},
		{"several protocols", "route add fd30::/64 via fd01::1 proto static\nroute append fd30::/64 via fd02::1 dev net1",
			"fd30::/64 via fd01::1 dev eth0 proto static metric 1024 pref medium"},
		{"weights", "route add fd30::/64 nexthop via fd01::1 dev eth0 weight 1 nexthop via fd02::1 dev net1 weight 5",
			"fd30::/64 via fd01::1 dev eth0 metric 1024 pref medium"},
	} {
		pod := netopstest.Namespace(t, "pod")
		pod.Veth("eth0", "fd01::5/64")
		pod.Veth("net1", "fd02::5/64")
		pod.Batch(strings.Split(tt.made, "\n")...)
		n := enter(t, pod)
		before := pod.IP("-6 route show fd30::/64")
		done := cut(t, n, "fd30::/64")
		if err := n.Apply(t.Context(), done); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := strings.TrimSpace(pod.IP("-6 route show fd30::/64")); got != tt.left {
			t.Errorf("%s: left %q, want %q", tt.name, got, tt.left)
		}
		if err := n.Undo(t.Context(), done); err != nil {
			t.Errorf("%s: Undo: %v", tt.name, err)
		}
		if diff := cmp.Diff(netopstest.Unordered("# ip -6\n"+before), netopstest.Unordered("# ip -6\n"+pod.IP("-6 route show fd30::/64"))); diff != "" {
			t.Errorf("%s: not as before (-want +got):\n%s", tt.name, diff)
		}
		pod.Remove()
	}
}

// A route that the kernel would not make again goes back on-link, by the same
// way, when there is no other.
func TestWhatIsOutOfReachGoesBack(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd01::5/64")
	pod.Batch("route add 10.5.0.1 dev eth0", "route add 10.9.0.0/16 via 10.5.0.1 dev eth0", "route del 10.5.0.1 dev eth0")
	n := enter(t, pod)
	c := netops.Change{Add: netopstest.ParseRoutes(t, "10.66.0.0/16 via 10.55.0.1 dev eth0")}
	have := snapshot(t, n)
	for _, r := range have.Routes {
		if r.Dst.String() == "10.9.0.0/16" {
			c.Del.Routes = append(c.Del.Routes, r)
		}
	}
	done, _ := c.Needed(have.State)
	if err := n.Apply(t.Context(), done); !errors.Is(err, unix.ENETUNREACH) || errors.Is(err, netops.ErrNotRestored) {
		t.Errorf("error %v", err)
	}
	if got := strings.TrimSpace(pod.IP("route show 10.9.0.0/16")); got != "10.9.0.0/16 via 10.5.0.1 dev eth0 onlink" {
		t.Errorf("route %q", got)
	}
}

func TestAlternativeNamesAreRefused(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16")
	pod.IP("link property add dev eth0 altname uplink")
	n := enter(t, pod)
	for _, name := range []string{"uplink", "eth0\x00x", "", "a name that is too long"} {
		if _, err := n.index(name); !errors.Is(err, netops.ErrNoLink) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := n.index("eth0"); err != nil {
		t.Error(err)
	}
}

// Many routes of one key are as cheap as others.
func TestManySiblings(t *testing.T) {
	const count = 600
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16")
	lines := make([]string, count)
	for i := range lines {
		lines[i] = fmt.Sprintf("route append default via 10.1.%d.%d dev eth0", i/200+1, i%200+1)
	}
	pod.Batch(lines...)
	before := pod.Dump()
	n := enter(t, pod)
	have := snapshot(t, n)
	done, _ := removeAll(have).Needed(have.State)
	if size := len(netops.Plan{Pod: done}.AppendJSON(nil)); size > count*10_000 {
		t.Errorf("a record of %d bytes", size)
	}
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if err := n.Undo(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	restored(t, pod, before)
}

// Whatever stands before or behind it: a deletion, and both halves of a swap,
// hit what they mean.
func TestInTheCompanyOfOthers(t *testing.T) {
	const one, two = "default nexthop via 10.1.0.1 dev eth0 nexthop via 10.2.0.1 dev net1", "default nexthop via 10.1.0.1 dev eth0 nexthop via 10.3.0.1 dev net2"
	many := []string{}
	for i := range 10 {
		many = append(many, fmt.Sprintf("default via 10.1.0.%d", 100+i))
	}
	for _, tt := range []struct {
		name   string
		routes []string
		exact  bool // the order comes back as well
	}{
		{"another one's multipath before", []string{two, one}, true},
		{"another one's multipath behind", []string{one, two}, true},
		{"its own first way before", []string{"default via 10.1.0.1", one}, true},
		{"and again with other attributes", []string{"default via 10.1.0.1", "default via 10.1.0.1 mtu 1300", one}, true},
		{"far before", append(append([]string{"default via 10.1.0.1"}, many...), one), true},
		{"followed by two", []string{"default via 10.1.0.9", one, "default via 10.3.0.1", "default via 10.3.0.9"}, false},
	} {
		pod := netopstest.Namespace(t, "pod")
		for i, dev := range []string{"eth0", "net1", "net2"} {
			pod.Veth(dev, fmt.Sprintf("10.%d.0.5/16", i+1))
		}
		for _, r := range tt.routes {
			pod.Batch("route append " + r)
		}
		n := enter(t, pod)
		before := pod.Dump()
		compare := func(what string) {
			t.Helper()
			want, got := before, pod.Dump()
			if !tt.exact {
				want, got = strings.Join(sorted(before), "\n"), strings.Join(sorted(got), "\n")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s: not as before (-want +got):\n%s", tt.name, what, diff)
			}
		}
		for what, leave := range map[string]func(netops.NextHop) bool{
			"cut":   func(h netops.NextHop) bool { return h.Dev == "net1" },
			"whole": func(netops.NextHop) bool { return true },
		} {
			have := snapshot(t, n)
			var c netops.Change
			for i := range have.Routes {
				if r := &have.Routes[i]; len(r.Hops) > 0 && r.Hops[1].Dev == "net1" {
					c.Remove(r, leave)
				}
			}
			done, _ := c.Needed(have.State)
			if err := n.Apply(t.Context(), done); err != nil {
				t.Fatalf("%s: %s: %v", tt.name, what, err)
			}
			if got, want := strings.Count(pod.IP("route show default"), "10.2.0.1"), 0; got != want {
				t.Errorf("%s: %s: still there:\n%s", tt.name, what, pod.IP("route show default"))
			}
			if drift := done.Taken().Drift(snapshot(t, n).State); drift != nil {
				t.Errorf("%s: %s: drift %v", tt.name, what, drift)
			}
			if err := n.Undo(t.Context(), done); err != nil {
				t.Errorf("%s: %s: Undo: %v", tt.name, what, err)
			}
			compare(what)
		}
		if strings.Contains(pod.IP("route show table all"), "4294967219") {
			t.Errorf("%s: probes left", tt.name)
		}
		pod.Remove()
	}
}

// A way that was cut off and has come back is drift, in a route of its own or
// merged into another.
func TestACutWayThatComesBack(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd01::5/64")
	pod.Veth("net1", "10.2.0.5/16", "fd02::5/64")
	pod.Batch("route add 172.30.0.0/16 nexthop via 10.1.0.1 nexthop via 10.2.0.1", "route add fd30::/64 nexthop via fd01::1 nexthop via fd02::1")
	n := enter(t, pod)
	for dst, back := range map[string]string{
		"172.30.0.0/16": "route append 172.30.0.0/16 via 10.2.0.1",
		"fd30::/64":     "-6 route append fd30::/64 via fd02::1 dev net1",
	} {
		done := cut(t, n, dst)
		if err := n.Apply(t.Context(), done); err != nil {
			t.Fatal(err)
		}
		if drift := done.Taken().Drift(snapshot(t, n).State); drift != nil {
			t.Errorf("%s: drift %v", dst, drift)
		}
		pod.IP(back)
		if drift := done.Taken().Drift(snapshot(t, n).State); len(drift) != 1 || !drift[0].Present {
			t.Errorf("%s came back: drift %v", dst, drift)
		}
	}
}

// A kill between the two halves of a swap leaves both: what is left of the
// whole stands behind it, where a deletion would hit the whole.
func TestUndoOfHalfASwap(t *testing.T) {
	for _, others := range []string{"", "route append 172.30.0.0/16 via 10.1.0.9"} {
		pod := netopstest.Namespace(t, "pod")
		pod.Veth("eth0", "10.1.0.5/16")
		pod.Veth("net1", "10.2.0.5/16")
		pod.Batch("route add 172.30.0.0/16 nexthop via 10.1.0.1 nexthop via 10.2.0.1")
		if others != "" {
			pod.Batch(others)
		}
		n := enter(t, pod)
		before := pod.Dump()
		done := cut(t, n, "172.30.0.0/16")
		pod.Batch("route append 172.30.0.0/16 via 10.1.0.1")
		if err := n.Undo(t.Context(), done); err != nil {
			t.Error(err)
		}
		want, got := before, pod.Dump()
		if others != "" { // their order is not kept then
			want, got = strings.Join(sorted(before), "\n"), strings.Join(sorted(got), "\n")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("not as before (-want +got):\n%s", diff)
		}
		pod.Remove()
	}
}

func sorted(s string) []string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return lines
}

func TestLinks(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("net1")
	pod.IP("link set net1 address 02:00:00:00:00:07 arp off")
	links, err := enter(t, pod).Links(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range links {
		lines = append(lines, fmt.Sprintf("%s type %d mac %q up %v noarp %v, numbered %v", l.Name, l.Type, l.HardwareAddr,
			l.Flags&unix.IFF_UP != 0, l.Flags&unix.IFF_NOARP != 0, l.Index != 0))
	}
	want := []string{`lo type 772 mac "00:00:00:00:00:00" up true noarp false, numbered true`,
		`net1 type 1 mac "02:00:00:00:00:07" up true noarp true, numbered true`}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

func TestWithin(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	where := func(n *Netns) (inode string) {
		if err := n.Within(func() (err error) { inode, err = os.Readlink("/proc/thread-self/ns/net"); return err }); err != nil {
			t.Fatal(err)
		}
		return inode
	}
	here, err := Here()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	own, _ := os.Readlink("/proc/thread-self/ns/net")
	if got := where(here); got != own {
		t.Errorf("here is %s, want %s", got, own)
	}
	if got := where(enter(t, pod)); got == own || got == "" {
		t.Errorf("the pod is %q, want another than %s", got, own)
	}
	failed := errors.New("failed")
	if err := enter(t, pod).Within(func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
}

// Who visits a namespace and finds no way back stays where he was, or he would
// look for what is on the host in the pod.
func TestNoWayBack(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	where := func() string {
		inode, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		return inode
	}
	before := where()
	err := enter(t, pod).Within(func() error { // of this thread alone
		none := [2]unix.CapUserData{}
		return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
	})
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "come back") {
		t.Errorf("got %v", err)
	}
	if now := where(); now != before {
		t.Errorf("in %s, from %s", now, before)
	}
}
