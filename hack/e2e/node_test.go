package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The node has an uplink to a LAN, up0, one to a second LAN, up1, an address of
// its own for services, and bridges with another machine, far. Behind this there
// are an office and the pods of another node, and behind the second bridge a
// branch. On each LAN there is a gateway with a part of the world behind it, in
// which nobody knows of pods. Bridges are there beforehand, because the plugin
// that makes them leaves them, and keep their hardware addresses, which else
// change as pods come and go. The one of pods is strict about where packets come
// from.
const (
	nodeAddress    = "192.0.2.10"
	nodeOnSecond   = "198.19.0.10"
	serviceAddress = "198.51.100.10"
	officeAddress  = "10.30.0.1"
	branchAddress  = "10.31.0.1"
	otherNode      = "10.22.0.254"
	otherNodesPod  = "10.244.9.9"
	gatewayAddress = "192.0.2.1"
	gatewayMAC     = "0a:00:00:00:01:01"
	worldAddress   = "100.64.1.1" // behind the first LAN
	worldBehind2   = "100.64.2.1"
)

// owners are the namespaces that addresses are in.
var owners = map[string]string{otherNode: "far", worldAddress: "lan1", worldBehind2: "lan2"}

// wire makes the node's network.
func wire() error {
	var problems []error
	for line := range strings.Lines(`
ip link set lo up
ip addr add ` + serviceAddress + `/32 dev lo
ip netns add lan1
ip link add up0 type veth peer name eth0 netns lan1
ip addr add ` + nodeAddress + `/24 dev up0
ip link set up0 up
ip -n lan1 link set eth0 address ` + gatewayMAC + ` up
ip -n lan1 addr add ` + gatewayAddress + `/24 dev eth0
ip -n lan1 link set lo up
ip -n lan1 addr add ` + worldAddress + `/32 dev lo
ip netns add lan2
ip link add up1 type veth peer name eth0 netns lan2
ip addr add ` + nodeOnSecond + `/24 dev up1
ip link set up1 up
ip -n lan2 link set eth0 up
ip -n lan2 addr add 198.19.0.1/24 dev eth0
ip -n lan2 link set lo up
ip -n lan2 addr add ` + worldBehind2 + `/32 dev lo
ip route add default via ` + gatewayAddress + `
ip route add unreachable 203.0.113.0/24
ip link add cni0 address 0a:00:00:00:00:00 type bridge
ip addr add 10.22.0.1/24 dev cni0
ip link set cni0 up
ip link add cni1 address 0a:00:00:00:00:01 type bridge
ip addr add 10.244.3.1/24 dev cni1
ip link set cni1 up
sysctl -qw net.ipv4.conf.cni1.rp_filter=1
ip link add cni2 address 0a:00:00:00:00:02 type bridge
ip addr add 10.23.0.1/24 dev cni2
ip link set cni2 up
sysctl -qw net.ipv4.ip_forward=1
ip netns add far
ip link add farport type veth peer name eth0 netns far
ip link set farport master cni0 up
ip -n far link set lo up
ip -n far addr add ` + otherNode + `/24 dev eth0
ip -n far addr add ` + officeAddress + `/32 dev lo
ip -n far addr add ` + otherNodesPod + `/32 dev lo
ip -n far link set eth0 up
ip link add branchport type veth peer name eth1 netns far
ip link set branchport master cni2 up
ip -n far addr add 10.23.0.254/24 dev eth1
ip -n far addr add ` + branchAddress + `/32 dev lo
ip -n far link set eth1 up
ip -n far route add default via 10.22.0.1
ip route add 10.244.9.0/24 via ` + otherNode) {
		if words := strings.Fields(line); len(words) > 0 {
			_, err := run(words...)
			problems = append(problems, err)
		}
	}
	problems = append(problems, os.MkdirAll("/run/flannel", 0o755),
		os.WriteFile("/run/flannel/subnet.env", []byte("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"), 0o600))
	return errors.Join(problems...)
}

// forget has the node, and the machines around it, forget hardware addresses that
// they have learnt: networks begin with the same addresses, so that one may be of
// an earlier pod.
func forget() error {
	_, err := run("ip", "neigh", "flush", "all")
	for _, other := range owners {
		_, failed := run("ip", "-n", other, "neigh", "flush", "all")
		err = errors.Join(err, failed)
	}
	return err
}

// state is what plugins change on a node and keep there.
func state(t *testing.T) string {
	t.Helper()
	var all []string
	for _, command := range []string{"ip -o route show table all proto 77", "ip -o -6 route show table all proto 77", "ip rule", "ip -6 rule",
		"ip -o neigh show nud permanent", "sysctl -a --pattern [.](rp_filter|disable_ipv6|ip_forward)$"} {
		out, err := run(strings.Fields(command)...)
		ok(t, err)
		for line := range strings.Lines(out) {
			if !strings.Contains(line, ".veth") && !strings.Contains(line, "/veth") { // their sysctls come and go with pods
				all = append(all, line)
			}
		}
	}
	for _, dir := range []string{"/run/cni", "/run/flannel", "/var/lib/cni"} {
		all = append(all, files(t, dir)...)
	}
	return strings.Join(all, "")
}

// inPod is what router changes in a pod.
func inPod(t *testing.T, pod string) string {
	t.Helper()
	out, err := run("ip", "netns", "exec", pod, "sh", "-c", "ip -o route show table all; ip rule; ip -o neigh show nud permanent; ip link; "+
		"sysctl -a --pattern '[.](rp_filter|disable_ipv6)$'")
	ok(t, err)
	return out
}

// files are the files below a folder, without those that host-local always
// leaves.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch name := filepath.Base(path); {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.Type().IsRegular() && name != "lock" && !strings.HasPrefix(name, "last_reserved_ip."):
			list = append(list, path+"\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}
