//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// A hundred pods with two attachments each come and go on a node with 13
// addresses, six of them at a time: in parallel, deleted in any order, some
// after their namespace. Not one address is lost: the last would not get any.
func TestSweepLeases(t *testing.T) {
	writeEnv(t, "/run/flannel", strings.Replace(env4, "10.1.17.1/24", "10.1.17.1/28", 1))
	t.Cleanup(func() { tidy(t) })
	pods, atOnce := 100/netopstest.Sample(t, 4), 6
	seats := make(chan struct{}, atOnce)
	var done sync.WaitGroup
	for i := range pods {
		seats <- struct{}{}
		done.Go(func() {
			defer func() { <-seats }()
			comeAndGo(t, fmt.Sprintf("pod-%d", i))
		})
	}
	done.Wait()
	nothingLeft(t)

	// All of them are free: a pod may have each.
	pod := netopstest.Namespace(t, "last")
	for i := range 13 {
		attachment(t, pod, "last", fmt.Sprintf("net%d", i)).OK("ADD")
	}
	attachment(t, pod, "last", "net13").Refused("ADD", 999, "flannel: bridge: ", "no IP addresses available")
	for i := range 14 {
		attachment(t, pod, "last", fmt.Sprintf("net%d", i)).OK("DEL")
	}
	nothingLeft(t)
}

func attachment(t *testing.T, pod *netopstest.NS, container, ifName string) plugintest.Call {
	return plugintest.New(t, flannel.Name, pod, `{"cniVersion": "1.0.0", "name": "cbr0", "type": "flannel", "delegate": {"hairpinMode": true}}`).
		With(map[string]string{"CNI_PATH": os.Getenv("PATH"), "CNI_CONTAINERID": container, "CNI_IFNAME": ifName})
}

// comeAndGo is the life of a pod. It fails the test without ending it, as it is
// not the test's own goroutine.
func comeAndGo(t *testing.T, name string) {
	pod := netopstest.Namespace(t, name)
	calls := []plugintest.Call{attachment(t, pod, name, "eth0"), attachment(t, pod, name, "net1")}
	both := func(verb string) {
		var done sync.WaitGroup
		for _, c := range calls {
			done.Go(func() {
				if a := c.Do(verb); a.Exit != 0 || a.Stderr != "" {
					t.Errorf("%s %s: %s%s", verb, name, a.Stdout, a.Stderr)
				}
			})
		}
		done.Wait()
	}
	both("ADD")
	rand.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	if rand.N(3) == 0 {
		pod.Remove()
		for i := range calls {
			calls[i] = calls[i].With(map[string]string{"CNI_NETNS": ""})
		}
	}
	if rand.N(2) == 0 {
		both("DEL")
		return
	}
	for _, c := range calls {
		if a := c.Do("DEL"); a.Exit != 0 || a.Stderr != "" {
			t.Errorf("DEL %s: %s%s", name, a.Stdout, a.Stderr)
		}
	}
}

// GC frees what attachments that the runtime no longer knows have left.
func TestGCFreesLeases(t *testing.T) {
	writeEnv(t, "/run/flannel", env4)
	t.Cleanup(func() { tidy(t) })
	pod := netopstest.Namespace(t, "pod")
	kept, lost := attachment(t, pod, "c1", "eth0"), attachment(t, pod, "c1", "net1")
	kept.OK("ADD")
	lost.OK("ADD")
	gc := kept.Edit(func(c map[string]any) {
		c["cniVersion"] = "1.1.0"
		c["cni.dev/valid-attachments"] = []any{map[string]any{"containerID": "c1", "ifname": "eth0"}}
	})
	gc.OK("GC")
	leases, err := filepath.Glob("/var/lib/cni/networks/cbr0/10.*")
	if err != nil || len(leases) != 1 || !strings.HasSuffix(leases[0], "10.1.17.2") {
		t.Errorf("leases: %v, %v", leases, err)
	}
	kept.OK("DEL")
	nothingLeft(t)
}

// The real delegates answer in the version of the request, in every version.
func TestVersions(t *testing.T) {
	writeEnv(t, "/run/flannel", env4)
	t.Cleanup(func() { tidy(t) })
	pod := netopstest.Namespace(t, "pod")
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		c := attachment(t, pod, "c1", "eth0").Edit(func(conf map[string]any) { conf["cniVersion"] = version })
		added := c.OK("ADD")
		if !strings.Contains(added.Stdout, `"cniVersion": "`+version+`"`) || !strings.Contains(added.Stdout, "10.1.17.") {
			t.Errorf("%s: %s", version, added.Stdout)
		}
		c = c.After(added)
		if version >= "0.4.0" {
			c.OK("CHECK")
		}
		if version >= "1.1.0" {
			c.OK("STATUS")
			c.OK("GC")
		}
		c.OK("DEL")
	}
	nothingLeft(t)
}

// What ipam says of addresses gives way to flannel's subnet, and of routes to
// what the real plugins take.
func TestGivenIPAM(t *testing.T) {
	writeEnv(t, "/run/flannel", env4)
	t.Cleanup(func() { tidy(t) })
	pod := netopstest.Namespace(t, "pod")
	c := attachment(t, pod, "c1", "eth0").Edit(func(conf map[string]any) {
		conf["ipam"] = json.RawMessage(`{"subnet": "10.9.0.0/16", "rangeStart": "10.9.0.50", "gateway": "10.9.0.1", "routes": [
			{"dst": "10.2.9.9/16", "gw": "10.1.17.9"}, {"dst": "10.3.9.9"}, {"dst": "10.4.0.0/16", "gw": ""}, {"dst": "10.5.0.0/16", "gw": "0.0.0.0"}]}`)
	})
	added := c.Do("ADD")
	if added.Exit != 0 || strings.Count(added.Stderr, "level=WARN") != 3 || strings.Contains(added.Stdout, "10.9.") || strings.Count(added.Stdout, `"address"`) != 1 {
		t.Errorf("%s%s", added.Stdout, added.Stderr)
	}
	const want = `10.1.0.0/16 via 10.1.17.1 dev eth0
10.1.17.0/24 dev eth0 proto kernel scope link src 10.1.17.2
10.2.0.0/16 via 10.1.17.9 dev eth0
10.3.9.9 via 10.1.17.1 dev eth0
10.4.0.0/16 via 10.1.17.1 dev eth0
10.5.0.0/16 dev eth0
`
	if diff := cmp.Diff(want, strings.ReplaceAll(pod.IP("route show"), " \n", "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.OK("DEL")
	nothingLeft(t)
}

// A network of another name over the same subnet begins its addresses anew: that
// is told at every ADD, as long as leases of another name are there.
func TestAnotherNetworksLeases(t *testing.T) {
	writeEnv(t, "/run/flannel", env4)
	t.Cleanup(func() { tidy(t) })
	const says = `msg="another network has leases of this node's flannel subnet`
	pod := netopstest.Namespace(t, "pod")
	cluster := attachment(t, pod, "c1", "eth0")
	other := attachment(t, netopstest.Namespace(t, "pod2"), "c2", "eth0").Edit(func(conf map[string]any) { conf["name"] = "node" })
	first := cluster.OK("ADD")
	if first.Stderr != "" {
		t.Errorf("alone: %s", first.Stderr)
	}
	for _, verb := range []string{"plan", "ADD"} {
		if a := other.OK(verb); strings.Count(a.Stderr, says) != 1 || !strings.Contains(a.Stderr, "network=node other=cbr0 leases=/var/lib/cni/networks/cbr0\n") {
			t.Errorf("%s: %q", verb, a.Stderr)
		}
	}
	if a := attachment(t, pod, "c1", "net1").OK("ADD"); !strings.Contains(a.Stderr, "network=cbr0 other=node") {
		t.Errorf("the cluster's network: %q", a.Stderr)
	}
	// With a folder of its own it does not see them, nor where they are gone.
	apart := other.Edit(func(conf map[string]any) { conf["ipam"] = map[string]any{"dataDir": "/run/leases"} })
	t.Cleanup(func() { _ = os.RemoveAll("/run/leases") })
	if a := apart.OK("plan"); a.Stderr != "" {
		t.Errorf("in a folder of its own: %q", a.Stderr)
	}
	cluster.OK("DEL")
	attachment(t, pod, "c1", "net1").OK("DEL")
	if a := other.OK("plan"); a.Stderr != "" {
		t.Errorf("their leases are gone: %q", a.Stderr)
	}
	other.OK("DEL")
	nothingLeft(t)
}
