package main

import (
	"context"
	"time"
)

// seamless is a pod whose way to its own node leads through a firewall.
var seamless = scenario{
	name:  "seamless",
	title: "seamless beside a pod's network: the way to its own node",
	run: func(s *stage) {
		w := walled{pods: s.chain(walledPods), node: s.chain(walledNode), pod: pod{name: "pod", ifName: "eth0"}}
		w.stage = s
		w.build()
		w.withoutRoute()
		w.withRoute()
		w.drift()
		w.undo()
		w.waiting()
	},
}

const walledPicture = `
        pod                         node
  ┌────────────────┐     ┌───────────────────────┐
  │ eth0 10.22.0.5 ├──┬──┤ cni0   10.22.0.1      │
  └────────────────┘  │  │ uplink 192.0.2.10     ├──┐
                      │  └───────────────────────┘  │ 192.0.2.0/24
                      │  ┌───────────────────────┐  │
                      └──┤ firewall 10.22.0.254  ├──┘
                         └───────────────────────┘

The pod's default route leads to a firewall, which lets nobody through to the
nodes. A kubelet's probe from 192.0.2.10 reaches the pod, and gets no answer.`

const walledPods = `{
  "cniVersion": "1.1.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "ipam": {
        "type": "static",
        "addresses": [ { "address": "10.22.0.5/24", "gateway": "10.22.0.254" } ],
        "routes": [ { "dst": "0.0.0.0/0" } ]
      }
    }
  ]
}`

const walledNode = `{
  "cniVersion": "1.1.0",
  "name": "node",
  "plugins": [
    { "type": "seamless-static-route" }
  ]
}`

const nodeAddress = "192.0.2.10"

type walled struct {
	*stage
	pods, node chain
	pod        pod
	before     string // the pod's routing with the network only
}

// build makes the picture.
func (w *walled) build() {
	w.tell(walledPicture)
	w.namespaces("pod")
	w.routers("firewall")
	w.ip(node, "link add cni0 type bridge", "link set cni0 up")
	w.address(node, "cni0", "10.22.0.1/24")
	w.cable("firewall", "inside", node, "port0")
	w.ip(node, "link set port0 master cni0")
	w.address("firewall", "inside", "10.22.0.254/24")
	w.cable(node, "uplink", "firewall", "outside")
	w.address(node, "uplink", nodeAddress+"/24")
	w.address("firewall", "outside", "192.0.2.1/24")
	w.ip("firewall", "route add prohibit "+nodeAddress)
	w.ip(node, "route add default via 192.0.2.1")
	w.pods.mustAdd(w.pod)
	w.ip("pod", "link set eth0 addrgenmode none")
	w.before = w.routing("pod")
}

func (w *walled) withoutRoute() {
	w.step("The pod as it is")
	w.showIP("pod", "route")
	w.misses("pod", nodeAddress, "its node")
}

func (w *walled) withRoute() {
	w.step("A second network, of nothing but its type")
	w.show(walledNode)
	w.node.plan(0, w.pod, nil)
	w.promise(w.routing("pod") == w.before, "nothing has changed")
	w.node.add(w.pod)
	w.showIP("pod", "route")
	w.reaches("pod", nodeAddress, "its node")
	w.node.check(w.pod)
	w.node.status()
}

func (w *walled) drift() {
	w.step("Somebody deletes the route: CHECK tells")
	w.showIP("pod", "route del "+nodeAddress)
	w.node.drifted(0, w.pod, "ip route add "+nodeAddress+" via 10.22.0.1 dev eth0: missing")
}

func (w *walled) undo() {
	w.step("DEL: nothing left")
	w.node.del(w.pod)
	w.nothingLeft(w.pod, w.before)
}

// waiting has the node get its default route while ADD waits for it.
func (w *walled) waiting() {
	w.step("A node that boots: the default route comes half a second after ADD")
	w.ip(node, "route del default")
	w.fails(w.node.runtime.GetStatusNetworkList(context.Background(), w.node.NetworkConfigList), 50, "STATUS", "the node has no ipv4 default route")
	const late = 500 * time.Millisecond
	done := make(chan struct{})
	time.AfterFunc(late, func() {
		defer close(done)
		w.ip(node, "route add default via 192.0.2.1")
	})
	began := time.Now()
	w.node.add(w.pod)
	took := time.Since(began)
	<-done
	w.promise(took >= late && took < 2*late, "ADD waited for it, and no longer")
	w.reaches("pod", nodeAddress, "its node")
	w.node.del(w.pod)
	w.nothingLeft(w.pod, w.before)
}
