package main

// routeOverrideTwice is the plugin standing in a chain twice, in IPv4 and IPv6.
var routeOverrideTwice = scenario{
	name:  "route-override-twice",
	title: "route-override twice after bridge: no way out but to the database, in IPv4 and IPv6",
	run: func(s *stage) {
		f := fenced{chain: s.chain(fencedChain), pod: pod{name: "pod", ifName: "eth0"}}
		f.build()
		f.bridgeAlone()
		f.wholeChain()
		f.drift()
		f.undo()
		f.mistake()
	},
}

const fencedPicture = `
    pod               node                 gateway            database
  ┌──────┐     ┌─────────────────┐     ┌─────────────┐     ┌────────────┐
  │ eth0 ├─────┤ cni0 10.22.0.1  ├─────┤ 10.22.0.254 ├─────┤ 10.30.0.7  │
  │      │     │      fd00:22::1 │     │ fd00:22::fe │     │ fd00:30::7 │
  └──────┘     └────────┬────────┘     └─────────────┘     └────────────┘
                        │
        the world, 198.51.100.1 and 2001:db8::1

bridge and host-local give a pod a default route. This one shall not reach the
world: the administrator's entry takes the way out, the team's adds the one to
its database.`

const fencedChain = `{
  "cniVersion": "1.1.0",
  "name": "fenced",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/ipam",
        "ranges": [ [ { "subnet": "10.22.0.0/24" } ], [ { "subnet": "fd00:22::/64" } ] ],
        "routes": [ { "dst": "0.0.0.0/0" }, { "dst": "::/0" } ]
      }
    },
    {
      "type": "route-override",
      "flushgateway": true
    },
    {
      "type": "route-override",
      "addroutes": [
        { "dst": "10.30.0.0/24", "gw": "10.22.0.254" },
        { "dst": "fd00:30::/64", "gw": "fd00:22::fe", "mtu": 1400 }
      ]
    }
  ]
}`

const mistakes = `{
  "type": "route-override",
  "addroute": [
    { "dst": "10.30.0.0/24", "gw": "10.22.0.254" }
  ],
  "delroutes": [
    { "dst": "10.31.0.0/33" },
    { "dst": "10.32.0.0/16", "gw": "10.22.0.300" }
  ]
}`

type fenced struct {
	chain
	pod    pod
	before string // the pod's routing without eth0
}

// build makes the picture. The bridge is there before the plugin, for the
// gateway to be on it.
func (f *fenced) build() {
	f.tell(fencedPicture)
	f.namespaces("pod", "database")
	f.routers("gateway")
	f.address(node, "lo", "198.51.100.1/32", "2001:db8::1/128")

	f.ip(node, "link add cni0 type bridge", "link set cni0 up")
	f.cable("gateway", "eth0", node, "port1")
	f.ip(node, "link set port1 master cni0")
	f.address("gateway", "eth0", "10.22.0.254/24", "fd00:22::fe/64")

	f.cable("database", "eth0", "gateway", "eth1")
	f.address("gateway", "eth1", "10.30.0.1/24", "fd00:30::1/64")
	f.address("database", "eth0", "10.30.0.7/24", "fd00:30::7/64")
	f.ip("database", "route add default via 10.30.0.1", "-6 route add default via fd00:30::1")
	f.before = f.routing("pod")
}

func (f *fenced) bridgeAlone() {
	f.step("The chain, as a user writes it")
	f.show(fencedChain)

	f.step("Only bridge so far: the world, and no database")
	bridge := f.upTo(1)
	bridge.mustAdd(f.pod)
	f.showRoutes()
	f.reaches("pod", "198.51.100.1", "the world")
	f.misses("pod", "10.30.0.7", "the database")
	bridge.mustDel(f.pod)
}

func (f *fenced) wholeChain() {
	f.step("With both route-override entries: the database, and no world")
	f.add(f.pod)
	f.showRoutes()
	f.reaches("pod", "10.30.0.7", "the database")
	f.reaches("pod", "fd00:30::7", "the database by IPv6")
	f.misses("pod", "198.51.100.1", "the world")
	f.misses("pod", "2001:db8::1", "the world by IPv6")
	f.showRecords()
	f.check(f.pod)
}

// drift undoes one thing of each entry.
func (f *fenced) drift() {
	f.step("Somebody opens the way out, and deletes a route: CHECK tells all of it")
	f.showIP("pod", "route add default via 10.22.0.1")
	f.showIP("pod", "-6 route del fd00:30::/64")
	f.drifted(2, f.pod, "default via 10.22.0.1", "fd00:30::/64")
}

func (f *fenced) undo() {
	f.step("DEL: nothing left, drift or not")
	f.del(f.pod)
	f.nothingLeft(f.pod, f.before)
}

// mistake shows what a user with typing errors gets to read.
func (f *fenced) mistake() {
	f.step("The last entry with three mistakes")
	f.show(mistakes)
	wrong := f.upTo(2)
	wrong.append(mistakes)
	f.fails(wrong.tryAdd(f.pod), 7, "ADD", "addroutes", "10.31.0.0/33", "10.22.0.300")

	f.step("The pod can be deleted all the same")
	wrong.del(f.pod)
	f.nothingLeft(f.pod, f.before)
}

func (f *fenced) showRoutes() {
	f.showIP("pod", "route")
	f.showIP("pod", "-6 route")
}
