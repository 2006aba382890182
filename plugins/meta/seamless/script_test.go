package main

import (
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

func TestScripts(t *testing.T) {
	plugintest.Scripts(t, seamless.Name, "eth0", func(string) string { return "null" }, func(func(string)) {})
}
