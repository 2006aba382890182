package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// benchPod is a pod whose net1 has n routes by a gateway.
func benchPod(b *testing.B, n int) *netopstest.NS {
	b.Helper()
	pod := netopstest.Namespace(b, "pod")
	b.Cleanup(func() { _ = os.RemoveAll(stateDir) })
	pod.Veth("net1", "10.1.0.5/16")
	lines := make([]string, n)
	for i := range lines {
		lines[i] = "route add " + subnet(172, i) + " via 10.1.0.1"
	}
	pod.Batch(lines...)
	return pod
}

func subnet(first, i int) string { return fmt.Sprintf("%d.%d.%d.0/24", first, i/256, i%256) }

// BenchmarkIPBatch has ADD delete and add as many routes as ip -batch does, in
// a table of as many.
func BenchmarkIPBatch(b *testing.B) {
	plugin, shell := plugintest.Released(b, routeOverride.Name), plugintest.Existing(b, "/bin/sh")
	for _, size := range []struct{ table, changes int }{{1, 1}, {10, 10}, {100, 100}, {1000, 1000}, {5000, 5000}, {5000, 1}} {
		b.Run(fmt.Sprintf("table=%d/changes=%d", size.table, size.changes), func(b *testing.B) {
			pod := benchPod(b, size.table)
			var del, add []map[string]string
			var there, back []string
			for i := range size.changes {
				old, fresh := subnet(172, i), subnet(192, i)
				del = append(del, map[string]string{"dst": old})
				add = append(add, map[string]string{"dst": fresh, "gw": "10.1.0.2"})
				there = append(there, "route del "+old)
				back = append(back, "route del "+fresh, "route add "+old+" via 10.1.0.1")
			}
			for _, a := range add {
				there = append(there, "route add "+a["dst"]+" via 10.1.0.2 dev net1")
			}
			c := call(b, pod, "").Edit(func(conf map[string]any) { conf["delroutes"], conf["addroutes"] = del, add })
			batch := func(lines []string) time.Duration {
				took, _ := shell.Run(nil, strings.Join(lines, "\n")+"\n", "-c", "exec ip -n pod -batch -")
				return took
			}
			ratios := plugintest.Ratios{}
			for b.Loop() {
				ip := batch(there)
				batch(back)
				added, _ := plugin.Call(c, "ADD")
				plugin.Call(c, "DEL")
				ratios.Add("x-ip-batch", added, ip)
			}
			ratios.Report(b)
			b.ReportMetric(plugin.Peak(c), "MiB-peak")
		})
	}
}

// BenchmarkHello compares small requests with a process that does nothing.
func BenchmarkHello(b *testing.B) {
	plugin := plugintest.Released(b, routeOverride.Name)
	pod := benchPod(b, 3)
	c := call(b, pod, `"delroutes": [{"dst": "172.0.0.0/24"}], "addroutes": [{"dst": "192.168.0.0/24", "gw": "10.1.254.254"}, {"dst": "10.96.0.0/12"}]`)
	_, result := plugin.Call(c, "ADD")
	checked := c.Edit(func(conf map[string]any) { conf["prevResult"] = json.RawMessage(result) })
	plugin.Call(c, "DEL")
	plugintest.BesideHello(b, routeOverride.Name, c.As("ADD"), checked.As("CHECK"), c.As("DEL"))
}
