//go:build linux

package attach

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/cniroute"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
)

// everything is a plan with an object of every kind, in the pod and on the host.
func everything() netops.Plan {
	rule := netops.Rule{Priority: 7777, Table: 77, Protocol: netops.Protocol}
	return netops.Plan{
		Pod: netops.Change{
			Del: netops.State{Routes: []netops.Route{at("10.8.0.0/16", "10.2.0.8", "eth0")}},
			Add: netops.State{
				Routes:  []netops.Route{at("10.9.0.0/16", "10.2.0.1", "eth0")},
				Rules:   []netops.Rule{rule},
				Sysctls: []netops.Sysctl{{Key: "net/ipv4/conf/eth0/rp_filter", Value: "2"}},
			},
		},
		Host: netops.State{
			Routes:  []netops.Route{at("10.2.0.5/32", "", "cni0")},
			Rules:   []netops.Rule{rule},
			Neighs:  []netops.Neigh{{Dev: "cni0", IP: netip.MustParseAddr("10.1.0.5"), HardwareAddr: "02:00:00:00:00:05", Protocol: netops.Protocol}},
			Sysctls: []netops.Sysctl{{Key: "net/ipv4/conf/cni0/rp_filter", Value: "2"}},
		},
	}
}

// The life of an attachment: what is planned is made, checked, and taken back.
func TestLife(t *testing.T) {
	s := newScene(t)
	pod := s.pod("life")
	pod.IP("route add 10.8.0.0/16 via 10.2.0.8")
	before := pod.Dump()
	c := s.of(pod, &decided{want: everything()})

	if got := c.ok("plan"); !strings.Contains(got, "# host\nip neigh add") || !strings.Contains(got, "# pod "+pod.Path+"\n") {
		t.Errorf("plan prints %q", got)
	}
	s.has()
	if got := c.ok("ADD"); !strings.Contains(got, `"routes":[{"dst":"10.9.0.0/16","gw":"10.2.0.1"}]`) {
		t.Errorf("ADD prints %q", got)
	}
	s.has("example/net/c1:eth0/1.finished", "host/address:10.1.0.5", "host/sysctl:net:ipv4:conf:cni0:rp_filter")
	if got := c.ok("plan"); got != "" {
		t.Errorf("plan prints %q of what is there", got)
	}
	c.with(`, "prevResult": {"routes": [{"dst": "10.9.0.0/16", "gw": "10.2.0.1"}]}`).ok("CHECK")
	c.ok("DEL")
	s.has()
	if after := pod.Dump(); after != before {
		t.Errorf("the pod was\n%s\nand is\n%s", before, after)
	}
	c.ok("DEL")
	c.ok("GC")
}

// CHECK tells everything that does not hold, of every kind, in pod and host.
func TestDrift(t *testing.T) {
	s := newScene(t)
	pod := s.pod("drift")
	pod.IP("route add 10.8.0.0/16 via 10.2.0.8")
	c := s.of(pod, &decided{want: everything()}).with(`, "prevResult": {"routes": [{"dst": "10.9.0.0/16", "gw": "10.2.0.1"}]}`)
	c.ok("ADD")
	c.ok("CHECK")
	pod.IP("route add 10.8.0.0/16 via 10.2.0.8", "route del 10.9.0.0/16", "rule del priority 7777")
	pod.Sysctl("net/ipv4/conf/eth0/rp_filter", "0")
	s.host.IP("route del 10.2.0.5/32", "rule del priority 7777", "neigh del 10.1.0.5 dev cni0")
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/cni0/rp_filter", []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.refused("CHECK", 106, "and 6 more", "10.8.0.0/16", "10.9.0.0/16", "10.2.0.5 dev cni0", "10.1.0.5", "conf.cni0.rp_filter", "lookup 77")
	// A route that prevResult does not list any more is a later plugin's doing.
	c.with(`, "prevResult": {"routes": [{"dst": "10.8.0.0/16", "gw": "10.2.0.8"}]}`).refused("CHECK", 106, "and 4 more")
	c.with(`, "prevResult": {"routes": [{"dst": "10.8.0.0/16", "gw": "10.2.0.8"}]}`).
		by(Policy{CheckIgnoresPrevResult: true}).refused("CHECK", 106, "and 6 more", "conf.eth0.rp_filter")
	c.to(&decided{skipCheck: true}).ok("CHECK")
	c.ok("DEL")
	s.has()
}

// An ADD that fails at any of its operations, or is interrupted there, leaves
// nothing behind.
func TestAddIsAllOrNothing(t *testing.T) {
	s := newScene(t)
	pod := s.pod("nothing")
	pod.IP("route add 10.8.0.0/16 via 10.2.0.8")
	before := pod.Dump()
	c := s.of(pod, &decided{want: everything()})
	var commands []string
	count := func(_ context.Context, at, command string) error {
		if at == "before" {
			commands = append(commands, command)
		}
		return nil
	}
	c.faulty(count).ok("ADD")
	c.ok("DEL")
	if len(commands) < 8 {
		t.Fatalf("operations %q", commands)
	}
	for i, command := range commands {
		for errno, code := range map[unix.Errno]uint{unix.EPERM: 100, unix.EBUSY: 11} {
			n := -1
			c.faulty(func(_ context.Context, at, _ string) error {
				if at == "before" {
					if n++; n == i {
						return &netops.KernelError{Errno: errno}
					}
				}
				return nil
			}).refused("ADD", code)
			s.has()
			if after := pod.Dump(); after != before {
				t.Fatalf("%v of %q: the pod was\n%s\nand is\n%s", errno, command, before, after)
			}
		}
	}
}

// So does one that is interrupted after any of its operations.
func TestInterruptedAdd(t *testing.T) {
	s := newScene(t)
	pod := s.pod("interrupted")
	pod.IP("route add 10.8.0.0/16 via 10.2.0.8")
	before := pod.Dump()
	c := s.of(pod, &decided{want: everything()})
	interrupted := 0
	for i := 0; ; i++ {
		ctx, cancel := context.WithCancel(t.Context())
		n := -1
		c.ctx = ctx
		_, err := c.faulty(func(_ context.Context, at, _ string) error {
			if at == "after" {
				if n++; n == i {
					cancel()
				}
			}
			return nil
		}).do("ADD")
		cancel()
		c.ctx = nil
		if err == nil { // all was made by then
			c.ok("DEL")
		} else {
			interrupted++
		}
		s.has()
		if after := pod.Dump(); after != before {
			t.Fatalf("after operation %d: the pod was\n%s\nand is\n%s", i, before, after)
		}
		if n < i {
			break
		}
	}
	if interrupted < 4 {
		t.Errorf("%d times interrupted", interrupted)
	}
}

// An interrupted ADD does not wait for the next try.
func TestInterruptedWait(t *testing.T) {
	s := newScene(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := s.of(s.pod("wait"), &decided{want: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0")), decision: func(d *Decision, _ netops.Snapshot) {
		d.Tries = 1000
	}})
	c.ctx = ctx
	c.faulty(func(_ context.Context, at, _ string) error {
		if at == "before" {
			cancel()
			return &netops.KernelError{Errno: unix.EBUSY}
		}
		return nil
	}).refused("ADD", 11)
	s.has()
}

// At debug level the log has every operation, with its failure.
func TestLogOfOperations(t *testing.T) {
	s := newScene(t)
	c := s.of(s.pod("log"), &decided{want: netops.Plan{Host: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0")).Host,
		Pod: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0"), at("10.10.0.0/16", "10.99.0.1", "eth0")).Pod}}).
		with(`, "prevResult": {}, "log_options": {"log_level": "debug"}`)
	c.refused("ADD", 100)
	for _, line := range []string{`msg="ip route add 10.7.0.0/16`, `msg="ip route del 10.7.0.0/16`, `error="network is unreachable`, "took="} {
		s.warned(line)
	}
}

// What cannot be taken back keeps the record, and DEL tries again.
func TestNotRestored(t *testing.T) {
	s := newScene(t)
	pod := s.pod("notrestored")
	c := s.of(pod, &decided{want: netops.Plan{Host: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0")).Host,
		Pod: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0")).Pod}})
	c.faulty(func(_ context.Context, at, command string) error {
		if at == "before" && (strings.Contains(command, "10.9.0.0/16") || strings.Contains(command, "route del 10.7.0.0/16")) {
			return &netops.KernelError{Errno: unix.EPERM}
		}
		return nil
	}).refused("ADD", 100, "10.9.0.0/16", "10.7.0.0/16")
	s.warned("DEL will try again")
	s.has("example/net/c1:eth0/1.undoing")
	c.ok("DEL")
	s.has()
}

// A result that cannot be printed takes the change back.
func TestResultThatCannotBePrinted(t *testing.T) {
	s := newScene(t)
	pod := s.pod("unprinted")
	before := pod.Dump()
	stdout := os.Stdout
	c := s.of(pod, &decided{want: everything(), decision: func(*Decision, netops.Snapshot) {
		os.Stdout = os.NewFile(^uintptr(0), "closed")
	}})
	_, err := c.do("ADD")
	os.Stdout = stdout
	if !strings.Contains(text(err), "print the result") || pod.Dump() != before {
		t.Errorf("%s; the pod is\n%s", text(err), pod.Dump())
	}
	s.has()
}

// A record that cannot be finished takes the change back.
func TestRecordThatCannotBeFinished(t *testing.T) {
	s := newScene(t)
	pod := s.pod("unfinished")
	before := pod.Dump()
	c := s.of(pod, &decided{want: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0"))})
	c.faulty(func(_ context.Context, at, _ string) error {
		if at == "after" {
			return os.RemoveAll(filepath.Join(s.dir, "example"))
		}
		return nil
	}).refused("ADD", 5, "mark record as finished")
	if after := pod.Dump(); after != before {
		t.Errorf("the pod was\n%s\nand is\n%s", before, after)
	}
}

// What a decision may ask for.
func TestDecision(t *testing.T) {
	s := newScene(t)
	pod := s.pod("decision")
	reachable, not := at("10.9.0.0/16", "10.2.0.1", "eth0"), at("10.10.0.0/16", "10.99.0.1", "eth0")
	d := &decided{want: inPod(reachable, not), decision: func(d *Decision, _ netops.Snapshot) {
		d.ContinueOnError, d.Warnings = true, []string{"one thing is left out"}
	}}
	c := s.of(pod, d)
	if got := c.ok("ADD"); !strings.Contains(got, "10.9.0.0/16") || strings.Contains(got, "10.10.0.0/16") {
		t.Errorf("ADD prints %q", got)
	}
	s.warned("one thing is left out")
	s.warned("route left out")
	c.ok("CHECK") // the route that was left out is not missed
	c.ok("DEL")

	d.decision = func(d *Decision, _ netops.Snapshot) { d.Idle = true }
	if got := c.ok("ADD"); !strings.HasPrefix(got, "{") {
		t.Errorf("ADD prints %q", got)
	}
	s.has()
	d.fails = errors.New("it cannot be")
	c.refused("ADD", 999, "it cannot be")
	c.refused("plan", 999, "it cannot be")
}

// announcer tells the pod's links.
type announcer struct {
	decided
	told  []string
	fails error
}

func (a *announcer) Announce(_ context.Context, _ *kernel.Netns, made netops.Change) error {
	a.told = append(a.told, made.Commands()...)
	return a.fails
}

// What was made is announced; that it cannot be fails no ADD.
func TestAnnounce(t *testing.T) {
	s := newScene(t)
	pod := s.pod("announce")
	a := &announcer{decided: decided{want: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0"))}, fails: errors.New("no link")}
	s.of(pod, a).ok("ADD")
	s.warned("no link")
	if len(a.told) != 1 {
		t.Errorf("told %q", a.told)
	}
	s.of(pod, a).ok("DEL")
}

// preparer has to look before it can decide.
type preparer struct {
	decided
	t      *testing.T
	looked int
	fails  error
}

func (p *preparer) Prepare(_ context.Context, in PrepareInput) (Planner, error) {
	p.looked++
	host, err := in.OpenHost()
	if err != nil || host == nil {
		p.t.Errorf("the host: %v", err)
	}
	return &p.decided, p.fails
}

// ADD and plan prepare; CHECK and DEL do where there is no record.
func TestPrepare(t *testing.T) {
	s := newScene(t)
	pod := s.pod("prepare")
	p := &preparer{t: t, decided: decided{want: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0"))}}
	p.expect = p.want
	c := s.of(pod, p).by(Policy{DelWithoutRecord: true}).with(`, "prevResult": {"routes": [{"dst": "10.9.0.0/16", "gw": "10.2.0.1"}]}`)
	for _, step := range []struct {
		verb  string
		times int
	}{{"plan", 1}, {"ADD", 1}, {"CHECK", 0}, {"DEL", 0}, {"DEL", 1}} {
		p.looked = 0
		if c.ok(step.verb); p.looked != step.times {
			t.Errorf("%s prepares %d times, want %d", step.verb, p.looked, step.times)
		}
	}
	c.refused("CHECK", 106, "10.9.0.0/16")
	p.notKnown = errors.New("not known")
	c.refused("CHECK", 999, "not known")
	p.fails = errors.New("it took too long")
	for _, verb := range []string{"ADD", "plan", "CHECK"} {
		c.refused(verb, 999, "it took too long")
	}
	c.ok("DEL")
	s.warned("no record and no usable configuration: nothing was removed")
}

// The namespace of the pod must be one, and not the plugin's own.
func TestNetns(t *testing.T) {
	s := newScene(t)
	c := s.of(s.pod("netns"), &decided{})
	for _, verb := range []string{"ADD", "CHECK", "plan"} {
		for path, code := range map[string]uint{"/run/netns/none": 4, "/proc/self/ns/mnt": 4} {
			c.netns = path
			c.refused(verb, code, path)
		}
	}
	c.netns = "/proc/self/ns/net"
	c.refused("ADD", 8, "the plugin's own network namespace")
	c.ok("CHECK")
	r := newExample("ADD", ``)
	if err := RequirePod(r.Request); err == nil {
		t.Error("/nowhere is taken for a pod")
	}
	r.Config.Netns = s.pod("required").Path
	if err := RequirePod(r.Request); err != nil {
		t.Error(err)
	}
}

// prober needs more than a valid configuration.
type prober struct {
	decided
	fails error
}

func (p *prober) Probe(context.Context) error { return p.fails }

func TestStatus(t *testing.T) {
	s := newScene(t)
	c := s.of(s.pod("status"), &prober{})
	c.ok("STATUS")
	c.with(`, "addroute": 1`).refused("STATUS", 7, "did you mean")
	c.to(&prober{fails: errors.New("a tool is missing")}).refused("STATUS", 50, "a tool is missing")
	if err := os.WriteFile(s.dir+"-file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.dir += "-file"
	c.refused("STATUS", 50, "records cannot be saved")
	c.to(&decided{want: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0"))}).refused("ADD", 5)
}

// List tells the optional fields that the configuration gives.
func TestList(t *testing.T) {
	listed := cniroute.Route{Metric: cniroute.Optional[uint32]{Value: 5, Given: true}, Table: cniroute.Optional[uint32]{Value: 6, Given: true}}
	for _, tt := range []struct {
		route netops.Route
		want  int
	}{
		{at("10.9.0.0/16", "10.2.0.1", "eth0"), 1},
		{netops.Route{Dst: netip.MustParsePrefix("10.9.0.0/16"), Type: netops.Unicast + 5}, 0},
		{netops.Route{Dst: netip.MustParsePrefix("10.9.0.0/16"), Hops: []netops.NextHop{{Gw: netip.MustParseAddr("10.2.0.1"), Dev: "eth0"}, {Gw: netip.MustParseAddr("10.2.0.1"), Dev: "eth1"}}}.Normalize(), 1},
	} {
		var d Decision
		d.List(&tt.route, &listed, true)
		if len(d.Listed) != tt.want {
			t.Errorf("%s: %d entries", tt.route.String(), len(d.Listed))
			continue
		}
		if tt.want > 0 {
			e := d.Listed[0].Entry
			if *e.Priority != 5 || *e.Table != 6 || *e.Scope != uint8(netops.ScopeLink) || len(e.Gws) != len(tt.route.Hops)/2 {
				t.Errorf("%+v", e)
			}
		}
	}
	d := &Decision{Result: cniresult.None("1.1.0")}
	var out strings.Builder
	if err := d.Print(&out); err != nil || !strings.Contains(out.String(), `"cniVersion":"1.1.0"`) {
		t.Errorf("%v, %q", err, out.String())
	}
}
