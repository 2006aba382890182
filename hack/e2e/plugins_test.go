//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Parts of networks. The bridge gives pods no way beyond their own subnet, and
// the node none to their public addresses.
const (
	bridge = `{ "type": "bridge", "bridge": "cni0", "ipam": { "type": "host-local",
		"ranges": [ [ { "subnet": "10.22.0.0/24", "rangeEnd": "10.22.0.200" } ], [ { "subnet": "203.0.113.0/24" } ] ] } }`
	office     = `{ "type": "route-override", "addroutes": [ { "dst": "10.30.0.0/16", "gw": "10.22.0.254" } ] }`
	wrong      = `{ "type": "route-override", "addroutes": [ { "dst": "10.30.0.0/16", "gw": "10.99.0.1" } ] }`
	public     = `{ "type": "host-routes", "routing": "[.prevResult.ips[1:][].address | {prefix: split(\"/\")[0], device: \"cni0\"}]" }`
	ownNode    = `{ "type": "seamless" }`
	wholeChain = "chain"
)

// networks are the plugins of each network, by its name.
var networks = map[string][]string{
	"plain":          {bridge},
	"route-override": {bridge, office},
	"host-routes":    {bridge, public},
	"seamless":       {bridge, ownNode},
	"flannel":        {`{ "type": "flannel", "delegate": { "bridge": "cni1", "isDefaultGateway": true } }`},
	wholeChain:       {bridge, office, public, ownNode},
	"wrong":          {bridge, public, wrong},
}

// examples are what each plugin is for: a ping that only goes through by it. to
// is pinged from the pod; without it the node pings the pod's public address.
var examples = []struct{ plugin, to, shows string }{
	{"route-override", officeAddress, "pod reaches the office behind a second router"},
	{"host-routes", "", "node reaches the pod's public address"},
	{"seamless", nodeAddress, "pod without a default route reaches its node"},
	{"flannel", otherNodesPod, "pod reaches a pod of another node"},
}

// each runs a test with every runtime, on a node that has to be as it was
// afterwards.
func each(t *testing.T, f func(t *testing.T, r runtime)) {
	for _, r := range runtimes {
		t.Run(r.name(), func(t *testing.T) {
			before := state(t)
			f(t, r)
			if after := state(t); after != before {
				t.Errorf("the node has now\n%s\nand had\n%s", after, before)
			}
		})
	}
}

// ping tries what an example shows.
func ping(r runtime, container, to string) error {
	words := []string{"ping", "-c", "1", "-W", "2"}
	if to != "" {
		_, err := r.exec(container, append(words, to)...)
		return err
	}
	addresses, err := r.exec(container, "ip", "addr", "show", "dev", "eth0")
	if err != nil {
		return err
	}
	_, rest, found := strings.Cut(addresses, "inet 203.0.113.")
	last, _, _ := strings.Cut(rest, "/")
	if !found {
		return fmt.Errorf("no public address: %s", addresses)
	}
	_, err = run(append(words, "203.0.113."+last)...)
	return err
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
	each(t, func(t *testing.T, r runtime) {
		ok(t, r.start("plain", "plain"))
		for _, e := range examples {
			if err := ping(r, "plain", e.to); err == nil {
				t.Errorf("without %s: %s", e.plugin, e.shows)
			}
		}
		ok(t, r.remove("plain"))
		for _, e := range examples {
			for i, end := range [][]func(string) error{{r.stop, r.stop, r.remove, r.remove}, {r.remove}} {
				container := fmt.Sprint(e.plugin, i)
				ok(t, r.start(container, e.plugin))
				ok(t, ping(r, container, e.to))
				ok(t, r.reload(container))
				ok(t, ping(r, container, e.to))
				for _, f := range end {
					ok(t, f(container))
				}
			}
			shown(t, r.name(), e.plugin, e.shows)
		}
	})
}

// An ADD that fails tells the user why, leaves nothing, and is in nobody's way.
func TestFailure(t *testing.T) {
	each(t, func(t *testing.T, r runtime) {
		const why = "ip route add 10.30.0.0/16 via 10.99.0.1 dev eth0: network is unreachable"
		before := state(t)
		if err := r.start("pod", "wrong"); err == nil || !strings.Contains(err.Error(), why) {
			t.Fatalf("the user is told: %v", err)
		}
		ok(t, r.remove("pod"))
		if after := state(t); after != before {
			t.Errorf("left on the node:\n%s", after)
		}
		ok(t, r.start("pod", wholeChain))
		for _, e := range examples[:3] {
			ok(t, ping(r, "pod", e.to))
		}
		ok(t, r.remove("pod"))
		shown(t, r.name(), "route-override", "an unreachable gateway: the user reads why, nothing is left, the next start works")
	})
}

// Many containers at once are no different from one.
func TestThirtyAtOnce(t *testing.T) {
	each(t, func(t *testing.T, r runtime) {
		const n = 30
		all := func(f func(container string) error) {
			var group sync.WaitGroup
			errs := make([]error, n)
			for i := range n {
				group.Go(func() { errs[i] = f(fmt.Sprint("pod", i)) })
			}
			group.Wait()
			for _, err := range errs {
				ok(t, err)
			}
		}
		all(func(container string) error { return r.start(container, wholeChain) })
		for i := range n {
			for _, e := range examples[:3] {
				ok(t, ping(r, fmt.Sprint("pod", i), e.to))
			}
		}
		all(r.remove)
		shown(t, r.name(), "all but flannel", "thirty containers start and end at once, and each has what it needs")
	})
}

// What a pod that vanished has left is collected.
func TestGC(t *testing.T) {
	before := state(t)
	r := cnitool{}
	ok(t, r.start("pod", wholeChain))
	_, err := run("ip", "netns", "del", "pod")
	ok(t, err)
	_, err = run("cnitool", "gc", wholeChain, "/run/netns/pod")
	ok(t, err)
	if after := state(t); after != before {
		t.Errorf("left on the node:\n%s", after)
	}
	shown(t, r.name(), "all but flannel", "GC collects what a pod that vanished has left")
}
