//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// buildPrinter builds a delegate that only prints, for the plugin's own time
// to be seen: static, in C.
func buildPrinter(b *testing.B, dir string) {
	b.Helper()
	const source = `#include <unistd.h>
int main(void) { return write(1, "{}\n", 3) != 3; }
`
	path := filepath.Join(dir, "printer")
	if _, err := exec.LookPath("gcc"); err != nil {
		b.Fatal("gcc is needed: apt-get install gcc libc6-dev")
	}
	file := filepath.Join(b.TempDir(), "printer.c")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-O2", "-static", "-s", "-o", path, file).CombinedOutput(); err != nil {
		b.Fatalf("gcc: %v: %s", err, out)
	}
}

// BenchmarkHello compares small requests with a process that does nothing.
// dataDir is in memory, as /run is.
func BenchmarkHello(b *testing.B) {
	pod := netopstest.Namespace(b, "pod")
	dir := b.TempDir()
	buildPrinter(b, dir)
	writeEnv(b, dir, env4)
	c := plugintest.New(b, flannel.Name, pod, `{"cniVersion": "1.0.0", "name": "cbr0", "type": "flannel", "subnetFile": "`+
		filepath.Join(dir, "subnet.env")+`", "dataDir": "/run/kept", "delegate": {"type": "printer", "hairpinMode": true, "isDefaultGateway": true}}`).
		With(map[string]string{"CNI_PATH": dir})
	checked := c.Edit(func(conf map[string]any) { conf["prevResult"] = map[string]any{} })
	plugintest.BesideHello(b, flannel.Name, c.As("ADD"), checked.As("CHECK"), c.As("DEL"))
}
