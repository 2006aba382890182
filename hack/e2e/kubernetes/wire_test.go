package kubernetes

import (
	"errors"
	"os"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
)

// The node has an interface to each of two LANs: eth0 has the way to everything,
// and eth1 is the parent of the samples' secondary networks. A router connects
// both, and with them the world, of which a part is behind each LAN: a firewall
// lets nothing through from the other one. Behind the first there is a pod of
// another node too, as flannel's host-gw backend has it.
const (
	nodeName      = "node"
	nodeAddress   = "192.0.2.10"
	nodeOnSecond  = "10.6.255.10"
	routerAddress = "192.0.2.1"
	firstWorld    = "100.64.1.1"
	secondWorld   = "100.64.2.1"
	storageServer = "10.20.0.1" // behind the second LAN, for the sample of route-override
	otherNodesPod = "10.244.9.9"
	publicSubnet  = "203.0.113." // of the sample of host-routes
)

const subnetEnv = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"

// wire makes the node's network, and what is around it.
func wire() error {
	return errors.Join(machine.RunAll(`
ip link set lo up
ip netns add router
ip netns add world
ip link add eth0 type veth peer name lan1 netns router
ip link add eth1 type veth peer name lan2 netns router
ip addr add `+nodeAddress+`/24 dev eth0
ip addr add `+nodeOnSecond+`/16 dev eth1
ip link set eth0 up
ip link set eth1 up
ip route add default via `+routerAddress+`
sysctl -qw net.ipv4.ip_forward=1
ip -n router link set lo up
ip -n router link set lan1 up
ip -n router link set lan2 up
ip -n router addr add `+routerAddress+`/24 dev lan1
ip -n router addr add 10.6.0.1/16 dev lan2
ip -n router addr add 10.10.0.1/24 dev lan2
ip -n router addr add 10.10.1.1/24 dev lan2
ip -n router link add world type veth peer name eth0 netns world
ip -n router addr add 198.51.100.1/24 dev world
ip -n router link set world up
ip -n router route add 100.64.0.0/16 via 198.51.100.2
ip -n router route add 10.20.0.0/16 via 198.51.100.2
ip -n router route add 10.244.9.0/24 via 198.51.100.2
ip -n router route add 10.244.3.0/24 via `+nodeAddress+`
ip -n router route add 203.0.113.0/24 via `+nodeAddress+`
ip -n router rule add iif lan2 to 100.64.1.0/24 prohibit
ip -n router rule add iif lan2 to 192.0.2.0/24 prohibit
ip -n router rule add iif lan1 to 100.64.2.0/24 prohibit
ip -n router rule add iif lan1 to 10.20.0.0/16 prohibit
ip netns exec router sysctl -qw net.ipv4.ip_forward=1
ip -n world link set lo up
ip -n world link set eth0 up
ip -n world addr add 198.51.100.2/24 dev eth0
ip -n world addr add `+firstWorld+`/32 dev lo
ip -n world route add local 100.64.2.0/24 dev lo
ip -n world route add local 10.20.0.0/24 dev lo
ip -n world addr add `+otherNodesPod+`/32 dev lo
ip -n world route add default via 198.51.100.1 src `+firstWorld+`
ip link add public0 type bridge
ip addr add 10.22.0.1/16 dev public0
ip link set public0 up
`), writeSubnet())
}

// writeSubnet does what flanneld does.
func writeSubnet() error {
	return errors.Join(os.MkdirAll("/run/flannel", 0o755), os.WriteFile("/run/flannel/subnet.env", []byte(subnetEnv), 0o600))
}
