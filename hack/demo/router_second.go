package main

// routerSecond is a pod with two LANs, of which only the second one's network has
// router.
var routerSecond = scenario{
	name:  "router-second",
	title: "router on net2, where net1's network has none: the cluster is found all the same",
	run: func(s *stage) {
		u := underlay{cluster: s.chain(underlayCluster), lan: s.chain(underlayLAN), pod: pod{"pod", "net2", []string{podOnLAN + "/24"}}}
		u.stage = s
		u.build()
		storage, plain := s.chain(storageLAN), pod{"pod", "net1", []string{"198.51.100.50/24"}}

		s.step("net1 is a plain macvlan, to a network of storage; net2 has router")
		s.show(storageLAN)
		storage.mustAdd(plain)
		before := u.routing("pod")
		u.lan.add(u.pod)
		u.showIP("pod", "rule")
		u.showIP("pod", "route")
		u.leaves(service, "eth0")
		u.reaches("pod", service, "the service")
		u.reaches(node, podOnLAN, "the pod in the LAN")
		u.leaves(world, "net2")
		u.reaches("pod", world, "the world")
		u.leaves("198.51.100.77", "net1")
		u.lan.check(u.pod)

		s.step("DEL: nothing left, and net1 as before")
		u.lan.del(u.pod)
		u.promise(u.ofPods() == u.node, "the node's rules, routes and neighbours for pods are what they were before ADD")
		u.nothingLeft(u.pod, before)
	},
}

const storageLAN = `{
  "cniVersion": "1.1.0",
  "name": "storage",
  "plugins": [
    {
      "type": "macvlan",
      "master": "up0",
      "mode": "bridge",
      "capabilities": { "ips": true },
      "ipam": { "type": "static" }
    }
  ]
}`
