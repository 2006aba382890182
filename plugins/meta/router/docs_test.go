package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// Every example of the README is carried out, in a pod of a node on a LAN: ADD,
// CHECK, DEL, after which everything is as before. The session that follows an
// example is typed in, and prints what is written.
func TestReadme(t *testing.T) { plugintest.Readme(t, carryOut) }

const (
	docsLAN = `"overlay_hijack_subnet": ["10.244.0.0/16"], "service_hijack_subnet": ["10.96.0.0/12"]`
	docs1   = `{"interfaces": [{"name": "net1", "mac": "02:00:00:00:00:11", "sandbox": "/run/netns/pod"}],
		"ips": [{"address": "192.0.2.50/24", "gateway": "192.0.2.1", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}]}`
	docs2 = `{"interfaces": [{"name": "net2", "mac": "02:00:00:00:00:12", "sandbox": "/run/netns/pod"}],
		"ips": [{"address": "198.51.100.50/24", "gateway": "198.51.100.1", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}]}`
)

// carryOut types the session of an example in. That of the network "second" is
// net2, after a net1 of the usual kind; that of "bridge" is net1 beside a bridge.
func carryOut(t *testing.T, e plugintest.Example) {
	name, _ := e.Conf["name"].(string)
	node, pod := docsNode(t), netopstest.Namespace(t, "pod")
	for _, link := range []string{"all", "default"} { // as the kernel has them; distributions differ
		pod.Sysctl("net/ipv4/conf/"+link+"/rp_filter", "0")
	}
	if name == "bridge" {
		docsBridge(node, pod)
	} else {
		docsCalico(node, pod)
	}
	docsUnderlay(node, pod, "net1", "192.0.2.50/24", "192.0.2.1", "02:00:00:00:00:11")
	beginning := routing(pod, node)
	first := plugintest.New(t, router.Name, pod, `{"cniVersion": "1.1.0", "name": "lan", "type": "router", `+docsLAN+`, "prevResult": `+docs1+`}`)
	entry, ifname, prev := e.Entry("lan"), "net1", docs1
	if name == "second" {
		ifname, prev = "net2", docs2
		first.OK("ADD")
	}
	before := routing(pod, node)
	if name == "second" {
		docsUnderlay(node, pod, "net2", "198.51.100.50/24", "198.51.100.1", "02:00:00:00:00:12")
	}
	entry["prevResult"] = json.RawMessage(prev)
	stdin, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	c := plugintest.New(t, router.Name, pod, string(stdin)).With(map[string]string{"CNI_IFNAME": ifname})
	commands := map[string]func() string{
		"router plan < conf.json":     func() string { return c.OK("plan").Stdout },
		"ip neigh show nud permanent": func() string { return plugintest.TrimLines(node.IP("neigh show nud permanent")) },
	}
	for ns, prefix := range map[*netopstest.NS]string{node: "ip ", pod: "ip -n pod "} {
		for _, line := range []string{"rule", "route", "route show table 100", "route show table 101", "route show table 102", "route show table 500"} {
			commands[prefix+line] = func() string { return plugintest.TrimLines(ns.IP(line)) }
		}
	}
	add, show := "CNI_COMMAND=ADD router < conf.json > result.json", func(plugintest.Answer) string { return "" }
	if name == "bridge" {
		add, show = "CNI_COMMAND=ADD router < conf.json | jq -c '.interfaces[]'", func(added plugintest.Answer) string { return interfacesOf(t, added) }
	}
	e.CarryOut(t, c, add, show, commands)
	if name == "second" {
		pod.IP("link del net2") // as its plugin's DEL does, which comes next
	}
	if diff := cmp.Diff(before, routing(pod, node)); diff != "" {
		t.Errorf("after DEL (-before +after):\n%s", diff)
	}
	if name == "second" {
		first.OK("DEL")
		if diff := cmp.Diff(beginning, routing(pod, node)); diff != "" {
			t.Errorf("after both DELs (-before +after):\n%s", diff)
		}
	}
	if left := plugintest.Left(t, "/run/cni"); left != nil {
		t.Errorf("left: %v", left)
	}
	_ = os.RemoveAll("/run/cni")
}

// routing is that of some namespaces, without what comes with a link's carrier,
// some time after the link is up.
func routing(of ...*netopstest.NS) string {
	var all strings.Builder
	for _, ns := range of {
		for line := range strings.Lines(ns.Dump()) {
			if !strings.Contains(line, "fe80::") && !strings.Contains(line, "ff00::") {
				all.WriteString(strings.ReplaceAll(line, "linkdown ", ""))
			}
		}
	}
	return all.String()
}

func interfacesOf(t *testing.T, added plugintest.Answer) (lines string) {
	t.Helper()
	var result struct{ Interfaces []json.RawMessage }
	if err := json.Unmarshal([]byte(added.Stdout), &result); err != nil {
		t.Fatal(err)
	}
	for _, i := range result.Interfaces {
		lines += string(i) + "\n"
	}
	return lines
}

// docsNode makes the namespace that the tests run in a node on a LAN.
func docsNode(t *testing.T) *netopstest.NS {
	node := netopstest.Host(t)
	node.IP("link add up0 type bridge", "link set up0 addrgenmode none", "link set up0 up", "addr add 192.0.2.10/24 dev up0")
	t.Cleanup(func() {
		for _, link := range []string{"up0", "cali1", "veth1", "cni0"} { // a pod's interfaces vanish some time after it
			_ = exec.Command("ip", "link", "del", link).Run()
		}
	})
	return node
}

// docsCalico makes the pod's eth0 as Calico does.
func docsCalico(node, pod *netopstest.NS) {
	node.IP("link add cali1 address ee:ee:ee:ee:ee:ee type veth peer name eth0 address 02:00:00:00:00:0a netns pod", "link set cali1 addrgenmode none", "link set cali1 up", "route add 10.244.1.5 dev cali1")
	pod.IP("link set eth0 addrgenmode none", "link set eth0 up", "addr add 10.244.1.5/32 dev eth0", "route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1 dev eth0")
}

// docsBridge makes it as bridge does.
func docsBridge(node, pod *netopstest.NS) {
	node.IP("link add cni0 type bridge", "link set cni0 addrgenmode none", "link set cni0 up", "addr add 10.244.1.1/24 dev cni0",
		"link add veth1 address ee:ee:ee:ee:ee:ee type veth peer name eth0 address 02:00:00:00:00:0a netns pod", "link set veth1 master cni0 addrgenmode none", "link set veth1 up")
	pod.IP("link set eth0 addrgenmode none", "link set eth0 up", "addr add 10.244.1.5/24 dev eth0", "route add default via 10.244.1.1 dev eth0")
}

// docsUnderlay makes an underlay interface as macvlan does, on the node's LAN.
func docsUnderlay(node, pod *netopstest.NS, dev, addr, gateway, mac string) {
	node.IP("link add link up0 name " + dev + " address " + mac + " netns pod type macvlan mode bridge")
	pod.IP("link set "+dev+" addrgenmode none", "link set "+dev+" up", "addr add "+addr+" dev "+dev, "route prepend default via "+gateway+" dev "+dev)
}
