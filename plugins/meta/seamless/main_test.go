package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

func TestMain(m *testing.M) { plugintest.Main(m, plugintest.Upstream) }

const stateDir = "/run/cni"

// newNode makes the namespace that the tests run in, and the plugin with them, a
// node with an interface up0, which these lines furnish.
func newNode(t testing.TB, lines ...string) *netopstest.NS {
	t.Helper()
	node := netopstest.Host(t)
	node.IP("link add up0 type bridge", "link set up0 addrgenmode none", "link set up0 up")
	t.Cleanup(func() {
		node.IP("link del up0")
		_ = os.RemoveAll(stateDir)
	})
	node.IP(lines...)
	return node
}

// usual is what makes a node one of both families.
var usual = []string{
	"addr add 192.0.2.10/24 dev up0", "addr add 2001:db8::10/64 dev up0 nodad",
	"route add default via 192.0.2.1", "-6 route add default via 2001:db8::1",
}

// newPod is a pod with an interface eth0 that has these addresses.
func newPod(t testing.TB, addrs ...string) *netopstest.NS {
	t.Helper()
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", addrs...)
	return pod
}

// call is a call for a pod, in a chain after a plugin that made eth0.
func call(t testing.TB, pod *netopstest.NS, keys string) plugintest.Call {
	return alone(t, pod, keys).Edit(func(conf map[string]any) { conf["prevResult"] = json.RawMessage(prevResult) })
}

const prevResult = `{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod", "mtu": 1500}],
  "ips": [{"address": "10.131.0.43/23", "gateway": "10.131.1.254", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}], "unknown": 5}`

// alone is a call for the plugin as a network of its own.
func alone(t testing.TB, pod *netopstest.NS, keys string) plugintest.Call {
	if keys != "" {
		keys = ", " + keys
	}
	return plugintest.New(t, seamless.Name, pod, `{"cniVersion": "1.1.0", "name": "net", "type": "seamless-static-route"`+keys+`}`).
		With(map[string]string{"CNI_IFNAME": "eth0"})
}

// mains are the routes of table main, but for those that the kernel made.
func mains(ns *netopstest.NS) string {
	var kept []string
	for l := range strings.Lines(ns.IP("-4 route show") + ns.IP("-6 route show")) {
		if l = strings.TrimSpace(l); !strings.Contains(l, "proto kernel") {
			kept = append(kept, strings.ReplaceAll(strings.ReplaceAll(l, " pref medium", ""), "  ", " "))
		}
	}
	return strings.Join(kept, "\n")
}

func hasRoutes(t *testing.T, ns *netopstest.NS, want string) {
	t.Helper()
	sorted := func(s string) (lines []string) {
		for l := range strings.Lines(strings.TrimSpace(s)) {
			lines = append(lines, strings.TrimSpace(l))
		}
		slices.Sort(lines)
		return lines
	}
	if diff := cmp.Diff(sorted(want), sorted(mains(ns))); diff != "" {
		t.Errorf("table main (-want +got):\n%s", diff)
	}
}

// restored fails the test unless the pod's routing is as it was, and nothing is
// left.
func restored(t *testing.T, pod *netopstest.NS, before string) {
	t.Helper()
	if diff := cmp.Diff(before, pod.Dump()); diff != "" {
		t.Errorf("the pod is not as before (-want +got):\n%s", diff)
	}
	if left := plugintest.Left(t, stateDir); left != nil {
		t.Errorf("left: %v", left)
	}
}

// runIP runs ip(8) on the node, and does not mind how it goes.
func runIP(line string) error { return exec.Command("ip", strings.Fields(line)...).Run() }
