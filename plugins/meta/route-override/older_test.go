package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// older is what the older route-override made of a configuration: what the
// migration table calls "the same".
type older struct {
	Keys   map[string]any
	Routes []way    // of prevResult and the pod's net1
	Pod    []string // table main afterwards, but for the kernel's own routes
	Result []string // routes of the result, as way has them
}

type way struct {
	Dst string `json:"dst"`
	Gw  string `json:"gw"`
}

func (w way) String() string { return w.Dst + " " + w.Gw }

// The answers of the older plugin, commit c931885 of redhat-nfvpe/cni-route-override,
// to random configurations of what it and this one do alike. The order of the routes
// in the result is not compared: a route that is removed and added again as it was
// keeps its place here.
func TestAsTheOlderPlugin(t *testing.T) {
	text, err := os.ReadFile("testdata/older.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []older
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	pod := netopstest.Namespace(t, "pod")
	t.Cleanup(func() { _ = os.RemoveAll(stateDir) })
	pod.Veth("eth0", "10.244.1.5/24")
	pod.Veth("net1", "10.1.0.5/16", "fd01::5/64")
	for i, o := range cases {
		lines := []string{"route add default via 10.244.1.1 metric 5"}
		for _, r := range o.Routes {
			lines = append(lines, fmt.Sprintf("route add %s via %s dev net1", r.Dst, r.Gw))
		}
		pod.Batch(lines...)
		before := pod.Dump()
		c := call(t, pod, "").Edit(func(conf map[string]any) {
			for key, value := range o.Keys {
				conf[key] = value
			}
			conf["prevResult"].(map[string]any)["routes"] = o.Routes
		})
		added := c.OK("ADD")
		got := strings.Split(strings.ReplaceAll(mains(pod), " proto 77", ""), "\n")
		if diff := cmp.Diff(sorted(o.Pod), sorted(got)); diff != "" {
			t.Errorf("%d: %v of %v: table main (-older +this):\n%s", i, o.Keys, o.Routes, diff)
		}
		if diff := cmp.Diff(sorted(o.Result), sorted(ways(t, added.Stdout))); diff != "" {
			t.Errorf("%d: %v of %v: the result (-older +this):\n%s", i, o.Keys, o.Routes, diff)
		}
		c.After(added).OK("DEL")
		restored(t, pod, before)
		pod.IP("route flush proto boot", "-6 route flush proto boot")
	}
	nothingLeft(t)
}

// ways are the routes of a result.
func ways(t *testing.T, result string) []string {
	t.Helper()
	var r struct{ Routes []way }
	if err := json.Unmarshal([]byte(result), &r); err != nil {
		t.Fatal(err)
	}
	lines := make([]string, len(r.Routes))
	for i, w := range r.Routes {
		lines[i] = w.String()
	}
	return lines
}
