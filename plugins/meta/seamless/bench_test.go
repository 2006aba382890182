package main

import (
	"testing"

	"github.com/cni-netops/plugins/internal/plugin/plugintest"
)

// BenchmarkHello compares small requests with a process that does nothing.
func BenchmarkHello(b *testing.B) {
	newNode(b, usual...)
	hello, plugin := plugintest.Hello(b), plugintest.Released(b, seamless.Name)
	pod := newPod(b, "10.131.0.43/23")
	for name, c := range map[string]plugintest.Call{"chained": call(b, pod, ""), "alone": alone(b, pod, "")} {
		b.Run(name, func(b *testing.B) {
			ratios := plugintest.Ratios{}
			for b.Loop() {
				base, _ := hello.Run(nil, "")
				for _, verb := range []string{"ADD", "CHECK", "DEL", "STATUS"} {
					took, _ := plugin.Call(c, verb)
					ratios.Add("x-hello-"+verb, took, base)
				}
			}
			ratios.Report(b)
			b.ReportMetric(plugin.Peak(c), "MiB-peak")
		})
	}
}
