package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// Pods as networks make them, and what net1 of a second network adds to them.
var (
	calicoPod = []string{
		"addr add 10.42.7.5/32 dev eth0", "route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1 dev eth0",
		"addr add fd42::5/128 dev eth0 nodad", "-6 route add default via fe80::ecee:eeff:feee:eeee dev eth0",
	}
	flannelPod = []string{"addr add 10.42.1.5/24 dev eth0", "route add default via 10.42.1.1 dev eth0", "route add 10.42.0.0/16 via 10.42.1.1 dev eth0"}
	ciliumPod  = []string{"addr add 10.0.1.20/32 dev eth0", "route add 10.0.1.209 dev eth0", "route add default via 10.0.1.209 dev eth0 mtu 1450"}
	lanOnNet1  = []string{"addr add 192.168.8.248/22 dev net1"}
	lan6OnNet1 = []string{"addr add fd08::5/64 dev net1 nodad"}
)

// What people asked for in public, and how they get it: the pod that they had, the
// configuration, and the routes and rules that they wanted.
func TestPublicCases(t *testing.T) {
	const ip4, ip6 = `{"address": "192.168.8.248/22", "gateway": "192.168.8.1", "interface": 0}`, `{"address": "fd08::5/64", "gateway": "fd08::1", "interface": 0}`
	for i, tt := range []struct {
		name        string
		pod         [][]string
		ips, routes string // of the second network's result
		keys        string
		want        []string
		gone        []string
	}{
		{"redhat-nfvpe/cni-route-override#15: the cluster by Calico's gateway, from an ipvlan without one",
			[][]string{calicoPod, {"addr add 192.168.213.252/24 dev net1"}}, `{"address": "192.168.213.252/24", "interface": 0}`, ``,
			`"flushroutes": true, "delroutes": [{"dst": "10.42.0.0/16"}, {"dst": "10.43.0.0/16"}], "addroutes": [{"dst": "10.42.0.0/16", "gw": "169.254.1.1"}, {"dst": "10.43.0.0/16", "gw": "169.254.1.1"}]`,
			[]string{"10.42.0.0/16 via 169.254.1.1 dev eth0", "10.43.0.0/16 via 169.254.1.1 dev eth0", "default via 169.254.1.1 dev eth0"}, nil},
		{"k8snetworkplumbingwg/multus-cni#847: the default route by a macvlan, the pod network as before",
			[][]string{flannelPod, lanOnNet1, {"route append default via 192.168.8.1 dev net1"}}, ip4, `{"dst": "0.0.0.0/0"}`,
			`"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}], "addroutes": [{"dst": "10.43.0.0/16", "dev": "eth0"}]`,
			[]string{"default via 192.168.8.1 dev net1", "10.42.0.0/16 via 10.42.1.1 dev eth0", "10.43.0.0/16 via 10.42.1.1 dev eth0"}, []string{"default via 10.42.1.1"}},
		{"k8snetworkplumbingwg/multus-cni#786: no second default route by DHCP",
			[][]string{flannelPod, lanOnNet1, {"route append default via 192.168.8.1 dev net1"}}, ip4, `{"dst": "0.0.0.0/0", "gw": "192.168.8.1"}`,
			`"flushgateway": true`, []string{"default via 10.42.1.1 dev eth0"}, []string{"192.168.8.1"}},
		{"k8snetworkplumbingwg/multus-cni#349: a default route that is added, not appended behind eth0's",
			[][]string{calicoPod, lanOnNet1}, ip4, ``,
			`"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}, {"dst": "::/0", "dev": "eth0"}], "addroutes": [{"dst": "0.0.0.0/0"}, {"dst": "10.42.0.0/15", "dev": "eth0"}, {"dst": "fd42::/48", "dev": "eth0"}]`,
			[]string{"default via 192.168.8.1 dev net1", "10.42.0.0/15 via 169.254.1.1 dev eth0", "fd42::/48 via fe80::ecee:eeff:feee:eeee dev eth0"}, []string{"default via 169.254.1.1", "default via fe80::"}},
		{"openshift/route-override-cni#50: the gateway that the previous result has, and that differs by node",
			[][]string{{"addr add 192.168.8.248/22 dev net1"}}, ip4, ``, `"addroutes": [{"dst": "172.30.0.0/16"}]`, []string{"172.30.0.0/16 via 192.168.8.1 dev net1"}, nil},
		{"k8snetworkplumbingwg/multus-cni#1081, #1177, containernetworking/plugins#542: source-based routing with static IPAM",
			[][]string{flannelPod, lanOnNet1, lan6OnNet1}, ip4 + "," + ip6, ``,
			`"addroutes": [{"dst": "0.0.0.0/0", "table": 100}, {"dst": "192.168.8.0/22", "table": 100, "gw": "0.0.0.0"}, {"dst": "::/0", "table": 100}],
			"addrules": [{"from": "192.168.8.248", "table": 100}, {"from": "fd08::5", "table": 100}]`,
			[]string{"rule 30000: from 192.168.8.248 lookup 100", "rule 30000: from fd08::5 lookup 100", "192.168.8.0/22 dev net1 table 100", "default via 192.168.8.1 dev net1 table 100", "default via fd08::1 dev net1 table 100"}, nil},
		{"spidernet-io/spiderpool#3686: what comes by eth0 goes by eth0, whatever the node has for a gateway",
			[][]string{calicoPod, lanOnNet1, {"route add 10.233.0.0/18 via 192.168.8.1 dev net1"}}, ip4, ``,
			`"addroutes": [{"dst": "0.0.0.0/0", "dev": "eth0", "table": 500}, {"dst": "::/0", "dev": "eth0", "table": 500}], "addrules": [{"from": "10.42.7.5", "table": 500, "priority": 32764}, {"from": "fd42::5", "table": 500, "priority": 32764}]`,
			[]string{"default via 169.254.1.1 dev eth0 table 500", "default via fe80::ecee:eeff:feee:eeee dev eth0 table 500", "rule 32764: from 10.42.7.5 lookup 500", "rule 32764: from fd42::5 lookup 500"}, nil},
		{"spidernet-io/spiderpool#3296: a pod with IPv6 only",
			[][]string{{"addr add fd42::5/128 dev eth0 nodad", "-6 route add default via fe80::ecee:eeff:feee:eeee dev eth0"}, lan6OnNet1}, ip6, ``,
			`"skipMissingFamilies": true, "delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}, {"dst": "::/0", "dev": "eth0"}],
			"addroutes": [{"dst": "0.0.0.0/0"}, {"dst": "10.43.0.0/16", "dev": "eth0"}, {"dst": "::/0"}, {"dst": "fd43::/112", "dev": "eth0"}]`,
			[]string{"default via fd08::1 dev net1", "fd43::/112 via fe80::ecee:eeff:feee:eeee dev eth0"}, []string{"10.43.0.0/16", "dev eth0 default"}},
		{"containers/netavark#1456: default routes of two networks, by metric",
			[][]string{flannelPod, lanOnNet1, {"route append default via 192.168.8.1 dev net1"}}, ip4, `{"dst": "0.0.0.0/0", "gw": "192.168.8.1"}`,
			`"delroutes": [{"dst": "0.0.0.0/0"}], "addroutes": [{"dst": "0.0.0.0/0", "priority": 200}]`,
			[]string{"default via 10.42.1.1 dev eth0", "default via 192.168.8.1 dev net1 metric 200"}, nil},
		{"containers/podman#16233: an internal network has no gateway",
			[][]string{flannelPod, lanOnNet1}, `{"address": "192.168.8.248/22", "interface": 0}`, ``,
			`"flushgateway": true, "addroutes": [{"dst": "172.30.0.0/16"}]`, []string{"default via 10.42.1.1 dev eth0", "172.30.0.0/16 dev net1"}, nil},
		{"containernetworking/plugins#264: a host on the link",
			[][]string{flannelPod, lanOnNet1}, ip4, ``, `"addroutes": [{"dst": "192.168.10.153/32", "gw": "0.0.0.0"}]`, []string{"192.168.10.153 dev net1"}, nil},
		{"containernetworking/plugins#1249: static IPAM's two default routes become one by several gateways",
			[][]string{flannelPod, lanOnNet1, {"route append default via 192.168.8.1 dev net1", "route append default via 192.168.8.2 dev net1"}}, ip4, `{"dst": "0.0.0.0/0", "gw": "192.168.8.1"}, {"dst": "0.0.0.0/0", "gw": "192.168.8.2"}`,
			`"delroutes": [{"dst": "0.0.0.0/0"}], "addroutes": [{"dst": "0.0.0.0/0", "gws": ["192.168.8.1"], "gw": "192.168.8.2", "metric": 10}]`,
			[]string{"default metric 10 nexthop via 192.168.8.1 dev net1 weight 1 nexthop via 192.168.8.2 dev net1 weight 1", "default via 10.42.1.1 dev eth0"}, nil},

		{"spidernet-io/spiderpool#5682: equal routes of two networks, of which one's moves to a table of its own",
			[][]string{{"addr add 172.17.10.201/24 dev eth0", "addr add 172.17.11.201/24 dev net1", "route append 172.17.0.0/16 via 172.17.10.1 dev eth0", "route append 172.17.0.0/16 via 172.17.11.1 dev net1"}},
			`{"address": "172.17.11.201/24", "gateway": "172.17.11.1", "interface": 0}`, `{"dst": "172.17.0.0/16"}`,
			`"flushroutes": true, "addroutes": [{"dst": "172.17.0.0/16", "table": 102}, {"dst": "172.17.11.0/24", "gw": "0.0.0.0", "table": 102}], "addrules": [{"from": "172.17.11.201", "table": 102}]`,
			[]string{"172.17.0.0/16 via 172.17.10.1 dev eth0", "172.17.0.0/16 via 172.17.11.1 dev net1 table 102", "172.17.11.0/24 dev net1 table 102", "rule 30000: from 172.17.11.201 lookup 102"},
			[]string{"172.17.0.0/16 via 172.17.11.1 dev net1\n"}},
		{"containers/netavark#1073, containers/common#2151: default routes of two networks change their metrics",
			[][]string{flannelPod, lanOnNet1, {"route add default via 192.168.8.1 dev net1 metric 100"}}, ip4, `{"dst": "0.0.0.0/0", "gw": "192.168.8.1", "priority": 100}`,
			`"delroutes": [{"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0", "dev": "eth0"}], "addroutes": [{"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0", "dev": "eth0", "metric": 200}]`,
			[]string{"default via 192.168.8.1 dev net1", "default via 10.42.1.1 dev eth0 metric 200"}, []string{"metric 100"}},
		{"containers/podman#3743: a default route that the result lists, and that went with a new hardware address",
			[][]string{lanOnNet1}, ip4, `{"dst": "0.0.0.0/0", "gw": "192.168.8.1"}`,
			`"delroutes": [{"dst": "0.0.0.0/0"}], "addroutes": [{"dst": "0.0.0.0/0"}]`, []string{"default via 192.168.8.1 dev net1"}, nil},
		{"lxc/lxc#85, moby/libnetwork#1447: a gateway in no subnet, made reachable by a route of the same list",
			[][]string{flannelPod, {"addr add 203.0.113.5/32 dev net1"}}, `{"address": "203.0.113.5/32", "gateway": "198.51.100.1", "interface": 0}`, ``,
			`"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}], "addroutes": [{"dst": "0.0.0.0/0"}, {"dst": "198.51.100.1/32", "gw": "0.0.0.0"}]`,
			[]string{"198.51.100.1 dev net1", "default via 198.51.100.1 dev net1"}, []string{"default via 10.42.1.1"}},
		{"containers/container-libs#57, moby/moby#38744: an IPv6 gateway that is link-local, as ips has it",
			[][]string{flannelPod, lan6OnNet1}, `{"address": "fd08::5/64", "gateway": "fe80::1", "interface": 0}`, ``,
			`"addroutes": [{"dst": "::/0"}, {"dst": "fd99::/64", "gws": ["fe80::1", "fe80::2"]}]`,
			[]string{"default via fe80::1 dev net1", "fd99::/64 nexthop via fe80::1 dev net1 weight 1 nexthop via fe80::2 dev net1 weight 1"}, nil},
		{"k8snetworkplumbingwg/multus-cni#602: all routes but the subnet's anew, by two gateways",
			[][]string{{"addr add 10.9.128.135/18 dev net1", "route add default via 10.9.128.1 dev net1 proto dhcp", "route add 192.0.2.0/24 via 10.9.128.1 dev net1"}}, `{"address": "10.9.128.135/18", "gateway": "10.9.128.1", "interface": 0}`, `{"dst": "0.0.0.0/0", "gw": "10.9.128.1"}, {"dst": "192.0.2.0/24", "gw": "10.9.128.1"}`,
			`"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/12", "gw": "10.9.128.1"}, {"dst": "192.168.0.0/16", "gw": "10.9.128.1"}, {"dst": "0.0.0.0/0", "gw": "10.9.191.254"}]`,
			[]string{"default via 10.9.191.254 dev net1", "172.16.0.0/12 via 10.9.128.1 dev net1", "192.168.0.0/16 via 10.9.128.1 dev net1"}, []string{"192.0.2.0/24"}},
		{"k8snetworkplumbingwg/multus-cni#1507: one default route beside Cilium's, which keeps its mtu",
			[][]string{ciliumPod, lanOnNet1, {"route append default via 192.168.8.1 dev net1"}}, ip4, `{"dst": "0.0.0.0/0"}`,
			`"delroutes": [{"dst": "0.0.0.0/0"}]`, []string{"default via 10.0.1.209 dev eth0 mtu 1450"}, []string{"192.168.8.1"}},
		{"the same, by the other network, and the cluster by Cilium's gateway",
			[][]string{ciliumPod, lanOnNet1, {"route append default via 192.168.8.1 dev net1"}}, ip4, `{"dst": "0.0.0.0/0"}`,
			`"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}], "addroutes": [{"dst": "10.0.0.0/8", "dev": "eth0", "mtu": 1450}]`,
			[]string{"default via 192.168.8.1 dev net1", "10.0.0.0/8 via 10.0.1.209 dev eth0 mtu 1450"}, []string{"default via 10.0.1.209"}},
		{"k8snetworkplumbingwg/multus-cni#539: the DNS server's address, by eth0 after Multus took its default route away",
			[][]string{{"addr add 10.42.1.5/24 dev eth0", "route add 10.42.0.0/16 via 10.42.1.1 dev eth0"}, lanOnNet1, {"route add default via 192.168.8.1 dev net1"}}, ip4, `{"dst": "0.0.0.0/0"}`,
			`"addroutes": [{"dst": "10.43.0.10/32", "gw": "10.42.1.1"}]`, []string{"10.43.0.10 via 10.42.1.1 dev eth0", "default via 192.168.8.1 dev net1"}, nil},
		{"k8snetworkplumbingwg/multus-cni#847: multicast by the second network",
			[][]string{flannelPod, lanOnNet1}, ip4, ``, `"addroutes": [{"dst": "224.0.0.0/4", "gw": "0.0.0.0"}, {"dst": "239.1.0.0/16"}]`,
			[]string{"224.0.0.0/4 dev net1", "239.1.0.0/16 via 192.168.8.1 dev net1"}, nil},
		{"k8snetworkplumbingwg/multus-cni#664: two interfaces in one subnet, each its own routes",
			[][]string{{"addr add 192.168.8.10/22 dev eth0", "route append default via 192.168.8.1 dev eth0"}, lanOnNet1, {"route append default via 192.168.8.1 dev net1"}}, ip4, `{"dst": "0.0.0.0/0"}`,
			`"delroutes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.8.0/22"}], "addroutes": [{"dst": "172.16.0.0/12", "gw": "192.168.8.1", "onlink": true, "dev": "net1"}, {"dst": "192.168.8.0/22", "gw": "0.0.0.0", "table": 101}, {"dst": "0.0.0.0/0", "table": 101}], "addrules": [{"from": "192.168.8.248", "table": 101}]`,
			[]string{"default via 192.168.8.1 dev eth0", "default via 192.168.8.1 dev net1 table 101", "172.16.0.0/12 via 192.168.8.1 dev net1 onlink"}, []string{"default via 192.168.8.1 dev net1\n", "192.168.8.0/22 dev net1 proto kernel"}},
		{"spidernet-io/spiderpool#2917: IPv6 leaves by another interface than IPv4",
			[][]string{flannelPod, {"addr add fd42::5/64 dev eth0 nodad", "-6 route add default via fd42::1 dev eth0"}, lanOnNet1, lan6OnNet1}, ip4 + "," + ip6, ``,
			`"delroutes": [{"dst": "::/0", "dev": "eth0"}], "addroutes": [{"dst": "::/0"}, {"dst": "fd43::/112", "dev": "eth0"}]`,
			[]string{"default via 10.42.1.1 dev eth0", "default via fd08::1 dev net1", "fd43::/112 via fd42::1 dev eth0"}, []string{"default via fd42::1"}},
		{"containers/podman#20222: destinations that are dropped, or answered for",
			[][]string{flannelPod, lanOnNet1, lan6OnNet1}, ip4 + "," + ip6, ``,
			`"addroutes": [{"dst": "10.0.0.0/8", "type": "blackhole"}, {"dst": "172.16.0.0/12", "type": "prohibit"}, {"dst": "fd00::/8", "type": "unreachable"}, {"dst": "198.51.100.0/24", "type": "unreachable", "table": 100}], "addrules": [{"to": "0.0.0.0/0", "table": 100, "priority": 40000}]`,
			[]string{"blackhole 10.0.0.0/8", "prohibit 172.16.0.0/12", "unreachable fd00::/8 dev lo", "unreachable 198.51.100.0/24 table 100", "rule 40000: from all lookup 100"}, nil},
		{"halves of the internet, as VPNs make them, are no default routes",
			[][]string{flannelPod, lanOnNet1, {"route add 0.0.0.0/1 via 192.168.8.1 dev net1", "route add 128.0.0.0/1 via 192.168.8.1 dev net1"}}, ip4, `{"dst": "0.0.0.0/1"}, {"dst": "128.0.0.0/1"}`,
			`"flushgateway": true, "delroutes": [{"dst": "128.0.0.0/1"}, {"dst": "0.0.0.0/0"}]`, []string{"0.0.0.0/1 via 192.168.8.1 dev net1", "default via 10.42.1.1 dev eth0"}, []string{"128.0.0.0/1"}},
	} {
		if i%netopstest.Sample(2) != 0 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			pod := netopstest.Namespace(t, "pod")
			t.Cleanup(func() { _ = os.RemoveAll(stateDir) })
			pod.Sysctl("net/ipv6/conf/default/accept_dad", "0")
			pod.IP("link add eth0 type veth peer name other0", "link set other0 up", "link set eth0 up", "link add net1 type veth peer name other1", "link set other1 up", "link set net1 up")
			for _, lines := range tt.pod {
				pod.IP(lines...)
			}
			pod.Settle()
			before := pod.Dump()
			c := plugintest.New(t, routeOverride.Name, pod, fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "second", "type": "route-override", %s,
				"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "sandbox": "/run/netns/pod"}], "ips": [%s], "routes": [%s]}}`, tt.keys, tt.ips, tt.routes))
			added := c.OK("ADD")
			got := allRoutes(pod)
			for _, want := range tt.want {
				if !strings.Contains(got, "\n"+want+"\n") {
					t.Errorf("no %q in%s", want, got)
				}
			}
			for _, gone := range tt.gone {
				if strings.Contains(got, gone) {
					t.Errorf("%q is still in%s", gone, got)
				}
			}
			c.After(added).OK("CHECK")
			c.After(added).OK("DEL")
			if diff := cmp.Diff(before, pod.Dump()); diff != "" {
				t.Errorf("not as before (-want +got):\n%s", diff)
			}
			nothingLeft(t)
		})
	}
}

// allRoutes are the routes and rules that did not come by themselves, one on a
// line, without what tells who made them.
func allRoutes(pod *netopstest.NS) string {
	lines := []string{""}
	for _, line := range strings.Split(pod.IP("-oneline -4 route show table all")+pod.IP("-oneline -6 route show table all"), "\n") {
		line = strings.Join(strings.Fields(strings.ReplaceAll(line, "\\", " ")), " ")
		for _, word := range []string{" proto 77", " scope link", " pref medium", " metric 1024"} {
			line = strings.Replace(line, word, "", 1)
		}
		lines = append(lines, line)
	}
	for _, rule := range strings.Split(rules(pod), "\n") {
		lines = append(lines, "rule "+strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(rule, "-4 "), "-6 "), " proto 77"))
	}
	return strings.Join(lines, "\n") + "\n"
}
