//go:build linux

package main

import (
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

func TestScripts(t *testing.T) {
	plugintest.Scripts(t, flannel.Name, "eth0", func(string) string { return "null" }, func(func(string)) {})
}
