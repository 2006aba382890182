package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

const (
	rpFilter = "net/ipv4/conf/eth0/rp_filter"
	ipv6Off  = "net/ipv6/conf/eth0/disable_ipv6"
	ipv6Off1 = "net/ipv6/conf/net1/disable_ipv6"
)

const mac1, mac2 = "02:00:00:00:00:01", "02:00:00:00:00:02"

// picture is all that these tests may change in a namespace.
func picture(t testing.TB, ns *netopstest.NS) []string {
	t.Helper()
	lines := strings.Split(ns.IP("-br link"), "\n")
	for i, l := range lines {
		if words := strings.Fields(l); len(words) > 2 {
			lines[i] = words[0] + " " + words[2] // without its condition
		}
	}
	lines = append(append(lines, netopstest.Unordered(ns.Dump())...), sorted(ns.IP("neigh show nud permanent"))...)
	ns.Enter(func() {
		for _, key := range []string{rpFilter, ipv6Off, ipv6Off1} {
			value, _ := os.ReadFile("/proc/sys/" + key)
			lines = append(lines, key+"="+string(value))
		}
	})
	return lines
}

// wholePod has something of everything that wholeChange touches.
func wholePod(t testing.TB) (*netopstest.NS, *Netns) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd01::5/64")
	pod.Veth("net1", "10.2.0.5/16", "fd02::5/64")
	pod.IP("link set eth0 address "+mac1,
		"route add default via 10.1.0.1", "-6 route add default via fd01::1",
		"neigh add 10.1.0.8 lladdr "+mac1+" dev eth0 nud permanent", "neigh add 10.1.0.9 lladdr "+mac2+" dev eth0 nud permanent",
		"neigh add fd01::9 lladdr "+mac2+" dev eth0 nud permanent router proto 5", "neigh add 10.2.0.10 lladdr "+mac2+" dev net1 nud stale",
		"rule add pref 7 from 10.1.0.5 lookup 100", "rule add pref 8 lookup 101 proto 98")
	pod.Sysctl(rpFilter, "0")
	pod.Sysctl(ipv6Off1, "1")
	return pod, enter(t, pod)
}

func wholeChange(t testing.TB, n *Netns) netops.Change {
	t.Helper()
	c := netops.Change{AddFirst: true,
		Del: netopstest.ParseState(t, "neigh 10.1.0.8 lladdr "+mac1+" dev eth0", "rule pref 7 from 10.1.0.5 lookup 100 proto 0"),
		Add: netopstest.ParseState(t, rpFilter+"=2", ipv6Off1+"=0", "link dev eth0 address "+mac2,
			"neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "neigh 10.2.0.10 lladdr "+mac1+" dev net1", "neigh fd01::7 lladdr "+mac1+" dev net1",
			"rule pref 8 lookup 100", "rule pref 9 to 10.9.0.0/16 lookup 100", "rule pref 9 to fd09::/64 lookup 100",
			"route default via 10.1.0.1 dev eth0 table 100", "route default via fd01::1 dev eth0 table 100"),
	}
	for field, objects := range reflect.ValueOf(c.Add).Fields() {
		if objects.Len() == 0 {
			t.Errorf("no kind of %s in this test", field.Name)
		}
	}
	q := netops.Query{Tables: []uint32{netops.TableMain, 100}}
	q.Cover(c)
	have, err := n.Snapshot(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range have.Routes {
		if r.Default() {
			c.Del.Routes = append(c.Del.Routes, r)
		}
	}
	done, _ := c.Needed(have.State)
	return done
}

// made is what there is to see of it.
var made = []string{"net1", "eth0@if", mac2, "10.1.0.7 dev eth0 lladdr " + mac1 + " PERMANENT", "10.2.0.10 dev net1 lladdr " + mac1 + " PERMANENT",
	"fd01::7 dev net1 lladdr " + mac1 + " PERMANENT", "10.1.0.9 dev eth0 lladdr " + mac2 + " PERMANENT", "fd01::9 dev eth0 lladdr " + mac2 + " router PERMANENT proto 5",
	"8:\tfrom all lookup 100 proto 77", "9:\tfrom all to 10.9.0.0/16 lookup 100 proto 77", "9:\tfrom all to fd09::/64 lookup 100 proto 77",
	"default via 10.1.0.1 dev eth0 table 100 proto 77", rpFilter + "=2", ipv6Off1 + "=0"}

func TestApplyAndUndoOfEveryKind(t *testing.T) {
	pod, n := wholePod(t)
	before, atFirst := picture(t, pod), witnessed(t, pod)
	done := wholeChange(t, n)
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	now := strings.Join(picture(t, pod), "\n")
	for _, want := range made {
		if !strings.Contains(now, want) {
			t.Errorf("%q is missing in\n%s", want, now)
		}
	}
	for _, gone := range []string{"10.1.0.8 ", "\n7:\t", "default via 10.1.0.1 dev eth0 proto boot"} {
		if strings.Contains(now, gone) {
			t.Errorf("%q is there in\n%s", gone, now)
		}
	}
	q := netops.Query{}
	q.Cover(done)
	have, err := n.Snapshot(t.Context(), q)
	if err != nil || len(done.Drift(have.State)) > 0 {
		t.Errorf("drift %v, %v", done.Drift(have.State), err)
	}
	byNetlink := witnessed(t, pod)
	byNetlink.Sysctls = have.Sysctls
	if drift := done.Drift(byNetlink); len(drift) > 0 {
		t.Errorf("netlink sees another kernel: %v", drift)
	}
	for range 2 {
		if err := n.Undo(t.Context(), done); err != nil {
			t.Fatal(err)
		}
		netopstest.Same(t, "not as before", before, picture(t, pod))
		netopstest.Same(t, "in netlink's eyes", atFirst, witnessed(t, pod))
	}
	if have, _ := n.Snapshot(t.Context(), q); len(done.Drift(have.State)) < done.Add.Len()-len(done.Add.Routes) {
		t.Errorf("drift %v", done.Drift(have.State))
	}
}

// A refusal of any operation, by the kernel or because the process is told to
// end, leaves the namespace as it was; so does Undo after a process that was
// killed there.
func TestSweepKinds(t *testing.T) {
	pod, n := wholePod(t)
	before := picture(t, pod)
	done := wholeChange(t, n)
	operations := len(done.Commands()) + 1 // the entry that was learnt takes two
	for k := 0; k < operations; k += netopstest.Sample(t, 3) {
		for _, how := range []string{"refused", "cancelled before", "cancelled after", "killed"} {
			what := fmt.Sprintf("operation %d %s", k, how)
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("the test says so")
			at, count := strings.TrimPrefix(how, "cancelled "), map[string]int{}
			ctx = WithFault(ctx, func(_ context.Context, when, _ string) error {
				i := count[when]
				count[when]++
				switch {
				case when == at && i == k:
					cancel(cause)
				case when == "before" && (how == "refused" && i == k || how == "killed" && i >= k):
					return &netops.KernelError{Errno: unix.EPERM}
				}
				return nil
			})
			pod.IP("neigh replace 10.2.0.10 lladdr " + mac2 + " dev net1 nud stale")
			err := n.Apply(ctx, done)
			cancel(nil)
			if how == "killed" {
				if err == nil {
					t.Fatalf("%s: no error", what)
				}
				if err := n.Undo(t.Context(), done); err != nil {
					t.Fatalf("%s: Undo: %v", what, err)
				}
			} else if err == nil || errors.Is(err, netops.ErrNotRestored) {
				t.Fatalf("%s: %v", what, err)
			}
			netopstest.Same(t, what, before, picture(t, pod))
		}
	}
}

// There is no moment without a way to the world.
func TestAddFirst(t *testing.T) {
	pod, n := wholePod(t)
	done := wholeChange(t, n)
	ctx := WithFault(t.Context(), func(_ context.Context, at, command string) error {
		for _, get := range []string{"route get 8.8.8.8", "route get 2001:4860::8888"} {
			if out, err := exec.Command("ip", append([]string{"-n", pod.Name}, strings.Fields(get)...)...).CombinedOutput(); err != nil {
				t.Errorf("%s %s: %s: %s", at, command, get, out)
			}
		}
		return nil
	})
	done.Add.Rules = append(done.Add.Rules, netopstest.ParseState(t, "rule pref 10 from fd01::5 lookup 100").Rules...)
	done.Add.Rules = append(done.Add.Rules, netops.Rule{IPv6: true, Priority: 11, Table: 100, Protocol: netops.Protocol})
	if err := n.Apply(ctx, done); err != nil {
		t.Fatal(err)
	}
	if err := n.Undo(ctx, done); err != nil {
		t.Fatal(err)
	}
}

func TestRulesAreNotDoubled(t *testing.T) {
	pod, n := wholePod(t)
	c := netops.Change{Add: netopstest.ParseState(t, "rule pref 8 lookup 100", "rule pref 9 to fd09::/64 lookup 100")}
	if err := n.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	before := picture(t, pod)
	if err := n.Apply(t.Context(), c); !errors.Is(err, unix.EEXIST) || errors.Is(err, netops.ErrNotRestored) {
		t.Errorf("again: %v", err)
	}
	netopstest.Same(t, "again", before, picture(t, pod))
	have, err := n.Snapshot(t.Context(), netops.Query{Rules: true})
	if err != nil {
		t.Fatal(err)
	}
	if needed, held := c.Needed(have.State); !needed.IsZero() || len(held.Rules) != 2 {
		t.Errorf("needed %s", needed)
	}
}

// Of two rules that differ only in their protocol the one that is meant goes;
// one that the kernel would take another for stays, and is told.
func TestRulesAreDeletedExactly(t *testing.T) {
	pod, n := wholePod(t)
	pod.IP("rule add pref 8 lookup 100 proto 98", "rule add pref 8 lookup 100 proto 77")
	if err := n.Undo(t.Context(), netops.Change{Add: netopstest.ParseState(t, "rule pref 8 lookup 100")}); err != nil {
		t.Fatal(err)
	}
	left, _ := netops.Partition(witnessed(t, pod).Rules, func(r netops.Rule) bool { return r.Priority == 8 })
	netopstest.Same(t, "netlink sees left", []netops.Rule{{Priority: 8, Table: 100, Protocol: 98}, {Priority: 8, Table: 101, Protocol: 98}}, left)
	if got := pod.IP("rule show pref 8"); strings.TrimSpace(got) != "8:\tfrom all lookup 101 proto 98\n8:\tfrom all lookup 100 proto 98" {
		t.Errorf("left %q", got)
	}
	pod.IP("rule add pref 9 fwmark 5 lookup 100 proto 77", "rule add pref 9 lookup 100 proto 77")
	before := picture(t, pod)
	c := netops.Change{Add: netopstest.ParseState(t, "rule pref 9 lookup 100")}
	if err := n.Undo(t.Context(), c); !errors.Is(err, netops.ErrCannotDelete) {
		t.Errorf("Undo: %v", err)
	}
	if err := n.Apply(t.Context(), c.Reverse()); !errors.Is(err, netops.ErrCannotDelete) {
		t.Errorf("Apply: %v", err)
	}
	netopstest.Same(t, "after", before, picture(t, pod))
	have, err := n.Snapshot(t.Context(), netops.Query{Rules: true})
	if err != nil {
		t.Fatal(err)
	}
	marked, _ := netops.Partition(have.Rules, func(r netops.Rule) bool { return r.MoreSelectors })
	if len(marked) != 1 || marked[0].Table != 100 {
		t.Errorf("rules that ask for more: %v", marked)
	}
}

// What the kernel has learnt gives way, in whatever state; what is permanent is
// somebody's.
func TestNeighboursThatAreThere(t *testing.T) {
	pod, n := wholePod(t)
	want := netops.Change{Add: netopstest.ParseState(t, "neigh 10.1.0.77 lladdr "+mac1+" dev eth0", "neigh fd01::77 lladdr "+mac1+" dev eth0")}
	for _, state := range []string{"reachable", "stale", "delay", "probe", "failed", "incomplete"} {
		pod.IP("neigh replace 10.1.0.77 lladdr "+mac2+" dev eth0 nud "+state, "neigh replace fd01::77 lladdr "+mac2+" dev eth0 nud "+state)
		if err := n.Apply(t.Context(), want); err != nil {
			t.Errorf("%s: %v", state, err)
		}
		if got := pod.IP("neigh show nud permanent 10.1.0.77", "neigh show nud permanent fd01::77"); strings.Count(got, mac1) != 2 {
			t.Errorf("%s: %q", state, got)
		}
		if drift := want.Drift(witnessed(t, pod)); len(drift) > 0 {
			t.Errorf("%s: netlink sees another kernel: %v", state, drift)
		}
		if err := n.Undo(t.Context(), want); err != nil {
			t.Errorf("%s: %v", state, err)
		}
		if got := pod.IP("neigh show 10.1.0.77", "neigh show fd01::77"); got != "" {
			t.Errorf("%s: left %q", state, got)
		}
	}
	for _, kept := range []string{"lladdr " + mac2 + " dev eth0 nud permanent", "lladdr " + mac2 + " dev eth0 nud reachable extern_learn"} {
		pod.IP("neigh replace fd01::77 " + kept)
		before := append(picture(t, pod), pod.IP("neigh show fd01::77"))
		err := n.Apply(t.Context(), want)
		var failed *netops.OpError
		if !errors.As(err, &failed) || !failed.Exists() || netops.StateOf(failed.Object).Neighs[0].IP != want.Add.Neighs[1].IP || errors.Is(err, netops.ErrNotRestored) {
			t.Errorf("Apply: %v", err)
		}
		if err := n.Undo(t.Context(), want); err != nil {
			t.Errorf("Undo: %v", err)
		}
		netopstest.Same(t, "another's", before, append(picture(t, pod), pod.IP("neigh show fd01::77")))
		pod.IP("neigh del fd01::77 dev eth0")
	}
}

// An interface that is not there is told by name; one that is gone when it is
// undone took everything with it.
func TestObjectsOfAnInterfaceThatIsGone(t *testing.T) {
	pod, n := wholePod(t)
	before := picture(t, pod)
	for _, line := range []string{"neigh 10.1.0.7 lladdr " + mac1 + " dev nope", "link dev nope address " + mac1, "net/ipv4/conf/nope/rp_filter=1", "net/ipv6/neigh/nope/retrans_time_ms=1"} {
		c := netops.Change{Add: netopstest.ParseState(t, line, "rule pref 5 lookup 100")}
		if err := n.Apply(t.Context(), c); !errors.Is(err, netops.ErrNoLink) || !strings.Contains(err.Error(), "nope") {
			t.Errorf("%s: %v", line, err)
		}
		if err := n.Undo(t.Context(), c); err != nil {
			t.Errorf("%s: Undo: %v", line, err)
		}
	}
	if err := n.Apply(t.Context(), netops.Change{Add: netopstest.ParseState(t, "net/ipv4/nope=1")}); !errors.Is(err, unix.ENOENT) || errors.Is(err, netops.ErrNoLink) {
		t.Error(err)
	}
	if err := n.Apply(t.Context(), netops.Change{Add: netopstest.ParseState(t, rpFilter+"=nonsense")}); !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
	if err := n.Apply(t.Context(), netops.Change{Add: netopstest.ParseState(t, "link dev eth0 address 01:00:00:00:00:01")}); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Error(err)
	}
	netopstest.Same(t, "refused", before, picture(t, pod))
	done := wholeChange(t, n)
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	pod.IP("link del eth0", "link del net1")
	for range 2 {
		if err := n.Undo(t.Context(), done); err != nil {
			t.Error(err)
		}
	}
	if got := pod.IP("rule show", "-6 rule show"); strings.Contains(got, "77") || !strings.Contains(got, "7:\tfrom 10.1.0.5 lookup 100") {
		t.Errorf("rules:\n%s", got)
	}
}

// What others have set since is theirs.
func TestUndoLeavesWhatOthersSet(t *testing.T) {
	pod, n := wholePod(t)
	done := wholeChange(t, n)
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	const mac3 = "02:00:00:00:00:03"
	pod.Sysctl(rpFilter, "1")
	pod.IP("link set eth0 address "+mac3, "neigh replace 10.1.0.7 lladdr "+mac3+" dev eth0 nud permanent",
		"neigh replace 10.1.0.9 lladdr "+mac3+" dev eth0 nud permanent")
	if err := n.Undo(t.Context(), done); err != nil {
		t.Error(err)
	}
	now := strings.Join(picture(t, pod), "\n")
	for _, want := range []string{rpFilter + "=1", "10.1.0.7 dev eth0 lladdr " + mac3, "10.1.0.9 dev eth0 lladdr " + mac3} {
		if !strings.Contains(now, want) {
			t.Errorf("%q is missing in\n%s", want, now)
		}
	}
	if got := pod.IP("-br link show eth0"); !strings.Contains(got, mac3) {
		t.Errorf("hardware address: %s", got)
	}
}

// Neighbours that others add after ADD survive the way back as well.
func TestAnotherAddressKeepsTheNeighbours(t *testing.T) {
	pod, n := wholePod(t)
	done := wholeChange(t, n)
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	pod.IP("neigh add 10.1.0.66 lladdr "+mac1+" dev eth0 nud permanent", "neigh add fd01::66 lladdr "+mac1+" dev eth0 nud permanent")
	if err := n.Undo(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if got := pod.IP("neigh show nud permanent"); !strings.Contains(got, "10.1.0.66") || !strings.Contains(got, "fd01::66") {
		t.Errorf("neighbours:\n%s", got)
	}
}

func TestObjectsWithoutIPv6(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16")
	pod.Sysctl("net/ipv6/conf/all/disable_ipv6", "1")
	n := enter(t, pod)
	before := picture(t, pod)
	c := netops.Change{Add: netopstest.ParseState(t, rpFilter+"=1", "neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "rule pref 8 lookup 100", "link dev eth0 address "+mac2)}
	q := netops.Query{Sysctls: []string{"net/nope/x", ipv6Off}}
	q.Cover(c)
	have, err := n.Snapshot(t.Context(), q)
	if err != nil || len(have.Sysctls) != 2 {
		t.Fatalf("%v, %v", have.Sysctls, err)
	}
	done, _ := c.Needed(have.State)
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if err := n.Undo(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	netopstest.Same(t, "after", before, picture(t, pod))
}

func TestSnapshotOfObjects(t *testing.T) {
	pod, n := wholePod(t)
	pod.IP("neigh add 10.1.0.11 dev eth0 lladdr "+mac1+" nud noarp", "rule add pref 5 blackhole", "-6 rule add pref 5 iif eth0 lookup 9")
	pod.Sysctl("net/ipv4/ip_local_port_range", "30000 40000")
	s, err := n.Snapshot(t.Context(), netops.Query{Links: []string{"eth0", "nope"}, HardwareAddrs: true, Rules: true, Neighs: []string{"eth0", "nope", "net1", "eth0"},
		Sysctls: []string{"net/ipv4/ip_local_port_range", "net/nope", rpFilter, rpFilter}})
	if err != nil {
		t.Fatal(err)
	}
	want := netopstest.ParseState(t, "link dev eth0 address "+mac1, "net/ipv4/conf/eth0/rp_filter=0", "net/ipv4/ip_local_port_range=30000 40000",
		"neigh 10.1.0.8 lladdr "+mac1+" dev eth0", "neigh 10.1.0.9 lladdr "+mac2+" dev eth0", "neigh fd01::9 lladdr "+mac2+" dev eth0", "neigh 10.2.0.10 lladdr "+mac2+" dev net1 learnt",
		"rule pref 0 lookup 255 proto 2", "rule pref 7 from 10.1.0.5 lookup 100 proto 0", "rule pref 8 lookup 101 proto 98", "rule pref 32766 lookup 254 proto 2", "rule pref 32767 lookup 253 proto 2")
	want.Neighs[2].Flags, want.Neighs[2].Protocol = unix.NTF_ROUTER, 5
	six := []netops.Rule{{IPv6: true, Table: 255, Protocol: 2}, {IPv6: true, Priority: 5, Table: 9, MoreSelectors: true}, {IPv6: true, Priority: 32766, Table: 254, Protocol: 2}}
	want.Rules = append(want.Rules, six...)
	byIP := func(a, b netops.Neigh) int { return a.IP.Compare(b.IP) }
	slices.SortFunc(s.Neighs, byIP)
	slices.SortFunc(want.Neighs, byIP)
	netopstest.Same(t, "snapshot", want, s.State)
}

// On the host each object is by itself, and only what is ours goes.
func TestObjectsOnTheHost(t *testing.T) {
	ns, n := hostLike(t, "neigh add 10.1.0.8 lladdr "+mac2+" dev eth0 nud permanent", "neigh add 10.1.0.9 lladdr "+mac2+" dev eth0 nud stale",
		"rule add pref 1000 lookup 500", "-6 rule add pref 1000 lookup 500 proto 77")
	before := picture(t, ns)
	s := netopstest.ParseState(t, "neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "neigh 10.1.0.8 lladdr "+mac1+" dev eth0", "neigh 10.1.0.9 lladdr "+mac1+" dev eth0",
		"neigh 10.1.0.7 lladdr "+mac1+" dev nope", "rule pref 1000 lookup 500")
	s.Rules = append(s.Rules, netops.Rule{IPv6: true, Priority: 1000, Table: 500, Protocol: netops.Protocol})
	added, failed := n.AddObjects(t.Context(), s)
	netopstest.Same(t, "added", netopstest.ParseState(t, "neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "neigh 10.1.0.9 lladdr "+mac1+" dev eth0", "rule pref 1000 lookup 500"), added)
	if len(failed) != 3 || !failed[0].Missing() || !failed[1].Exists() || netops.StateOf(failed[1].Object).Neighs[0].IP.String() != "10.1.0.8" || !failed[2].Exists() || !netops.StateOf(failed[2].Object).Rules[0].IPv6 {
		t.Errorf("failed: %v", failed)
	}
	// One that is another's by its protocol is not ours to delete.
	if failed := n.DeleteObjects(t.Context(), netopstest.ParseState(t, "rule pref 1000 lookup 500 proto 3", "neigh 10.1.0.8 lladdr "+mac1+" dev eth0", "neigh 10.1.0.8 lladdr "+mac1+" dev nope")); failed != nil {
		t.Errorf("%v", failed)
	}
	for range 2 {
		if failed := n.DeleteObjects(t.Context(), added); failed != nil {
			t.Errorf("%v", failed)
		}
	}
	netopstest.Same(t, "after", before, picture(t, ns))
}

func TestHostPeer(t *testing.T) {
	pod, other := netopstest.Namespace(t, "pod"), netopstest.Namespace(t, "other")
	host := netopstest.Host(t)
	pod.Veth("eth0", "10.1.0.5/16")
	pod.IP("link add br0 type bridge", "link add a0 type veth peer name a1", "link add net1 type veth peer name far netns other")
	host.IP("link add br7 type bridge")
	t.Cleanup(func() { host.IP("link del br7") })
	out := host.IP("-br link show type veth")
	name, _, _ := strings.Cut(strings.Fields(out)[0], "@")
	here, err := Here()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	n := enter(t, pod)
	look := func(host *Netns) netops.Peer {
		t.Helper()
		p, ok, err := n.HostPeer(host, "eth0")
		if !ok || err != nil {
			t.Fatalf("%t, %v", ok, err)
		}
		return p
	}
	own, err := Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	p := look(here)
	if index, err := here.LinkIndex(name); err != nil || p.Name != name || p.Index != index || p.HardwareAddr == "" || p.Master != "" || p != look(own) {
		t.Errorf("%+v, not %s (%d), %v", p, name, index, err)
	}
	host.IP("link set " + name + " master br7")
	if p := look(here); p.Master != "br7" {
		t.Errorf("%+v", p)
	}
	for _, dev := range []string{"br0", "lo", "a0", "net1"} {
		if p, ok, err := n.HostPeer(here, dev); ok || err != nil {
			t.Errorf("%s: %+v, %v", dev, p, err)
		}
	}
	if _, ok, err := n.HostPeer(here, "nope"); ok || !errors.Is(err, netops.ErrNoLink) {
		t.Error(err)
	}
	if p, ok, err := n.HostPeer(enter(t, other), "net1"); !ok || err != nil || p.Name != "far" {
		t.Errorf("%+v, %t, %v", p, ok, err)
	}
}

func TestSourceTo(t *testing.T) {
	_, n := hostLike(t, "addr add 10.5.0.1/32 dev lo", "route add 10.5.0.0/16 via 10.1.0.9 src 10.5.0.1", "route add blackhole 10.6.0.0/16",
		"route add unreachable 10.7.0.0/16", "route add prohibit 10.8.0.0/16", "-6 route add fd05::/64 via fd01::9", "-6 route add blackhole fd06::/64")
	for to, want := range map[string]string{"10.1.0.77": "10.1.0.1", "10.5.0.77": "10.5.0.1", "10.6.0.1": "", "10.7.0.1": "", "10.8.0.1": "", "192.0.2.1": "",
		"10.1.0.1": "10.1.0.1", "fd01::77": "fd01::1", "fd05::1": "fd01::1", "fd06::1": "", "2001:db8::1": ""} {
		got, err := n.SourceTo(netip.MustParseAddr(to))
		if s := strings.TrimPrefix(got.String(), "invalid IP"); s != want || err != nil {
			t.Errorf("to %s: %q, want %q, %v", to, s, want, err)
		}
	}
}

// Lists of several batches are whole while others change them.
func TestManyRulesAndNeighbours(t *testing.T) {
	const count = 2000
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16")
	lines := make([]string, 0, 2*count)
	for i := range count {
		lines = append(lines, fmt.Sprintf("rule add pref %d from 10.9.%d.%d lookup 100", 100+i, i/250, i%250),
			fmt.Sprintf("neigh add 10.1.%d.%d lladdr %s dev eth0 nud permanent", 10+i/250, i%250, mac1))
	}
	pod.Batch(lines...)
	n := enter(t, pod)
	s, err := n.Snapshot(t.Context(), netops.Query{Rules: true, Neighs: []string{"eth0"}})
	if err != nil || len(s.Neighs) < count || len(s.Rules) != count+5 {
		t.Fatalf("%d rules, %d neighbours, %v", len(s.Rules), len(s.Neighs), err)
	}
	var c netops.Change
	for i := range 300 {
		c.Add.Rules = append(c.Add.Rules, netopstest.ParseState(t, fmt.Sprintf("rule pref 9 from 10.8.0.%d lookup 100", i%250)+strings.Repeat(" to 10.0.0.0/8", i/250)).Rules...)
	}
	if err := n.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := n.Undo(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(pod.IP("rule show"), "proto 77"); got != 0 {
		t.Errorf("%d rules are left", got)
	}
}

// The namespace that the process runs in is as any other.
func TestOwnNamespace(t *testing.T) {
	host := netopstest.Host(t)
	host.IP("link add eth0 type bridge")
	t.Cleanup(func() { host.IP("link del eth0") })
	n, err := Here()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	c := netops.Change{Add: netopstest.ParseState(t, rpFilter+"=1", "net/ipv4/conf/nope/rp_filter=1", "rule pref 8 lookup 100", "link dev eth0 address "+mac2)}
	q := netops.Query{}
	q.Cover(c)
	for _, refused := range []bool{true, false} {
		have, err := n.Snapshot(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		done, _ := c.Needed(have.State)
		if err := n.Apply(t.Context(), done); errors.Is(err, netops.ErrNoLink) != refused {
			t.Error(err)
		}
		there := strings.Contains(host.IP("rule show", "link show eth0"), "lookup 100")
		if there == refused {
			t.Errorf("rule: %t", there)
		}
		if err := n.Undo(t.Context(), done); err != nil {
			t.Error(err)
		}
		c.Add.Sysctls = c.Add.Sysctls[:1]
	}
	if got := host.IP("rule show", "link show eth0"); strings.Contains(got, "lookup 100") || strings.Contains(got, mac2) {
		t.Error(got)
	}
}
