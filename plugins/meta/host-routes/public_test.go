package main

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// Routes on the node that people asked for in public, the expression that makes
// them, and what they wanted to have.
func TestSweepPublicCases(t *testing.T) {
	type vars map[string]string
	const (
		containerd = "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=5be1;K8S_POD_UID=6f1c"
		own        = `[{"address": "192.168.122.175/24", "interface": 0}]`
		pair       = `[{"name": "veth0", "mac": "ee:ee:ee:ee:ee:ee"}, {"name": "eth0", "sandbox": "/run/netns/pod"}]`
		both       = `[{"address": "100.80.0.5/32", "interface": 1}, {"address": "fd00:80::5/128", "interface": 1}]`
	)
	shared := newHost(t, "link add up0 type bridge", "link set up0 addrgenmode none", "link set up0 up", "addr add 198.51.100.10/32 dev up0",
		"link add veth0 type bridge", "link set veth0 addrgenmode none", "link set veth0 up")
	t.Cleanup(func() { shared.IP("link del up0", "link del veth0") })
	pod := newPod(t)
	for i, tt := range []struct {
		name            string
		ips, interfaces string // of the result before, where it matters
		keys            string // of the configuration
		env             vars
		routing         string
		want            string
	}{
		{"containernetworking/cni#654: each container's address by an interface that no plugin has made", own, ``, ``, nil,
			`[.prevResult.ips[] | {prefix: (.address | split("/")[0]), device: "up0"}]`, `192.168.122.175 dev up0 proto 77 scope link`},
		{"containernetworking/cni#870: the containers' subnet, with the address that the node has elsewhere for a source", `[{"address": "10.129.0.7/24", "interface": 0}]`, ``, ``, nil,
			`[{prefix: .prevResult.ips[0].address, device: "cni0", src: "198.51.100.10"}]`, `10.129.0.0/24 dev cni0 proto 77 scope link src 198.51.100.10`},
		{"kubeovn/kube-ovn#2033: the pod's address by itself, on a link whose subnet does not hold it", own, ``, ``, nil,
			`[.prevResult.ips[].address | split("/")[0] | {prefix: ., gateway: ., device: "up0", onlink: true}]`, `192.168.122.175 via 192.168.122.175 dev up0 proto 77 onlink`},
		{"kubeovn/kube-ovn#6124: pods' addresses of net1 by the node's macvlan, with the node's address for a source", own, ``, ``, vars{"CNI_IFNAME": "net1"},
			`if env.CNI_IFNAME == "net1" then [.prevResult.ips[] | {prefix: (.address | sub("/.*"; "")), device: "up0", src: "198.51.100.10"}] else [] end`,
			`192.168.122.175 dev up0 proto 77 scope link src 198.51.100.10`},
		{"the same, of eth0, which is to have none", own, ``, ``, vars{"CNI_IFNAME": "eth0"},
			`if env.CNI_IFNAME == "net1" then [.prevResult.ips[] | {prefix: (.address | sub("/.*"; "")), device: "up0", src: "198.51.100.10"}] else [] end`, ``},
		{"kubeovn/kube-ovn#6864: the pods' network by the overlay's router, with a source of the tunnel's network", ``, ``, `"join": {"gw": "10.1.0.9", "cidr": "10.16.0.0/16"}`, nil,
			`[.join | {prefix: .cidr, gateway: .gw, src: "198.51.100.10"}]`, `10.16.0.0/16 via 10.1.0.9 dev cni0 proto 77 src 198.51.100.10`},
		{"wheelybird/openvpn-server-ldap-otp#8: the VPN's clients behind a container", `[{"address": "10.1.0.2/16", "interface": 0}]`, ``, ``, nil,
			`[{prefix: "10.60.12.0/24", gateway: (.prevResult.ips[0].address | split("/")[0])}]`, `10.60.12.0/24 via 10.1.0.2 dev cni0 proto 77`},
		{"aws/amazon-vpc-cni-k8s#2120, ovn-kubernetes/ovn-kubernetes#6602: a prefix that is delegated to one pod", `[{"address": "fd01::5/64", "interface": 0}]`, ``, `"prefixes": {"prod/web-0": "2001:db8:0:1000::/64"}`, vars{"CNI_ARGS": containerd},
			`$cni.args as {$K8S_POD_NAMESPACE, $K8S_POD_NAME} | .prefixes["\($K8S_POD_NAMESPACE)/\($K8S_POD_NAME)"] as $p | if $p then [{prefix: $p, gateway: (.prevResult.ips[0].address | split("/")[0])}] else [] end`,
			`2001:db8:0:1000::/64 via fd01::5 dev cni0 proto 77 metric 1024`},
		{"projectcalico/calico#10834: both families by the node's end of the pair, as the result tells it", both, pair, ``, nil,
			`(.prevResult.interfaces[] | select(has("sandbox") | not) | .name) as $end | [.prevResult.ips[] | {prefix: .address, device: $end}]`, `
			100.80.0.5 dev veth0 proto 77 scope link
			fd00:80::5 dev veth0 proto 77 metric 1024`},
		{"spidernet-io/spiderpool#2303: the pod's address of the other network by the node's end, in a table that rules prefer", both, pair, `"hostRuleTable": 500`, nil,
			`.hostRuleTable as $table | [.prevResult.ips[] | {prefix: .address, device: "veth0", table: $table}]`, `
			100.80.0.5 dev veth0 table 500 proto 77 scope link
			fd00:80::5 dev veth0 table 500 proto 77 metric 1024`},
		{"containernetworking/plugins#179: an IPv6 address that holds the IPv4 one", `[{"address": "10.1.2.32/16", "interface": 0}]`, ``, ``, nil,
			`[.prevResult.ips[].address | split("/")[0] | {prefix: "2001:db8:1::\(.)", device: "cni0"}]`, `2001:db8:1::a01:220 dev cni0 proto 77 metric 1024`},
		{"learnk8s/advanced-networking#2: the pods' subnets of other nodes, as the configuration maps them", ``, ``, `"nodes": {"10.0.0.0/24": "10.1.0.11", "10.0.1.0/24": "10.1.0.12", "10.0.2.0/24": "10.1.0.1"}`, nil,
			`[.nodes | to_entries[] | select(.value != "10.1.0.1") | {prefix: .key, gateway: .value}]`, `
			10.0.0.0/24 via 10.1.0.11 dev cni0 proto 77
			10.0.1.0/24 via 10.1.0.12 dev cni0 proto 77`},
		{"containers/netavark#680: a network's routes, whose metrics are strings, or not there", ``, ``, `"routes": [{"destination": "10.89.0.0/24", "gateway": "10.1.0.2", "metric": "120"}, {"destination": "10.90.0.0/24", "gateway": "10.1.0.3"}]`, nil,
			`[.routes[] | {prefix: .destination, gateway, metric: (.metric // "0" | tonumber)}]`, `
			10.89.0.0/24 via 10.1.0.2 dev cni0 proto 77 metric 120
			10.90.0.0/24 via 10.1.0.3 dev cni0 proto 77`},
		{"karampok/diktyo, plugins/iproute/README.md: routes that the runtime asks for, of which some drop", ``, ``, `"runtimeConfig": {"routeEntries": [{"destination": "198.51.100.8/32", "gateway": "drop"}, {"destination": "192.168.0.0/16", "gateway": "10.1.0.9", "description": "VPN traffic"}]}`, nil,
			`[.runtimeConfig.routeEntries[] | {prefix: .destination} + if .gateway == "drop" then {type: "blackhole"} else {gateway} end]`, `
			blackhole 198.51.100.8 proto 77
			192.168.0.0/16 via 10.1.0.9 dev cni0 proto 77`},
		{"hashicorp/nomad#16197: the address that the job asks for", ``, ``, ``, vars{"CNI_ARGS": "IgnoreUnknown=true;IP=203.0.113.7;GATEWAY=10.1.0.1"},
			`[$cni.args.IP // empty | {prefix: ., device: "cni0"}]`, `203.0.113.7 dev cni0 proto 77 scope link`},
		{"podman-container-tools/podman#4398: none is asked for, since the runtime sends words of its own", ``, ``, ``, vars{"CNI_ARGS": containerd},
			`[$cni.args.IP // empty | {prefix: ., device: "cni0"}]`, ``},
		{"hashicorp/nomad#23830: a table for each namespace of jobs, from the words as they come", ``, ``, `"tables": {"prod": 100, "test": 200}`, vars{"CNI_ARGS": "NOMAD_NAMESPACE=test;NOMAD_JOB_ID=web;NOMAD_GROUP_NAME=front"},
			`(env.CNI_ARGS | split(";") | map(split("=") | {(.[0]): .[1]}) | add) as $a | [{prefix: "10.9.0.5", device: "cni0", table: .tables[$a.NOMAD_NAMESPACE]}]`, `10.9.0.5 dev cni0 table 200 proto 77 scope link`},
		{"istio/istio#51292, kubernetes/kubernetes#23049: words with and without what not every runtime sends", ``, ``, ``, vars{"CNI_ARGS": "K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web-0"},
			`[{prefix: "10.9.0.5", device: "cni0", metric: (if $cni.args | has("K8S_POD_UID") then 10 else 20 end)}, {prefix: "10.9.0.6", device: "cni0", metric: ($ENV.CNI_ARGS | capture("K8S_POD_NAME=[a-z]+-(?<n>[0-9]+)").n | tonumber + 1)}]`, `
			10.9.0.5 dev cni0 proto 77 scope link metric 20
			10.9.0.6 dev cni0 proto 77 scope link metric 1`},
		{"danm-cni/danm#40: a caller that sends the words of the protocol, but no others", ``, ``, ``, vars{"HOME": "/root", "CNI_ARGS": ""},
			`[{prefix: "10.9.0.5", device: "cni0", metric: ([env.HOME, env.CNI_ARGS // "", env.CNI_NETNS] | map(. // "" | length) | add)}]`, `10.9.0.5 dev cni0 proto 77 scope link metric 14`},
	} {
		if i%netopstest.Sample(t, 2) != 0 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			h := &host{shared.NS, t, shared.before}
			c := call(t, pod, tt.routing).With(tt.env).Edit(func(conf map[string]any) {
				if err := json.Unmarshal([]byte("{"+tt.keys+"}"), &conf); err != nil {
					t.Fatal(err)
				}
				for key, value := range map[string]string{"ips": tt.ips, "interfaces": tt.interfaces} {
					if value != "" {
						conf["prevResult"].(map[string]any)[key] = json.RawMessage(value)
					}
				}
			})
			added := c.OK("ADD")
			h.has(tt.want)
			c.After(added).OK("CHECK")
			c.After(added).OK("DEL")
			h.restored()
			// DEL knows them also where the record was lost, by the same expression.
			c.OK("ADD")
			if err := os.RemoveAll(stateDir); err != nil {
				t.Fatal(err)
			}
			c.OK("DEL")
			h.restored()
		})
	}
}
