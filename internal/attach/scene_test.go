//go:build linux

package attach

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

func TestMain(m *testing.M) {
	// Another user than root has records in $XDG_RUNTIME_DIR/cni.
	if err := os.Setenv("XDG_RUNTIME_DIR", "/run"); err != nil {
		panic(err)
	}
	os.Exit(netopstest.Main(m).Run())
}

// decided is a planner that has decided already. What it removes it removes as it
// finds it.
type decided struct {
	query     netops.Query
	want      netops.Plan
	expect    netops.Plan
	decision  func(*Decision, netops.Snapshot) // edits what want makes
	fails     error                            // of Plan
	notKnown  error                            // of Expect
	skipCheck bool
}

func (d *decided) Query(*cniresult.Result) netops.Query {
	q := d.query
	q.Cover(d.want.Pod)
	q.Cover(d.expect.Pod)
	return q
}

func (d *decided) Plan(prev *cniresult.Result, pod netops.Snapshot) (*Decision, error) {
	made := &Decision{Want: d.want, Result: prev, Tries: 1}
	made.Want.Pod.Del.Routes = slices.DeleteFunc(slices.Clone(pod.Routes), func(r netops.Route) bool {
		return !slices.ContainsFunc(d.want.Pod.Del.Routes, func(del netops.Route) bool { return del.Dst == r.Dst })
	})
	for i := range d.want.Pod.Add.Routes {
		r := &d.want.Pod.Add.Routes[i]
		made.Listed = append(made.Listed, Listing{Entry: cniresult.Route{Dst: r.Dst, Gw: r.Gw}, For: r})
	}
	if d.decision != nil {
		d.decision(made, pod)
	}
	return made, d.fails
}

func (d *decided) Expect(*cniresult.Result, netops.Snapshot) (netops.Plan, error) {
	return d.expect, d.notKnown
}

func (d *decided) SkipCheck() bool { return d.skipCheck }

// scene is a host with a bridge, and pods.
type scene struct {
	t      *testing.T
	host   *netopstest.NS
	dir    string // stateDir
	logged string // by the last call
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, host: netopstest.Host(t), dir: filepath.Join(t.TempDir(), "records")}
	s.host.IP("link add cni0 type bridge", "link set cni0 addrgenmode none", "addr add 10.1.0.1/16 dev cni0", "link set cni0 up")
	routing := func() string { return s.host.Dump() + s.host.IP("neigh show dev cni0 nud permanent") }
	before := routing()
	t.Cleanup(func() {
		if after := routing(); after != before && !t.Failed() {
			t.Errorf("the host is not as it was before:\n%s\nbut\n%s", before, after)
		}
		_ = exec.Command("ip", "rule", "del", "priority", "7777").Run() // of a test that failed
		s.host.IP("link del cni0")
	})
	return s
}

// pod is a namespace with the interface eth0, 10.2.0.5/16.
func (s *scene) pod(name string) *netopstest.NS {
	s.t.Helper()
	pod := netopstest.Namespace(s.t, name)
	pod.IP("link add eth0 type bridge", "link set eth0 addrgenmode none", "addr add 10.2.0.5/16 dev eth0", "link set eth0 up")
	return pod
}

// call is a request to the example plugin.
type call struct {
	s       *scene
	planner Planner
	policy  Policy
	plugin  string
	network string
	id      string
	netns   string
	keys    string // further keys of the configuration
	fault   kernel.Fault
	ctx     context.Context // that a fault may end
}

// of is a call for container c1 in a pod, by a planner.
func (s *scene) of(pod *netopstest.NS, p Planner) call {
	return call{s: s, planner: p, plugin: "example", network: "net", id: "c1", netns: pod.Path, keys: `, "prevResult": {}`}
}

func (c call) in(network string) call     { c.network = network; return c }
func (c call) as(id string) call          { c.id = id; return c }
func (c call) by(p Policy) call           { c.policy = p; return c }
func (c call) with(keys string) call      { c.keys = keys; return c }
func (c call) to(p Planner) call          { c.planner = p; return c }
func (c call) faulty(f kernel.Fault) call { c.fault = f; return c }

// do carries a verb out, and returns what it prints.
func (c call) do(verb string) (printed string, err error) {
	c.s.t.Helper()
	ctx := cmp.Or(c.ctx, c.s.t.Context())
	if c.fault != nil {
		ctx = kernel.WithFault(ctx, c.fault)
	}
	conf := `{"cniVersion": "1.1.0", "name": "` + c.network + `", "type": "` + c.plugin + `", "stateDir": "` + c.s.dir + `"` + c.keys + `}`
	plugin := example
	plugin.Name = c.plugin
	args := &skel.CmdArgs{ContainerID: c.id, IfName: "eth0", Netns: c.netns}
	v := c.policy.Verbs(func(*cni.Config) Planner { return c.planner })
	run := map[string]cni.Verb{"ADD": v.Add, "CHECK": v.Check, "DEL": v.Del, "GC": v.GC, "STATUS": v.Status, "plan": v.Plan}[verb]
	printed, c.s.logged = captured(c.s.t, func() { err = cni.NewRequest(plugin, verb, args, []byte(conf)).Answer(ctx, run) })
	return printed, err
}

// ok carries a verb out that must succeed.
func (c call) ok(verb string) string {
	c.s.t.Helper()
	printed, err := c.do(verb)
	if err != nil {
		c.s.t.Fatalf("%s: %s", verb, text(err))
	}
	return printed
}

// refused carries a verb out that must fail with that code, and say so.
func (c call) refused(verb string, code uint, says ...string) {
	c.s.t.Helper()
	_, err := c.do(verb)
	var e *types.Error
	if !errors.As(err, &e) || e.Code != code {
		c.s.t.Fatalf("%s: %s, want code %d", verb, text(err), code)
	}
	for _, word := range says {
		if !strings.Contains(text(err), word) {
			c.s.t.Errorf("%s: %q does not say %q", verb, text(err), word)
		}
	}
}

// text is all that an error object says.
func text(err error) string {
	var e *types.Error
	if errors.As(err, &e) {
		return e.Msg + "\n" + e.Details
	}
	if err == nil {
		return "success"
	}
	return err.Error()
}

// warned fails the test unless the last call logged that.
func (s *scene) warned(says string) {
	s.t.Helper()
	if !strings.Contains(s.logged, says) {
		s.t.Errorf("the log does not say %q: %s", says, s.logged)
	}
}

// records are the files of records and notes, as paths below the state folder,
// less those by which records are found.
func (s *scene) records() (files []string) {
	s.t.Helper()
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && path == filepath.Join(s.dir, "host/index") {
			return filepath.SkipDir
		}
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, ".lock") && !strings.HasPrefix(d.Name(), "netns-") {
			files = append(files, strings.TrimPrefix(path, s.dir+"/"))
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	return files
}

// has fails the test unless these are the records.
func (s *scene) has(want ...string) {
	s.t.Helper()
	if got := s.records(); !slices.Equal(got, want) {
		s.t.Fatalf("records %q, want %q", got, want)
	}
}

// rename moves a record, as a killed process would have left it.
func (s *scene) rename(from, to string) {
	s.t.Helper()
	if err := os.Rename(filepath.Join(s.dir, from), filepath.Join(s.dir, to)); err != nil {
		s.t.Fatal(err)
	}
}

// captured is what f writes to standard output and standard error.
func captured(t *testing.T, f func()) (stdout, stderr string) {
	t.Helper()
	read := func(file **os.File) func() string {
		from, to, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		was, all := *file, make(chan string)
		*file = to
		go func() {
			b, _ := io.ReadAll(from)
			all <- string(b)
		}()
		return func() string {
			*file = was
			_ = to.Close()
			return <-all
		}
	}
	out, log := read(&os.Stdout), read(&os.Stderr)
	defer func() { stdout, stderr = out(), log() }()
	f()
	return
}

// at is a route, by its destination, gateway and interface.
func at(dst, gw, dev string) netops.Route {
	r := netops.Route{Dst: netip.MustParsePrefix(dst), Dev: dev, Protocol: netops.Protocol}
	if gw != "" {
		r.Gw = netip.MustParseAddr(gw)
	}
	return r.Normalize()
}

// inPod is a plan that adds routes in the pod.
func inPod(routes ...netops.Route) netops.Plan {
	return netops.Plan{Pod: netops.Change{Add: netops.State{Routes: routes}}}
}

// onHost is a plan that makes routes on the host.
func onHost(routes ...netops.Route) netops.Plan {
	return netops.Plan{Host: netops.State{Routes: routes}}
}

// refuse is a fault: the kernel's refusal of the commands that hold a text.
func refuse(holds string, errno error) kernel.Fault {
	return func(_ context.Context, at, command string) error {
		if at == "before" && strings.Contains(command, holds) {
			return errno
		}
		return nil
	}
}
