//go:build podman

package container

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// node is a machine of its own as far as its network and what runtimes and
// plugins keep go. Its processes end with the test.
type node struct {
	*testing.T
	pid string // of a process that is in its namespaces
}

func newNode(t *testing.T) node {
	t.Helper()
	const furnish = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && ip link set lo up && echo there && exec sleep 600"
	cmd := exec.Command("unshare", "--mount", "--net", "sh", "-c", furnish)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := out.Read(make([]byte, len("there\n"))); err != nil {
		t.Fatalf("it has no namespaces of its own: %v", err)
	}
	return node{t, strconv.Itoa(cmd.Process.Pid)}
}

func (n node) podman(args ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"--mount", "--net", "--target", n.pid, "podman"}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// clusterNetwork is a node's primary network. It needs a plugin that only the
// image has.
const clusterNetwork = `{ "cniVersion": "1.0.0", "name": "cluster", "plugins": [
  { "type": "bridge", "bridge": "cni0", "ipam": { "type": "host-local", "subnet": "10.244.1.0/24" } },
  { "type": "route-override", "addroutes": [ { "dst": "10.30.0.0/16", "gw": "10.244.1.254" } ] } ] }`

// On a node whose primary network names a plugin that is not there yet no pod of
// that network starts. The installer's does, since it is on the node's network, and
// then all others do.
func TestNeedsNotWhatItInstalls(t *testing.T) {
	n := newNode(t)
	for _, name := range []string{"bridge", "host-local"} {
		if out, err := exec.Command("cp", "../../../bin/upstream/"+name, plugins).CombinedOutput(); err != nil {
			t.Fatalf("scripts/build_upstream.sh makes it: %s", out)
		}
	}
	if err := os.WriteFile(filepath.Join(networks, "cluster.conflist"), []byte(clusterNetwork), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(filepath.Join(networks, "cluster.conflist")) })
	pod := []string{"run", "--rm", "--network=cluster", image(version1), "--version"}
	if out, err := n.podman(pod...); err == nil || !strings.Contains(strings.ReplaceAll(out, `\`, ""), `failed to find plugin "route-override" in path`) {
		t.Fatalf("a pod of the cluster's network: %v: %s", err, out)
	}
	args := confined(plugins, version1)
	if out, err := n.podman(append([]string{args[0], "--detach", "--name=first"}, args[1:]...)...); err != nil {
		t.Fatalf("the installer's pod: %v: %s", err, out)
	}
	t.Cleanup(func() { _, _ = n.podman("rm", "--force", "--time=0", "first") })
	until(t, "installed", func() bool { _, err := n.podman("exec", "first", "/installer", "probe", "ready"); return err == nil })
	if out, err := n.podman(pod...); err != nil || out != "cni-netops installer "+version1 {
		t.Errorf("a pod of the cluster's network, after that: %v: %s", err, out)
	}
}

// run runs a script on the node.
func (n node) run(script string) string {
	n.Helper()
	out, err := exec.Command("nsenter", "--mount", "--net", "--target", n.pid, "sh", "-euc", script).CombinedOutput()
	if err != nil {
		n.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// addPod makes a pod, for which host-routes makes a route on the node.
func (n node) addPod(bin, name, dst string) {
	n.Helper()
	n.run(`ip netns add ` + name + `
		CNI_COMMAND=ADD CNI_CONTAINERID=` + name + ` CNI_NETNS=/run/netns/` + name + ` CNI_IFNAME=eth0 CNI_PATH=` + bin + ` ` + bin + `/host-routes <<'END'
{ "cniVersion": "1.1.0", "name": "net", "type": "host-routes", "routing": "[{prefix: \"` + dst + `\", device: \"cni0\"}]" }
END`)
}

// The collector, with the rights and folders that the chart gives it, takes back
// what a pod has left that went without a DEL, and nothing of pods that live: not of
// one that was there before it, nor of one that came later.
func TestCollects(t *testing.T) {
	n, bin := newNode(t), newBin(t)
	once(t, bin, version1)
	n.run("mount --make-rshared /; ip link add cni0 type bridge; ip addr add 10.244.1.1/24 dev cni0; ip link set cni0 up")
	n.addPod(bin, "before", "10.8.1.0/24")
	n.addPod(bin, "gone", "10.8.2.0/24")
	if out, err := n.podman("run", "--detach", "--name=gc", "--network=host", "--read-only", "--read-only-tmpfs=false", "--user=0:0",
		"--cap-drop=all", "--cap-add=NET_ADMIN,SYS_ADMIN,SYS_CHROOT", "--volume=/:/host:rslave", image(version1), "gc", "--interval=1s", "--bin="+bin); err != nil {
		t.Fatalf("the collector's container: %v: %s", err, out)
	}
	t.Cleanup(func() { _, _ = n.podman("rm", "--force", "--time=0", "gc") })
	n.addPod(bin, "later", "10.8.3.0/24")
	n.run("ip netns del gone")
	logs := func() string { out, _ := n.podman("logs", "gc"); return out }
	until(t, "collected", func() bool { return strings.Contains(logs(), "eth0 of container gone in network net: taken back") })
	routes := n.run("ip route show proto 77")
	for dst, lives := range map[string]bool{"10.8.1.0/24": true, "10.8.2.0/24": false, "10.8.3.0/24": true} {
		if strings.Contains(routes, dst) != lives {
			t.Errorf("%s, want it: %v; there are\n%s", dst, lives, routes)
		}
	}
	if said := logs(); strings.Count(said, "taken back") != 1 || strings.Contains(said, "gc: ") {
		t.Errorf("it says\n%s", said)
	}
}
