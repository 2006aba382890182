// Command router is a CNI plugin that gives each kind of a pod's traffic its own
// way out, where the pod has interfaces of an overlay and of underlays.
package main

import (
	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
)

var router = cni.Plugin{
	Name:    "router",
	Purpose: "Gives cluster, node and other traffic of a pod with several interfaces their own ways. Stands in a chain, after the plugin that makes the underlay interface.",
	Since:   "0.3.0",
	Keys: []cni.Key{
		{Name: overlayHijack, Help: "list of the default CNI's pod subnets"},
		{Name: serviceHijack, Help: "list of the subnets of ClusterIPs"},
		{Name: additionalHijack, Help: "list of further subnets that are reached by the overlay interface"},
		{Name: overlayInterface, Help: "the default CNI's interface in the pod (default eth0)"},
		{Name: defaultRoute, Help: "the interface that is to have the pod's default route: its name, or \"overlay\""},
		{Name: migrateRoute, Help: "1: this interface takes the pod's default route; 0: it does not; -1: by order (default)"},
		{Name: hostRuleTable, Help: "the node's table for routes to underlay addresses (default 500)"},
		{Name: table, Help: "the pod's table for this interface (default 100 + N for netN and ethN, else a free one)"},
		{Name: skipCall, Help: "true: do nothing"},
		{Name: sriov, Help: "true: leave out the node's side"},
		{Name: rpFilter, Help: "object of value (0, 1, 2; default 2) and set_host (true or false)"},
		{Name: ipConflict, Help: "object of enabled, interval (default \"1s\") and retries (default 3)"},
		{Name: macPrefix, Help: "two octets, as \"0a:1b\", before the last four bytes of the address"},
		{Name: onlyOpMAC, Help: "true: change the hardware address, and nothing else"},
		{Name: excludeInterfaces, Help: "list of patterns of the node's interfaces whose addresses are not the node's"},
	},
	LogFile: "/var/log/meta-plugins/router.log",
	Verbs:   policy.Verbs(decode),
}

var policy = attach.Policy{CheckIgnoresPrevResult: true}

func main() {
	cni.Main(router)
}
