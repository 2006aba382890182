package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// A route that somebody else has made as it is wanted is fine, and stays; one
// that is another is named, and not touched.
func TestForeignRoutes(t *testing.T) {
	h := newHost(t, "route add 10.9.1.0/24 via 10.1.0.9 mtu 1400 proto static", "-6 route add fd09::/64 via fd01::9",
		"route add blackhole 10.9.2.0/24", "route add 10.9.3.0/24 via 10.1.0.3 metric 5", "route append 10.9.3.0/24 via 10.1.0.4 metric 5")
	t.Cleanup(func() { h.IP("route del 10.9.2.0/24") })
	pod := newPod(t)
	for _, routing := range []string{
		`[{prefix: "10.9.1.0/24", gateway: "10.1.0.9"}]`,
		`[{prefix: "10.9.1.0/24", gateway: "10.1.0.9", device: "cni0", mtu: 1400}]`,
		`[{prefix: "fd09::/64", gateway: "fd01::9"}]`,
		`[{prefix: "10.9.2.0/24", type: "blackhole"}]`,
		`[{prefix: "10.9.3.0/24", gateway: "10.1.0.4", metric: 5}]`, // the second of two
		`[{prefix: "10.1.0.0/16", device: "cni0"}]`,                 // the kernel's own
	} {
		c := call(t, pod, routing)
		c.OK("ADD")
		if got := h.dump(); got != h.before {
			t.Errorf("%s: ADD changes something:\n%s", routing, got)
		}
		c.OK("CHECK")
		c.OK("DEL")
		h.restored()
	}
	for routing, says := range map[string]string{
		`[{prefix: "10.9.1.0/24", gateway: "10.1.0.8"}]`:                                        `there is "10.9.1.0/24 via 10.1.0.9 dev cni0 proto static mtu 1400" already, which is not ours`,
		`[{prefix: "10.9.1.0/24", device: "cni0"}]`:                                             `ip route add 10.9.1.0/24 dev cni0: there is "10.9.1.0/24 via 10.1.0.9 dev cni0`,
		`[{prefix: "10.9.1.0/24", gateway: "10.1.0.9", mtu: 1300}]`:                             `there is "10.9.1.0/24`,
		`[{prefix: "10.9.1.0/24", type: "unreachable"}]`:                                        `there is "10.9.1.0/24`,
		`[{prefix: "10.9.2.0/24", gateway: "10.1.0.9"}]`:                                        `there is "blackhole 10.9.2.0/24" already`,
		`[{prefix: "fd09::/64", gateway: "fd01::8"}]`:                                           `there is "fd09::/64 via fd01::9 dev cni0" already`,
		`[{prefix: "fd09::/64", gateway: "fd01::9", src: "fd01::1"}]`:                           `there is "fd09::/64`,
		`[{prefix: "10.9.3.0/24", gateway: "10.1.0.5", metric: 5}]`:                             `there is "10.9.3.0/24 via 10.1.0.3 dev cni0 metric 5" already`,
		`[{prefix: "127.0.0.0/8", device: "cni0", table: 255}]`:                                 `there is "local 127.0.0.0/8 dev lo`,
		`[{prefix: "10.9.7.0/24", device: "cni0"}, {prefix: "10.1.0.0/16", type: "blackhole"}]`: `there is "10.1.0.0/16 dev cni0 proto kernel`,
	} {
		for _, verb := range []string{"ADD", "plan"} {
			call(t, pod, routing, `"tries": 1`).Refused(verb, 101, says)
		}
		h.restored()
	}
}

// Which is not ours does not go by what the kernel answers for its destination:
// a more specific route, or a rule, may answer.
func TestHiddenRoutes(t *testing.T) {
	h := newHost(t, "route add 10.9.0.0/24 via 10.1.0.9", "route add 10.9.0.0/25 via 10.1.0.7", "route add 10.9.0.0/32 via 10.1.0.6")
	pod := newPod(t)
	held := call(t, pod, `[{prefix: "10.9.0.0/24", gateway: "10.1.0.9"}]`)
	held.OK("ADD")
	held.OK("CHECK")
	held.OK("DEL")
	h.restored()
	ours := call(t, pod, `[{prefix: "10.9.0.0/23", gateway: "10.1.0.9"}]`)
	ours.OK("ADD")
	ours.OK("CHECK")
	ours.OK("DEL")
	h.restored()
}

// A pod that is gone without a DEL wants nothing any more: the route of its
// address, which another pod has got, goes with that one. A DEL or GC that comes
// late has nothing to do.
func TestShareOfADeadPod(t *testing.T) {
	h := newHost(t)
	dead := netopstest.Namespace(t, "dead")
	living := newPod(t)
	const routing = `[{prefix: "10.9.0.5", device: "cni0"}, {prefix: "fd09::5", device: "cni0"}]`
	first, second := call(t, dead, routing), call(t, living, routing)
	first.OK("ADD")
	dead.Remove()
	second.OK("ADD")
	second.OK("CHECK")
	second.OK("DEL")
	h.has("")
	first.OK("DEL")
	h.restored()
}

// A DEL after an ADD that failed has no record to go by, and the runtime no
// prevResult to give: that is no warning. What is wrong with a configuration is.
func TestNothingToGoBy(t *testing.T) {
	h := newHost(t)
	c := call(t, newPod(t), podAddresses).Edit(func(conf map[string]any) { delete(conf, "prevResult") })
	c.Refused("ADD", 103, "cannot iterate over: null (there is no prevResult")
	if a := c.OK("DEL"); a.Stderr != "" {
		t.Errorf("DEL says: %s", a.Stderr)
	}
	wrong := c.Edit(func(conf map[string]any) { conf["routing"] = "[" })
	if a := wrong.OK("DEL"); !strings.Contains(a.Stderr, "unexpected EOF") {
		t.Errorf("DEL with a wrong expression says: %s", a.Stderr)
	}
	h.restored()
}

// Two attachments that want a route share it: it goes with the last of them,
// whichever made it, also where they are of other networks, ask for it in other
// words, or stand in one chain.
func TestSharedRoutes(t *testing.T) {
	const both = `[{prefix: "10.9.0.0/24", gateway: "10.1.0.9", mtu: 1400}, {prefix: "fd09::/64", device: "cni0"}]`
	const words = `[{prefix: "10.9.0.77/24", gateway: "10.1.0.9", device: "cni0", metric: 0}, {prefix: "fd09::/64", device: "cni0", metric: 1024}]`
	const there = "10.9.0.0/24 via 10.1.0.9 dev cni0 proto 77 mtu 1400\nfd09::/64 dev cni0 proto 77 metric 1024"
	for name, second := range map[string]func(t *testing.T, pod *netopstest.NS, first plugintest.Call) plugintest.Call{
		"two containers": func(t *testing.T, pod *netopstest.NS, _ plugintest.Call) plugintest.Call { return call(t, pod, words) },
		"two networks": func(_ *testing.T, _ *netopstest.NS, c plugintest.Call) plugintest.Call {
			return c.Edit(func(conf map[string]any) { conf["name"] = "other" })
		},
	} {
		for _, order := range []string{"first", "last"} {
			t.Run(name+", which made it goes "+order, func(t *testing.T) {
				h := newHost(t)
				pod := newPod(t)
				one := call(t, pod, both)
				two := second(t, pod, one)
				one.OK("ADD")
				two.OK("ADD")
				h.has(there)
				if order == "last" {
					one, two = two, one
				}
				if a := one.OK("DEL"); a.Stderr != "" {
					t.Errorf("DEL warns: %s", a.Stderr)
				}
				h.has(there)
				two.OK("CHECK")
				two.OK("DEL")
				h.restored()
			})
		}
	}
	t.Run("one chain", func(t *testing.T) {
		h := newHost(t)
		c := call(t, newPod(t), both)
		c.OK("ADD")
		c.Edit(func(conf map[string]any) { conf["routing"] = words }).OK("ADD")
		c.OK("CHECK")
		c.OK("DEL")
		h.restored()
	})
}

// A failing ADD takes part in nothing: what it shared stays with the others, and
// goes with them.
func TestFailingAddShares(t *testing.T) {
	h := newHost(t)
	pod := newPod(t)
	one := call(t, pod, `[{prefix: "10.9.0.0/24", device: "cni0"}]`)
	two := call(t, pod, `[{prefix: "10.9.0.0/24", device: "cni0"}, {prefix: "10.9.1.0/24", device: "nope"}]`)
	one.OK("ADD")
	two.Refused("ADD", 11)
	h.has("10.9.0.0/24 dev cni0 proto 77 scope link")
	one.OK("DEL")
	h.restored()
	// What carries our tag, and nobody wants, is for whoever meets it.
	h.IP("route add 10.9.0.0/24 dev cni0 proto 77")
	one.OK("ADD")
	one.OK("DEL")
	h.restored()
}

// A route of ours that stands in the way goes if nobody wants it any more, and
// not if somebody lives who does.
func TestReclaim(t *testing.T) {
	h := newHost(t)
	pod, next := newPod(t), netopstest.Namespace(t, "next")
	old := call(t, pod, `[{prefix: "10.9.0.5", gateway: "10.1.0.8"}, {prefix: "fd09::5", gateway: "fd01::8"}]`)
	fresh := call(t, next, podAddresses, `"tries": 1`)
	const ofOld = "10.9.0.5 via 10.1.0.8 dev cni0 proto 77\nfd09::5 via fd01::8 dev cni0 proto 77 metric 1024"
	const ofFresh = "10.9.0.5 dev cni0 proto 77 scope link\nfd09::5 dev cni0 proto 77 metric 1024"
	old.OK("ADD")
	for _, verb := range []string{"plan", "ADD"} {
		fresh.Refused(verb, 101, `ip route add 10.9.0.5 dev cni0: there is "10.9.0.5 via 10.1.0.8 dev cni0" already, which host-routes wants for net1 of container `+
			old.Env["CNI_CONTAINERID"]+" in network net")
	}
	h.has(ofOld)

	pod.Remove() // without a DEL
	if got, want := fresh.OK("plan").Stdout, "# host\nip route del 10.9.0.5 via 10.1.0.8 dev cni0\nip -6 route del fd09::5 via fd01::8 dev cni0\n"+
		"ip route add 10.9.0.5 dev cni0\nip -6 route add fd09::5 dev cni0\n"; got != want {
		t.Errorf("plan: %s, want %s", got, want)
	}
	h.has(ofOld)
	if a := fresh.OK("ADD"); strings.Count(a.Stderr, "gives way") != 2 || !strings.Contains(a.Stderr, `route="10.9.0.5 via 10.1.0.8 dev cni0"`) {
		t.Errorf("no warnings: %q", a.Stderr)
	}
	h.has(ofFresh)
	fresh.OK("CHECK")
	// The leaked attachment's DEL, or GC, hits nothing of the new one's.
	for _, verb := range []string{"GC", "DEL"} {
		old.OK(verb)
		h.has(ofFresh)
	}
	fresh.OK("DEL")
	h.restored()

	// Without any record.
	h.IP("route add 10.9.0.5 via 10.1.0.8 proto 77")
	fresh.OK("ADD")
	h.has(ofFresh)
	fresh.OK("DEL")
	h.restored()
}

// What a record that cannot be read may want is left alone.
func TestUnreadableRecords(t *testing.T) {
	for name, edit := range map[string]func(string) string{
		"newer":   func(text string) string { return strings.Replace(text, `"format":1`, `"format":9`, 1) },
		"damaged": func(text string) string { return text[:len(text)-5] },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			pod := newPod(t)
			one, two := call(t, pod, podAddresses), call(t, pod, podAddresses)
			one.OK("ADD")
			two.OK("ADD")
			path := filepath.Join(stateDir, "host-routes/net", one.Env["CNI_CONTAINERID"]+":net1", "1.finished")
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(edit(string(text))), 0o600); err != nil {
				t.Fatal(err)
			}
			if a := two.OK("DEL"); !strings.Contains(a.Stderr, "may want") {
				t.Errorf("no warning: %s", a.Stderr)
			}
			h.has("10.9.0.5 dev cni0 proto 77 scope link\nfd09::5 dev cni0 proto 77 metric 1024")
			other := call(t, pod, `[{prefix: "10.9.0.5", gateway: "10.1.0.8"}]`, `"tries": 1`)
			other.Refused("ADD", 101, "may want")
			// When nobody can want it any more, the next DEL takes it away.
			_ = os.RemoveAll(stateDir)
			two.OK("DEL")
			_ = os.RemoveAll(stateDir)
			h.restored()
		})
	}
}

// Many attachments that come and go at once, with routes of their own and
// shared ones, some of which fail, leave the host as before.
func TestSweepManyAtOnce(t *testing.T) {
	h := newHost(t, "route add 10.9.250.0/24 via 10.1.0.9")
	var all []plugintest.Call
	for i := range 100 / netopstest.Sample(t, 4) {
		pod := netopstest.Namespace(t, fmt.Sprintf("pod%d", i))
		routing := fmt.Sprintf(`[{prefix: "10.9.%d.0/24", device: "cni0"}, {prefix: "10.10.%d.0/24", gateway: "10.1.0.9"}, {prefix: "fd09:%d::/64", device: "cni0"}]`, i, i%5, i%3)
		if i%10 == 0 {
			routing = fmt.Sprintf(`[{prefix: "10.10.%d.0/24", gateway: "10.1.0.9"}, {prefix: "10.9.250.0/24", device: "cni0"}]`, i%5)
		}
		all = append(all, call(t, pod, routing, `"tries": 1`))
	}
	atOnce := func(do func(i int, c plugintest.Call)) {
		var done sync.WaitGroup
		for i, c := range all {
			done.Go(func() { do(i, c) })
		}
		done.Wait()
	}
	for range 2 {
		atOnce(func(i int, c plugintest.Call) {
			if a := c.Do("ADD"); (a.Exit != 0) != (i%10 == 0) || a.Exit != 0 && a.Error.Code != 101 {
				t.Errorf("ADD: %s%s", a.Stdout, a.Stderr)
			}
		})
		atOnce(func(i int, c plugintest.Call) {
			if i%10 != 0 {
				c.OK("CHECK")
			}
		})
		atOnce(func(i int, c plugintest.Call) {
			if i%2 == 0 { // while others come anew
				c.OK("DEL")
			} else if a := c.OK("ADD"); a.Stderr != "" {
				t.Errorf("a second ADD: %s", a.Stderr)
			}
		})
		atOnce(func(_ int, c plugintest.Call) {
			if a := c.OK("DEL"); a.Stderr != "" {
				t.Errorf("DEL: %s", a.Stderr)
			}
		})
		h.restored()
	}
}

// Whoever is killed in the middle of taking part in a route does not keep it.
func TestKilledWhileSharing(t *testing.T) {
	h := newHost(t)
	pod := newPod(t)
	one := call(t, pod, podAddresses)
	two := call(t, pod, podAddresses)
	for n := range 2 {
		for _, at := range []string{"before", "after"} {
			one.OK("ADD")
			two.Failing(plugintest.Fault{At: at, N: n, Kill: unix.SIGKILL}).Do("ADD")
			one.OK("DEL") // as long as the runtime has not deleted it, it counts
			h.has("10.9.0.5 dev cni0 proto 77 scope link\nfd09::5 dev cni0 proto 77 metric 1024")
			two.OK("DEL")
			h.restored()
		}
	}
}
