// Command host-routes is a CNI plugin that makes routes on the host, which a jq
// expression computes from the configuration of a network.
package main

import (
	"os"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/plugins/meta/host-routes/internal/jqexpr"
)

var hostRoutes = cni.Plugin{
	Name:    "host-routes",
	Purpose: "Makes routes on the host that a jq expression computes. Stands in a chain, or alone.",
	Since:   "0.3.0",
	Keys: []cni.Key{
		{Name: routing, Help: "jq expression: from this configuration, prevResult included, to a list of routes"},
		{Name: tries, Help: "how often ADD tries a route that fails, 50 ms apart (default 3, at most 10)"},
	},
	Verbs: policy.Verbs(decode),
}

var policy = attach.Policy{
	PrevResultOptional: true,
	// Attachments that an earlier version has made, or whose record was lost.
	DelWithoutRecord: true,
}

func main() {
	// An expression that may get large is evaluated in a process of its own.
	if exit, is := jqexpr.Child(); is {
		os.Exit(exit)
	}
	cni.Main(hostRoutes)
}
