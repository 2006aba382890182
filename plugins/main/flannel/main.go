// Command flannel is a CNI plugin that reads what flanneld has written about
// this node, generates the configuration of another plugin from it, and
// delegates to that one.
//
// Of the processors it uses what it finds: to read the limits of its cgroup
// would take longer than they could save.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import "github.com/cni-netops/plugins/internal/cni"

var flannel = cni.Plugin{
	Name:    "flannel",
	Purpose: "Attaches pods to the node's flannel subnet, by a plugin that it generates the configuration for.",
	Since:   "0.1.0",
	Keys: []cni.Key{
		{Name: keySubnetFile, Help: "file that flanneld writes (default " + defaultSubnetFile + ")"},
		{Name: keyDataDir, Help: "folder for generated configurations, kept for DEL (default " + defaultDataDir + ")"},
		{Name: keyDelegate, Help: "configuration of the plugin to delegate to; without type it is bridge, on Windows win-l2bridge"},
		{Name: keyIPAM, Help: "basis of the delegate's ipam, on Linux; without type it is host-local"},
		{Name: keyStateDir, Help: "moves nothing: what is kept is in " + keyDataDir},
	},
	Verbs: cni.Verbs{Add: add, Check: check, Del: del, GC: gc, Status: status, Plan: plan, Show: showKept},
	NoGC: "gc needs a runtime: what is kept of an attachment does not tell its pod's network namespace, so that " +
		"a pod which is gone looks like one that lives; nothing was removed. A runtime that calls GC says which attachments are valid",
}

func main() { cni.Main(flannel) }
