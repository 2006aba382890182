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

// The node has an uplink, up0, an address of its own for services, and bridges
// with another machine, far. Behind this there are an office and the pods of
// another node, and behind the second bridge a branch. Bridges are there
// beforehand, because the plugin that makes them leaves them, and keep their
// hardware addresses, which else change as pods come and go.
const (
	nodeAddress    = "192.0.2.10"
	serviceAddress = "198.51.100.10"
	officeAddress  = "10.30.0.1"
	branchAddress  = "10.31.0.1"
	otherNodesPod  = "10.244.9.9"
)

// wire makes the node's network.
func wire() error {
	var problems []error
	for line := range strings.Lines(`
ip link set lo up
ip addr add ` + serviceAddress + `/32 dev lo
ip link add up0 type veth peer name wire
ip addr add ` + nodeAddress + `/24 dev up0
ip link set up0 up
ip link set wire up
ip route add default via 192.0.2.1
ip route add unreachable 203.0.113.0/24
ip link add cni0 address 0a:00:00:00:00:00 type bridge
ip addr add 10.22.0.1/24 dev cni0
ip link set cni0 up
ip link add cni1 address 0a:00:00:00:00:01 type bridge
ip addr add 10.244.3.1/24 dev cni1
ip link set cni1 up
ip link add cni2 address 0a:00:00:00:00:02 type bridge
ip addr add 10.23.0.1/24 dev cni2
ip link set cni2 up
sysctl -qw net.ipv4.ip_forward=1
ip netns add far
ip link add farport type veth peer name eth0 netns far
ip link set farport master cni0 up
ip -n far link set lo up
ip -n far addr add 10.22.0.254/24 dev eth0
ip -n far addr add ` + officeAddress + `/32 dev lo
ip -n far addr add ` + otherNodesPod + `/32 dev lo
ip -n far link set eth0 up
ip link add branchport type veth peer name eth1 netns far
ip link set branchport master cni2 up
ip -n far addr add 10.23.0.254/24 dev eth1
ip -n far addr add ` + branchAddress + `/32 dev lo
ip -n far link set eth1 up
ip -n far route add default via 10.22.0.1
ip route add 10.244.9.0/24 via 10.22.0.254`) {
		if words := strings.Fields(line); len(words) > 0 {
			_, err := run(words...)
			problems = append(problems, err)
		}
	}
	problems = append(problems, os.MkdirAll("/run/flannel", 0o755),
		os.WriteFile("/run/flannel/subnet.env", []byte("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"), 0o600))
	return errors.Join(problems...)
}

// forget has the node, and the machine behind it, forget hardware addresses that
// they have learnt: networks begin with the same addresses, so that one may be of
// an earlier pod.
func forget() error {
	_, err := run("ip", "neigh", "flush", "all")
	_, err2 := run("ip", "-n", "far", "neigh", "flush", "all")
	return errors.Join(err, err2)
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
