//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

func TestMain(m *testing.M) {
	plugintest.Main(m, plugintest.Upstream, plugintest.Faulty("faulty", "./internal/recorder"))
}

const env4 = `FLANNEL_NETWORK=10.1.0.0/16
FLANNEL_SUBNET=10.1.17.1/24
FLANNEL_MTU=1472
FLANNEL_IPMASQ=true
`

// writeEnv writes what flanneld would.
func writeEnv(tb testing.TB, dir, text string) {
	tb.Helper()
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "subnet.env"), []byte(text), 0o600)); err != nil {
		tb.Fatal(err)
	}
}

// recordVariable names the file in which the recorder notes how it was called, and
// with _VERB at its end what the recorder does at a verb (package recorder).
const recordVariable = "RECORD"

// recorded is one call of the recorder.
type recorded struct {
	Verb, ContainerID, IfName, Netns, Args string
	Conf                                   json.RawMessage
}

// bench is a node with flannel, whose delegate is the recorder.
type bench struct {
	plugintest.Call
	t         *testing.T
	dir, data string
}

var pods atomic.Int64

// newBench makes a call for eth0 of a new pod. How the recorder behaves is
// told by verb=how.
func newBench(t *testing.T, how ...string) bench {
	t.Helper()
	dir := t.TempDir()
	writeEnv(t, dir, env4)
	b := bench{t: t, dir: dir, data: filepath.Join(dir, "data")}
	b.Call = plugintest.New(t, flannel.Name, netopstest.Namespace(t, fmt.Sprintf("pod%d", pods.Add(1))), fmt.Sprintf(
		`{"cniVersion": "1.1.0", "name": "cbr0", "type": "flannel", "subnetFile": "%s/subnet.env", "dataDir": "%s", "delegate": {"type": "recorder"}}`, dir, b.data)).
		With(map[string]string{"CNI_PATH": os.Getenv("PATH"), "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_ARGS": "A=1;A=2;", recordVariable: filepath.Join(dir, "record")})
	return b.behaving(how...)
}

// behaving is the bench whose recorder does that.
func (b bench) behaving(how ...string) bench {
	for _, h := range how {
		verb, what, _ := strings.Cut(h, "=")
		b.Call = b.With(map[string]string{recordVariable + "_" + verb: what})
	}
	return b
}

// with is the bench with other variables.
func (b bench) with(key, value string) bench {
	b.Call = b.With(map[string]string{key: value})
	return b
}

// edited is the bench with a changed configuration.
func (b bench) edited(change func(conf map[string]any)) bench {
	b.Call = b.Edit(change)
	return b
}

// calls are how the recorder was called since the last time.
func (b bench) calls() []recorded {
	b.t.Helper()
	data, err := os.ReadFile(b.Env[recordVariable])
	if os.IsNotExist(err) {
		return nil
	} else if err != nil {
		b.t.Fatal(err)
	}
	_ = os.Remove(b.Env[recordVariable])
	var all []recorded
	for _, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
		var r recorded
		if err := json.Unmarshal(line, &r); err != nil {
			b.t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// verbs fails the test unless the recorder was called by these since the last
// time, each as "VERB container interface".
func (b bench) verbs(want ...string) []recorded {
	b.t.Helper()
	calls := b.calls()
	var got []string
	for _, c := range calls {
		got = append(got, strings.TrimSpace(strings.Join([]string{c.Verb, c.ContainerID, c.IfName}, " ")))
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		b.t.Fatalf("the delegate was called with %q, want %q", got, want)
	}
	return calls
}

// keeps fails the test unless dataDir holds these files and no others.
func (b bench) keeps(want ...string) {
	b.t.Helper()
	var got []string
	for _, path := range plugintest.Left(b.t, b.data) {
		got = append(got, filepath.Base(path))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		b.t.Errorf("kept: %q, want %q", got, want)
	}
}

// keep puts a file into dataDir.
func (b bench) keep(file, text string) {
	b.t.Helper()
	err := os.MkdirAll(b.data, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.data, file), []byte(text), 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
