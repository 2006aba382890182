package stress

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// An ADD among thousands of records that nobody has taken back, beside one
// without.
func BenchmarkStaleRecords(b *testing.B) {
	const stale = 5000
	for _, s := range subjects {
		if s.alone {
			continue
		}
		s.beside = ""
		b.Run(s.plugin, func(b *testing.B) {
			w := newSweep(b, s)
			tmpfs := b.TempDir()
			mount(b, tmpfs, "")
			alone := in(w.call(), filepath.Join(tmpfs, "alone"))
			among := in(w.call(), filepath.Join(tmpfs, "among"))
			among.OK("ADD")
			multiply(b, filepath.Join(tmpfs, "among", s.plugin, "net"), among.Env["CNI_CONTAINERID"], stale)
			among.OK("DEL")
			program, ratios := plugintest.Released(b, s.plugin), plugintest.Ratios{}
			for b.Loop() {
				for _, verb := range []string{"ADD", "DEL"} {
					base, _ := program.Call(alone, verb)
					took, _ := program.Call(among, verb)
					ratios.Add("x-"+verb+"-alone", took, base)
				}
			}
			ratios.Report(b)
		})
	}
}

// multiply makes records like that of a container, of others.
func multiply(b *testing.B, network, container string, n int) {
	b.Helper()
	dirs, err := filepath.Glob(filepath.Join(network, container+":*"))
	if err != nil || len(dirs) != 1 {
		b.Fatal(dirs, err)
	}
	text, err := os.ReadFile(filepath.Join(dirs[0], "1.finished"))
	if err != nil {
		b.Fatal(err)
	}
	_, ifName, _ := bytes.Cut([]byte(filepath.Base(dirs[0])), []byte(":"))
	for i := range n {
		other := fmt.Sprintf("stale-%d", i)
		dir := filepath.Join(network, other+":"+string(ifName))
		put(b, filepath.Join(dir, "1.finished"), string(bytes.ReplaceAll(text, []byte(container), []byte(other))))
		if err := os.Link(filepath.Join(dirs[0], "1.lock"), filepath.Join(dir, "1.lock")); err != nil {
			b.Fatal(err)
		}
	}
}
