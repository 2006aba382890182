package main

import (
	"testing"

	"github.com/cni-netops/plugins/internal/plugin"
	"github.com/cni-netops/plugins/internal/plugin/plugintest"
)

func TestMain(m *testing.M) {
	plugin.EveryKind()
	plugintest.Main(m, router, plugintest.Upstream)
}
