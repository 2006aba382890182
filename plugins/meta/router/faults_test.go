package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// faulty is an attachment that changes something of each kind, alone or beside
// another one of its pod and one of another pod, with which it shares what there
// is to share.
func faulty(t *testing.T, alone bool) (c call, before state) {
	s := newSite(t)
	p := s.pod(2)
	p.IP("neigh add 198.51.100.77 lladdr 02:00:00:00:00:77 dev net2 nud permanent") // goes with the hardware address
	if alone {
		s.sysctl(p.NS, "net/ipv6/conf/eth0/disable_ipv6", "1") // which flushes its addresses
		before = s.state(p)
		return p.call(2, everything...), before
	}
	other := s.pod(1)
	other.call(1, everything...).OK("ADD")
	p.call(1, everything...).OK("ADD")
	return p.call(2, everything...), s.state(p, other)
}

// firstOf is one of net1 beside a net2 without router. Of a DEL that is killed while
// it puts a default route between others, the next one finds it there, behind them;
// this one's goes to the end.
func firstOf(t *testing.T) (c call, before state) {
	s := newSite(t)
	p := s.pod(2)
	return p.call(1, append(everything, `"migrate_route": 1`)...), s.state(p)
}

// operations visits each operation of a verb, or a sample, until there is none
// left.
func operations(t *testing.T, visit func(n int) (more bool)) {
	t.Helper()
	n := 0
	for visit(n) {
		n += netopstest.Sample(t, 9)
	}
	if n < 5 {
		t.Errorf("only %d operations", n)
	}
}

// Whichever operation of an ADD the kernel refuses, pod and node are as before.
func TestSweepRefusedOperations(t *testing.T) {
	t.Parallel()
	for name, alone := range map[string]bool{"alone": true, "beside others": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, before := faulty(t, alone)
			errno, code, asBefore := unix.EPERM, uint(100), before.restored
			if !alone {
				errno, code, asBefore = unix.ENOBUFS, 11, before.same
			}
			operations(t, func(n int) bool {
				a := c.Failing(plugintest.Fault{At: "before", N: n, Deny: errno}).Do("ADD")
				if a.Exit == 0 {
					c.OK("DEL")
					return false
				}
				if a.Error.Code != code {
					t.Errorf("operation %d refused by %v: %s", n, errno, a.Stdout)
				}
				asBefore(fmt.Sprintf("operation %d refused by %v", n, errno))
				return true
			})
		})
	}
}

// points are where a process can be stopped: before its first operation, and
// after each.
func points(t *testing.T, kill syscall.Signal, visit func(f plugintest.Fault) (more bool)) {
	t.Helper()
	visit(plugintest.Fault{At: "before", Kill: kill})
	operations(t, func(n int) bool { return visit(plugintest.Fault{At: "after", N: n, Kill: kill}) })
}

// Wherever an ADD is killed, the DEL that follows leaves all as before.
func TestSweepKilledAdd(t *testing.T) {
	t.Parallel()
	c, before := faulty(t, true)
	points(t, syscall.SIGKILL, func(f plugintest.Fault) bool {
		a := c.Failing(f).Do("ADD")
		if a.Exit == -1 && f.N < 3 {
			c.Refused("CHECK", 106, "was not finished")
		}
		c.OK("DEL")
		before.restored("killed: " + f.String())
		return a.Exit == -1
	})
}

// An ADD that meets what a killed one has left takes it back first.
func TestSweepAddAfterAKilledOne(t *testing.T) {
	t.Parallel()
	c, before := faulty(t, true)
	operations(t, func(n int) bool {
		if n%3 != 0 { // TestSweepKilledAdd stops at each
			return true
		}
		a := c.Failing(plugintest.Fault{At: "after", N: n, Kill: syscall.SIGKILL}).Do("ADD")
		c.OK("ADD")
		c.OK("CHECK")
		c.OK("DEL")
		before.restored(fmt.Sprintf("killed after operation %d", n))
		return a.Exit == -1
	})
}

// A signal has ADD take all back by itself.
func TestSweepSignalledAdd(t *testing.T) {
	t.Parallel()
	c, before := faulty(t, true)
	points(t, syscall.SIGTERM, func(f plugintest.Fault) bool {
		a := c.Failing(f).Do("ADD")
		if a.Exit == 0 {
			c.OK("DEL")
			return false
		}
		if a.Error.Code != 11 || !strings.Contains(a.Error.Msg, "interrupted by a signal") {
			t.Errorf("%s: %s", f, a.Stdout)
		}
		before.restored(f.String())
		return true
	})
}

// Wherever a process of either of a pod's two attachments is killed, at ADD or at
// DEL, what they share is counted right by what comes then: the other one has all of
// its own as long as it is there, and when both have gone, in either order, all is as
// before.
func TestSweepKilledBesideAnother(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"ADD", "DEL"} {
		for n := 1; n <= 2; n++ {
			t.Run(fmt.Sprintf("%s of net%d", verb, n), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				p, other := s.pod(2), s.pod(1)
				other.call(1, everything...).OK("ADD")
				before := s.state(p, other)
				killed, beside := p.call(n, append(everything, `"migrate_route": 1`)...), p.call(3-n, everything...)
				gc := killed.Edit(func(conf map[string]any) {
					conf["cni.dev/valid-attachments"] = []any{map[string]string{"containerID": other.Name, "ifname": "net1"}}
				})
				turns := []func(){
					func() { killed.OK("DEL"); beside.OK("CHECK"); beside.OK("DEL") },
					func() { beside.OK("DEL"); killed.OK("DEL") },
					func() { gc.OK("GC"); beside.OK("CHECK"); beside.OK("DEL") },
					func() { killed.OK("ADD"); beside.OK("CHECK"); beside.OK("DEL"); killed.OK("CHECK"); killed.OK("DEL") },
				}
				turn := 0
				points(t, syscall.SIGKILL, func(f plugintest.Fault) bool {
					beside.OK("ADD")
					if verb == "DEL" {
						killed.OK("ADD")
					}
					a := killed.Failing(f).Do(verb)
					turns[turn%len(turns)]()
					before.same(fmt.Sprintf("%s, turn %d", f, turn%len(turns)))
					turn++
					return a.Exit == -1
				})
			})
		}
	}
}

// Where something that may pass has kept a DEL from an operation, the next one does
// the rest.
func TestSweepDelTriedAgain(t *testing.T) {
	t.Parallel()
	c, before := firstOf(t)
	operations(t, func(n int) bool {
		c.OK("ADD")
		a := c.Failing(plugintest.Fault{At: "before", N: n, Deny: unix.ENOBUFS}).Do("DEL")
		if a.Exit > 0 && a.Error.Code != 11 {
			t.Errorf("operation %d: %s", n, a.Stdout)
		}
		c.OK("DEL")
		before.restored(fmt.Sprint("operation ", n))
		return a.Exit != 0
	})
}

// What the kernel refuses on the node fails DEL, and the next one does the rest.
func TestSweepDelRefusedOnTheNode(t *testing.T) {
	t.Parallel()
	c, before := firstOf(t)
	refused := 0
	operations(t, func(n int) bool {
		c.OK("ADD")
		a := c.Failing(plugintest.Fault{At: "before", N: n, Deny: unix.EPERM}).Do("DEL")
		if a.Exit > 0 {
			refused++
			if a.Error.Code != 100 {
				t.Errorf("operation %d: %s", n, a.Stdout)
			}
			c.OK("DEL")
			before.restored(fmt.Sprintf("operation %d", n))
		}
		return a.Exit > 0
	})
	if refused != 7 && netopstest.Whole(t) { // two routes, neighbours and rules, and a sysctl
		t.Errorf("only %d operations on the node", refused)
	}
}

// An ADD that meets a DEL that was killed begins anew.
func TestSweepAddAfterAKilledDel(t *testing.T) {
	t.Parallel()
	c, before := firstOf(t)
	points(t, syscall.SIGKILL, func(f plugintest.Fault) bool {
		if f.N%3 != 0 { // TestKilledBesideAnother stops at each
			return true
		}
		c.OK("ADD")
		a := c.Failing(f).Do("DEL")
		c.OK("ADD")
		c.OK("CHECK")
		c.OK("DEL")
		before.restored(f.String())
		return a.Exit == -1
	})
}

// A second entry of a chain that fails, or is killed, leaves the first one whole.
func TestSecondEntryFails(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	before := s.state(p)
	first, second := p.call(1, everything[0], everything[1]), p.call(1, everything...)
	first.OK("ADD")
	once := s.state(p)
	valid := func(conf map[string]any) {
		conf["cni.dev/valid-attachments"] = []any{map[string]string{"containerID": p.Name, "ifname": "net1"}}
	}
	for n := range 3 {
		second.Failing(plugintest.Fault{At: "before", N: n, Deny: unix.EPERM}).Refused("ADD", 100)
		once.same(fmt.Sprint("refused: ", n))
		second.Failing(plugintest.Fault{At: "after", N: n, Kill: syscall.SIGKILL}).Do("ADD")
		second.Edit(valid).OK("GC")
		once.same(fmt.Sprint("killed: ", n))
		first.OK("CHECK")
	}
	first.OK("DEL")
	before.restored("DEL")
}
