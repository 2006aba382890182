// Command seamless is a CNI plugin that adds one route to a pod: to its own
// node, by the pod network.
package main

import (
	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
)

// seamless is what the plugin calls itself, whatever name its binary has: what
// ADD did as seamless-static-route, DEL undoes as seamless.
var seamless = cni.Plugin{
	Name:    "seamless",
	Purpose: "Adds a route from the pod to its node by the pod network. Stands in a chain, or alone.",
	Since:   "0.1.0",
	Keys: []cni.Key{
		{Name: podInterface, Help: "interface of the pod (default eth0)"},
		{Name: hostInterface, Help: "interface of the node whose address is meant, instead of that of its default route"},
		{Name: hostIPs, Help: "list of addresses that are meant, instead of looking"},
		{Name: gateway, Help: "address, or a list with one for each family, instead of the first of the pod's subnet"},
		{Name: families, Help: `list of "ipv4" and "ipv6" (default ["ipv4"])`},
		{Name: hostTimeout, Help: `how long ADD waits for a default route of the node (default "60s")`},
		{Name: podTimeout, Help: `how long ADD waits for an address of the pod (default "10s")`},
		{Name: routes, Help: "further routes, without a way of their own by the same gateway"},
	},
	Verbs: policy.Verbs(decode),
}

var policy = attach.Policy{PrevResultOptional: true}

func main() { cni.Main(seamless) }
