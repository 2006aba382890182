package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// router is a pod in the node's own LAN, which neither finds the other in.
var router = scenario{
	name:  "router",
	title: "router after macvlan: a pod in its node's LAN, and in the cluster",
	run: func(s *stage) {
		u := underlay{cluster: s.chain(underlayCluster), lan: s.chain(underlayLAN), pod: pod{"pod", "net1", []string{podOnLAN + "/24"}}}
		u.stage = s
		u.build()
		u.macvlanAlone()
		u.wholeChain()
		u.drift()
		u.conflict()
		u.undo()
	},
}

const underlayPicture = `
                        node                              the LAN, 192.0.2.0/24
          ┌───────────────────────────┐
          │ up0  192.0.2.10 ──────────┼──────┬───── 192.0.2.1   router to the world,
   web ───┤ cni0 10.244.1.1           │      │                  203.0.113.9
          └───┬───────────────────────┘      ├───── 192.0.2.77  a machine
          eth0│ 10.244.1.5               net1│192.0.2.50
          ┌───┴──────────── pod ─────────────┴──────┐
          └─────────────────────────────────────────┘

The pod is in the cluster by eth0, and in its node's LAN by net1, a macvlan
interface on the node's up0. net1's default route takes precedence, so that
services are looked for in the LAN; and macvlan lets no packet pass between up0
and what is made on it: pod and node do not reach each other there.`

const underlayCluster = `{
  "cniVersion": "1.1.0",
  "name": "cluster",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isDefaultGateway": true,
      "capabilities": { "ips": true },
      "ipam": { "type": "static" }
    }
  ]
}`

const underlayLAN = `{
  "cniVersion": "1.1.0",
  "name": "lan",
  "plugins": [
    {
      "type": "macvlan",
      "master": "up0",
      "mode": "bridge",
      "capabilities": { "ips": true },
      "ipam": { "type": "static", "routes": [ { "dst": "0.0.0.0/0", "gw": "192.0.2.1" } ] }
    },
    {
      "type": "router",
      "overlay_hijack_subnet": [ "10.244.0.0/16" ],
      "service_hijack_subnet": [ "10.96.0.0/12" ],
      "rp_filter": { "set_host": true },
      "ip_conflict": { "enabled": true, "interval": "100ms", "retries": 2 }
    }
  ]
}`

const (
	podOnLAN     = "192.0.2.50"
	machineOnLAN = "192.0.2.77"
	world        = "203.0.113.9"
)

type underlay struct {
	*stage
	cluster, lan chain
	pod          pod
	before       string // the pod's routing without net1
	node         string // what the node has for pods
}

// build makes the picture. The service is behind the other pod.
func (u *underlay) build() {
	u.tell(underlayPicture)
	u.namespaces("pod", "web")
	u.routers("lan")
	u.cable(node, "up0", "lan", "port0")
	u.address(node, "up0", nodeAddress+"/24")
	u.address("lan", "port0", "192.0.2.1/24", machineOnLAN+"/24")
	u.address("lan", "lo", world+"/32")
	u.ip(node, "route add default via 192.0.2.1")
	u.cable("web", "eth0", node, "veth9")
	u.address("web", "eth0", "10.244.2.9/24")
	u.address("web", "lo", service+"/32")
	u.ip("web", "route add default via 10.244.2.1")
	u.address(node, "veth9", "10.244.2.1/24")
	u.ip(node, "route add "+service+" via 10.244.2.9")
	u.cluster.mustAdd(pod{"pod", "eth0", []string{"10.244.1.5/24"}})
	u.ip("pod", "link set eth0 addrgenmode none")
	u.before, u.node = u.routing("pod"), u.ofPods()
}

// ofPods is what the node has for pods beside table main.
func (u *underlay) ofPods() string {
	var all strings.Builder
	for _, line := range []string{"rule", "-6 rule", "route show table all proto 77", "neigh show nud permanent"} {
		out, err := exec.Command("ip", in(node, line)...).CombinedOutput()
		if err != nil {
			fatal(fmt.Errorf("ip %s: %w: %s", line, err, out))
		}
		all.Write(out)
	}
	return all.String()
}

func (u *underlay) macvlanAlone() {
	u.step("The chain, as a user writes it")
	u.show(underlayLAN)

	u.step("Only macvlan so far: node and pod are lost to each other, and so is the service")
	macvlan := u.lan.upTo(1)
	prev := macvlan.mustAdd(u.pod)
	u.showIP("pod", "route")
	u.misses(node, podOnLAN, "the pod in the LAN")
	u.misses("pod", nodeAddress, "its node")
	u.misses("pod", service, "the service")

	u.step("What router would do about it")
	alone := u.routing("pod")
	u.lan.plan(1, u.pod, prev)
	u.promise(u.routing("pod") == alone && u.ofPods() == u.node, "nothing has changed")
	macvlan.mustDel(u.pod)
}

func (u *underlay) wholeChain() {
	u.step("With router: each kind of traffic has its own way")
	u.lan.add(u.pod)
	u.showIP("pod", "rule")
	u.showIP("pod", "route")
	u.showIP(node, "route show table 500")
	u.reaches(node, podOnLAN, "the pod in the LAN")
	u.reaches("pod", nodeAddress, "its node")
	u.reaches("lan", podOnLAN, "the pod in the LAN")
	u.leaves(world, "net1")
	u.reaches("pod", world, "the world")
	u.leaves(service, "eth0")
	u.reaches("pod", service, "the service")
	u.reaches("web", "10.244.1.5", "the pod in the cluster")
	u.lan.check(u.pod)
	u.lan.status()
}

// leaves promises by which interface what is for an address leaves.
func (u *underlay) leaves(addr, dev string) {
	line := "route get " + addr
	u.command("ip", in("pod", line)...)
	out, err := exec.Command("ip", in("pod", line)...).CombinedOutput()
	if err != nil {
		fatal(fmt.Errorf("ip %s: %w: %s", line, err, out))
	}
	way, _, _ := strings.Cut(string(out), "\n")
	u.show(way)
	u.promise(strings.Contains(way, " dev "+dev+" "), "what is for "+addr+" leaves by "+dev)
}

func (u *underlay) drift() {
	u.step("Somebody deletes a rule in the pod, and the node's route: CHECK tells")
	u.showIP("pod", "rule del pref 31100")
	u.showIP(node, "route del "+podOnLAN+" table 500")
	u.lan.drifted(1, u.pod, "ip rule add pref 31100 from 10.244.1.5 lookup 100: missing", "ip route add "+podOnLAN)
}

func (u *underlay) conflict() {
	u.step("Another pod is given an address that a machine of the LAN has: ADD asks, and refuses")
	other := pod{"web", "net1", []string{machineOnLAN + "/24"}}
	u.fails(u.lan.tryAdd(other), 102, "ADD", machineOnLAN+" is in use by")
	u.lan.mustDel(other)
}

func (u *underlay) undo() {
	u.step("DEL: nothing left, neither in the pod nor on the node")
	u.lan.del(u.pod)
	u.promise(u.ofPods() == u.node, "the node's rules, routes and neighbours for pods are what they were before ADD")
	u.nothingLeft(u.pod, u.before)
}
