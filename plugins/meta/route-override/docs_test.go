package main

import (
	"encoding/json"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// Every example of the README is carried out, alone in a pod that fits: ADD,
// CHECK, DEL, after which everything is as before. The session that follows an
// example is typed in there, and prints what is written.
func TestReadme(t *testing.T) { plugintest.Readme(t, carryOut) }

// carryOut makes a pod as the chain before the plugin would, and types the
// session in.
func carryOut(t *testing.T, e plugintest.Example) {
	ifname := "net1"
	if plugins, ok := e.Conf["plugins"].([]any); ok && plugins[0].(map[string]any)["type"] == "bridge" {
		ifname = "eth0"
	}
	entry := e.Entry("lan")
	pod := netopstest.Namespace(t, "pod")
	entry["prevResult"] = makeDocsPod(pod, ifname)
	stdin, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	c := plugintest.New(t, routeOverride.Name, pod, string(stdin)).With(map[string]string{"CNI_IFNAME": ifname})

	before := pod.Dump()
	show := func(added plugintest.Answer) string { return listed(t, added) + "\n" }
	e.CarryOut(t, c, "CNI_COMMAND=ADD route-override < conf.json | jq -c '.routes[]'", show, map[string]func() string{
		"ip -n pod route":                 func() string { return plugintest.TrimLines(pod.IP("route show")) },
		"route-override plan < conf.json": func() string { return c.OK("plan").Stdout },
	})
	restored(t, pod, before)
}

// makeDocsPod makes the interface, its address and routes, and returns the
// result that goes with them.
func makeDocsPod(pod *netopstest.NS, ifname string) json.RawMessage {
	if ifname == "eth0" {
		pod.Veth("eth0", "10.22.0.5/16")
		pod.IP("route add default via 10.22.0.1")
		return json.RawMessage(`{"interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod"}],
			"ips": [{"address": "10.22.0.5/16", "gateway": "10.22.0.1", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}]}`)
	}
	pod.Veth("eth0", "10.244.1.5/24")
	pod.Veth("net1", "10.1.0.5/16")
	pod.IP("route add default via 10.244.1.1", "route add 172.30.0.0/16 via 10.1.0.1", "route add 192.168.0.0/24 via 10.1.0.1")
	return json.RawMessage(`{"interfaces": [{"name": "net1", "sandbox": "/run/netns/pod"}],
		"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}],
		"routes": [{"dst": "192.168.0.0/24"}, {"dst": "172.30.0.0/16"}]}`)
}
