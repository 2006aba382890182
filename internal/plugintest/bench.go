package plugintest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Benchmarks compare whole processes, in turn in one run, and report the
// median of the ratios: absolute times of a machine in use say little.

// Program is an executable that a benchmark runs.
type Program struct {
	b    *testing.B
	path string
}

// Released is a plugin as it is released.
func Released(b *testing.B, name string) Program {
	b.Helper()
	root, err := moduleRoot()
	if err != nil {
		b.Fatal(err)
	}
	p := Program{b, filepath.Join(root, "bin", name)}
	if _, err := os.Stat(p.path); err != nil {
		b.Fatalf("%v: make build makes it", err)
	}
	return p
}

// Hello is a Go program that does nothing but print a word.
func Hello(b *testing.B) Program {
	b.Helper()
	return compile(b, "hello", `package main

import "fmt"

func main() { fmt.Println("hello") }
`)
}

// Existing is a program of the machine.
func Existing(b *testing.B, path string) Program { return Program{b, path} }

func compile(b *testing.B, name, source string) Program {
	b.Helper()
	dir := b.TempDir()
	p := Program{b, filepath.Join(dir, name)}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", p.path, filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("go build %s: %v: %s", name, err, out)
	}
	return p
}

// Run is how long the program takes, and what it prints.
func (p Program) Run(env []string, stdin string, args ...string) (time.Duration, string) {
	p.b.Helper()
	cmd := exec.Command(p.path, args...)
	cmd.Env, cmd.Stdin = env, strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Run(); err != nil {
		p.b.Fatalf("%s: %v: %s", p.path, err, out.Bytes()[:min(out.Len(), 2000)])
	}
	return time.Since(began), out.String()
}

// Call is how long the program takes for a verb, and what it answers.
func (p Program) Call(c Call, verb string) (time.Duration, string) {
	p.b.Helper()
	return p.Run(c.Environ(verb), c.Conf)
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

// Peak is the peak memory of one ADD, in MiB; a DEL takes it back.
func (p Program) Peak(c Call) float64 {
	p.b.Helper()
	_, out := compile(p.b, "launcher", launcher).Run(c.Environ("ADD"), c.Conf, p.path)
	p.Call(c, "DEL")
	kib, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	if err != nil {
		p.b.Fatal(err)
	}
	return kib / 1024
}

// Ratios are those of durations to others, by what they are of.
type Ratios map[string][]float64

// Add notes that something took so long, beside a measure of this run.
func (r Ratios) Add(what string, took, measure time.Duration) {
	r[what] = append(r[what], float64(took)/float64(measure))
}

// Report tells the medians.
func (r Ratios) Report(b *testing.B) {
	for what, list := range r {
		slices.Sort(list)
		b.ReportMetric(list[len(list)/2], what)
	}
}

// Step is a call by a verb.
type Step struct {
	verb string
	call Call
}

// As is the call by a verb.
func (c Call) As(verb string) Step { return Step{verb, c} }

// BesideHello compares the steps, time and again in this order, with a process
// that does nothing, and reports the peak memory of the first one's ADD.
func BesideHello(b *testing.B, plugin string, steps ...Step) {
	b.Helper()
	hello, program := Hello(b), Released(b, plugin)
	ratios := Ratios{}
	for b.Loop() {
		base, _ := hello.Run(nil, "")
		for _, s := range steps {
			took, _ := program.Call(s.call, s.verb)
			ratios.Add("x-hello-"+s.verb, took, base)
		}
	}
	ratios.Report(b)
	b.ReportMetric(program.Peak(steps[0].call), "MiB-peak")
}
