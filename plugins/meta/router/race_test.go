package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// abroad are addresses that only default routes lead to.
var abroad = []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("2620::8")}

// stranded reports which of these a pod has no way to.
func stranded(t *testing.T, ns *kernel.Netns) (list []netip.Addr) {
	t.Helper()
	for _, ip := range abroad {
		src, err := ns.SourceTo(ip)
		if err != nil {
			t.Error(err)
		}
		if !src.IsValid() {
			list = append(list, ip)
		}
	}
	return list
}

func (p *pod) open() *kernel.Netns {
	p.s.t.Helper()
	ns, err := kernel.Open(p.Path)
	if err != nil {
		p.s.t.Fatal(err)
	}
	p.s.t.Cleanup(ns.Close)
	return ns
}

// After none of the operations of ADD and DEL is the pod without a default route.
func TestNeverWithoutADefaultRoute(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"ADD", "DEL"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.pod(2)
			ns := p.open()
			c := p.call(2)
			points(t, syscall.SIGKILL, func(f plugintest.Fault) bool {
				if verb == "DEL" {
					c.OK("ADD")
				}
				a := c.Failing(f).Do(verb)
				if list := stranded(t, ns); list != nil {
					t.Errorf("%s, %s: no way to %v", verb, f, list)
				}
				c.OK("DEL")
				return a.Exit == -1
			})
		})
	}
}

// Nor is it at any moment in between.
func TestNeverWithoutADefaultRouteMeanwhile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(2)
	looked := watchDefaults(t, p.open())
	for range 10 {
		for n := 1; n <= 2; n++ {
			p.call(n).OK("ADD")
		}
		for n := 2; n >= 1; n-- {
			p.call(n).OK("DEL")
		}
	}
	if n := looked(); n < 1000 {
		t.Errorf("looked only %d times", n)
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
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var pods []*pod
	var calls []call
	for range 50 / netopstest.Sample(4) {
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

// Two networks of a pod that come and go at the same time: what they share is
// counted right each time, all is as before when both have gone, and there is
// always a default route.
func TestTwoNetworksInParallel(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(2)
	before := s.state(p)
	looked := watchDefaults(t, p.open())
	calls := []call{p.call(1), p.call(2)}
	const rounds = 500
	for round := range rounds / netopstest.Sample(rounds/6) {
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
	if n := looked(); n < rounds {
		t.Errorf("looked only %d times", n)
	}
}

// watchDefaults looks again and again whether a pod has a way to everything, until
// it is asked how often.
func watchDefaults(t *testing.T, ns *kernel.Netns) (looked func() int) {
	var ended atomic.Bool
	n, watching := 0, sync.WaitGroup{}
	watching.Go(func() {
		for ; !ended.Load(); n++ {
			if list := stranded(t, ns); list != nil {
				t.Errorf("no way to %v", list)
				return
			}
		}
	})
	return func() int {
		ended.Store(true)
		watching.Wait()
		return n
	}
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
