package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

var configurations = flag.Int("configurations", 0, "how many random configurations are added and deleted, if not a sweep or its sample")

// Whatever equal, multipath and mixed routes a pod has, whatever a configuration
// asks for, and wherever the kernel refuses: after an ADD that failed, and after
// DEL, all routes and rules are there again, in their order.
func TestSweepRandomConfigurations(t *testing.T) {
	const lanes = 4
	if *configurations == 0 {
		*configurations = 100 / netopstest.Sample(t, 6)
	}
	t.Cleanup(func() { _ = os.RemoveAll(stateDir) })
	var count outcomes
	t.Run("all", func(t *testing.T) {
		for lane := range uint64(lanes) {
			t.Run(fmt.Sprint(lane), func(t *testing.T) {
				t.Parallel()
				pod := twoInterfaces(t, fmt.Sprint("pod", lane))
				for seed := lane; seed < uint64(*configurations) && !t.Failed(); seed += lanes {
					count.add(restores(t, pod, rand.New(rand.NewPCG(seed, 23)), seed))
				}
			})
		}
	})
	t.Logf("%d changed the pod, %d changed nothing, %d were refused by the kernel, %d by the plugin", count[changed].Load(), count[idle].Load(), count[byKernel].Load(), count[byPlugin].Load())
	for what := range count {
		if count[what].Load() == 0 && netopstest.Whole(t) {
			t.Errorf("there was no outcome %d", what)
		}
	}
	nothingLeft(t)
}

// What may come of a configuration.
const (
	changed  = iota // ADD changes something
	idle            // ADD finds nothing to do
	byKernel        // the first ADD is refused where it was to be, the second succeeds
	byPlugin        // ADD is refused for what it asks for
)

type outcomes [byPlugin + 1]atomic.Int64

func (o *outcomes) add(list []int) {
	for _, what := range list {
		o[what].Add(1)
	}
}

// twoInterfaces is a pod with eth0 of another network, and net1 of this one.
func twoInterfaces(t *testing.T, name string) *netopstest.NS {
	t.Helper()
	pod := netopstest.Namespace(t, name)
	pod.Veth("eth0", "10.2.0.5/16", "fd02::5/64")
	pod.Veth("net1", "10.1.0.5/16", "fd01::5/64")
	pod.IP("rule add pref 7 to 10.9.0.0/16 lookup 100", "route add 10.9.0.0/16 via 10.1.0.9 table 100 proto static")
	return pod
}

// restores fails the test unless a random configuration leaves a random pod as it
// was, in the end. It tells what came of it.
func restores(t *testing.T, pod *netopstest.NS, random *rand.Rand, seed uint64) (came []int) {
	t.Helper()
	table := randomRoutes(random)
	pod.Batch(table...)
	defer pod.IP("route flush proto boot", "-6 route flush proto boot", "route flush proto 99")
	keys := randomKeys(random)
	c := call(t, pod, keys)
	c.Conf = strings.ReplaceAll(c.Conf, "/run/netns/pod", pod.Path)
	before := pod.Dump()
	same := func(when string, a plugintest.Answer) {
		t.Helper()
		if diff := cmp.Diff(netopstest.Unordered(before), netopstest.Unordered(pod.Dump())); diff != "" {
			t.Fatalf("seed %d: {%s} with\n%s\nafter %s (-want +got):\n%s\nexit %d: %s%s", seed, keys, strings.Join(table, "\n"), when, diff, a.Exit, a.Stdout, a.Stderr)
		}
	}
	plan := c.Do("plan")
	first := c.Failing(plugintest.Fault{At: "before", N: random.IntN(8), Deny: unix.EPERM}).Do("ADD")
	if first.Exit == 0 {
		c.OK("DEL")
	}
	same("the first try", first)
	added := c.Do("ADD")
	switch {
	case added.Exit != 0:
		same("a refused ADD", added)
		came = append(came, byPlugin)
	case strings.TrimSpace(plan.Stdout) == "":
		same("an ADD with nothing to do", added)
		came = append(came, idle)
	default:
		came = append(came, changed)
	}
	if first.Exit != 0 && added.Exit == 0 {
		came = append(came, byKernel)
	}
	if added.Exit == 0 && !strings.Contains(keys, "skipcheck") {
		c.After(added).OK("CHECK")
	}
	same("DEL", c.OK("DEL"))
	return came
}

// randomRoutes are routes of few destinations by few gateways: most share both.
func randomRoutes(random *rand.Rand) (lines []string) {
	pick := picker(random)
	seen := map[string]bool{}
	for range 1 + random.IntN(7) {
		line := "route append " + pick("default", "default", "10.9.0.0/16") + pick("", "", " proto 99") + pick("", "", " metric 5") +
			pick(" via 10.1.0.1", " via 10.1.0.2", " via 10.2.0.1", " via 10.1.0.1 mtu 1400", " nexthop via 10.1.0.1 nexthop via 10.2.0.1",
				" nexthop via 10.2.0.1 nexthop via 10.1.0.1 weight 3 nexthop via 10.1.0.2", " nexthop via 10.1.0.1 nexthop via 10.1.0.2", " dev net1 scope link")
		if !seen[line] {
			seen[line] = true
			lines = append(lines, line)
		}
	}
	for _, line := range []string{"-6 route append default via fd01::1", "-6 route append default via fd01::2", "-6 route append default via fd02::1", "-6 route add fd09::/64 nexthop via fd01::1 nexthop via fd02::1",
		"-6 route add fd0a::/64 via fd01::1 metric 9"} {
		if random.IntN(3) == 0 {
			lines = append(lines, line)
		}
	}
	return lines
}

func picker(random *rand.Rand) func(list ...string) string {
	return func(list ...string) string { return list[random.IntN(len(list))] }
}

// randomKeys are those of a configuration that is valid, though not always one that
// can be carried out.
func randomKeys(random *rand.Rand) string {
	pick := picker(random)
	var keys []string
	for _, key := range []string{`"flushroutes": true`, `"flushgateway": true`, `"skipMissingFamilies": true`, `"ignoreErrors": true`} {
		if random.IntN(5) == 0 {
			keys = append(keys, key)
		}
	}
	list := func(key string, entry func() string) {
		var entries []string
		for range random.IntN(4) {
			if e := entry(); !strings.Contains(strings.Join(entries, ""), e) {
				entries = append(entries, e)
			}
		}
		if entries != nil {
			keys = append(keys, fmt.Sprintf(`"%s": [%s]`, key, strings.Join(entries, ", ")))
		}
	}
	list("delroutes", func() string {
		return pick(`{"dst": "0.0.0.0/0"`, `{"dst": "0.0.0.0/0", "gw": "10.1.0.1"`, `{"dst": "10.9.0.0/16"`, `{"dst": "10.9.0.0/16", "gw": "0.0.0.0"`, `{"dst": "::/0"`, `{"dst": "fd09::/64"`, `{"dst": "fd0a::/64", "gw": "fd01::1"`) +
			pick("", "", `, "dev": "eth0"`, `, "metric": 5`) + "}"
	})
	list("addroutes", func() string {
		if random.IntN(3) == 0 {
			return `{"dst": ` + pick(`"::/0"`, `"fd09::/64"`, `"fd0b::/64"`) + pick("", `, "gw": "fd01::9"`, `, "gw": "::"`, `, "gws": ["fd01::1", "fd01::2"]`, `, "dev": "eth0"`) + pick("", "", `, "metric": 3`) + "}"
		}
		return `{"dst": ` + pick(`"0.0.0.0/0"`, `"0.0.0.0/0"`, `"10.9.0.0/16"`, `"172.16.0.0/16"`) +
			pick("", `, "gw": "10.1.0.9"`, `, "gw": "0.0.0.0"`, `, "gws": ["10.1.0.1", "10.1.0.2"]`, `, "gw": "10.2.0.1"`, `, "dev": "eth0"`, `, "type": "blackhole"`) +
			pick("", "", `, "metric": 3`, `, "metric": 5`, `, "table": 100`) + "}"
	})
	list("addrules", func() string {
		return pick(`{"to": "10.9.0.0/16", "table": 100, "priority": 7}`, `{"from": "10.1.0.5", "table": 100, "priority": 9}`, `{"from": "fd01::5", "table": 100}`)
	})
	return strings.Join(keys, ", ")
}
