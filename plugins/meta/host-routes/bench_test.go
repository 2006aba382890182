package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// podAddresses is the expression of most users.
const podAddresses = `[.prevResult.ips[] | {prefix: (.address | split("/")[0]), device: "cni0"}]`

// BenchmarkHello compares small requests with a process that does nothing.
func BenchmarkHello(b *testing.B) {
	newHost(b)
	c := call(b, netopstest.Namespace(b, "pod"), podAddresses)
	plugintest.BesideHello(b, hostRoutes.Name, c.As("ADD"), c.As("CHECK"), c.As("DEL"), c.As("STATUS"))
}

// BenchmarkForeignRoutes compares the same requests on an empty host and on one
// that has 50,000 routes of others.
func BenchmarkForeignRoutes(b *testing.B) {
	plugin := plugintest.Released(b, hostRoutes.Name)
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) { besideForeign(b, plugin, n, false) })
	}
	// Routes that are there already, of another attachment.
	b.Run("shared=10", func(b *testing.B) { besideForeign(b, plugin, 10, true) })
}

func besideForeign(b *testing.B, plugin plugintest.Program, n int, shared bool) {
	hosts := []*netopstest.NS{netopstest.Namespace(b, "empty"), netopstest.Namespace(b, "full")}
	for _, h := range hosts {
		h.IP("link add cni0 type bridge", "addr add 10.1.0.1/16 dev cni0", "link set cni0 up")
	}
	hosts[1].Batch(foreignRoutes(50_000)...)
	c := call(b, netopstest.Namespace(b, "pod"), fmt.Sprintf(`[%s]`, strings.Join(elements(n), ", ")))
	of := func(h *netopstest.NS) plugintest.Call {
		dir := "/run/cni-" + h.Name
		b.Cleanup(func() { _ = os.RemoveAll(dir) })
		return c.Edit(func(conf map[string]any) { conf["stateDir"] = dir })
	}
	for _, h := range hosts {
		if other := of(h).With(map[string]string{"CNI_CONTAINERID": "other"}); shared {
			h.Enter(func() { plugin.Call(other, "ADD") })
		}
	}
	ratios := plugintest.Ratios{}
	for b.Loop() {
		for _, verb := range []string{"ADD", "CHECK", "DEL"} {
			var took [2]time.Duration
			for i, h := range hosts {
				own := of(h)
				h.Enter(func() { took[i], _ = plugin.Call(own, verb) })
			}
			ratios.Add("x-empty-"+verb, took[1], took[0])
		}
	}
	ratios.Report(b)
}

func foreignRoutes(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("route add 20.%d.%d.0/24 via 10.1.0.9 proto bgp", i/256, i%256)
	}
	return lines
}

// elements are n routings.
func elements(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{prefix: "172.16.%d.%d", device: "cni0"}`, i/250, i%250)
	}
	return list
}
