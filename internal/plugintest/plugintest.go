// Package plugintest runs a plugin as runtimes do: as a process, in the
// namespaces of package netopstest. The tests of a plugin's package run one that is
// built with the tag "faults", so that faults can be put into it. (The test binary
// itself, under another name, would do; it takes three times as long to start.)
package plugintest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// otherPlugins names the environment variable that has the tests call the plugins in
// a folder in place of the package's own: it shows which tests an earlier release
// fails. There are no faults in those.
const otherPlugins = "PLUGINTEST_BIN"

// Main runs the tests of a plugin's package in namespaces of their own, with the
// plugin on PATH. It does not return.
func Main(m *testing.M, prepare ...func() error) {
	own := Faulty("faulty", ".")
	if dir := os.Getenv(otherPlugins); dir != "" {
		own = func() error { return onPath(dir) }
	}
	os.Exit(netopstest.Main(m, append(prepare, own)...).Run())
}

func onPath(dir string) error { return os.Setenv("PATH", dir+":"+os.Getenv("PATH")) }

// Upstream builds the upstream plugins and cnitool, and puts them on PATH. It
// is for Main's prepare: inside, no module can be downloaded.
func Upstream() error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "bin", "upstream")
	build := exec.Command(filepath.Join(root, "scripts", "build_upstream.sh"))
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the upstream plugins: %w: %s", err, out)
	}
	return onPath(dir)
}

// Ours builds our plugins, as they are released, into a folder of bin/, and puts
// it on PATH: for Main's prepare. Tests that run at the same time name different
// folders, because what runs cannot be written to.
func Ours(folder string) func() error {
	return func() error {
		root, err := moduleRoot()
		if err != nil {
			return err
		}
		dir := filepath.Join(root, "bin", folder)
		build := exec.Command(filepath.Join(root, "scripts", "build_linux.sh"))
		build.Env = append(os.Environ(), "BIN_DIR="+dir, "GOARCH=")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build the plugins: %w: %s", err, out)
		}
		return onPath(dir)
	}
}

// Faulty builds the commands among these packages into a folder of bin/, and puts it
// on PATH: plugins that have faults in them where a [Call] says so, and what they
// are to call. It is for Main's prepare.
func Faulty(folder string, packages ...string) func() error {
	return func() error {
		root, err := moduleRoot()
		if err != nil {
			return err
		}
		dir := filepath.Join(root, "bin", folder)
		build := exec.Command("go", append([]string{"build", "-trimpath", "-tags", "faults", "-ldflags", "-s", "-o", dir + "/"}, packages...)...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build the plugins with faults: %w: %s", err, out)
		}
		return onPath(dir)
	}
}

func moduleRoot() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(root)), nil
}

// Fault is what happens at one of the operations of a plugin's process.
type Fault struct {
	At   string         // "before" or "after"
	N    int            // of which operation, from 0
	Kill syscall.Signal // sent to the process itself, which stops at SIGSTOP until Continue; or
	Deny unix.Errno     // the kernel's refusal
}

// faultVariable is read by package kernel, built with the tag "faults".
const faultVariable = "PLUGINTEST_FAULT"

func (f Fault) String() string {
	return fmt.Sprintf("%s %d %d %d", f.At, f.N, f.Kill, f.Deny)
}

// Call is a request of a runtime.
type Call struct {
	TB     testing.TB
	Plugin string
	Conf   string            // network configuration, JSON
	Env    map[string]string // CNI_* and others; an empty value unsets
	Fault  *Fault
	Under  []string // command that runs it, as strace(1) does
}

var containers atomic.Int64

// New is a call for a new container in a pod, as net1 of network "net".
func New(tb testing.TB, name string, pod *netopstest.NS, conf string) Call {
	return Call{TB: tb, Plugin: name, Conf: conf, Env: map[string]string{
		"CNI_CONTAINERID": fmt.Sprintf("container-%d", containers.Add(1)),
		"CNI_NETNS":       pod.Path,
		"CNI_IFNAME":      "net1",
		"CNI_PATH":        "/opt/cni/bin",
	}}
}

// With is the call with other variables.
func (c Call) With(env map[string]string) Call {
	c.Env = maps.Clone(c.Env)
	maps.Copy(c.Env, env)
	return c
}

// Edit is the call with a changed configuration.
func (c Call) Edit(change func(conf map[string]any)) Call {
	c.TB.Helper()
	conf := map[string]any{}
	if err := json.Unmarshal([]byte(c.Conf), &conf); err != nil {
		c.TB.Fatalf("%v in %s", err, c.Conf)
	}
	change(conf)
	out, err := json.Marshal(conf)
	if err != nil {
		c.TB.Fatal(err)
	}
	c.Conf = string(out)
	return c
}

// After is the call with the result of an ADD as prevResult, as libcni calls
// CHECK and DEL.
func (c Call) After(added Answer) Call {
	c.TB.Helper()
	return c.Edit(func(conf map[string]any) { conf["prevResult"] = json.RawMessage(added.Stdout) })
}

// Failing is the call with a fault in it.
func (c Call) Failing(f Fault) Call {
	c.Fault = &f
	return c
}

// Answer is what a plugin said.
type Answer struct {
	Stdout, Stderr string
	Exit           int // -1: killed
	Error          struct {
		CNIVersion   string
		Code         uint
		Msg, Details string
	}
}

// Do calls the plugin for a verb, or for its sub-command "plan".
func (c Call) Do(verb string) Answer {
	c.TB.Helper()
	words := append(slices.Clone(c.Under), c.Plugin)
	if verb == "plan" {
		words = append(words, verb)
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = c.Environ(verb)
	cmd.Stdin = strings.NewReader(c.Conf)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		c.TB.Fatal(err)
	}
	a := Answer{Stdout: stdout.String(), Stderr: stderr.String(), Exit: cmd.ProcessState.ExitCode()}
	if strings.Contains(a.Stderr, "goroutine ") {
		c.TB.Fatalf("%s panics: %s", verb, a.Stderr)
	}
	if a.Exit > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &a.Error); err != nil {
			c.TB.Fatalf("%s: %v in %q", verb, err, a.Stdout)
		}
		if a.Error.CNIVersion == "" || a.Error.Code == 0 || a.Error.Msg == "" {
			c.TB.Errorf("%s: no error object of CNI: %s", verb, a.Stdout)
		}
	}
	return a
}

// Environ is the environment of the call.
func (c Call) Environ(verb string) []string {
	env := append([]string{"PATH=" + os.Getenv("PATH")}, coverage()...)
	if verb != "plan" {
		env = append(env, "CNI_COMMAND="+verb)
	}
	for _, key := range slices.Sorted(maps.Keys(c.Env)) {
		if c.Env[key] != "" {
			env = append(env, key+"="+c.Env[key])
		}
	}
	if c.Fault != nil {
		env = append(env, faultVariable+"="+c.Fault.String())
	}
	return env
}

// coverage has a process that was built for it write down what of it has run.
func coverage() []string {
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		return []string{"GOCOVERDIR=" + dir}
	}
	return nil
}

// OK calls the plugin and fails the test unless it succeeds.
func (c Call) OK(verb string) Answer {
	c.TB.Helper()
	a := c.Do(verb)
	if a.Exit != 0 {
		c.TB.Fatalf("%s: exit %d: %s%s\nwith %s", verb, a.Exit, a.Stdout, a.Stderr, c.Conf)
	}
	return a
}

// Refused calls the plugin and fails the test unless it answers with an error
// of that code whose message and details contain all of these texts.
func (c Call) Refused(verb string, code uint, texts ...string) Answer {
	c.TB.Helper()
	a := c.Do(verb)
	if a.Exit <= 0 || a.Error.Code != code {
		c.TB.Fatalf("%s: exit %d, code %d, want %d: %s%s\nwith %s", verb, a.Exit, a.Error.Code, code, a.Stdout, a.Stderr, c.Conf)
	}
	if strings.Contains(a.Error.Msg, "\n") {
		c.TB.Errorf("%s: message of several lines: %q", verb, a.Error.Msg)
	}
	for _, text := range texts {
		if !strings.Contains(a.Error.Msg+"\n"+a.Error.Details, text) {
			c.TB.Errorf("%s: %q does not say %q", verb, a.Error.Msg+"\n"+a.Error.Details, text)
		}
	}
	return a
}

// Left lists the files below a records' root, folders left out.
func Left(tb testing.TB, root string) []string {
	tb.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // or it has gone meanwhile
			return nil
		}
		if err == nil && !e.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return files
}
