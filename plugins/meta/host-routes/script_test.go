package main

import (
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

func TestScripts(t *testing.T) {
	plugintest.Scripts(t, hostRoutes.Name, "eth0", func(netns string) string {
		return `{"interfaces": [{"name": "eth0", "sandbox": "` + netns + `"}], "ips": [{"address": "198.51.100.5/24", "interface": 0}]}`
	}, func(func(string)) {}) // of the pod only the namespace matters
}
