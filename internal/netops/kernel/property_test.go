package kernel

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

var tables = flag.Int("tables", 0, "how many random tables are changed and restored, if not a sweep or its sample")

// Whatever equal, multipath and mixed routes there are, and wherever the kernel
// refuses: after a rollback, and after Undo, all of them are there again, in
// their order.
func TestSweepRandomTables(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd01::5/64")
	pod.Veth("net1", "10.2.0.5/16", "fd02::5/64")
	n := enter(t, pod)
	if *tables == 0 {
		*tables = 100 / netopstest.Sample(t, 6)
	}
	for seed := range uint64(*tables) {
		random := rand.New(rand.NewPCG(seed, 7))
		pod.Batch(randomTable(random)...)
		before := pod.Dump()
		c := randomChange(random, snapshot(t, n))
		done, _ := c.Needed(snapshot(t, n).State)
		tell := func(what string) {
			t.Helper()
			if diff := cmp.Diff(netopstest.Unordered(before), netopstest.Unordered(pod.Dump())); diff != "" {
				t.Fatalf("table %d: %s of\n%s\n(-want +got):\n%s", seed, what, done, diff)
			}
		}
		left := random.IntN(1 + 3*len(done.Commands())) // some move others out of the way, and back
		refusing := WithFault(t.Context(), func(_ context.Context, at, _ string) error {
			if at != "before" {
				return nil
			}
			if left--; left == -1 {
				return &netops.KernelError{Errno: unix.EPERM}
			}
			return nil
		})
		if err := n.Apply(refusing, done); err != nil {
			if errors.Is(err, netops.ErrNotRestored) {
				t.Fatalf("table %d: %s\n%v", seed, done, err)
			}
		} else if err := n.Undo(t.Context(), done); err != nil {
			t.Fatalf("table %d: %v", seed, err)
		}
		tell("the first try")
		var sent []string
		n.OnSend = func(command string, _ time.Duration, _ error) {
			if !strings.Contains(command, fmt.Sprint(" table ", unusedTable)) {
				sent = append(sent, command)
			}
		}
		err := n.Apply(t.Context(), done)
		n.OnSend = nil
		if err != nil {
			t.Fatalf("table %d: %s\n%v", seed, done, err)
		}
		if diff := cmp.Diff(done.Commands(), sent); diff != "" {
			t.Errorf("table %d: other commands are sent than printed (-printed +sent):\n%s", seed, diff)
		}
		if err := n.Undo(t.Context(), done); err != nil {
			t.Fatalf("table %d: undo %s\n%v", seed, done, err)
		}
		tell("Undo")
		pod.IP("route flush proto boot", "-6 route flush proto boot", "route flush proto 99", "-6 route flush proto 99", "route flush proto static", "route flush type blackhole")
	}
}

// randomTable are routes of few destinations by few gateways: most share both.
func randomTable(random *rand.Rand) (lines []string) {
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	seen := map[string]bool{}
	for range 1 + random.IntN(7) {
		line := "route append " + pick("default", "10.9.0.0/16") + pick("", "", " proto 99") + pick("", "", " metric 5")
		switch random.IntN(4) {
		case 0:
			line += pick(" nexthop via 10.1.0.1 nexthop via 10.2.0.1", " nexthop via 10.2.0.1 nexthop via 10.1.0.1 nexthop via 10.1.0.2", " nexthop via 10.1.0.1 nexthop via 10.1.0.2")
		default:
			line += " via " + pick("10.1.0.1", "10.1.0.2", "10.2.0.1") + pick("", "", " mtu 1400")
		}
		if !seen[line] {
			seen[line] = true
			lines = append(lines, line)
		}
	}
	for _, line := range []string{"-6 route append default via fd01::1", "-6 route append default via fd02::1", "-6 route add fd09::/64 nexthop via fd01::1 nexthop via fd02::1"} {
		if random.IntN(2) == 0 {
			lines = append(lines, line)
		}
	}
	return lines
}

// randomChange removes some routes, or some of their next hops, and adds others in
// the places that are free then.
func randomChange(random *rand.Rand, have netops.Snapshot) (c netops.Change) {
	taken, goes := map[netops.RouteKey]bool{}, map[string]bool{}
	for i := range have.Routes {
		r := &have.Routes[i]
		if r.Learnt() {
			continue
		}
		_, left := c.Remove(r, func(h netops.NextHop) bool {
			what := fmt.Sprint(r.Key(), h.Gw, r.MTU, r.Protocol) // as a pattern would choose
			if _, ok := goes[what]; !ok {
				goes[what] = random.IntN(3) > 0
			}
			return goes[what]
		})
		taken[r.Key()] = taken[r.Key()] || len(left) > 0
	}
	for key, there := range taken {
		if there || random.IntN(3) == 0 {
			continue
		}
		for i := range have.Routes {
			if r := have.Routes[i]; r.Key() == key && !r.Is6() {
				c.Add.Routes = append(c.Add.Routes, replacement(random, &r))
				break
			}
		}
	}
	c.AddFirst = false
	return c
}

// replacement is another route of the same key.
func replacement(random *rand.Rand, r *netops.Route) netops.Route {
	made := netops.Route{Dst: r.Dst, Table: r.Table, Metric: r.Metric, Protocol: netops.Protocol}.Normalize()
	hop := func(i int) netops.NextHop {
		dev := []string{"eth0", "net1"}[i%2]
		return netops.NextHop{Gw: netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", i%2+1)), Dev: dev}
	}
	if i := random.IntN(3); i < 2 {
		h := hop(i)
		made.Gw, made.Dev = h.Gw, h.Dev
	} else {
		made.Hops = []netops.NextHop{hop(0), hop(1)}
	}
	return made
}
