package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Parts of networks. The bridges give pods no way beyond their own subnet, and
// the node none to their public addresses.
const (
	bridge = `{ "type": "bridge", "bridge": "cni0", "ipam": { "type": "host-local",
		"ranges": [ [ { "subnet": "10.22.0.0/24", "rangeEnd": "10.22.0.200" } ], [ { "subnet": "203.0.113.0/24" } ] ] } }`
	office  = `{ "type": "route-override", "addroutes": [ { "dst": "10.30.0.0/16", "gw": "10.22.0.254" } ] }`
	public  = `{ "type": "host-routes", "routing": "[.prevResult.ips[1:][].address | {prefix: split(\"/\")[0], device: \"cni0\"}]" }`
	named   = `{ "type": "host-routes", "routing": "[.prevResult.ips[1:][].address | select($cni.args.K8S_POD_NAME == \"web\") | {prefix: split(\"/\")[0], device: \"cni0\"}]" }`
	ownNode = `{ "type": "seamless" }`
	overlay = `{ "type": "flannel", "delegate": { "bridge": "cni1", "isDefaultGateway": true } }`

	second = `{ "type": "bridge", "bridge": "cni2", "ipam": { "type": "host-local",
		"ranges": [ [ { "subnet": "10.23.0.0/24", "rangeEnd": "10.23.0.200" } ], [ { "subnet": "198.18.0.0/24" } ] ] } }`
	branch        = `{ "type": "route-override", "addroutes": [ { "dst": "10.31.0.0/16", "gw": "10.23.0.254" } ] }`
	publicToo     = `{ "type": "host-routes", "routing": "[.prevResult.ips[1:][].address | {prefix: split(\"/\")[0], device: \"cni2\"}]" }`
	nodesServices = `{ "type": "seamless", "interface": "eth1", "hostIPs": ["` + serviceAddress + `"] }`

	wholeChain = "chain"
	inThree    = "chain of three" // plugins, those of wholeChain
)

// networks are the plugins of each network, by its name.
var networks = map[string][]string{
	"plain":          {bridge},
	"route-override": {bridge, office},
	"host-routes":    {bridge, public},
	"seamless":       {bridge, ownNode},
	"flannel":        {overlay},
	wholeChain:       {bridge, office, public, ownNode},
	"branch":         {second, branch, publicToo, nodesServices},
	"named":          {bridge, office, named, ownNode},
	"throttled":      {bridge, office, expressive, ownNode},
	witness:          {bridge, office, public, ownNode, testimony},
	"witness-fails":  {bridge, office, public, testimony, failing["seamless"].plugins[2]},
	"cluster":        {cluster},
	"late-flannel":   {late("grep -q msg=failed " + filepath.Join(dir, routerLog)), overlay},
	"stuck":          {bridge, office, public, ownNode, stuck("stuck")},
}

// testimony has the witness write.
var testimony = `{ "type": "` + witness + `", "file": "` + callsFile() + `" }`

// together are the networks that containers have two of.
var together = [][]string{{wholeChain, "branch"}}

// An example is what a plugin is for: a ping that only goes through by it. to is
// pinged from the pod. Where it is the beginning of an address, the node pings
// the pod's address that begins so, or who has the address from.
type example struct{ plugin, to, shows, from string }

var examples = []example{
	{"route-override", officeAddress, "pod reaches the office behind a second router", ""},
	{"host-routes", "203.0.113.", "node reaches the pod's public address", ""},
	{"seamless", nodeAddress, "pod without a default route reaches its node", ""},
	{"flannel", otherNodesPod, "pod reaches a pod of another node", ""},
}

// inChain are the examples of the whole chain.
var inChain = examples[:3]

// inBranch are those of a second network.
var inBranch = []example{
	{"route-override", branchAddress, "pod reaches the branch by its second network", ""},
	{"host-routes", "198.18.0.", "node reaches the pod's public address of its second network", ""},
	{"seamless", serviceAddress, "pod reaches its node's services by its second network", ""},
}

// failing are networks whose ADD fails in one plugin, and what it says.
var failing = map[string]struct {
	plugins []string
	why     string
}{
	"route-override": {[]string{bridge, public, `{ "type": "route-override", "addroutes": [ { "dst": "10.30.0.0/16", "gw": "10.99.0.1" } ] }`},
		"ip route add 10.30.0.0/16 via 10.99.0.1 dev eth0: network is unreachable"},
	"host-routes": {[]string{bridge, office, `{ "type": "host-routes", "routing": "[{prefix: \"10.77.0.0/16\", device: \"absent0\"}]" }`},
		`ip route add 10.77.0.0/16 dev absent0: no such interface: "absent0"`},
	"seamless": {[]string{bridge, public, `{ "type": "seamless", "gateway": "10.99.0.1" }`},
		"ip route add " + nodeAddress + " via 10.99.0.1 dev eth0: network is unreachable"},
	"flannel": {[]string{`{ "type": "flannel", "subnetFile": "/run/flannel/absent.env", "delegate": { "bridge": "cni1" } }`},
		"flanneld has not written /run/flannel/absent.env yet"},
}

// each runs a test with every runtime, on a node that has to be as it was
// afterwards.
func each(t *testing.T, f func(t *testing.T, r runtime)) {
	t.Helper()
	with(t, runtimes, f)
}

// with does so with some of them.
func with(t *testing.T, runtimes []runtime, f func(t *testing.T, r runtime)) {
	t.Helper()
	for _, r := range runtimes {
		t.Run(r.name(), func(t *testing.T) {
			before := state(t)
			t.Cleanup(func() {
				if t.Failed() {
					r.removeAll()
				}
			})
			f(t, r)
			if after := state(t); after != before {
				t.Errorf("the node has now\n%s\nand had\n%s", after, before)
			}
		})
	}
}

// ping tries what an example shows.
func ping(r runtime, container string, e example) error {
	words := []string{"ping", "-c", "1", "-W", "2"}
	if !strings.HasSuffix(e.to, ".") {
		_, err := r.exec(container, append(words, e.to)...)
		return err
	}
	addresses, err := r.exec(container, "ip", "addr")
	if err != nil {
		return err
	}
	_, rest, found := strings.Cut(addresses, "inet "+e.to)
	last, _, _ := strings.Cut(rest, "/")
	if !found {
		return fmt.Errorf("no address %s*: %s", e.to, addresses)
	}
	if e.from != "" {
		words = append([]string{"ip", "netns", "exec", owners[e.from]}, append(words, "-I", e.from)...)
	}
	_, err = run(append(words, e.to+last)...)
	return err
}

// works tries all of the examples in a container.
func works(r runtime, container string, examples []example) error {
	for _, e := range examples {
		if err := ping(r, container, e); err != nil {
			return err
		}
	}
	return nil
}

// start starts a container, beside none that still runs.
func start(t *testing.T, r runtime, container string, networks ...string) {
	t.Helper()
	ok(t, forget())
	ok(t, r.start(container, networks...))
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Each plugin does its job in a container that runs, and without it the job is
// not done. Stopping and removing, in whatever order and how often, leaves
// nothing.
func TestExamples(t *testing.T) {
	lives := map[string]string{
		"cnitool":    "STATUS, CHECK, repeated DEL; CNI 1.1.0 and 0.4.0",
		"podman":     "network reload, restart, stop and remove in any order; CNI 1.0.0 and 0.4.0",
		"containerd": "start of containerd beside living pods, stop and remove in any order; CNI " + pods.newest() + " and 0.4.0",
	}
	each(t, func(t *testing.T, r runtime) {
		start(t, r, "plain", "plain")
		for _, e := range examples {
			if err := ping(r, "plain", e); err == nil {
				t.Errorf("without %s: %s", e.plugin, e.shows)
			}
		}
		ok(t, r.remove("plain"))
		for _, e := range examples {
			for network, end := range map[string][]func(string) error{
				e.plugin:               {r.stop, r.stop, r.remove, r.remove},
				e.plugin + "-" + older: {r.remove},
			} {
				start(t, r, "pod", network)
				ok(t, works(r, "pod", []example{e}))
				ok(t, r.reload("pod"))
				ok(t, works(r, "pod", []example{e}))
				for _, f := range end {
					ok(t, f("pod"))
				}
			}
			shown(t, r.name(), e.plugin, e.shows)
			shown(t, r.name(), e.plugin, lives[r.name()])
		}
	})
}

// An ADD that fails tells the user why, leaves nothing, and is in nobody's way.
func TestFailure(t *testing.T) {
	each(t, func(t *testing.T, r runtime) {
		before := state(t)
		for _, e := range examples {
			if err := r.start("pod", "failing-"+e.plugin); err == nil || !strings.Contains(err.Error(), failing[e.plugin].why) {
				t.Fatalf("the user is told: %v", err)
			}
			ok(t, r.remove("pod"))
			if after := state(t); after != before {
				t.Errorf("%s left on the node:\n%s", e.plugin, after)
			}
			start(t, r, "pod", e.plugin)
			ok(t, works(r, "pod", []example{e}))
			ok(t, r.remove("pod"))
			shown(t, r.name(), e.plugin, "ADD fails: the user reads why, nothing is left, the next start works")
		}
	})
}

// A container has two networks, which containerd adds at the same time.
func TestTwoNetworks(t *testing.T) {
	each(t, func(t *testing.T, r runtime) {
		for _, networks := range together {
			start(t, r, "pod", networks...)
			ok(t, works(r, "pod", slices.Concat(inChain, inBranch)))
			ok(t, r.reload("pod"))
			ok(t, works(r, "pod", slices.Concat(inChain, inBranch)))
			ok(t, r.stop("pod"))
			ok(t, r.remove("pod"))
		}
		for _, e := range inBranch {
			shown(t, r.name(), e.plugin, e.shows)
		}
	})
}

// Many containers at once are no different from one.
func TestThirtyAtOnce(t *testing.T) {
	each(t, func(t *testing.T, r runtime) {
		all := func(f func(container, network string, examples []example) error) {
			var group sync.WaitGroup
			errs := make([]error, 30)
			for i := range errs {
				group.Go(func() {
					if i%5 == 0 {
						errs[i] = f(fmt.Sprint("pod", i), "flannel", examples[3:])
					} else {
						errs[i] = f(fmt.Sprint("pod", i), wholeChain, inChain)
					}
				})
			}
			group.Wait()
			ok(t, errors.Join(errs...))
		}
		ok(t, forget())
		all(func(container, network string, _ []example) error { return r.start(container, network) })
		all(func(container, _ string, examples []example) error { return works(r, container, examples) })
		all(func(container, _ string, _ []example) error { return r.remove(container) })
		for _, e := range examples {
			shown(t, r.name(), e.plugin, "thirty containers start and end at once, and each has what it needs")
		}
	})
}

// What a runtime says of the pod reaches the expression, in whatever order.
// cnitool's DEL says nothing.
func TestArguments(t *testing.T) {
	each(t, func(t *testing.T, r runtime) {
		start(t, r, "web", "named")
		ok(t, works(r, "web", inChain))
		ok(t, r.remove("web"))
		start(t, r, "other", "named")
		if routes, err := run("ip", "route", "show", "proto", "77"); err != nil || routes != "" {
			t.Errorf("the expression does not go by the pod's name: %v, %s", err, routes)
		}
		ok(t, r.remove("other"))
		shown(t, r.name(), "host-routes", "what the runtime says of the pod reaches the expression")
	})
	for _, args := range []string{
		"K8S_POD_NAME=web;IgnoreUnknown=1;K8S_POD_NAMESPACE=e2e",
		"K8S_POD_UID=u1;K8S_POD_NAMESPACE=e2e;IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_NAME=web",
		"K8S_POD_NAME=other;IP=10.22.0.77/24;IgnoreUnknown=1;K8S_POD_NAME=web;IgnoreUnknown=true",
	} {
		before := state(t)
		r := cnitool{args: args}
		start(t, r, "web", "named")
		ok(t, works(r, "web", inChain))
		ok(t, r.remove("web"))
		if after := state(t); after != before {
			t.Errorf("%s: left on the node:\n%s", args, after)
		}
	}
	shown(t, "cnitool", inThree, "CNI_ARGS in other orders, some twice")
}

// What a pod that vanished has left is collected.
func TestGC(t *testing.T) {
	r := cnitool{args: multus}
	for network, plugins := range map[string]string{wholeChain: inThree, "flannel": "flannel"} {
		before := state(t)
		start(t, r, "pod", network)
		_, err := run("ip", "netns", "del", "pod")
		ok(t, err)
		if state(t) == before {
			t.Error("there is nothing to collect")
		}
		_, err = run("cnitool", "gc", network, "/run/netns/pod")
		ok(t, err)
		if after := state(t); after != before {
			t.Errorf("left on the node:\n%s", after)
		}
		shown(t, r.name(), plugins, "GC collects what a pod that vanished has left")
	}
}
