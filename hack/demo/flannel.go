package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// flannel is a node of a cluster whose pods flannel connects.
var flannel = scenario{
	name:  "flannel",
	title: "flannel delegates to bridge and host-local: a pod joins the cluster's network",
	run: func(s *stage) {
		n := flannelNode{chain: s.chain(flannelChain), pod: pod{name: "pod", ifName: "eth0"}}
		n.build()
		n.withoutFlanneld()
		n.withFlanneld()
		n.join()
		n.leave()
	},
}

const flannelPicture = `
     pod                     node                                another node
  ┌───────┐     ┌──────────────────────────┐      flannel      ┌──────────────────────┐
  │ eth0  ├─────┤ cni0 10.1.17.1           ├───────────────────┤ 10.1.42.0/24         │
  │       │     │ 10.1.17.0/24 of the      │  10.1.0.0/16, MTU │  a pod: 10.1.42.7    │
  └───────┘     │ cluster's 10.1.0.0/16    │       1472        └──────────────────────┘
                └──────────────────────────┘
                  ▲
                  └ flanneld writes /run/flannel/subnet.env

flanneld gives each node a subnet, and tells the node in a file. The plugin
generates the configuration of bridge from it, and lets bridge do the work.`

const flannelChain = `{
  "cniVersion": "1.1.0",
  "name": "cbr0",
  "plugins": [
    {
      "type": "flannel",
      "delegate": {
        "hairpinMode": true,
        "isDefaultGateway": true
      },
      "ipam": {
        "dataDir": "/run/leases"
      },
      "dataDir": "/run/kept"
    }
  ]
}`

const subnetEnv = `FLANNEL_NETWORK=10.1.0.0/16
FLANNEL_SUBNET=10.1.17.1/24
FLANNEL_MTU=1472
FLANNEL_IPMASQ=true
`

type flannelNode struct {
	chain
	pod pod
}

// build makes the pod, and another node, whose own pod is an address of its.
func (n *flannelNode) build() {
	n.tell(flannelPicture)
	n.routers("pod", "node2")
	n.cable("node2", "eth0", node, "flannel0")
	n.address("node2", "eth0", "192.168.0.2/24")
	n.address(node, "flannel0", "192.168.0.1/24")
	n.address("node2", "lo", "10.1.42.7/32")
	n.ip(node, "route add 10.1.42.0/24 via 192.168.0.2")
	n.ip("node2", "route add 10.1.17.0/24 via 192.168.0.1")
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		fatal(err)
	}
}

func (n *flannelNode) withoutFlanneld() {
	n.step("The chain, much as kube-flannel installs it")
	n.show(flannelChain)

	n.step("flanneld has not come up: STATUS and ADD say what to look at")
	const words = "flanneld has not written /run/flannel/subnet.env yet: look at the flannel pod's log on this node"
	n.fails(n.runtime.GetStatusNetworkList(context.Background(), n.NetworkConfigList), 50, "STATUS", words)
	n.fails(n.tryAdd(n.pod), 11, "ADD", words)
	n.promise(n.nothingKept(), "and nothing is left of it")
}

func (n *flannelNode) withFlanneld() {
	n.step("flanneld writes its file: the node is ready")
	err := os.MkdirAll("/run/flannel", 0o755)
	if err == nil {
		err = os.WriteFile("/run/flannel/subnet.env", []byte(subnetEnv), 0o600)
	}
	if err != nil {
		fatal(err)
	}
	n.command("cat", "/run/flannel/subnet.env")
	n.show(subnetEnv)
	n.status()
}

func (n *flannelNode) join() {
	n.step("What flannel makes of it for bridge")
	n.plan(0, n.pod, nil)

	n.step("The pod joins")
	n.add(n.pod)
	n.showIP("pod", "route")
	n.reaches("pod", "10.1.17.1", "its node")
	n.reaches("pod", "10.1.42.7", "a pod of another node")
	n.showFiles()
	n.check(n.pod)

	n.step("Somebody takes its address away: bridge's CHECK comes out with its name")
	n.showIP("pod", "address flush dev eth0 scope global")
	conf := n.inject(0, map[string]any{})
	n.fails(n.runtime.CheckNetwork(context.Background(), conf, n.pod.args()), 999, "CHECK of flannel", "flannel: bridge: ")
}

func (n *flannelNode) leave() {
	n.step("DEL: no interface, no lease, nothing kept")
	n.del(n.pod)
	n.showIP("pod", "link")
	n.showFiles()
	n.promise(n.nothingKept(), "no lease and no configuration is left on the node")
}

// files are the leases, and what flannel keeps of attachments.
func (n *flannelNode) files() []string {
	var all []string
	for _, pattern := range []string{"/run/leases/cbr0/[0-9]*", "/run/kept/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func (n *flannelNode) nothingKept() bool { return len(n.files()) == 0 }

func (n *flannelNode) showFiles() {
	n.command("ls", "-d", "/run/leases/cbr0/[0-9]*", "/run/kept/*")
	n.show(strings.Join(n.files(), "\n"))
}
