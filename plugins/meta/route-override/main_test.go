package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

func TestMain(m *testing.M) { plugintest.Main(m, plugintest.Upstream) }

const stateDir = "/run/cni"

// newPod is a pod with eth0 of another network and net1 of this one.
func newPod(t testing.TB) *netopstest.NS {
	t.Helper()
	pod := netopstest.Namespace(t, "pod")
	t.Cleanup(func() { _ = os.RemoveAll(stateDir) })
	pod.Veth("eth0", "10.244.1.5/24", "fd00:244::5/64")
	pod.Veth("net1", "10.1.0.5/16", "fd01::5/64")
	pod.Batch(
		"route add default via 10.244.1.1",
		"route add default via 10.1.0.1 dev net1 metric 50",
		"route add 192.168.0.0/24 via 10.1.0.1",
		"route add 169.254.7.0/24 via 10.1.0.1",
		"route add 10.7.0.0/16 dev net1",
		"route add 10.8.0.0/16 via 10.1.0.1 table 100",
		"route add default via fd00:244::1",
		"route add default via fd01::1 dev net1 metric 50",
		"route add fd20::/64 via fd01::1",
	)
	return pod
}

// prevResult is that of a plugin which made net1.
const prevResult = `{
  "cniVersion": "1.1.0",
  "interfaces": [{"name": "host0", "mac": "02:00:00:00:00:01"}, {"name": "net1", "mac": "02:00:00:00:00:02", "mtu": 1500, "sandbox": "/run/netns/pod", "socketPath": "/s", "pciID": "p"}],
  "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1}, {"address": "fd01::5/64", "gateway": "fd01::1", "interface": 1}],
  "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/24", "gw": "10.1.0.1"}, {"dst": "fd20::/64", "gw": "fd01::1", "mtu": 1400}],
  "dns": {"nameservers": ["10.1.0.1"]},
  "unknown": {"kept": true}
}`

// conf is a configuration with these keys beside the usual ones.
func conf(keys string) string {
	if keys != "" {
		keys += ", "
	}
	return `{"cniVersion": "1.1.0", "name": "net", "type": "route-override", ` + keys + `"prevResult": ` + prevResult + `}`
}

func call(t testing.TB, pod *netopstest.NS, keys string) plugintest.Call {
	return plugintest.New(t, routeOverride.Name, pod, conf(keys))
}

func sortedLines(s string) []string { return sorted(strings.Split(s, "\n")) }

// restored fails the test unless the pod's routing is as it was.
func restored(t *testing.T, pod *netopstest.NS, before string) {
	t.Helper()
	if diff := cmp.Diff(before, pod.Dump()); diff != "" {
		t.Errorf("not as before (-want +got):\n%s", diff)
	}
}

// nothingLeft fails the test if there is a record or a lock.
func nothingLeft(t *testing.T) {
	t.Helper()
	if left := plugintest.Left(t, stateDir); left != nil {
		t.Errorf("left: %v", left)
	}
}
