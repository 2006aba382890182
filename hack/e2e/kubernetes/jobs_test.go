package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// byNetwork is what goes in pods that have one network beside the cluster's own,
// which is flannel's, with seamless. Those of samples are named as these are.
var byNetwork = map[string][]way{
	"": {
		{"flannel", "pod", otherNodesPod, "the pod reaches a pod of another node"},
		{"flannel", "world", "10.244.3.", "the world reaches the pod"},
		{"", "pod", nodeAddress, "the pod reaches its node"},
	},
	"storage": {{"route-override", "pod", storageServer, "the pod reaches a server behind the second LAN's router"}},
	"uplink": {
		{"route-override", "pod", secondWorld, "the pod's way to the world is the second LAN"},
		{"seamless", "pod", nodeAddress, "the pod reaches its node all the same"},
	},
	"public": {{"host-routes", "router", "203.0.113.", "the node knows where the pod's public address is"}},
	"underlay": {
		{"router", "pod", secondWorld, "the pod's way to the world is the second LAN"},
		{"router", "pod", nodeOnSecond, "the pod reaches its node's address on the LAN that they share"},
		{"router", "node", "10.6.", "the node reaches the pod's address on the LAN that they share"},
		{"", "pod", nodeAddress, "the pod reaches its node"},
		{"", "pod", otherNodesPod, "the pod reaches a pod of another node by the cluster's network"},
		{"", "world", "10.244.3.", "the world reaches the pod, which answers by the cluster's network"},
		{"", "router", "10.6.", "the second LAN reaches the pod"},
	},
}

// onNetwork is the name of a pod.
func onNetwork(name string) string { return strings.TrimSuffix("on-"+name, "-") }

// Each plugin does its job, and with the pods nothing is left.
func TestJobs(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		apply(t, all()...)
		work(t)
		for _, ways := range byNetwork {
			shown(t, ways...)
		}
	})
}

// Without the plugin the job is not done.
func TestWithoutPlugins(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		var pods []object
		for _, sample := range samples(t) {
			stripped := withoutOurs(t, sample)
			if stripped == nil {
				continue // there is nothing else in it
			}
			apply(t, stripped)
			pods = append(pods, pod("on-"+name(sample), name(stripped)))
		}
		serve(t, pods...)
		for _, p := range pods {
			for _, w := range byNetwork[strings.TrimPrefix(name(p), "on-")] {
				if w.by != "" && w.by != "seamless" && w.isSure(t, name(p)) {
					t.Errorf("without %s: %s", w.by, w.shows)
				}
			}
		}
	})
}

// isSure says whether a way goes whenever it is tried. Of two default routes the
// kernel takes the newer one while its gateway has lately answered, and either of
// them by turns when that was a while ago.
func (w way) isSure(t *testing.T, pod string) bool {
	t.Helper()
	for range 16 {
		ok(t, forgetAnswers(pod))
		if w.goes(pod) != nil {
			return false
		}
	}
	return true
}

// forgetAnswers has a pod think that it was a while ago that its neighbours have
// answered.
func forgetAnswers(pod string) error {
	return inNetns(pod, "sh", "-c", "ip -o neigh show nud reachable | while read -r address _ link _; do ip neigh change $address dev $link nud stale; done")
}

// samples are the networks in images/samples for Multus.
func samples(t *testing.T) (list []object) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "images/samples/*.yaml"))
	ok(t, err)
	for _, file := range files {
		text, err := kubectl("create", "--dry-run=client", "-o", "json", "-f", file)
		ok(t, err)
		var sample object
		ok(t, json.Unmarshal([]byte(text), &sample))
		list = append(list, sample)
	}
	return list
}

// withoutOurs is a network of another name, without our plugins, if there is any
// other.
func withoutOurs(t *testing.T, sample object) object {
	t.Helper()
	var config struct {
		CNIVersion string
		Plugins    []map[string]any
	}
	ok(t, json.Unmarshal([]byte(sample["spec"].(object)["config"].(string)), &config))
	others := slices.DeleteFunc(config.Plugins, func(plugin map[string]any) bool {
		_, ours := os.Stat(filepath.Join(root, "plugins/meta", plugin["type"].(string)))
		return ours == nil
	})
	var plugins []string
	for _, plugin := range others {
		text, err := json.Marshal(plugin)
		ok(t, err)
		plugins = append(plugins, string(text))
	}
	if plugins == nil {
		return nil
	}
	return network(name(sample)+"-without", plugins...)
}

// seamless's route is what the pod reaches its node by: without it the pod does
// not, and show tells.
func TestSeamlessRouteDeleted(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		serve(t, pod("pod", "uplink"))
		ok(t, inNetns("pod", "ip", "route", "del", nodeAddress))
		if (way{"seamless", "pod", nodeAddress, ""}).goes("pod") == nil {
			t.Error("the pod reaches its node without seamless's route")
		}
		if text, _ := run(filepath.Join(binDir, "seamless"), "show", "--wrong"); !strings.Contains(text, "now: missing") {
			t.Errorf("show --wrong says\n%s", text)
		}
	})
}

// inNetns runs a command in the network namespace of a pod, which show tells.
func inNetns(pod string, words ...string) error {
	text, err := run(filepath.Join(binDir, "router"), "show", "--all", "--json", "default/"+pod)
	var records []struct{ Netns struct{ Path string } }
	if err := errors.Join(err, json.Unmarshal([]byte(text), &records)); err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("show has no record of %s", pod)
	}
	_, err = run(append([]string{"nsenter", "--net=" + records[0].Netns.Path}, words...)...)
	return err
}

// Seamless and router serve one pod, as networks of their own, in any order.
func TestSeamlessAndRouter(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		serve(t, pod("first", "node,underlay"), pod("last", "underlay,node"))
		for _, p := range []string{"first", "last"} {
			ok(t, allGo(p, byNetwork["underlay"]))
		}
		shown(t, way{"seamless, router", "", "", "both serve one pod, in any order"})
	})
}

// What a network gets by an annotation reaches the plugins: an expression goes by
// cni-args and by the pod's name.
func TestAnnotations(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		apply(t, network("asked", `{ "type": "bridge", "bridge": "public0", "ipam": { "type": "host-local", "subnet": "10.22.0.0/16" } }`,
			`{ "type": "host-routes", "routing": "[{prefix: .args.cni.behind, gateway: .prevResult.ips[0].address | split(\"/\")[0]} | select($cni.args.K8S_POD_NAME == \"asks\")]" }`))
		serve(t, pod("asks", `[ { "name": "asked", "interface": "lan", "cni-args": { "behind": "198.18.0.0/24" } } ]`))
		routes, err := run("ip", "route", "show", "198.18.0.0/24", "proto", "77")
		ok(t, err)
		if !strings.Contains(routes, "dev public0") {
			t.Errorf("the node's route is %q", routes)
		}
		shown(t, way{"host-routes", "", "", "cni-args of an annotation, and the pod's name, reach the expression"})
	})
}

// Many pods at once are no different from one.
func TestTwentyAtOnce(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		var pods []object
		networks := map[string]string{}
		for i := range 20 {
			network := []string{"", "storage", "uplink", "public", "underlay"}[i%5]
			p := pod("pod-"+string(rune('a'+i)), network)
			pods, networks[name(p)] = append(pods, p), network
		}
		serve(t, pods...)
		var group sync.WaitGroup
		for p, network := range networks {
			group.Go(func() {
				if err := allGo(p, byNetwork[network]); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		remove(t, pods...)
		shown(t, way{"all", "", "", "twenty pods come and go at once, and each has what it needs"})
	})
}
