package main

import (
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// The pod of the scripts has eth0 of an overlay, whose other end is not the
// node's, and net1 of a LAN.
func TestScripts(t *testing.T) {
	plugintest.Scripts(t, router.Name, "net1", func(netns string) string {
		return `{"interfaces": [{"name": "net1", "mac": "02:00:00:00:00:11", "sandbox": "` + netns + `"}],
			"ips": [{"address": "192.0.2.50/24", "gateway": "192.0.2.1", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}]}`
	}, func(ip func(line string)) {
		for _, line := range []string{
			"link add eth0 type veth peer name other0", "link set eth0 addrgenmode none", "link set eth0 up", "link set other0 addrgenmode none", "link set other0 up", "addr add 10.244.1.5/32 dev eth0",
			"link add net1 address 02:00:00:00:00:11 type veth peer name other1", "link set net1 addrgenmode none", "link set net1 up", "link set other1 addrgenmode none", "link set other1 up", "addr add 192.0.2.50/24 dev net1",
			"route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1 dev eth0", "route prepend default via 192.0.2.1 dev net1",
		} {
			ip(line)
		}
	})
}
