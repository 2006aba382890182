package main

import (
	"flag"
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

func TestMain(m *testing.M) {
	// They wait for the kernel more than for a processor.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	plugintest.Main(m, plugintest.Upstream)
}
