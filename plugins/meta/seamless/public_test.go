package main

import (
	"strings"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// Nodes as people showed them in public, whose address a program told wrongly or not
// at all: what the node has, and the address that a pod is to reach it by.
func TestSweepPublicCases(t *testing.T) {
	const six = `"families": ["ipv6"]`
	for i, tt := range []struct {
		name       string
		node       []string
		keys, want string
	}{
		{"projectcalico/calico#7855: several addresses without a subnet, of which DHCP's route prefers the last",
			[]string{"addr add 203.0.113.4/32 dev up0", "addr add 203.0.113.5/32 dev up0", "addr add 203.0.113.7/32 dev up0", "route add 203.0.113.1 dev up0",
				"route add default via 203.0.113.1 dev up0 proto dhcp src 203.0.113.7 metric 100"}, ``, "203.0.113.7"},
		{"al45tair/netifaces#4: a multipath route by BGP, which prefers the address of lo",
			[]string{"addr add 10.139.128.11/32 dev lo", "addr add 172.16.104.69/31 dev up0", "addr add 172.16.105.69/31 dev up1",
				"route add default proto bird src 10.139.128.11 nexthop via 172.16.104.68 dev up0 nexthop via 172.16.105.68 dev up1"}, ``, "10.139.128.11"},
		{"cilium/cilium#12317: the same by two routers of one link, whose subnet has an address, too",
			[]string{"addr add 10.189.20.54/32 dev lo", "addr add 10.129.119.3/29 dev up0",
				"route add default proto static src 10.189.20.54 metric 500 nexthop via 10.129.119.2 dev up0 nexthop via 10.129.119.1 dev up0"}, ``, "10.189.20.54"},
		{"romana/romana#179: two uplinks of equal cost, each with an address of its own",
			[]string{"addr add 10.0.1.2/26 dev up0", "addr add 10.1.0.2/26 dev up1", "route add default metric 2 nexthop via 10.0.1.1 dev up0 nexthop via 10.1.0.1 dev up1"}, ``, "10.0.1.2"},
		{"ovn-kubernetes/ovn-kubernetes#6965: the same, the first of which went down",
			[]string{"addr add 10.0.1.2/26 dev up0", "addr add 10.1.0.2/26 dev up1", "route add default metric 2 nexthop via 10.0.1.1 dev up0 nexthop via 10.1.0.1 dev up1", "link set up0 down"}, ``, "10.1.0.2"},
		{"siderolabs/talos#11883: two uplinks by metric, the route of one there twice",
			[]string{"addr add 10.90.56.212/25 dev up1", "addr add 10.90.56.12/25 dev up0", "route add default via 10.90.56.254 dev up1 metric 1001",
				"route add default via 10.90.56.126 dev up0 metric 1000", "route add default via 10.90.56.126 dev up0"}, ``, "10.90.56.12"},
		{"openshift/machine-config-operator#2898: a bridge that took the uplink's address, before another uplink by metric",
			[]string{"addr add 192.0.2.20/24 dev up1", "addr add 192.0.2.10/24 dev up0", "route add default via 192.0.2.1 dev up1 proto dhcp src 192.0.2.20 metric 100",
				"route add default via 192.0.2.1 dev up0 proto dhcp src 192.0.2.10 metric 49"}, ``, "192.0.2.10"},
		{"flannel-io/flannel#168: an address with a peer, which is the gateway",
			[]string{"addr add 198.51.100.235 peer 203.0.113.254/32 dev up0", "route add default via 203.0.113.254 dev up0"}, ``, "198.51.100.235"},
		{"mysticaltech/terraform-hcloud-kube-hetzner#626: one address without a subnet, by a gateway that is on the link",
			[]string{"addr add 203.0.113.42/32 dev up0", "addr add 10.0.0.2/32 dev up1", "route add 10.0.0.1 dev up1", "route add 10.0.0.0/8 via 10.0.0.1 dev up1", "route add default via 172.31.1.1 dev up0 onlink"}, ``, "203.0.113.42"},
		{"kube-vip/kube-vip#682: the link came back, and the virtual address was there before the node's own",
			[]string{"addr add 192.0.2.200/32 dev up0", "addr add 192.0.2.10/24 dev up0", "route add default via 192.0.2.1 proto static"}, ``, "192.0.2.10"},
		{"kube-vip/kube-vip#682: the same, the virtual address with the subnet's length, and the route of a DHCP client",
			[]string{"addr add 192.0.2.200/24 dev up0", "addr add 192.0.2.10/24 dev up0", "route add default via 192.0.2.1 dev up0 proto dhcp src 192.0.2.10 metric 100"}, ``, "192.0.2.10"},
		{"flannel-io/flannel#1018: a node that has an address of 169.254.0.0/16 beside its own, of scope global",
			[]string{"addr add 169.254.122.158/16 dev up0", "addr add 192.0.2.10/24 dev up0", "route add default dev up0"}, ``, "192.0.2.10"},
		{"projectcalico/calico#6910: the DNS cache's interface, whose addresses are those of every node",
			[]string{"link add node0 type bridge", "link set node0 up", "addr add 10.96.0.10/32 dev node0", "addr add 169.254.20.10/32 dev node0", "addr add 172.31.5.9/20 dev up0", "route add default via 172.31.0.1 dev up0 proto dhcp metric 100"}, ``, "172.31.5.9"},
		{"kubernetes/kubernetes#95779: BGP unnumbered, the routers known by link-local addresses of IPv6",
			[]string{"addr add 198.51.100.7/32 dev lo", "-4 route add default proto bgp metric 20 nexthop via inet6 fe80::1 dev up0 nexthop via inet6 fe80::2 dev up1"}, ``, "198.51.100.7"},
		{"kubernetes/kubeadm#2323: the same, as older routing daemons write it",
			[]string{"addr add 198.51.100.7/32 dev lo", "route add default proto bgp nexthop via 169.254.0.1 dev up0 onlink nexthop via 169.254.0.1 dev up1 onlink"}, ``, "198.51.100.7"},
		{"cilium/cilium#17475: the address is an interface's that only has it for that",
			[]string{"link add node0 type bridge", "link set node0 up", "addr add 10.69.0.4/32 dev node0", "addr add 10.69.0.67/26 dev up0 scope link", "addr add 10.69.0.131/26 dev up1 scope link",
				"route add default proto bird nexthop via 10.69.0.65 dev up0 nexthop via 10.69.0.129 dev up1"}, ``, "10.69.0.4"},
		{"cilium/cilium#22274: the same of IPv6",
			[]string{"link add node0 type bridge", "link set node0 up", "addr add fd00:102::c613/128 dev node0 nodad", "-6 route add default proto bird metric 32 nexthop via fe80::1 dev up0 nexthop via fe80::2 dev up1"},
			six, "fd00:102::c613"},
		{"projectcalico/calico#5017: a default route over a pod's interface that has no address, before the node's own",
			[]string{"addr add 192.0.2.10/26 dev up0", "route add default dev up1", "route append default via 192.0.2.1 dev up0"}, ``, "192.0.2.10"},
		{"kube-vip/kube-vip#1371: a node with IPv6 only, by two routers, one of them by its link-local address",
			[]string{"addr add 2001:db8:303::10/64 dev up0 nodad", "-6 route add default proto static nexthop via 2001:db8:303::100:2 dev up0 nexthop via fe80::c647:3fff:fe01:1 dev up0"}, six, "2001:db8:303::10"},
		{"kube-vip/kube-vip#1198, ovn-kubernetes/ovn-kubernetes#1714: a virtual address of IPv6, which is deprecated",
			[]string{"addr add 2001:db8::20/64 dev up0 nodad", "addr add 2001:db8::10/128 dev up0 nodad preferred_lft 0", "-6 route add default via fe80::1 dev up0 proto ra"}, six, "2001:db8::20"},
		{"vmware-tanzu/tanzu-framework#2103: a virtual address of IPv6 that is not, in the subnet of the router",
			[]string{"addr add fd01:1:2:2915::1eb2/64 dev up0 nodad", "addr add fd01:1:2:2915::77/128 dev up0 nodad", "-6 route add default via fd01:1:2:2915::1 dev up0"}, six, "fd01:1:2:2915::1eb2"},
		{"k3s-io/k3s#9946: an address of the internet beside one of the site",
			[]string{"addr add 2001:db8:800c:df01::51c/128 dev up0 nodad", "addr add fd00::51c/64 dev up0 nodad", "-6 route add default via fe80::1 dev up0 proto ra"}, six, "2001:db8:800c:df01::51c"},
		{"siderolabs/talos#9725: an address by DHCPv6, later than that by advertisements",
			[]string{"addr add fd01:cafe::5054:ff:fe1f:c7bd/64 dev up0 nodad mngtmpaddr", "addr add fd01:cafe::f14c:9fa1:8496:557f/128 dev up0 nodad", "-6 route add default via fe80::1 dev up0 proto ra"}, six, "fd01:cafe::f14c:9fa1:8496:557f"},
	} {
		if i%netopstest.Sample(t, 2) != 0 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			node := newNode(t, "link add up1 type bridge", "link set up1 addrgenmode none", "link set up1 up")
			t.Cleanup(func() {
				node.IP("link del up1", "-4 addr flush dev lo scope global", "-6 addr flush dev lo scope global")
				_ = runIP("link del node0")
			})
			node.IP(tt.node...)
			addr, gateway := "10.131.0.43/23", " via 10.131.0.1 dev eth0 proto 77"
			if strings.Contains(tt.want, ":") {
				addr, gateway = "fd01::5/64", " via fd01::1 dev eth0 proto 77 metric 1024"
			}
			pod := newPod(t, addr)
			before := pod.Dump()
			c := call(t, pod, tt.keys)
			added := c.OK("ADD")
			hasRoutes(t, pod, tt.want+gateway)
			c.After(added).OK("CHECK")
			c.After(added).OK("DEL")
			restored(t, pod, before)
		})
	}
}
