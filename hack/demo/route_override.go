package main

import "slices"

// routeOverride is the plugin's first use: a second network, whose routes are
// not what the pod needs.
var routeOverride = scenario{
	name:  "route-override",
	title: "route-override after macvlan: a pod joins a factory's LAN",
	run: func(s *stage) {
		f := factory{chain: s.chain(factoryChain), pod: pod{name: "pod", ifName: "net1"}}
		f.build()
		f.macvlanAlone()
		f.wholeChain()
		f.drift()
		f.undo()
		f.collect()
	},
}

const factoryPicture = `
         pod                     node                 the factory's LAN, 10.1.0.0/16
  ┌─────────────────┐     ┌────────────────┐
  │ eth0 10.244.0.5 ├─────┤ the cluster    │     ┌── 10.1.0.1      router to the offices
  │ net1 10.1.0.5   ├─────┤ eth1           ├─────┤
  └─────────────────┘     └────────────────┘     └── 10.1.254.254  router to the machines
                                                                   in 192.168.0.0/24

The pod is in the cluster by eth0. It gets net1 in the factory's LAN, to read
from a machine behind the second router. macvlan gives net1 a default route,
which takes the cluster's place and leads to the wrong router.`

const factoryChain = `{
  "cniVersion": "1.1.0",
  "name": "factory",
  "plugins": [
    {
      "type": "macvlan",
      "master": "eth1",
      "mode": "bridge",
      "ipam": {
        "type": "static",
        "addresses": [ { "address": "10.1.0.5/16", "gateway": "10.1.0.1" } ],
        "routes": [ { "dst": "0.0.0.0/0" } ]
      }
    },
    {
      "type": "route-override",
      "flushroutes": true,
      "addroutes": [ { "dst": "192.168.0.0/24", "gw": "10.1.254.254" } ]
    }
  ]
}`

const (
	machine = "192.168.0.10"
	service = "10.96.0.10"
)

type factory struct {
	chain
	pod    pod
	before string // the pod's routing without net1
	alone  string // and with it, after macvlan alone
}

// build makes the picture.
func (f *factory) build() {
	f.tell(factoryPicture)
	f.namespaces("pod", "lan", "machine")
	f.routers("offices", "machines")

	f.cable("pod", "eth0", node, "cluster")
	// What the demo compares is not to gain a link-local route later.
	f.ip("pod", "link set eth0 addrgenmode none")
	f.address("pod", "eth0", "10.244.0.5/24")
	f.address(node, "cluster", "10.244.0.1/24")
	f.address(node, "lo", service+"/32")
	f.ip("pod", "route add default via 10.244.0.1")

	f.ip("lan", "link add br0 type bridge", "link set br0 up")
	f.cable("lan", "port1", node, "eth1")
	f.cable("lan", "port2", "offices", "eth0")
	f.cable("lan", "port3", "machines", "eth0")
	f.ip("lan", "link set port1 master br0", "link set port2 master br0", "link set port3 master br0")
	f.address("offices", "eth0", "10.1.0.1/16")
	f.address("machines", "eth0", "10.1.254.254/16")

	f.cable("machine", "eth0", "machines", "eth1")
	f.address("machines", "eth1", "192.168.0.1/24")
	f.address("machine", "eth0", machine+"/24")
	f.ip("machine", "route add default via 192.168.0.1")
	f.before = f.routing("pod")
}

// macvlanAlone shows what the chain's first plugin makes of the pod.
func (f *factory) macvlanAlone() {
	f.step("The chain, as a user writes it")
	f.show(factoryChain)

	f.step("Only macvlan so far: two default routes, the wrong one first")
	macvlan := f.upTo(1)
	prev := macvlan.mustAdd(f.pod)
	f.showIP("pod", "route")
	f.misses("pod", machine, "a machine of the factory")
	f.misses("machine", "10.1.0.5", "the pod, whose answers go astray")
	f.misses("pod", service, "a service of the cluster")

	f.step("What route-override would do about it")
	f.alone = f.routing("pod")
	f.plan(1, f.pod, prev)
	f.promise(f.routing("pod") == f.alone, "nothing has changed")
	macvlan.mustDel(f.pod)
}

func (f *factory) wholeChain() {
	f.step("With route-override: each network by its own way")
	f.add(f.pod)
	f.showIP("pod", "route")
	f.reaches("pod", machine, "a machine of the factory")
	f.reaches("machine", "10.1.0.5", "the pod")
	f.reaches("pod", service, "a service of the cluster")
	f.check(f.pod)
	f.status()
}

// drift is told by route-override's own CHECK: that of the chain ends at the
// first plugin that finds something, and macvlan looks for routes too.
func (f *factory) drift() {
	f.step("Somebody deletes a route and adds the old one: CHECK tells all of it")
	f.showIP("pod", "route del 192.168.0.0/24")
	f.showIP("pod", "route prepend default via 10.1.0.1")
	f.drifted(1, f.pod, "192.168.0.0/24", "default via 10.1.0.1")
	f.showsOnNode(1, f.pod, "now: missing", "now: present, should be absent")
}

// undo takes the chain back in two halves, to show what each plugin does.
func (f *factory) undo() {
	f.step("DEL, first of route-override alone: macvlan's routes are back, drift or not")
	f.delOnly(1, f.pod)
	f.showIP("pod", "route")
	f.promise(f.routing("pod") == f.alone, "the pod's routes are what macvlan made them")

	f.step("DEL of the chain: nothing left")
	f.del(f.pod)
	f.nothingLeft(f.pod, f.before)
}

// collect loses a pod the way a crashing node does.
func (f *factory) collect() {
	f.step("One pod lives; another died without DEL, and the runtime forgot it: GC")
	f.add(f.pod)
	living := f.records()
	lost := pod{name: "lost", ifName: "net1"}
	f.namespaces(lost.name)
	f.mustAdd(lost)
	f.ip(node, "netns del "+lost.name)
	f.forget(lost)
	f.showRecords()
	f.gc(f.pod)
	f.showRecords()
	f.promise(slices.Equal(f.records(), living), "only what belongs to the pod that lives is left")
	f.check(f.pod)
	f.mustDel(f.pod)
	f.promise(len(f.records()) == 0, "and nothing after its DEL")
}
