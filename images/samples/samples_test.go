// Package samples has a network for each plugin, to begin with. Its tests attach
// a pod to each of them.
package samples

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

const root = "../.."

func TestMain(m *testing.M) {
	os.Exit(netopstest.Main(m, plugintest.Upstream, plugintest.Ours("samples")).Run())
}

// samplesOf are the files of a plugin's samples.
func samplesOf(t *testing.T, plugin string) []string {
	t.Helper()
	files, err := filepath.Glob(plugin + "*.[cy]*")
	if err != nil || files == nil {
		t.Fatalf("each plugin has a sample: %v", err)
	}
	return files
}

// sampleIn is the network configuration of a sample, as a list. The cluster's own
// network comes as one, others come in Multus's objects.
func sampleIn(t *testing.T, file string) (conflist string, own bool) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(file) == ".conflist" {
		return string(text), true
	}
	_, conf, _ := strings.Cut(string(text), "config: |\n")
	var parts map[string]any
	if err := json.Unmarshal([]byte(conf), &parts); err != nil {
		t.Fatal(err)
	}
	if parts["plugins"] != nil {
		return conf, false
	}
	list, err := json.Marshal(map[string]any{"cniVersion": parts["cniVersion"], "name": parts["name"], "plugins": []any{parts}})
	if err != nil {
		t.Fatal(err)
	}
	return string(list), false
}

// newNode makes a node of the namespace that the test runs in: eth0 to the
// cluster, eth1 to an underlay network, and what flanneld says of it.
func newNode(t *testing.T) {
	t.Cleanup(func() {
		for _, dir := range []string{"/var/lib/cni", "/run/cni", "/run/flannel"} {
			_ = os.RemoveAll(dir)
		}
	})
	const env = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
	if err := errors.Join(os.MkdirAll("/run/flannel", 0o755), os.WriteFile("/run/flannel/subnet.env", []byte(env), 0o644)); err != nil {
		t.Fatal(err)
	}
	node := netopstest.Host(t)
	for i, addr := range []string{"192.0.2.10/24", "10.6.0.10/16"} {
		node.IP(fmt.Sprintf("link add eth%d type veth peer name lan%d", i, i))
		node.IP(fmt.Sprintf("addr add %s dev eth%d", addr, i))
		node.IP(fmt.Sprintf("link set eth%d up", i))
		node.IP(fmt.Sprintf("link set lan%d up", i))
	}
	node.IP("route add default via 192.0.2.1")
	t.Cleanup(func() {
		for _, link := range []string{"eth0", "eth1", "cni0", "public0"} {
			_ = exec.Command("ip", "link", "del", link).Run()
		}
	})
}

// cluster is the network that a pod of a cluster has before others.
const cluster = `{"cniVersion": "1.0.0", "name": "cluster", "plugins": [{"type": "bridge", "bridge": "cni0", "isDefaultGateway": true,
	"ipam": {"type": "host-local", "subnet": "10.244.1.0/24"}}]}`

// Every plugin's sample works as it stands: a pod of a cluster is attached to
// it, checked, and detached, and nothing is left.
func TestSamples(t *testing.T) {
	mains, err := filepath.Glob(root + "/plugins/*/*/main.go")
	if err != nil || mains == nil {
		t.Fatal("no plugins", err)
	}
	for _, path := range mains {
		plugin := filepath.Base(filepath.Dir(path))
		for _, file := range samplesOf(t, plugin) {
			t.Run(file, func(t *testing.T) { attached(t, plugin, file) })
		}
	}
}

// attached has a pod attached to a sample, checked, and detached.
func attached(t *testing.T, plugin, file string) {
	newNode(t)
	sample, own := sampleIn(t, file)
	if !strings.Contains(sample, fmt.Sprintf(`"type":%q`, plugin)) && !strings.Contains(sample, fmt.Sprintf(`"type": %q`, plugin)) {
		t.Errorf("%s is not in its own sample", plugin)
	}
	pod := netopstest.Namespace(t, "pod")
	ifname := "eth0"
	if !own {
		plugintest.NewRuntime(t, pod, ifname, cluster).Add()
		ifname = "net1"
	}
	before := steady(pod)
	r := plugintest.NewRuntime(t, pod, ifname, sample)
	r.Add()
	r.OK("CHECK", r.Check())
	r.Del()
	if after := steady(pod); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if left := plugintest.Left(t, "/run/cni"); left != nil {
		t.Errorf("left: %v", left)
	}
}

// steady is what a pod has of addresses and routing that does not change by
// itself, with time or a link's carrier.
func steady(pod *netopstest.NS) string {
	var lines []string
	for line := range strings.Lines(pod.IP("-oneline addr") + pod.Dump()) {
		if !strings.Contains(line, "fe80:") && !strings.Contains(line, "ff00::") {
			line, _, _ = strings.Cut(line, "valid_lft")
			lines = append(lines, strings.ReplaceAll(strings.TrimSpace(line), " linkdown", ""))
		}
	}
	return strings.Join(lines, "\n")
}
