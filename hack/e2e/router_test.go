package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Parts of networks: the cluster's, which is a pod's first here, and those on the
// LANs of the node, in which router stands.
const (
	cluster = `{ "type": "bridge", "bridge": "cni1", "isDefaultGateway": true, "ipam": { "type": "host-local",
		"ranges": [ [ { "subnet": "10.244.3.0/24" } ] ] } }`
	lan1 = `{ "type": "macvlan", "master": "up0", "mode": "bridge", "ipam": { "type": "host-local",
		"ranges": [ [ { "subnet": "192.0.2.0/24", "rangeStart": "192.0.2.101", "rangeEnd": "192.0.2.200", "gateway": "` + gatewayAddress + `" } ] ],
		"routes": [ { "dst": "0.0.0.0/0" } ] } }`
	lan2 = `{ "type": "macvlan", "master": "up1", "mode": "bridge", "ipam": { "type": "host-local",
		"ranges": [ [ { "subnet": "198.19.0.0/24", "rangeStart": "198.19.0.101", "rangeEnd": "198.19.0.200", "gateway": "198.19.0.1" } ] ],
		"routes": [ { "dst": "0.0.0.0/0" } ] } }`
	taken = `{ "type": "macvlan", "master": "up0", "mode": "bridge", "ipam": { "type": "static", "addresses": [ { "address": "` + gatewayAddress + `/24" } ] } }`

	subnets = `"overlay_hijack_subnet": [ "10.244.0.0/16" ], "service_hijack_subnet": [ "198.51.100.0/24" ]`
	router  = `{ "type": "router", ` + subnets + `, "mac_prefix": "0a:1b", "rp_filter": { "set_host": true, "value": 0 },
		"ip_conflict": { "enabled": true, "interval": "20ms", "retries": 1 } }`
	asking  = `{ "type": "router", ` + subnets + `, "ip_conflict": { "enabled": true } }`
	table   = `{ "type": "router", ` + subnets + `, "table": 101 }`
	logging = `{ "type": "router", ` + subnets + `, "log_options": { "log_level": "debug", "log_file": "DIR/` + routerLog + `" } }`

	routerLog = "router.log"
)

// late has a network wait until a shell's command succeeds.
func late(until string) string {
	return fmt.Sprintf(`{ "type": %q, "until": [ "sh", "-c", %q ] }`, witness, until)
}

// overlayIsThere waits for what router does not: where networks are added in
// parallel, it cannot know that the overlay's is still to come.
var overlayIsThere = late("nsenter --net=$CNI_NETNS ip route | grep -q 'default.*eth0'")

// underlays are these networks, by name.
var underlays = map[string][]string{
	"lan":          {lan1},
	"underlay":     {lan1, router},
	"second":       {lan2, router},
	"taken":        {taken, asking},
	"same-table":   {lan2, table},
	"early":        {lan1, strings.ReplaceAll(logging, "DIR", dir)},
	"router-calls": {overlayIsThere, lan1, router, testimony},
	"router-fails": {overlayIsThere, lan1, router, testimony, failing["route-override"].plugins[2]},
	"router-stuck": {overlayIsThere, lan1, router, stuck("router-stuck")},
}

// atOnce are networks that containerd, which others follow in turn, adds to pods
// at the same time.
var atOnce = [][]string{{"late-flannel", "early"}, {"flannel", "branch"}, {"flannel", "router-calls"}, {"flannel", "router-fails"},
	{"flannel", "router-stuck"}}

// toWorld shows that the pod's default route is the underlay's: there nobody
// knows the overlay.
var toWorld = example{"router", worldAddress, "pod reaches the world by its underlay", ""}

// onUnderlay are examples for a pod with one underlay. Without router none of
// them goes through while that way to the world is there.
var onUnderlay = []example{
	{"router", nodeAddress, "pod reaches its node on the LAN that they share", ""},
	{"router", "192.0.2.", "node reaches the pod's address on the LAN that they share", ""},
	{"router", serviceAddress, "pod reaches services by the overlay", ""},
	{"router", otherNodesPod, "pod reaches a pod of another node by the overlay", ""},
	{"router", "10.244.3.", "another node reaches the pod's overlay address", otherNode},
}

// onBoth are those for a pod with a second one, which are beside the others.
var onBoth = []example{
	{"router", worldBehind2, "pod reaches the world by its newest underlay", ""},
	{"router", nodeOnSecond, "pod reaches its node on the LAN of its second underlay", ""},
	{"router", "198.19.0.", "node reaches the pod's address of its second underlay", ""},
	{"router", "192.0.2.", "the world behind the first underlay reaches the pod, which answers by there", worldAddress},
	{"router", "198.19.0.", "the world behind the second underlay reaches the pod", worldBehind2},
}

// oneUnderlay and twoUnderlays are the networks of pods, and what these show.
var (
	oneUnderlay  = []string{"cluster", "underlay"}
	twoUnderlays = []string{"cluster", "underlay", "second"}
	showOne      = append([]example{toWorld}, onUnderlay...)
	showTwo      = append(slices.Clip(onUnderlay), onBoth...)
)

// in are networks in a version, as their names have it at the end.
func in(version string, networks []string) []string {
	list := slices.Clone(networks)
	for i := range list {
		list[i] += version
	}
	return list
}

// reloadInOrder is the runtime's reload, for a container of networks of which one
// needs another.
func reloadInOrder(r runtime, container string) error {
	if p, ok := r.(*podman); ok {
		return p.restart(container)
	}
	return r.reload(container)
}

// failsEach fails the test if any of the examples works while the world is
// reached by the underlay.
func failsEach(t *testing.T, r runtime, container string, examples []example) {
	t.Helper()
	var group sync.WaitGroup
	for _, e := range examples {
		group.Go(func() {
			if works(r, container, []example{toWorld, e}) == nil {
				t.Errorf("without router: %s", e.shows)
			}
		})
	}
	group.Wait()
}

// Router does its job in a container that runs, with one underlay and with two,
// and without it the job is not done. Stopping and removing, in whatever order
// and how often, leaves nothing.
func TestRouter(t *testing.T) {
	lives := map[string]string{
		"cnitool": "STATUS, CHECK, repeated DEL; CNI 1.1.0 and 0.4.0",
		"podman":  "network disconnect and connect, restart, stop and remove in any order; CNI 1.0.0 and 0.4.0",
	}
	with(t, ordered, func(t *testing.T, r runtime) {
		start(t, r, "pod", "cluster", "lan")
		failsEach(t, r, "pod", onUnderlay)
		ok(t, r.remove("pod"))
		for _, tt := range []struct {
			networks []string
			shows    []example
			end      []func(string) error
		}{
			{oneUnderlay, showOne, []func(string) error{r.stop, r.stop, r.remove, r.remove}},
			{in("-"+older, twoUnderlays), showTwo, []func(string) error{r.remove}},
		} {
			start(t, r, "pod", tt.networks...)
			ok(t, works(r, "pod", tt.shows))
			if links, err := r.exec("pod", "ip", "link"); err != nil || !strings.Contains(links, "0a:1b:c0:00:02:") {
				t.Errorf("the hardware address does not go by the address: %v, %s", err, links)
			}
			ok(t, reloadInOrder(r, "pod"))
			ok(t, works(r, "pod", tt.shows))
			for _, f := range tt.end {
				ok(t, f("pod"))
			}
		}
		for _, e := range append(showTwo, toWorld) {
			shown(t, r.name(), e.plugin, e.shows)
		}
		shown(t, r.name(), "router", lives[r.name()])
	})
}

// refused are pods of which router refuses the last network, and what it says.
var refused = []struct {
	networks []string
	why      string
	others   []example // still work then
}{
	{[]string{"cluster", "taken"}, gatewayAddress + " is in use by " + gatewayMAC, nil},
	{[]string{"cluster", "underlay", "same-table"}, "table: 101 is that of another attachment of the pod, by ", showOne},
}

// An ADD that fails tells the user why, is nothing to what the pod has, leaves
// nothing, and is in nobody's way.
func TestRouterFailure(t *testing.T) {
	with(t, ordered, func(t *testing.T, r runtime) {
		before := state(t)
		for _, tt := range refused {
			if err := r.start("pod", tt.networks...); err == nil || !strings.Contains(err.Error(), tt.why) {
				t.Fatalf("the user is told: %v", err)
			}
			ok(t, works(r, "pod", tt.others))
			ok(t, r.remove("pod"))
			if after := state(t); after != before {
				t.Errorf("left on the node:\n%s", after)
			}
		}
		start(t, r, "pod", oneUnderlay...)
		ok(t, works(r, "pod", showOne))
		ok(t, r.remove("pod"))
		shown(t, r.name(), "router", "ADD fails, for an address or a table that is in use: the user reads why, nothing is left, the next start works")
	})
}

// A runtime that adds the networks of a pod at the same time is told what router
// needs. Nothing is left, and other plugins do not mind.
func TestRouterAtOnce(t *testing.T) {
	with(t, []runtime{pods}, func(t *testing.T, r runtime) {
		before := state(t)
		err := r.start("pod", "late-flannel", "early")
		if err == nil || !strings.Contains(err.Error(), `router: the pod: no such interface: "eth0", the overlay_interface`) {
			t.Errorf("the user is told: %v", err)
		}
		ok(t, r.remove("pod"))
		if after := state(t); after != before {
			t.Errorf("left on the node:\n%s", after)
		}
		log, err := os.ReadFile(filepath.Join(dir, routerLog))
		ok(t, err)
		if !strings.Contains(string(log), "msg=failed") || !strings.Contains(string(log), " code=11 ") {
			t.Errorf("router logs: %s", log)
		}
		start(t, r, "pod", "flannel", "branch")
		ok(t, works(r, "pod", append(examples[3:], inBranch...)))
		ok(t, r.remove("pod"))
		shown(t, r.name(), "router", "networks that are added at the same time: the user reads what router lacks, nothing is left")
		for _, e := range append(examples[3:], inBranch...) {
			shown(t, r.name(), e.plugin, "networks that are added at the same time")
		}
	})
}

// However runtimes call for the end of a pod, after ADD has failed further on in
// the chain as well, nothing is left.
func TestRouterCalls(t *testing.T) {
	each(t, func(t *testing.T, r runtime) {
		before := state(t)
		if err := r.start("pod", "flannel", "router-fails"); err == nil {
			t.Error("ADD does not fail")
		}
		ok(t, r.remove("pod"))
		if after := state(t); after != before {
			t.Errorf("left on the node:\n%s", after)
		}
		start(t, r, "pod", "flannel", "router-calls")
		ok(t, works(r, "pod", showOne))
		ok(t, reloadInOrder(r, "pod"))
		ok(t, works(r, "pod", showOne))
		for _, f := range []func(string) error{r.stop, r.stop, r.remove} {
			ok(t, f("pod"))
		}
		calledAsKnown(t, r, "router")
		if r == runtime(pods) {
			for _, e := range showOne {
				shown(t, r.name(), "router", e.shows+", where a plugin has it wait for the overlay")
			}
			shown(t, r.name(), "router", "start of containerd beside living pods")
		}
	})
}

// Networks leave a pod in any order. While it lives it is afterwards as it was.
func TestRouterOrders(t *testing.T) {
	with(t, ordered[:1], func(t *testing.T, r runtime) {
		for _, lastGoes := range []bool{false, true} {
			c := cnitool{multus, lastGoes}
			before := state(t)
			start(t, c, "pod", twoUnderlays...)
			ok(t, c.stop("pod"))
			if after := state(t); after != before {
				t.Errorf("last network first: %t: left on the node:\n%s", lastGoes, after)
			}
			ok(t, c.remove("pod"))

			start(t, c, "pod", "cluster")
			node, pod := state(t), inPod(t, "pod")
			under := []int{1, 2}
			for _, i := range under {
				ok(t, c.callOne("add", "pod", "", i, twoUnderlays[i]))
			}
			ok(t, works(c, "pod", showTwo))
			if lastGoes {
				slices.Reverse(under)
			}
			for _, i := range under {
				ok(t, c.callOne("del", "pod", "", i, twoUnderlays[i]))
			}
			if now := state(t) + inPod(t, "pod"); now != node+pod {
				t.Errorf("last network first: %t: left on the node and in the pod:\n%s", lastGoes, now)
			}
			ok(t, c.remove("pod"))
		}
		shown(t, r.name(), "router", "DEL of a pod's networks in any order, also in a pod that lives on")
	})
}

// What a pod that vanished has left is collected, by DEL as far as libcni knows
// of it, else by GC. What host-local keeps would stay then: it has no GC.
func TestRouterGC(t *testing.T) {
	r := cnitool{args: multus}
	for _, cached := range []bool{true, false} {
		before := state(t)
		start(t, r, "pod", twoUnderlays...)
		_, err := run("ip", "netns", "del", "pod")
		ok(t, err)
		if !cached {
			ok(t, os.RemoveAll("/var/lib/cni"))
		}
		if state(t) == before {
			t.Error("there is nothing to collect")
		}
		for _, network := range twoUnderlays {
			_, err = run("cnitool", "gc", network, "/run/netns/pod")
			ok(t, err)
		}
		if after := state(t); after != before {
			t.Errorf("cached: %t: left on the node:\n%s", cached, after)
		}
	}
	shown(t, r.name(), "router", "GC collects what a pod that vanished has left")
}

// Many containers at once are no different from one.
func TestRouterThirtyAtOnce(t *testing.T) {
	with(t, ordered[:1], func(t *testing.T, r runtime) {
		all := func(f func(container string) error) {
			var group sync.WaitGroup
			errs := make([]error, 30)
			for i := range errs {
				group.Go(func() { errs[i] = f(fmt.Sprint("pod", i)) })
			}
			group.Wait()
			ok(t, errors.Join(errs...))
		}
		ok(t, forget())
		all(func(container string) error { return r.start(container, oneUnderlay...) })
		all(func(container string) error { return works(r, container, showOne) })
		all(r.remove)
		shown(t, r.name(), "router", "thirty containers start and end at once, and each has what it needs")
	})
}
