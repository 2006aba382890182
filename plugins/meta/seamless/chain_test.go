package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// byOldName puts the plugin on PATH as existing configurations call it. (The
// test binary goes by the name that it is called by; a released one does not.)
func byOldName(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	binary, err := exec.LookPath(seamless.Name)
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", binary)
	if err := os.WriteFile(filepath.Join(dir, "seamless-static-route"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

const bridgeChain = `{ "cniVersion": "%s", "name": "mybridge", "plugins": [
  { "type": "bridge", "bridge": "cni0", "ipam": { "type": "host-local", "dataDir": "/run/ipam", "ranges": [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]],
    "routes": [{"dst": "0.0.0.0/0"}] }, "isGateway": true },
  { "type": "%s", "families": ["ipv4", "ipv6"], "routes": [{"dst": "172.16.0.0/12"}] } ] }`

// Every verb of every version, through libcni, under both names.
func TestSweepBridgeChain(t *testing.T) {
	byOldName(t)
	for i, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		for j, name := range []string{"seamless", "seamless-static-route"} {
			if (i+j)%netopstest.Sample(t, 2) != 0 {
				continue
			}
			t.Run(version+" "+name, func(t *testing.T) {
				newNode(t, usual...)
				t.Cleanup(func() {
					netopstest.Host(t).IP("link del cni0")
					_ = os.RemoveAll("/run/ipam")
				})
				pod := netopstest.Namespace(t, "pod")
				before := pod.Dump()
				r := plugintest.NewRuntime(t, pod, "eth0", fmt.Sprintf(bridgeChain, version, name))
				r.Add()
				hasRoutes(t, pod, `default via 10.22.0.1 dev eth0
					172.16.0.0/12 via 10.22.0.1 dev eth0 proto 77
					192.0.2.10 via 10.22.0.1 dev eth0 proto 77
					2001:db8::10 via fd00:22::1 dev eth0 proto 77 metric 1024`)
				if version >= "0.4.0" {
					r.OK("CHECK", r.Check())
				}
				if version >= "1.1.0" {
					r.OK("STATUS", r.Status())
					r.OK("GC", r.GC([]types.GCAttachment{{ContainerID: "c1", IfName: "eth0"}}))
					r.OK("CHECK", r.Check())
				}
				r.Del()
				r.Del()
				restored(t, pod, before)
			})
		}
	}
}

// What ADD did under one name, DEL undoes under the other.
func TestNames(t *testing.T) {
	byOldName(t)
	newNode(t, usual...)
	pod := newPod(t, "10.131.0.43/23")
	before := pod.Dump()
	c := call(t, pod, "")
	other := c
	other.Plugin = "seamless-static-route"
	other.OK("ADD")
	if left := plugintest.Left(t, stateDir+"/seamless/net"); left == nil {
		t.Error("no record of seamless")
	}
	if a := other.Edit(func(conf map[string]any) { conf["hostIPs"] = 5 }).Refused("ADD", 7); !strings.HasPrefix(a.Error.Msg, "seamless: ") {
		t.Errorf("it calls itself otherwise: %s", a.Error.Msg)
	}
	c.OK("DEL")
	restored(t, pod, before)
}

// As a second network of the pod, by an interface that is not CNI_IFNAME.
func TestSecondNetwork(t *testing.T) {
	newNode(t, usual...)
	pod := newPod(t, "10.131.0.43/23")
	pod.Veth("net1", "10.1.0.5/16")
	before := pod.Dump()
	r := plugintest.NewRuntime(t, pod, "net1", `{"cniVersion": "1.1.0", "name": "node", "plugins": [{"type": "seamless"}]}`)
	r.Add()
	hasRoutes(t, pod, "192.0.2.10 via 10.131.0.1 dev eth0 proto 77")
	r.OK("CHECK", r.Check())
	r.Del()
	restored(t, pod, before)
}

// cnitool is what people try a network with.
func TestCnitool(t *testing.T) {
	newNode(t, usual...)
	t.Cleanup(func() { _ = os.RemoveAll("/var/lib/cni") }) // its cache
	pod := newPod(t, "10.131.0.43/23")
	before := pod.Dump()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "10-node.conflist"), []byte(`{"cniVersion": "1.1.0", "name": "node", "plugins": [{"type": "seamless"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"add", "check", "status", "del", "add", "gc"} {
		cmd := exec.Command("cnitool", verb, "node", pod.Path)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NETCONFPATH=" + dir, "CNI_PATH=" + os.Getenv("PATH"), "CNI_IFNAME=eth0"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cnitool %s: %v: %s", verb, err, out)
		}
		if added := strings.Contains(mains(pod), "192.0.2.10"); added != (verb == "add" || verb == "check" || verb == "status") {
			t.Errorf("after cnitool %s:\n%s", verb, mains(pod))
		}
	}
	restored(t, pod, before)
}

// Two networks of a pod that lead to its node share the route.
func TestTwoNetworks(t *testing.T) {
	newNode(t, usual...)
	pod := newPod(t, "10.131.0.43/23")
	before := pod.Dump()
	one := call(t, pod, "")
	two := alone(t, pod, "").Edit(func(conf map[string]any) { conf["name"] = "other" })
	one.OK("ADD")
	two.OK("ADD")
	one.OK("DEL")
	two.OK("CHECK")
	hasRoutes(t, pod, "192.0.2.10 via 10.131.0.1 dev eth0 proto 77")
	two.OK("DEL")
	restored(t, pod, before)
}
