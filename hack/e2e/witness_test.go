package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"
)

// witness is a plugin, the test binary under this name, that writes down how it
// is called. The plugins that it stands beside are called no other way. Or it is
// the first of a network, which it has be late.
const witness = "witness"

// call is how a runtime calls a plugin.
type call struct {
	Verb, Netns, Args string
	PrevResult        bool
}

func (c call) String() string {
	return fmt.Sprintf("%s, namespace %t, prevResult %t", c.Verb, c.Netns != "", c.PrevResult)
}

// testify is what the plugin does. It hands on the result it is given.
func testify() error {
	if os.Getenv("CNI_COMMAND") == "VERSION" {
		return version.All.Encode(os.Stdout)
	}
	var conf struct {
		CNIVersion string          `json:"cniVersion"`
		Until      []string        `json:"until"`
		File       string          `json:"file"`
		PrevResult json.RawMessage `json:"prevResult"`
	}
	stdin, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = json.Unmarshal(stdin, &conf)
	}
	if err != nil {
		return err
	}
	if conf.Until != nil {
		return beLate(conf.CNIVersion, conf.Until)
	}
	line, err := json.Marshal(call{os.Getenv("CNI_COMMAND"), os.Getenv("CNI_NETNS"), os.Getenv("CNI_ARGS"), conf.PrevResult != nil})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(conf.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(f, "%s\n", line); err != nil {
		return err
	}
	_, err = os.Stdout.Write(conf.PrevResult)
	return err
}

// beLate has ADD wait until a command succeeds.
func beLate(cniVersion string, until []string) error {
	if os.Getenv("CNI_COMMAND") != "ADD" {
		return nil
	}
	err := await(func(context.Context) error {
		_, err := run(until...)
		return err
	})
	if err == nil {
		_, err = fmt.Printf(`{"cniVersion": %q}`, cniVersion)
	}
	return err
}

func callsFile() string { return filepath.Join(dir, "calls") }

// calls are those since it was last asked.
func calls(t *testing.T) (list []call) {
	t.Helper()
	text, err := os.ReadFile(callsFile())
	ok(t, err)
	ok(t, os.Remove(callsFile()))
	for line := range strings.Lines(string(text)) {
		var c call
		ok(t, json.Unmarshal([]byte(line), &c))
		list = append(list, c)
	}
	return list
}

// Runtimes call DEL time and again, later without a namespace and without the
// result of ADD; after ADD has failed, without a result at once. Whatever they
// say, nothing is left.
func TestCalls(t *testing.T) {
	each(t, func(t *testing.T, r runtime) {
		if err := r.start("pod", "witness-fails"); err == nil {
			t.Error("ADD does not fail")
		}
		ok(t, r.remove("pod"))
		start(t, r, "pod", witness)
		for _, f := range []func(string) error{r.reload, r.stop, r.stop, r.remove} {
			ok(t, f("pod"))
		}
		calledAsKnown(t, r, inThree)
	})
}

// says are the calls of each runtime.
var says = map[string][]string{
	"cnitool":    {"ADD, namespace true, prevResult true", "CHECK, namespace true, prevResult true", "DEL, namespace true, prevResult true", "DEL, namespace true, prevResult false", "STATUS, namespace false, prevResult false"},
	"podman":     {"ADD, namespace true, prevResult true", "DEL, namespace true, prevResult true", "DEL, namespace true, prevResult false"},
	"containerd": {"ADD, namespace true, prevResult true", "DEL, namespace true, prevResult true", "DEL, namespace true, prevResult false", "DEL, namespace false, prevResult false"},
}

// calledAsKnown fails the test unless the witness has seen just these, and notes
// that plugins beside it were shown them.
func calledAsKnown(t *testing.T, r runtime, plugins string) {
	t.Helper()
	said := map[string]bool{}
	for _, c := range calls(t) {
		said[c.String()] = true
	}
	if got := slices.Sorted(maps.Keys(said)); !slices.Equal(got, slices.Sorted(slices.Values(says[r.name()]))) {
		t.Errorf("%s does not call as it should for this test:\n%s", r.name(), strings.Join(got, "\n"))
	}
	for _, call := range says[r.name()] {
		shown(t, r.name(), plugins, call)
	}
}

// A pod whose namespace has vanished ends as others do: DEL knows the result of
// ADD, but no namespace from the first time.
func TestVanished(t *testing.T) {
	const said = "DEL, namespace false, prevResult true"
	r := pods
	for plugins, networks := range map[string][]string{inThree: {witness}, "router": {"flannel", "router-calls"}} {
		before := state(t)
		start(t, r, "pod", networks...)
		namespaces, err := filepath.Glob("/run/netns/cni-*")
		ok(t, err)
		if len(namespaces) != 1 {
			t.Fatalf("namespaces of pods: %q", namespaces)
		}
		ok(t, unix.Unmount(namespaces[0], unix.MNT_DETACH))
		ok(t, os.Remove(namespaces[0]))
		ok(t, r.stop("pod"))
		ok(t, r.remove("pod"))
		if !slices.ContainsFunc(calls(t), func(c call) bool { return c.String() == said }) {
			t.Errorf("%s does not call as it should for this test: %s", r.name(), said)
		}
		if after := state(t); after != before {
			t.Errorf("left on the node:\n%s", after)
		}
		shown(t, r.name(), plugins, said)
	}
}
