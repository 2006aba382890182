package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugin/plugintest"
)

// The benchmarks compare whole processes, in turn in one run, and report the
// median of the ratios: absolute times of a machine in use say little.

// build builds a program as it is released and returns its path.
func build(b *testing.B, name, pkg string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("go build %s: %v: %s", pkg, err, out)
	}
	return path
}

// launcher is a small program that runs another one and tells its peak memory:
// a child's peak starts at that of the process it was forked from.
const launcher = `package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

func main() {
	cmd := exec.Command(os.Args[1])
	cmd.Stdin = os.Stdin
	if err := cmd.Run(); err != nil {
		panic(err)
	}
	fmt.Println(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
}
`

func run(b *testing.B, path string, env []string, stdin string, args ...string) time.Duration {
	b.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Stdin = env, strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v: %s", path, err, out.Bytes()[:min(out.Len(), 2000)])
	}
	return time.Since(began)
}

// peak is the peak memory of one ADD, which a DEL takes back.
func peak(b *testing.B, plugin string, c plugintest.Call) float64 {
	b.Helper()
	cmd := exec.Command(buildSource(b, "launcher", launcher), plugin)
	cmd.Env, cmd.Stdin = environ(c, "ADD"), strings.NewReader(c.Conf)
	out, err := cmd.Output()
	if err != nil {
		b.Fatal(err)
	}
	run(b, plugin, environ(c, "DEL"), c.Conf)
	kib, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

func buildSource(b *testing.B, name, source string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "main.go")
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		b.Fatal(err)
	}
	return build(b, name, path)
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// environ is the environment of a call with a verb.
func environ(c plugintest.Call, verb string) []string {
	env := []string{"CNI_COMMAND=" + verb}
	for k, v := range c.Env {
		env = append(env, k+"="+v)
	}
	return env
}

// benchPod is a pod whose net1 has n routes by a gateway.
func benchPod(b *testing.B, n int) *netopstest.NS {
	b.Helper()
	pod := netopstest.Namespace(b, "pod")
	b.Cleanup(func() { _ = os.RemoveAll(stateDir) })
	pod.Veth("net1", "10.1.0.5/16")
	lines := make([]string, n)
	for i := range lines {
		lines[i] = "route add " + subnet(172, i) + " via 10.1.0.1"
	}
	pod.Batch(lines...)
	return pod
}

func subnet(first, i int) string { return fmt.Sprintf("%d.%d.%d.0/24", first, i/256, i%256) }

// BenchmarkIPBatch has ADD delete and add as many routes as ip -batch does, in
// a table of as many.
func BenchmarkIPBatch(b *testing.B) {
	plugin := build(b, routeOverride.Name, ".")
	for _, size := range []struct{ table, changes int }{{1, 1}, {10, 10}, {100, 100}, {1000, 1000}, {5000, 5000}, {5000, 1}} {
		b.Run(fmt.Sprintf("table=%d/changes=%d", size.table, size.changes), func(b *testing.B) {
			pod := benchPod(b, size.table)
			var del, add []map[string]string
			var there, back []string
			for i := range size.changes {
				old, fresh := subnet(172, i), subnet(192, i)
				del = append(del, map[string]string{"dst": old})
				add = append(add, map[string]string{"dst": fresh, "gw": "10.1.0.2"})
				there = append(there, "route del "+old)
				back = append(back, "route del "+fresh, "route add "+old+" via 10.1.0.1")
			}
			for _, a := range add {
				there = append(there, "route add "+a["dst"]+" via 10.1.0.2 dev net1")
			}
			c := call(b, pod, "").Edit(func(conf map[string]any) { conf["delroutes"], conf["addroutes"] = del, add })
			batch := func(lines []string) time.Duration {
				return run(b, "/bin/sh", nil, strings.Join(lines, "\n")+"\n", "-c", "exec ip -n pod -batch -")
			}
			var ratios []float64
			for b.Loop() {
				ip := batch(there)
				batch(back)
				add := run(b, plugin, environ(c, "ADD"), c.Conf)
				run(b, plugin, environ(c, "DEL"), c.Conf)
				ratios = append(ratios, float64(add)/float64(ip))
			}
			b.ReportMetric(median(ratios), "x-ip-batch")
			b.ReportMetric(peak(b, plugin, c), "MiB-peak")
		})
	}
}

const hello = `package main

import "fmt"

func main() { fmt.Println("hello") }
`

// BenchmarkHello compares small requests with a process that does nothing.
func BenchmarkHello(b *testing.B) {
	nothing, plugin := buildSource(b, "hello", hello), build(b, routeOverride.Name, ".")
	pod := benchPod(b, 3)
	c := call(b, pod, `"delroutes": [{"dst": "172.0.0.0/24"}], "addroutes": [{"dst": "192.168.0.0/24", "gw": "10.1.254.254"}, {"dst": "10.96.0.0/12"}]`)
	var added bytes.Buffer
	cmd := exec.Command(plugin)
	cmd.Env, cmd.Stdin, cmd.Stdout = environ(c, "ADD"), strings.NewReader(c.Conf), &added
	if err := cmd.Run(); err != nil {
		b.Fatal(err, added.String())
	}
	checked := c.Edit(func(conf map[string]any) { conf["prevResult"] = json.RawMessage(added.Bytes()) })
	run(b, plugin, environ(c, "DEL"), c.Conf)

	ratios := map[string][]float64{}
	for b.Loop() {
		base := run(b, nothing, nil, "")
		for _, step := range []struct {
			verb string
			call plugintest.Call
		}{{"ADD", c}, {"CHECK", checked}, {"DEL", c}} {
			took := run(b, plugin, environ(step.call, step.verb), step.call.Conf)
			ratios[step.verb] = append(ratios[step.verb], float64(took)/float64(base))
		}
	}
	for verb, list := range ratios {
		b.ReportMetric(median(list), "x-hello-"+verb)
	}
	b.ReportMetric(peak(b, plugin, c), "MiB-peak")
}
