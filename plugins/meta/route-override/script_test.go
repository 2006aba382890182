package main

import (
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// The pod of the scripts has eth0 of another network and net1 of this one.
func TestScripts(t *testing.T) {
	plugintest.Scripts(t, routeOverride.Name, "net1", func(netns string) string {
		return `{"interfaces": [{"name": "net1", "sandbox": "` + netns + `"}],
			"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}],
			"routes": [{"dst": "192.168.0.0/24", "gw": "10.1.0.1"}]}`
	}, func(ip func(line string)) {
		for _, line := range []string{
			"link add eth0 type veth peer name other0", "link set eth0 up", "link set other0 up", "addr add 10.244.1.5/24 dev eth0",
			"link add net1 type veth peer name other1", "link set net1 up", "link set other1 up", "addr add 10.1.0.5/16 dev net1",
			"route add default via 10.244.1.1",
			"route add default via 10.1.0.1 metric 50",
			"route add 192.168.0.0/24 via 10.1.0.1",
		} {
			ip(line)
		}
	})
}
