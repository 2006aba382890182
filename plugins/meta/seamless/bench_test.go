package main

import (
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// BenchmarkHello compares small requests with a process that does nothing.
func BenchmarkHello(b *testing.B) {
	newNode(b, usual...)
	pod := newPod(b, "10.131.0.43/23")
	for name, c := range map[string]plugintest.Call{"chained": call(b, pod, ""), "alone": alone(b, pod, "")} {
		b.Run(name, func(b *testing.B) {
			plugintest.BesideHello(b, seamless.Name, c.As("ADD"), c.As("CHECK"), c.As("DEL"), c.As("STATUS"))
		})
	}
}
