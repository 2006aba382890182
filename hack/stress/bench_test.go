package stress

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/plugintest"
	"github.com/cni-netops/plugins/internal/record"
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

// GC of a thousand attachments whose pods are gone, for each of them, beside a
// hundred.
func BenchmarkCrowdedGC(b *testing.B) {
	const few, many = 100, 1000
	for _, s := range subjects {
		if s.alone {
			continue
		}
		s.beside = ""
		b.Run(s.plugin, func(b *testing.B) {
			w, program, ratios := newSweep(b, s), plugintest.Released(b, s.plugin), plugintest.Ratios{}
			for b.Loop() {
				ratios.Add("x-few", w.timeGC(b, program, many)/many, w.timeGC(b, program, few)/few)
			}
			ratios.Report(b)
		})
	}
}

// timeGC is how long GC takes for n attachments of pods that are gone.
func (w *sweep) timeGC(b *testing.B, program plugintest.Program, n int) time.Duration {
	b.Helper()
	dir := b.TempDir()
	c := in(w.call(), dir)
	c.OK("ADD")
	crowd(b, dir, w.plugin, record.Key{Network: "net", ContainerID: c.Env["CNI_CONTAINERID"], IfName: w.ifName}, n,
		func(r *record.Record) { r.Netns.Path = "/run/netns/gone" })
	took, _ := program.Call(w.gc(c, c), "GC")
	if left := plugintest.Left(b, dir); slices.ContainsFunc(left, func(path string) bool { return strings.Contains(path, "other-") }) {
		b.Fatalf("GC leaves %d files", len(left))
	}
	c.OK("DEL")
	return took
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
