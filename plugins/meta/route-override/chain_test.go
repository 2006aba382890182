package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// lan is a node's interface eth1 in the test's own namespace, for macvlan.
func lan(t *testing.T) {
	t.Helper()
	netopstest.Host(t).IP("link add eth1 type veth peer name eth1-lan", "link set eth1 up", "link set eth1-lan up")
	t.Cleanup(func() { netopstest.Host(t).IP("link del eth1") })
}

const macvlanChain = `{ "cniVersion": "%s", "name": "mymacvlan", "plugins": [
  { "type": "macvlan", "master": "eth1", "mode": "bridge", "ipam": { "type": "static",
      "addresses": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}, {"address": "fd01::5/64", "gateway": "fd01::1"}],
      "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "172.16.0.0/16"}, {"dst": "192.168.0.0/24"}] } },
  { "type": "route-override", "flushroutes": true,
    "delroutes": [ { "dst": "192.168.0.0/24" } ],
    "addroutes": [ { "dst": "192.168.0.0/24", "gw": "10.1.254.254" }, { "dst": "fd20::/64" } ] },
  { "type": "route-override", "addroutes": [ { "dst": "172.20.0.0/16", "mtu": 1400 } ] } ] }`

// The chain of the specification, by every verb of every version.
func TestMacvlanChain(t *testing.T) {
	lan(t)
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			pod := netopstest.Namespace(t, "pod")
			t.Cleanup(func() { _ = os.RemoveAll(stateDir) })
			before := pod.Dump()
			r := plugintest.NewRuntime(t, pod, "net1", fmt.Sprintf(macvlanChain, version))
			r.Add()
			want := lines(`172.20.0.0/16 via 10.1.0.1 dev net1 proto 77 mtu 1400
				192.168.0.0/24 via 10.1.254.254 dev net1 proto 77
				fd20::/64 via fd01::1 dev net1 proto 77 metric 1024`)
			if diff := cmp.Diff(want, mains(pod)); diff != "" {
				t.Errorf("table main (-want +got):\n%s", diff)
			}
			if version >= "0.4.0" {
				r.OK("CHECK", r.Check())
				pod.IP("route add 172.16.0.0/16 via 10.1.0.1") // macvlan's CHECK does not mind
				var drift *types.Error
				if err := r.Check(); !errors.As(err, &drift) || drift.Code != 106 {
					t.Errorf("CHECK after somebody put a removed route back: %v", err)
				}
			}
			if version >= "1.1.0" {
				r.OK("STATUS", r.Status())
				r.OK("GC", r.GC([]types.GCAttachment{{ContainerID: "c1", IfName: "net1"}}))
				if got := mains(pod); !strings.Contains(got, "192.168.0.0/24 via 10.1.254.254") {
					t.Errorf("GC of a valid attachment took its routes:\n%s", got)
				}
			}
			r.Del()
			r.Del()
			restored(t, pod, before)
			nothingLeft(t)
		})
	}
}

const bridgeChain = `{ "cniVersion": "1.1.0", "name": "mybridge", "plugins": [
  { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": { "type": "host-local", "dataDir": "/run/ipam",
      "ranges": [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}] } },
  { "type": "route-override", "flushgateway": true, "addroutes": [ %s ] } ] }`

// A failing ADD gives the plugin's words to the runtime, leaves no lease, and
// the next one works.
func TestFailingChain(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	t.Cleanup(func() {
		_ = os.RemoveAll(stateDir)
		netopstest.Host(t).IP("link del cni0")
	})
	before := pod.Dump()
	r := plugintest.NewRuntime(t, pod, "eth0", fmt.Sprintf(bridgeChain, `{"dst": "172.16.0.0/16", "gw": "10.99.0.1"}`))
	_, err := r.AddNetworkList(t.Context(), r.List, r.Args)
	const want = "route-override: ip route add 172.16.0.0/16 via 10.99.0.1 dev eth0: network is unreachable"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("ADD: %v, want %s", err, want)
	}
	r.Del()
	restored(t, pod, before)
	r = plugintest.NewRuntime(t, pod, "eth0", fmt.Sprintf(bridgeChain, `{"dst": "172.16.0.0/16"}`))
	r.Add()
	r.OK("CHECK", r.Check())
	r.Del()
	leases, err := filepath.Glob("/run/ipam/mybridge/[0-9f]*")
	if err != nil || leases != nil {
		t.Errorf("leases left: %v, %v", leases, err)
	}
}

// cnitool is what people try a chain with.
func TestCnitool(t *testing.T) {
	lan(t)
	t.Cleanup(func() { _ = os.RemoveAll("/var/lib/cni") }) // its cache
	pod := netopstest.Namespace(t, "pod")
	t.Cleanup(func() { _ = os.RemoveAll(stateDir) })
	before := pod.Dump()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "10-mymacvlan.conflist"), fmt.Appendf(nil, macvlanChain, "1.1.0"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"add", "check", "status", "del", "add", "gc"} {
		cmd := exec.Command("cnitool", verb, "mymacvlan", pod.Path)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NETCONFPATH=" + dir, "CNI_PATH=" + os.Getenv("PATH"), "CNI_IFNAME=net1"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cnitool %s: %v: %s", verb, err, out)
		}
		if added := strings.Contains(mains(pod), "172.20.0.0/16"); added != (verb == "add" || verb == "check" || verb == "status") {
			t.Errorf("after cnitool %s:\n%s", verb, mains(pod))
		}
	}
	restored(t, pod, before)
	nothingLeft(t)
}

// Networks of one pod that are added, checked and deleted in parallel do not
// take back each other's changes; ADDs of many pods do not wait for each other.
func TestSweepInParallel(t *testing.T) {
	pods, networks := 20/netopstest.Sample(t, 3), 5
	type attachment struct {
		call  plugintest.Call
		added plugintest.Answer
	}
	var all []*attachment
	var namespaces []*netopstest.NS
	var before []string
	t.Cleanup(func() { _ = os.RemoveAll(stateDir) })
	for p := range pods {
		pod := netopstest.Namespace(t, fmt.Sprintf("pod%d", p))
		for n := range networks {
			dev := fmt.Sprintf("net%d", n)
			pod.Veth(dev, fmt.Sprintf("10.%d.0.5/16", n))
			pod.IP(fmt.Sprintf("route append default via 10.%d.0.1", n), fmt.Sprintf("route add 192.168.%d.0/24 via 10.%d.0.1", n, n))
			c := plugintest.New(t, routeOverride.Name, pod, fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "network-%d", "type": "route-override",
				"flushroutes": true, "addroutes": [{"dst": "172.%d.0.0/16"}], "prevResult": {"interfaces": [{"name": "%s", "sandbox": "x"}],
				"ips": [{"address": "10.%d.0.5/16", "gateway": "10.%d.0.1", "interface": 0}]}}`, n, 16+n, dev, n, n))
			all = append(all, &attachment{call: c.With(map[string]string{"CNI_IFNAME": dev, "CNI_CONTAINERID": pod.Name})})
		}
		namespaces, before = append(namespaces, pod), append(before, pod.Dump())
	}
	atOnce := func(do func(*attachment)) {
		var done sync.WaitGroup
		for _, a := range all {
			done.Go(func() { do(a) })
		}
		done.Wait()
	}
	var want []string
	for n := range networks {
		want = append(want, fmt.Sprintf("172.%d.0.0/16 via 10.%d.0.1 dev net%d proto 77", 16+n, n, n))
	}
	for range 2 {
		atOnce(func(a *attachment) {
			if a.added = a.call.Do("ADD"); a.added.Exit != 0 {
				t.Errorf("ADD: %s", a.added.Stdout)
			}
		})
		for _, pod := range namespaces {
			if diff := cmp.Diff(strings.Join(want, "\n"), mains(pod)); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", pod.Name, diff)
			}
		}
		atOnce(func(a *attachment) {
			if got := a.call.After(a.added).Do("CHECK"); got.Exit != 0 {
				t.Errorf("CHECK: %s", got.Stdout)
			}
		})
		atOnce(func(a *attachment) {
			if got := a.call.Do("DEL"); got.Exit != 0 || got.Stderr != "" {
				t.Errorf("DEL: %s%s", got.Stdout, got.Stderr)
			}
		})
		for i, pod := range namespaces {
			// Which of the equal default routes comes first is the others' doing.
			if diff := cmp.Diff(sortedLines(before[i]), sortedLines(pod.Dump())); diff != "" {
				t.Fatalf("%s: not as before (-want +got):\n%s", pod.Name, diff)
			}
		}
		nothingLeft(t)
	}
}

// A route that one network added and another removed does not come back when
// nobody wants it any more; one whose gateway lies behind a route that an
// earlier entry removed does.
func TestUndoKnowsOtherRecords(t *testing.T) {
	pod := newPod(t)
	pod.IP("route add 10.5.0.1 dev net1", "route add 10.6.0.0/16 via 10.5.0.1 dev net1")
	before := pod.Dump()
	first := call(t, pod, `"addroutes": [{"dst": "172.16.0.0/16", "type": "blackhole"}], "delroutes": [{"dst": "10.5.0.1"}]`)
	first.OK("ADD")
	again := first.Edit(func(conf map[string]any) {
		conf["addroutes"], conf["delroutes"] = nil, []any{map[string]any{"dst": "10.6.0.0/16"}}
	})
	again.OK("ADD")
	other := call(t, pod, `"delroutes": [{"dst": "172.16.0.0/16"}]`).Edit(func(conf map[string]any) { conf["name"] = "other" })
	other.OK("ADD")
	if a := first.OK("DEL"); a.Stderr != "" {
		t.Errorf("DEL warns: %s", a.Stderr)
	}
	other.OK("DEL")
	restored(t, pod, before)
	nothingLeft(t)

	// The other way round the first still wants its route, also where its record
	// is one of a later version, that cannot be asked.
	first.OK("ADD")
	during := mains(pod)
	for _, format := range []string{`"format":1`, `"format":9`} {
		record := stateDir + "/route-override/net/" + first.Env["CNI_CONTAINERID"] + ":net1/1.finished"
		data, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(record, bytes.Replace(data, []byte(`"format":1`), []byte(format), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		other.OK("ADD")
		other.OK("DEL")
		if diff := cmp.Diff(during, mains(pod)); diff != "" {
			t.Errorf("%s: the first network's route did not come back (-want +got):\n%s", format, diff)
		}
	}
}

// A route that two networks of a pod ask for goes with the last of them, in
// whatever order they go, and is as each asked for it as long.
func TestRouteOfTwoNetworks(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		pod := newPod(t)
		before := pod.Dump()
		one := call(t, pod, `"addroutes": [{"dst": "172.16.0.0/16", "mtu": 1400}, {"dst": "172.17.0.0/16", "type": "blackhole"}, {"dst": "172.18.0.0/16"}]`)
		two := call(t, pod, `"addroutes": [{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16", "type": "blackhole"}]`).Edit(func(conf map[string]any) { conf["name"] = "other" })
		networks := []plugintest.Call{one, two}
		added := []plugintest.Answer{one.OK("ADD"), two.OK("ADD")}
		first, last := order[0], order[1]
		if a := networks[first].OK("DEL"); a.Stderr != "" {
			t.Errorf("DEL warns: %s", a.Stderr)
		}
		networks[last].After(added[last]).OK("CHECK")
		if first == 0 {
			pod.IP("route change 172.16.0.0/16 via 10.1.0.1 dev net1 proto 77") // of the mtu the second asked nothing
			networks[last].After(added[last]).OK("CHECK")
		}
		for _, dst := range []string{"172.16.0.0/16", "172.17.0.0/16"} {
			if !strings.Contains(mains(pod), dst) {
				t.Errorf("%s has gone with the first of two", dst)
			}
		}
		networks[last].OK("DEL")
		restored(t, pod, before)
		nothingLeft(t)
		pod.Remove()
	}
}
