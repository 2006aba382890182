package main

import (
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// A pod has a default route at every moment of an ADD and a DEL beside another
// attachment, also of those that are killed, and of what takes these back.
func TestSweepDefaultRouteAtEachMoment(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"ADD", "DEL"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			p := newSite(t).pod(2)
			left := watchDefaults(t, p)
			p.call(1).OK("ADD")
			c := p.call(2)
			killed := 0
			points(t, syscall.SIGKILL, func(f plugintest.Fault) bool {
				if verb == "DEL" {
					c.OK("ADD")
				}
				a := c.Failing(f).Do(verb)
				c.OK("DEL")
				killed++
				return a.Exit == -1
			})
			if n := left(); n < 2*killed { // net1's, at least once in each family
				t.Errorf("only %d default routes have left", n)
			}
		})
	}
}

// atOnce calls all at the same time.
func atOnce(calls []call, do func(i int, c call)) {
	var done sync.WaitGroup
	for i, c := range calls {
		done.Go(func() { do(i, c) })
	}
	done.Wait()
}

// churn has interfaces and addresses of the node come and go until it is
// stopped.
func churn(s *site) (stop func()) {
	ended, done := make(chan struct{}), sync.WaitGroup{}
	done.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			default:
			}
			lines := fmt.Sprintf("link add churn%d type veth peer name churn%dp\naddr add 10.200.%d.1/32 dev lo\nlink del churn%d\naddr del 10.200.%d.1/32 dev lo\n", i, i, i%200, i, i%200)
			cmd := exec.Command("ip", "-n", s.node.Name, "-batch", "-")
			cmd.Stdin = strings.NewReader(lines)
			_ = cmd.Run()
		}
	})
	return func() { close(ended); done.Wait() }
}

// Many pods that come and go at once, while interfaces do, share the node
// without a failure, and leave it as it was.
func TestSweepManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var pods []*pod
	var calls []call
	for range 50 / netopstest.Sample(t, 4) {
		p := s.pod(1)
		pods, calls = append(pods, p), append(calls, p.call(1, `"rp_filter": {"value": 0, "set_host": true}`, `"mac_prefix": "0a:0b"`))
	}
	before := s.state(pods...)
	stop := churn(s)
	quietly := func(verb string) func(int, call) {
		return func(_ int, c call) {
			if a := c.Do(verb); a.Exit != 0 || a.Stderr != "" {
				t.Errorf("%s: %s%s", verb, a.Stdout, a.Stderr)
			}
		}
	}
	atOnce(calls, quietly("ADD"))
	atOnce(calls, quietly("CHECK"))
	atOnce(calls, func(i int, c call) { quietly([]string{"ADD", "DEL"}[i%2])(i, c) }) // some come again
	atOnce(calls, func(i int, c call) { quietly([]string{"CHECK", "ADD"}[i%2])(i, c) })
	atOnce(calls, quietly("CHECK"))
	atOnce(calls, quietly("DEL"))
	stop()
	before.restored("DEL")
}

// The last that goes does not take from the next that comes what it counts on.
func TestLastGoesWhileNextComes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	pods := []*pod{s.pod(1), s.pod(1)}
	before := s.state(pods...)
	calls := []call{pods[0].call(1, everything[0]), pods[1].call(1, everything[0])}
	calls[0].OK("ADD")
	for i := range 20 {
		goes := i % 2
		atOnce(calls, func(i int, c call) {
			c.OK(map[bool]string{true: "DEL", false: "ADD"}[i == goes])
		})
		calls[1-goes].OK("CHECK")
	}
	calls[0].OK("DEL")
	before.restored("DEL")
}

// Of several that want one address at the same time one gets it.
func TestOneAddressAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var calls []call
	var pods []*pod
	for range 4 {
		p := s.pod(1)
		pods, calls = append(pods, p), append(calls, p.call(1))
		calls[len(calls)-1] = p.sameAddress(pods[0], 1)
	}
	before := s.state(pods...)
	for range 5 {
		var got atomic.Int64
		atOnce(calls, func(_ int, c call) {
			if a := c.Do("ADD"); a.Exit == 0 {
				got.Add(1)
			} else if a.Error.Code != 101 {
				t.Errorf("%s%s", a.Stdout, a.Stderr)
			}
		})
		if n := got.Load(); n != 1 {
			t.Errorf("%d have it", n)
		}
		atOnce(calls, func(_ int, c call) { c.OK("DEL") })
		before.restored("DEL")
	}
}

// The networks of a pod at the same time.
func TestNetworksOfAPodAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(3)
	before := s.state(p)
	var calls []call
	for n := range 3 {
		calls = append(calls, p.call(n+1, everything...))
	}
	for range 5 {
		atOnce(calls, func(_ int, c call) { c.OK("ADD") })
		atOnce(calls, func(_ int, c call) { c.OK("CHECK") })
		has(t, "the pod", dump(t, p.NS), "unicast default via 203.0.113.1 dev net3")
		atOnce(calls, func(_ int, c call) { c.OK("DEL") })
		before.restored("DEL")
	}
}

var rounds = flag.Int("rounds", 0, "how often two networks of a pod come and go, if not a sweep or its sample")

// Two networks of a pod that come and go at the same time: what they share is
// counted right each time, all is as before when both have gone, and there is
// always a default route.
func TestSweepTwoNetworksInParallel(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(2)
	before := s.state(p)
	left := watchDefaults(t, p)
	calls := []call{p.call(1), p.call(2)}
	if *rounds == 0 {
		*rounds = 20 / netopstest.Sample(t, 10)
	}
	for round := range *rounds {
		goes := round % 2
		atOnce(calls, func(_ int, c call) { c.OK("ADD") })
		counted(t, p, fmt.Sprintf("round %d", round), 1, 2)
		calls[goes].OK("DEL") // and comes again while the other one goes
		atOnce(calls, func(i int, c call) { c.OK(map[bool]string{true: "ADD", false: "DEL"}[i == goes]) })
		counted(t, p, fmt.Sprintf("round %d", round), goes+1)
		calls[1-goes].OK("ADD")
		atOnce(calls, func(_ int, c call) { c.OK("CHECK") })
		atOnce(calls, func(_ int, c call) { c.OK("DEL") })
		before.restored(fmt.Sprintf("round %d", round))
	}
	if n := left(); n < 6**rounds {
		t.Errorf("only %d default routes have left", n)
	}
}

// mark is a table that nothing else uses.
const mark = 4000

// watchDefaults follows what the kernel tells of each change of a pod's routes:
// after none of them is table main without a default route of either family. It
// returns how many default routes have left when all that was done before has been
// told. Lookups would not do: one that meets a route at the moment of its deletion
// finds nothing, though there is another one (docs/kernel.md).
func watchDefaults(t *testing.T, p *pod) (left func() int) {
	t.Helper()
	changes, done := make(chan netlink.RouteUpdate), make(chan struct{})
	var ended atomic.Bool
	options := netlink.RouteSubscribeOptions{ListExisting: true, ErrorCallback: func(err error) {
		if !ended.Load() {
			t.Error(err)
		}
	}}
	var err error
	p.Enter(func() { err = netlink.RouteSubscribeWithOptions(changes, done, options) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ended.Store(true); close(done) })
	n, all := 0, make(chan struct{})
	go func() {
		defer close(all)
		defaults := map[int]map[string]bool{unix.AF_INET: {}, unix.AF_INET6: {}}
		for change := range changes {
			if change.Table == mark {
				return
			}
			n += follow(defaults[change.Family], change)
			if change.Type == unix.RTM_DELROUTE && len(defaults[change.Family]) == 0 {
				t.Errorf("no default route after the deletion of %s", change.Route)
			}
		}
	}()
	return func() int {
		p.IP(fmt.Sprint("route add blackhole default table ", mark), fmt.Sprint("route del blackhole default table ", mark))
		<-all
		return n
	}
}

// follow keeps the default routes of table main up to date, by gateway and
// interface. It returns how many have left.
func follow(defaults map[string]bool, change netlink.RouteUpdate) (left int) {
	if ones, _ := change.Dst.Mask.Size(); change.Table != unix.RT_TABLE_MAIN || ones != 0 {
		return 0
	}
	hops := change.MultiPath
	if hops == nil {
		hops = []*netlink.NexthopInfo{{Gw: change.Gw, LinkIndex: change.LinkIndex}}
	}
	for _, hop := range hops {
		key := fmt.Sprintf("%s dev %d", hop.Gw, hop.LinkIndex)
		if change.Type == unix.RTM_NEWROUTE {
			defaults[key] = true
		} else if defaults[key] {
			delete(defaults, key)
			left++
		}
	}
	return left
}

// counted fails the test unless a pod has the rules and the default route of
// these networks, each once.
func counted(t *testing.T, p *pod, when string, nets ...int) {
	t.Helper()
	highest := slices.Max(nets)
	for family, prefix := range map[string]string{"-4": subnet4(highest), "-6": prefix6(highest)} {
		if got := p.IP(family + " rule show"); strings.Count(got, "31000:") != 2 || strings.Count(got, "31100:") != 1+len(nets) {
			t.Errorf("%s, networks %v: rules\n%s", when, nets, got)
		}
		want := fmt.Sprintf("default via %s1 dev net%d ", prefix, highest)
		if got := p.IP(family + " route show default"); !strings.HasPrefix(got, want) || strings.Count(got, "\n") > 1 {
			t.Errorf("%s, networks %v: %s, want %s", when, nets, got, want)
		}
	}
}
