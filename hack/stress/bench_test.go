package stress

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// ADD, CHECK and DEL on a node with the records of a thousand other attachments,
// or OTHERS, beside the same where one other has a record.
func BenchmarkCrowdedNode(b *testing.B) {
	others := 1000
	if n, err := strconv.Atoi(os.Getenv("OTHERS")); err == nil {
		others = n
	}
	for _, s := range subjects {
		if s.alone {
			continue
		}
		s.beside = ""
		b.Run(s.plugin, func(b *testing.B) {
			quiet, crowded := newSweep(b, s).crowded(b, others)
			program, ratios := plugintest.Released(b, s.plugin), plugintest.Ratios{}
			for b.Loop() {
				base := lifeOf(program, quiet)
				for verb, took := range lifeOf(program, crowded) {
					ratios.Add("x-"+verb+"-quiet", took, base[verb])
				}
			}
			ratios.Report(b)
		})
	}
}

// lifeOf is how long the verbs of an attachment's life take.
func lifeOf(program plugintest.Program, c plugintest.Call) map[string]time.Duration {
	took := map[string]time.Duration{}
	add, result := program.Call(c, "ADD")
	took["ADD"] = add
	took["CHECK"], _ = program.Call(c.After(plugintest.Answer{Stdout: result}), "CHECK")
	took["DEL"], _ = program.Call(c, "DEL")
	return took
}
