// Command route-override is a CNI plugin that changes the routes of the
// attachment which the plugins before it in the chain have made.
package main

import "github.com/cni-netops/plugins/internal/plugin"

var routeOverride = plugin.Plugin{
	Name:    "route-override",
	Purpose: "Flushes, deletes and adds routes of an attachment. Stands in a chain, after the plugin that makes the interface.",
	Since:   "0.3.0",
	// What it changes is the pod's own.
	PerAttachment: true,
	Keys: []plugin.Key{
		{Name: flushRoutes, Help: "true: remove all routes by a gateway and all default routes of the attachment's interfaces"},
		{Name: flushGateway, Help: "true: remove the default routes of the attachment's interfaces"},
		{Name: delRoutes, Help: "list of routes to remove where they exist; every field given must match"},
		{Name: addRoutes, Help: "list of routes to add; without gw by the gateway of the result"},
		{Name: skipCheck, Help: "true: CHECK succeeds without looking"},
		{Name: ignoreErrors, Help: "true: a route that cannot be added is left out, with a warning"},
	},
	Verbs: plugin.Planned(decode),
}

func main() { plugin.Main(routeOverride) }
