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
func TestSweepPublicCases(t *testing.T) {
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

		// Without a gateway.
		{"NetworkConfiguration/dhcpcd#160: DHCP's classless routes, of which those of the link have the gateway 0.0.0.0",
			[][]string{flannelPod, lanOnNet1, {"route add 172.20.0.0/16 dev net1", "route add 172.21.0.0/16 via 192.168.8.1 dev net1"}}, ip4, `{"dst": "172.20.0.0/16", "gw": "0.0.0.0"}, {"dst": "172.21.0.0/16", "gw": "192.168.8.1"}`,
			`"delroutes": [{"dst": "172.20.0.0/16", "gw": "0.0.0.0"}, {"dst": "172.21.0.0/16", "gw": "0.0.0.0"}], "addroutes": [{"dst": "172.22.0.0/16", "gw": "0.0.0.0"}]`,
			[]string{"172.21.0.0/16 via 192.168.8.1 dev net1", "172.22.0.0/16 dev net1"}, []string{"172.20.0.0/16"}},
		{"containernetworking/plugins#508: containers of one subnet reach each other by the gateway",
			[][]string{lanOnNet1}, ip4, ``,
			`"delroutes": [{"dst": "192.168.8.0/22"}], "addroutes": [{"dst": "192.168.8.1/32", "gw": "0.0.0.0"}, {"dst": "192.168.8.0/22", "gw": "192.168.8.1"}]`,
			[]string{"192.168.8.1 dev net1", "192.168.8.0/22 via 192.168.8.1 dev net1"}, []string{"192.168.8.0/22 dev net1"}},
		{"apple/containerization#628: a default route without a gateway, of both families",
			[][]string{lanOnNet1, lan6OnNet1}, ip4 + "," + ip6, ``, `"addroutes": [{"dst": "0.0.0.0/0", "gw": "0.0.0.0"}, {"dst": "::/0", "gw": "::"}]`,
			[]string{"default dev net1"}, []string{"default via"}},
		{"k8snetworkplumbingwg/whereabouts#107: the IPAM gives no gateway, and writes so in three ways",
			[][]string{flannelPod, lanOnNet1, lan6OnNet1}, `{"address": "192.168.8.248/22", "gateway": "", "interface": 0}, {"address": "fd08::5/64", "gateway": null, "interface": 0}`, `{"dst": "192.168.8.0/22", "gw": ""}, {"dst": "fd08::/64", "gw": null}`,
			`"addroutes": [{"dst": "172.30.0.0/16"}, {"dst": "fd30::/64"}]`, []string{"172.30.0.0/16 dev net1", "fd30::/64 dev net1"}, nil},
		{"kubernetes-sigs/cluster-api-ipam-provider-in-cluster#89: an optional gateway that a template leaves empty",
			[][]string{flannelPod, lanOnNet1, lan6OnNet1}, ip4 + "," + ip6, ``, `"addroutes": [{"dst": "172.30.0.0/16", "gw": "", "src": "", "dev": ""}, {"dst": "fd30::/64", "gw": ""}], "delroutes": [{"dst": "0.0.0.0/0", "gw": ""}]`,
			[]string{"172.30.0.0/16 via 192.168.8.1 dev net1", "fd30::/64 via fd08::1 dev net1", "default via 10.42.1.1 dev eth0"}, nil},
		{"systemd/systemd#20217, canonical/netplan#312: an IPv6 gateway outside the subnet, by a route of its own to it",
			[][]string{lan6OnNet1}, `{"address": "fd08::5/64", "gateway": "fd07:ff:ff:ff:ff::1", "interface": 0}`, ``, `"addroutes": [{"dst": "::/0"}, {"dst": "fd07:ff:ff:ff:ff::1/128", "gw": "::"}]`,
			[]string{"fd07:ff:ff:ff:ff::1 dev net1", "default via fd07:ff:ff:ff:ff::1 dev net1"}, nil},
		{"lxc/incus-os#1359: the same of IPv4, on the link by word",
			[][]string{{"addr add 203.0.113.5/32 dev net1"}}, `{"address": "203.0.113.5/32", "gateway": "198.51.100.1", "interface": 0}`, ``, `"addroutes": [{"dst": "0.0.0.0/0", "dev": "net1", "onlink": true}]`,
			[]string{"default via 198.51.100.1 dev net1 onlink"}, nil},

		// Several gateways, and default routes of several networks.
		{"redhat-nfvpe/cni-route-override#27: a default route by several routers of one network, of which one takes more",
			[][]string{flannelPod, lanOnNet1}, ip4, ``,
			`"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}], "addroutes": [{"dst": "0.0.0.0/0", "gws": [{"gw": "192.168.8.1", "weight": 3}, "192.168.8.2", "192.168.8.3"]}, {"dst": "10.43.0.0/16", "dev": "eth0"}]`,
			[]string{"default nexthop via 192.168.8.1 dev net1 weight 3 nexthop via 192.168.8.2 dev net1 weight 1 nexthop via 192.168.8.3 dev net1 weight 1", "10.43.0.0/16 via 10.42.1.1 dev eth0"}, []string{"default via 10.42.1.1"}},
		{"podman-container-tools/podman#23984: IPv6 has made one route of both networks' default routes, and eth0's half goes",
			[][]string{{"addr add fd42::5/64 dev eth0 nodad", "addr add fd08::5/64 dev net1 nodad"}, {"-6 route add default via fd08::1 dev net1 metric 100", "-6 route append default via fd42::1 dev eth0 metric 100"}}, ip6, `{"dst": "::/0", "gw": "fd08::1"}`,
			`"delroutes": [{"dst": "::/0", "dev": "eth0"}]`, []string{"default via fd08::1 dev net1 metric 100"}, []string{"fd42::1", "nexthop"}},
		{"containers/netavark#1437: the same, by another metric each",
			[][]string{{"addr add fd42::5/64 dev eth0 nodad", "-6 route add default via fd42::1 dev eth0 metric 100"}, lan6OnNet1, {"-6 route append default via fd08::1 dev net1 metric 100"}}, ip6, `{"dst": "::/0", "gw": "fd08::1"}`,
			`"delroutes": [{"dst": "::/0"}], "addroutes": [{"dst": "::/0", "metric": 99}]`, []string{"default via fd08::1 dev net1 metric 99", "default via fd42::1 dev eth0 metric 100"}, []string{"nexthop"}},
		{"k8snetworkplumbingwg/multus-cni#1444: Multus has left eth0's default route before net1's, which the annotation asks for",
			[][]string{flannelPod, lanOnNet1, {"route append default via 192.168.8.1 dev net1"}}, ip4, ``,
			`"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0", "gw": "10.42.1.1"}], "addroutes": [{"dst": "0.0.0.0/0", "dev": "eth0", "metric": 500}]`,
			[]string{"default via 192.168.8.1 dev net1", "default via 10.42.1.1 dev eth0 metric 500"}, []string{"default via 10.42.1.1 dev eth0\n"}},
		{"k8snetworkplumbingwg/multus-cni#1011: eth0's default route is to stay, and Multus has taken it away as well",
			[][]string{{"addr add 10.42.1.5/24 dev eth0", "route add 10.42.0.0/16 via 10.42.1.1 dev eth0"}, lanOnNet1}, ip4, ``,
			`"addroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}]`, []string{"default via 10.42.1.1 dev eth0"}, nil},

		// By another interface's gateway.
		{"projectcalico/calico#6358: the default route by net1, pods and services of both families by Calico's gateways",
			[][]string{{"addr add 10.42.7.5/32 dev eth0", "route add 169.254.1.1 dev eth0", "addr add fd42::5/128 dev eth0 nodad"}, lanOnNet1, lan6OnNet1, {"route add default via 192.168.8.1 dev net1"}}, ip4 + "," + ip6, `{"dst": "0.0.0.0/0"}`,
			`"addroutes": [{"dst": "10.42.0.0/16", "gw": "169.254.1.1"}, {"dst": "10.43.0.0/16", "gw": "169.254.1.1"}, {"dst": "fd42::/48", "gw": "fe80::ecee:eeff:feee:eeee", "dev": "eth0"}]`,
			[]string{"10.42.0.0/16 via 169.254.1.1 dev eth0", "10.43.0.0/16 via 169.254.1.1 dev eth0", "fd42::/48 via fe80::ecee:eeff:feee:eeee dev eth0", "default via 192.168.8.1 dev net1"}, nil},
		{"k8snetworkplumbingwg/multus-cni#840: three interfaces, the default route by the third, DNS by the first",
			[][]string{calicoPod, {"link add net2 type veth peer name other2", "link set other2 up", "link set net2 up", "addr add 10.30.5.9/24 dev net2", "addr add 10.31.7.9/24 dev net1"}}, `{"address": "10.31.7.9/24", "gateway": "10.31.7.1", "interface": 0}`, ``,
			`"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}], "addroutes": [{"dst": "0.0.0.0/0"}, {"dst": "10.43.0.10/32", "dev": "eth0"}, {"dst": "10.33.0.0/16", "gw": "10.30.5.1"}]`,
			[]string{"default via 10.31.7.1 dev net1", "10.43.0.10 via 169.254.1.1 dev eth0", "10.33.0.0/16 via 10.30.5.1 dev net2"}, []string{"default via 169.254.1.1"}},
		{"k8snetworkplumbingwg/multus-cni#584, #847, ovn-kubernetes/ovn-kubernetes#1003: Multus has taken eth0's default route away, as its annotation asks",
			[][]string{{"addr add 10.42.1.5/24 dev eth0", "route add 10.42.0.0/16 via 10.42.1.1 dev eth0", "addr add fd42::5/64 dev eth0 nodad", "-6 route add fd42::/48 via fd42::1 dev eth0"}, lanOnNet1, lan6OnNet1}, ip4 + "," + ip6, ``,
			`"addroutes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.43.0.0/16", "dev": "eth0"}, {"dst": "fd43::/112", "dev": "eth0"}]`,
			[]string{"default via 192.168.8.1 dev net1", "default via fd08::1 dev net1", "10.43.0.0/16 via 10.42.1.1 dev eth0", "fd43::/112 via fd42::1 dev eth0"}, nil},
		{"passteque/gluetun#188: services by eth0's gateway, which only a route of its own leads to, beside the halves of a VPN",
			[][]string{{"addr add 10.244.1.57/32 dev eth0", "route add 10.244.1.32 dev eth0", "route add default via 10.244.1.32 dev eth0", "addr add 10.8.8.2/24 dev net1", "route add 0.0.0.0/1 via 10.8.8.1 dev net1", "route add 128.0.0.0/1 via 10.8.8.1 dev net1"}}, `{"address": "10.8.8.2/24", "gateway": "10.8.8.1", "interface": 0}`, `{"dst": "0.0.0.0/1"}, {"dst": "128.0.0.0/1"}`,
			`"addroutes": [{"dst": "10.245.0.0/16", "dev": "eth0"}]`, []string{"10.245.0.0/16 via 10.244.1.32 dev eth0", "0.0.0.0/1 via 10.8.8.1 dev net1"}, nil},
		{"k8s-at-home/charts#1276, angelnu/pod-gateway#19: what is not for the VPN's gateway goes as it went before",
			[][]string{flannelPod, {"addr add 172.16.0.20/24 dev net1"}}, `{"address": "172.16.0.20/24", "interface": 0}`, ``,
			`"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}], "addroutes": [{"dst": "0.0.0.0/0", "gw": "172.16.0.1"}, {"dst": "192.168.178.0/24", "dev": "eth0"}, {"dst": "10.0.0.0/8", "dev": "eth0"}, {"dst": "172.22.0.0/15", "dev": "eth0"}]`,
			[]string{"default via 172.16.0.1 dev net1", "192.168.178.0/24 via 10.42.1.1 dev eth0", "10.0.0.0/8 via 10.42.1.1 dev eth0", "172.22.0.0/15 via 10.42.1.1 dev eth0"}, []string{"default via 10.42.1.1"}},
		{"spidernet-io/cni-plugins#178: the node's DNS cache, which is link-local, by eth0",
			[][]string{calicoPod, lanOnNet1}, ip4, ``, `"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}], "addroutes": [{"dst": "0.0.0.0/0"}, {"dst": "169.254.20.10/32", "dev": "eth0"}]`,
			[]string{"169.254.20.10 via 169.254.1.1 dev eth0", "default via 192.168.8.1 dev net1"}, nil},
		{"cilium/cilium#41598: a link-local gateway of IPv6, which does not tell the interface",
			[][]string{flannelPod, {"addr add fd42::5/64 dev eth0 nodad", "-6 route add default via fe80::1 dev eth0"}, lan6OnNet1}, `{"address": "fd08::5/64", "gateway": "fe80::1", "interface": 0}`, ``,
			`"delroutes": [{"dst": "::/0", "dev": "eth0"}], "addroutes": [{"dst": "::/0"}, {"dst": "fd43::/112", "gw": "fe80::1", "dev": "eth0"}, {"dst": "fd44::/112", "dev": "eth0"}]`,
			[]string{"default via fe80::1 dev net1", "fd43::/112 via fe80::1 dev eth0", "fd44::/112 via fe80::1 dev eth0"}, []string{"default via fe80::1 dev eth0"}},
		{"kubeovn/kube-ovn#2033: the overlay by the node's address, which no subnet of the pod holds",
			[][]string{flannelPod, lanOnNet1}, ip4, ``, `"addroutes": [{"dst": "10.16.0.0/16", "gw": "172.20.0.2", "dev": "net1", "onlink": true}]`, []string{"10.16.0.0/16 via 172.20.0.2 dev net1 onlink"}, nil},

		// Families that a pod lacks.
		{"danm-cni/danm#205: routes of both families for a pod that got IPv4 only",
			[][]string{flannelPod, lanOnNet1}, ip4, ``, `"skipMissingFamilies": true, "addroutes": [{"dst": "172.30.0.0/16"}, {"dst": "fd30::/64"}, {"dst": "fd31::/64", "gw": "fd08::1"}, {"dst": "::/0", "table": 100}]`,
			[]string{"172.30.0.0/16 via 192.168.8.1 dev net1"}, []string{"fd30::", "fd31::", "table 100"}},
		{"openstack-k8s-operators/install_yamls#687: the same for one that got IPv6 only, beside an eth0 with IPv4",
			[][]string{flannelPod, lan6OnNet1}, ip6, ``, `"skipMissingFamilies": true, "addroutes": [{"dst": "172.30.0.0/16"}, {"dst": "fd30::/64"}, {"dst": "10.43.0.0/16", "dev": "eth0"}]`,
			[]string{"fd30::/64 via fd08::1 dev net1", "10.43.0.0/16 via 10.42.1.1 dev eth0"}, []string{"172.30.0.0/16"}},
		{"projectcalico/calico#6358: a cluster of IPv4, another network of both",
			[][]string{flannelPod, lanOnNet1, lan6OnNet1}, ip4 + "," + ip6, ``,
			`"skipMissingFamilies": true, "delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}, {"dst": "::/0", "dev": "eth0"}], "addroutes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.43.0.0/16", "dev": "eth0"}, {"dst": "fd43::/112", "dev": "eth0"}]`,
			[]string{"default via 192.168.8.1 dev net1", "default via fd08::1 dev net1", "10.43.0.0/16 via 10.42.1.1 dev eth0"}, []string{"fd43::"}},
		{"containernetworking/plugins#623: rules of both families for a pod that got IPv6 only",
			[][]string{flannelPod, lan6OnNet1}, ip6, ``, `"skipMissingFamilies": true, "addroutes": [{"dst": "0.0.0.0/0", "gw": "192.168.8.1", "table": 100}, {"dst": "::/0", "table": 100}], "addrules": [{"from": "192.168.8.0/22", "table": 100}, {"from": "fd08::/64", "table": 100}, {"to": "0.0.0.0/0", "table": 100, "priority": 40000}]`,
			[]string{"default via fd08::1 dev net1 table 100", "rule 30000: from fd08::/64 lookup 100"}, []string{"192.168.8", "40000"}},
		{"angelnu/pod-gateway#17: a default route of each family, where the cluster has only one",
			[][]string{{"addr add fd42::5/64 dev eth0 nodad", "-6 route add default via fd42::1 dev eth0"}, lan6OnNet1}, ip6, ``,
			`"skipMissingFamilies": true, "delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}, {"dst": "::/0", "dev": "eth0"}], "addroutes": [{"dst": "0.0.0.0/0", "gw": "172.16.0.1"}, {"dst": "::/0"}]`,
			[]string{"default via fd08::1 dev net1"}, []string{"172.16.0.1", "fd42::1"}},
		{"ovn-kubernetes/ovn-kubernetes#2293: two addresses, of which only the second has a gateway",
			[][]string{flannelPod, lanOnNet1, lan6OnNet1}, `{"address": "192.168.8.248/22", "interface": 0}, ` + ip6, ``, `"addroutes": [{"dst": "172.30.0.0/16"}, {"dst": "fd30::/64"}]`,
			[]string{"172.30.0.0/16 dev net1", "fd30::/64 via fd08::1 dev net1"}, nil},

		// Policy rules.
		{"containernetworking/plugins#581: two addresses of one interface, each by a gateway of its own",
			[][]string{flannelPod, lanOnNet1, {"addr add 10.99.0.5/24 dev net1"}}, ip4 + `, {"address": "10.99.0.5/24", "gateway": "10.99.0.1", "interface": 0}`, ``,
			`"addroutes": [{"dst": "0.0.0.0/0", "table": 100}, {"dst": "0.0.0.0/0", "gw": "10.99.0.1", "table": 101}], "addrules": [{"from": "192.168.8.248", "table": 100}, {"from": "10.99.0.5", "table": 101}]`,
			[]string{"default via 192.168.8.1 dev net1 table 100", "default via 10.99.0.1 dev net1 table 101", "rule 30000: from 192.168.8.248 lookup 100", "rule 30000: from 10.99.0.5 lookup 101"}, nil},
		{"containernetworking/plugins#1046: rules for a table that the plugins before have filled",
			[][]string{flannelPod, lanOnNet1, {"route add default via 192.168.8.1 dev net1 table 2000"}}, ip4, `{"dst": "0.0.0.0/0", "gw": "192.168.8.1", "table": 2000}`,
			`"addrules": [{"from": "192.168.8.248/32", "table": 2000, "priority": 100}]`, []string{"default via 192.168.8.1 dev net1 table 2000", "rule 100: from 192.168.8.248 lookup 2000"}, nil},
		{"k8snetworkplumbingwg/multus-cni#498, containernetworking/plugins#496: all that net1 has moves to a table of its own",
			[][]string{flannelPod, lanOnNet1, {"route add 1.1.1.0/24 via 192.168.8.1 dev net1", "route add 2.2.2.0/24 via 192.168.8.1 dev net1"}}, ip4, `{"dst": "1.1.1.0/24", "gw": "192.168.8.1"}, {"dst": "2.2.2.0/24", "gw": "192.168.8.1"}`,
			`"flushroutes": true, "delroutes": [{"dst": "192.168.8.0/22"}], "addroutes": [{"dst": "0.0.0.0/0", "table": 100}, {"dst": "1.1.1.0/24", "table": 100}, {"dst": "2.2.2.0/24", "table": 100}, {"dst": "192.168.8.0/22", "gw": "0.0.0.0", "src": "192.168.8.248", "table": 100}], "addrules": [{"from": "192.168.8.248", "table": 100}]`,
			[]string{"default via 192.168.8.1 dev net1 table 100", "1.1.1.0/24 via 192.168.8.1 dev net1 table 100", "2.2.2.0/24 via 192.168.8.1 dev net1 table 100", "192.168.8.0/22 dev net1 table 100 src 192.168.8.248", "rule 30000: from 192.168.8.248 lookup 100"},
			[]string{"1.1.1.0/24 via 192.168.8.1 dev net1\n", "192.168.8.0/22 dev net1 proto kernel"}},
		{"k8snetworkplumbingwg/multus-cni#706, containernetworking/plugins#654: an address of the annotation, which has no gateway",
			[][]string{calicoPod, {"addr add 10.10.20.204/24 dev net1"}}, `{"address": "10.10.20.204/24", "interface": 0}`, ``,
			`"addroutes": [{"dst": "0.0.0.0/0", "gw": "10.10.20.1", "table": 100}, {"dst": "10.10.20.0/24", "table": 100}], "addrules": [{"from": "10.10.20.204", "table": 100, "priority": 32765}]`,
			[]string{"default via 10.10.20.1 dev net1 table 100", "10.10.20.0/24 dev net1 table 100", "rule 32765: from 10.10.20.204 lookup 100"}, nil},
		{"networkservicemesh/api#119: what has the virtual address of lo for a source, by several gateways of the mesh",
			[][]string{flannelPod, {"addr add 20.0.0.1/32 dev lo", "addr add 167.0.0.9/24 dev net1"}}, `{"address": "167.0.0.9/24", "interface": 0}`, ``,
			`"addroutes": [{"dst": "0.0.0.0/0", "gws": ["167.0.0.1", "167.0.0.2"], "table": 1}], "addrules": [{"from": "20.0.0.1/32", "table": 1}]`,
			[]string{"default table 1 nexthop via 167.0.0.1 dev net1 weight 1 nexthop via 167.0.0.2 dev net1 weight 1", "rule 30000: from 20.0.0.1 lookup 1"}, nil},
		{"intel/userspace-cni-network-plugin#39: a rule of IPv6 is for its one address, not for all",
			[][]string{{"addr add fd42::5/128 dev eth0 nodad", "-6 route add default via fe80::1 dev eth0"}, lan6OnNet1}, ip6, ``,
			`"addroutes": [{"dst": "::/0", "table": 100}], "addrules": [{"from": "fd08::5", "table": 100}]`, []string{"rule 30000: from fd08::5 lookup 100", "default via fe80::1 dev eth0"}, []string{"from all lookup 100"}},
		{"aws/amazon-vpc-cni-k8s#1813: table main for one destination, before the table for a source",
			[][]string{flannelPod, lanOnNet1}, ip4, ``, `"addroutes": [{"dst": "0.0.0.0/0", "table": 2}], "addrules": [{"to": "10.42.0.0/16", "table": 254, "priority": 512}, {"from": "192.168.8.248", "table": 2, "priority": 1536}]`,
			[]string{"default via 192.168.8.1 dev net1 table 2", "rule 512: from all to 10.42.0.0/16 lookup main", "rule 1536: from 192.168.8.248 lookup 2"}, nil},
		{"spidernet-io/spiderpool#2411: the other network's own addresses by its table, whatever the source",
			[][]string{calicoPod, lanOnNet1}, ip4, ``, `"delroutes": [{"dst": "192.168.8.0/22"}], "addroutes": [{"dst": "192.168.8.0/22", "gw": "0.0.0.0", "table": 100}], "addrules": [{"to": "192.168.8.0/22", "table": 100, "priority": 32764}, {"from": "192.168.8.248", "to": "10.7.0.0/16", "table": 100, "priority": 32763}]`,
			[]string{"rule 32764: from all to 192.168.8.0/22 lookup 100", "rule 32763: from 192.168.8.248 to 10.7.0.0/16 lookup 100", "192.168.8.0/22 dev net1 table 100"}, nil},
		{"containernetworking/plugins#1253: the kernel has made one route of both default routes of IPv6, and net1's half moves",
			[][]string{{"addr add fd42::5/64 dev eth0 nodad", "-6 route add default via fe80::1 dev eth0"}, lan6OnNet1, {"-6 route append default via fd08::1 dev net1"}}, ip6, `{"dst": "::/0", "gw": "fd08::1"}`,
			`"delroutes": [{"dst": "::/0"}], "addroutes": [{"dst": "::/0", "table": 100}], "addrules": [{"from": "fd08::5", "table": 100}]`,
			[]string{"default via fe80::1 dev eth0", "default via fd08::1 dev net1 table 100", "rule 30000: from fd08::5 lookup 100"}, []string{"nexthop"}},
	} {
		if i%netopstest.Sample(t, 3) != 0 {
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
