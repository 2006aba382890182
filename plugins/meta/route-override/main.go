// Command route-override is a CNI plugin that changes the routes of the
// attachment which the plugins before it in the chain have made.
package main

import (
	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
)

var routeOverride = cni.Plugin{
	Name:    "route-override",
	Purpose: "Flushes, deletes and adds routes of an attachment. Stands in a chain, after the plugin that makes the interface.",
	Since:   "0.3.0",
	Keys: []cni.Key{
		{Name: flushRoutes, Help: "true: remove all routes by a gateway and all default routes of the attachment's interfaces"},
		{Name: flushGateway, Help: "true: remove the default routes of the attachment's interfaces"},
		{Name: delRoutes, Help: "list of routes to remove where they exist; every field given must match"},
		{Name: addRoutes, Help: "list of routes to add; without gw by the gateway of the result"},
		{Name: addRules, Help: "list of policy rules to add: from or to, table, priority"},
		{Name: skipCheck, Help: "true: CHECK succeeds without looking"},
		{Name: ignoreErrors, Help: "true: a route that cannot be added is left out, with a warning"},
		{Name: skipMissing, Help: "true: routes and rules of an address family that the attachment lacks are left out"},
	},
	Verbs: policy.Verbs(decode),
}

// What it changes is the pod's own, so whoever may annotate the pod may ask for it.
var policy = attach.Policy{KeysFromArgs: true}

func main() { cni.Main(routeOverride) }
