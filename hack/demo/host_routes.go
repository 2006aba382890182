package main

import (
	"strings"
	"time"
)

// hostRoutes is a host that has to be told where a pod's second address is.
var hostRoutes = scenario{
	name:  "host-routes",
	title: "host-routes after bridge: the host learns a pod's public address",
	run: func(s *stage) {
		p := public{chain: s.chain(publicChain), web: pod{name: "web", ifName: "eth0"}, other: pod{name: "other", ifName: "eth0"}}
		p.build()
		p.bridgeAlone()
		p.wholeChain()
		p.shared()
		p.drift()
		p.undo()
		p.mistake()
	},
}

const publicPicture = `
        web                            host                      visitor
  ┌──────────────────────┐     ┌──────────────────────┐     ┌────────────┐
  │ eth0 10.22.0.5       ├─────┤ cni0 10.22.0.1       │     │            │
  │      203.0.113.5     │     │      ?               ├─────┤ 198.51.100.9
  └──────────────────────┘     └──────────────────────┘     └────────────┘

The pod has a second address, a public one. Nothing tells the host that it is
behind the bridge, so that neither the host nor anybody beyond reaches it.`

// The routings: one for each public address, and one that all pods of the
// network share.
const publicChain = `{
  "cniVersion": "1.1.0",
  "name": "public",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "capabilities": { "ips": true },
      "ipam": { "type": "static", "routes": [ { "dst": "0.0.0.0/0", "gw": "10.22.0.1" } ] }
    },
    {
      "type": "host-routes",
      "routing": "[.prevResult.ips[].address | select(startswith(\"203.0.113.\")) | {prefix: split(\"/\")[0], device: \"cni0\"}] + [{prefix: \"203.0.113.0/24\", type: \"unreachable\"}]"
    }
  ]
}`

const publicMistake = `{
  "type": "host-routes",
  "routing": "[.prevResult.ips[] | {prefix: (.address | spilt(\"/\")[0]), device: \"cni0\"}]"
}`

const visitor = "198.51.100.9"

type public struct {
	chain
	web, other pod
	before     string // the host's routing without pods
}

// build makes the picture. The bridge is there before the plugin, with the
// host's address on it.
func (p *public) build() {
	p.tell(publicPicture)
	p.namespaces("web", "other")
	p.routers("visitor")
	p.cable("visitor", "eth0", node, "uplink")
	p.ip(node, "link set uplink addrgenmode none")
	p.address(node, "uplink", "198.51.100.1/24")
	p.address("visitor", "eth0", visitor+"/24")
	p.ip("visitor", "route add 203.0.113.0/24 via 198.51.100.1")

	// The port keeps the bridge up where no pod does: its routes would change.
	p.ip(node, "link add cni0 type bridge", "link set cni0 addrgenmode none", "link set cni0 up")
	p.cable("visitor", "spare", node, "port0")
	p.ip(node, "link set port0 addrgenmode none", "link set port0 master cni0")
	p.address(node, "cni0", "10.22.0.1/24")
	p.web.ips = []string{"10.22.0.5/24", "203.0.113.5/24"}
	p.other.ips = []string{"10.22.0.6/24", "203.0.113.6/24"}
	p.before = p.routing(node)
}

func (p *public) bridgeAlone() {
	p.step("The chain, as a user writes it")
	p.show(publicChain)

	p.step("Only bridge so far: the first address works, the second does not")
	bridge := p.upTo(1)
	prev := bridge.mustAdd(p.web)
	p.showIP("web", "address show dev eth0")
	p.reaches(node, "10.22.0.5", "the pod by its first address")
	p.misses(node, "203.0.113.5", "the pod by its second")
	p.misses("visitor", "203.0.113.5", "the pod")

	p.step("What host-routes would do about it")
	alone := p.routing(node)
	p.plan(1, p.web, prev)
	p.promise(p.routing(node) == alone, "nothing has changed")
	bridge.mustDel(p.web)
}

func (p *public) wholeChain() {
	p.step("With host-routes: the host knows the way, and so do those beyond")
	p.add(p.web)
	p.showIP(node, "route show proto 77")
	p.reaches(node, "203.0.113.5", "the pod by its second address")
	p.reaches("visitor", "203.0.113.5", "the pod")
	p.check(p.web)
	p.status()
}

func (p *public) shared() {
	p.step("Another pod: the subnet's own route is shared, and stays with the last")
	p.add(p.other)
	p.showIP(node, "route show proto 77")
	p.reaches("visitor", "203.0.113.6", "the other pod")
	p.del(p.other)
	p.showIP(node, "route show proto 77")
	p.promise(p.routes("203.0.113.0/24"), "the route to 203.0.113.0/24 is there, for the first pod wants it")
	p.check(p.web)
}

func (p *public) drift() {
	p.step("Somebody deletes the route: CHECK tells")
	p.showIP(node, "route del 203.0.113.5")
	p.drifted(1, p.web, "ip route add 203.0.113.5 dev cni0: missing")
}

func (p *public) undo() {
	p.step("The pod dies; DEL comes after it: nothing left on the host")
	p.ip(node, "netns del web")
	p.del(p.web)
	p.hostAsBefore()
}

// mistake shows what a user with a typing error gets to read.
func (p *public) mistake() {
	p.step("A typing error in the expression")
	p.show(publicMistake)
	wrong := p.upTo(1)
	wrong.append(publicMistake)
	p.fails(wrong.tryAdd(p.other), 7, "ADD", "function not defined: spilt/1 (line 1, column 43)")
	wrong.del(p.other)
	p.hostAsBefore()
}

// routes reports whether the host has a route of ours to a destination.
func (p *public) routes(dst string) bool {
	return strings.Contains(p.routing(node), dst)
}

// becomes reports whether the host's routing is that, after a moment: a pod's
// interfaces, with what the kernel gave them, vanish some time after the pod.
func (p *public) becomes(want string) bool {
	for range 100 {
		if p.routing(node) == want {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func (p *public) hostAsBefore() {
	p.showIP(node, "route")
	p.promise(p.becomes(p.before), "the host's routes and rules are what they were before ADD")
	p.showRecords()
	p.promise(len(p.records()) == 0, "no record is left")
}
