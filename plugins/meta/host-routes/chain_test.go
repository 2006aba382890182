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

// bridgeChain gives the pod an address that the host's own subnet does not
// hold, and a route to it by the bridge.
const bridgeChain = `{ "cniVersion": "%s", "name": "mybridge", "plugins": [
  { "type": "bridge", "bridge": "cni1", "ipam": { "type": "host-local", "dataDir": "/run/ipam", "ranges": [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]] } },
  { "type": "host-routes", "routing": "[.prevResult.ips[] | {prefix: (.address | split(\"/\")[0]), device: \"cni1\"}]" } ] }`

// leases are those that host-local holds.
func leases(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("/run/ipam/mybridge/[0-9f]*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// bridgeHost is a host on which bridge has worked already: its bridge stays.
func bridgeHost(t *testing.T) (h *host, pod *netopstest.NS) {
	t.Helper()
	h = newHost(t)
	h.IP("link add cni1 type bridge", "link set cni1 addrgenmode none", "link set cni1 up")
	t.Cleanup(func() {
		h.IP("link del cni1")
		_ = os.RemoveAll("/run/ipam")
	})
	pod = newPod(t)
	h.before = h.dump()
	return h, pod
}

// nothingLeft waits for the pod's interface to vanish from the bridge, which
// takes a moment.
func (h *host) nothingLeft() {
	h.t.Helper()
	for l := range strings.Lines(h.IP("-o link show master cni1")) {
		dev, _, _ := strings.Cut(strings.Fields(l)[1], "@")
		h.IP("link del " + dev)
	}
	h.restored()
}

// Every verb of every version, through libcni.
func TestBridgeChain(t *testing.T) {
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			h, pod := bridgeHost(t)
			r := plugintest.NewRuntime(t, pod, "eth0", fmt.Sprintf(bridgeChain, version))
			r.Add()
			if got := h.routes(); !strings.Contains(got, "10.22.0.2 dev cni1 proto 77 scope link") || !strings.Contains(got, "fd00:22::2 dev cni1 proto 77 metric 1024") {
				t.Errorf("routes:\n%s", got)
			}
			if version >= "0.4.0" {
				r.OK("CHECK", r.Check())
			}
			if version >= "1.1.0" {
				r.OK("STATUS", r.Status())
				r.OK("GC", r.GC([]types.GCAttachment{{ContainerID: "c1", IfName: "eth0"}}))
				if !strings.Contains(h.routes(), "10.22.0.2 dev cni1") {
					t.Error("GC of a valid attachment took its routes")
				}
				h.IP("route del 10.22.0.2 dev cni1")
				if err := r.Check(); err == nil || !strings.Contains(err.Error(), "ip route add 10.22.0.2 dev cni1: missing") {
					t.Errorf("CHECK of a route that is gone: %v", err)
				}
			}
			r.Del()
			r.Del()
			h.nothingLeft()
			if got := leases(t); got != nil {
				t.Errorf("leases left: %v", got)
			}
		})
	}
}

// A failing ADD gives the plugin's words to the runtime, leaves no lease, and
// the next one works.
func TestFailingChain(t *testing.T) {
	h, pod := bridgeHost(t)
	failing := strings.Replace(fmt.Sprintf(bridgeChain, "1.1.0"), `device: \"cni1\"`, `device: \"cni9\"`, 1)
	r := plugintest.NewRuntime(t, pod, "eth0", failing)
	const want = `host-routes: ip route add 10.22.0.2 dev cni9: no such interface: "cni9"`
	if _, err := r.AddNetworkList(t.Context(), r.List, r.Args); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("ADD: %v, want %s", err, want)
	}
	r.Del()
	h.nothingLeft()
	if got := leases(t); got != nil {
		t.Errorf("leases left: %v", got)
	}
	r = plugintest.NewRuntime(t, pod, "eth0", fmt.Sprintf(bridgeChain, "1.1.0"))
	r.Add()
	r.OK("CHECK", r.Check())
	r.Del()
	h.nothingLeft()
}

// Alone, as a network of its own.
func TestAlone(t *testing.T) {
	h := newHost(t)
	r := plugintest.NewRuntime(t, newPod(t), "eth0", `{"cniVersion": "1.1.0", "name": "alone", "plugins": [
		{"type": "host-routes", "routing": "[{prefix: \"198.51.100.0/24\", type: \"blackhole\"}]"}]}`)
	r.Add()
	h.has("blackhole 198.51.100.0/24 proto 77")
	r.OK("CHECK", r.Check())
	r.OK("STATUS", r.Status())
	r.Del()
	h.restored()
}

// cnitool is what people try a chain with.
func TestCnitool(t *testing.T) {
	h, pod := bridgeHost(t)
	t.Cleanup(func() { _ = os.RemoveAll("/var/lib/cni") }) // its cache
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "10-mybridge.conflist"), fmt.Appendf(nil, bridgeChain, "1.1.0"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"add", "check", "status", "del", "add", "gc"} {
		cmd := exec.Command("cnitool", verb, "mybridge", pod.Path)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NETCONFPATH=" + dir, "CNI_PATH=" + os.Getenv("PATH"), "CNI_IFNAME=eth0"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cnitool %s: %v: %s", verb, err, out)
		}
		if added := strings.Contains(h.routes(), "10.22.0."); added != (verb == "add" || verb == "check" || verb == "status") {
			t.Errorf("after cnitool %s:\n%s", verb, h.routes())
		}
	}
	h.nothingLeft()
}
