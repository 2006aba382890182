package stress

import (
	"fmt"
	"os"
	"strconv"
	"sync"
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

// contended are usual attachments of plugins that change the host.
var contended = map[string]string{
	"host-routes": `"routing": "[{prefix: \"10.9.#.0/24\", device: \"cni0\"}]"`,
	"router":      routed + ", " + prevResult("net1", "192.0.2.#/24"),
}

// ADD and then DEL of a hundred pods, sixteen at a time, beside as many processes
// of the plugin that only start.
func BenchmarkContention(b *testing.B) {
	const pods = 100
	for _, s := range subjects {
		conf, is := contended[s.plugin]
		if !is {
			continue
		}
		b.Run(s.plugin, func(b *testing.B) {
			newNode(b)
			var calls []plugintest.Call
			for i := range pods {
				calls = append(calls, s.callWith(b, s.newPod(b, fmt.Sprintf("pod%d", i)), conf))
			}
			program, ratios := plugintest.Released(b, s.plugin), plugintest.Ratios{}
			for b.Loop() {
				start := sixteenAtOnce(calls, func(c plugintest.Call) { program.Call(c, "VERSION") })
				for _, verb := range []string{"ADD", "DEL"} {
					ratios.Add("x-start-"+verb, sixteenAtOnce(calls, func(c plugintest.Call) { program.Call(c, verb) }), start)
				}
			}
			ratios.Report(b)
		})
	}
}

// sixteenAtOnce is how long all calls take.
func sixteenAtOnce(calls []plugintest.Call, do func(plugintest.Call)) time.Duration {
	next := make(chan plugintest.Call)
	var done sync.WaitGroup
	for range 16 {
		done.Go(func() {
			for c := range next {
				do(c)
			}
		})
	}
	began := time.Now()
	for _, c := range calls {
		next <- c
	}
	close(next)
	done.Wait()
	return time.Since(began)
}
