//go:build linux

package attach

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// What two attachments share on the host goes with the last of them, in whatever
// order they go.
func TestSharedOnTheHost(t *testing.T) {
	s := newScene(t)
	want := everything()
	want.Pod, want.Host.Neighs = netops.Change{}, nil
	c1 := s.of(s.pod("shared1"), &decided{want: want})
	c2 := s.of(s.pod("shared2"), &decided{want: want}).as("c2").in("other")
	for _, order := range [][2]call{{c1, c2}, {c2, c1}} {
		before := s.host.Dump()
		c1.ok("ADD")
		c2.ok("ADD")
		shared := s.host.Dump()
		order[0].ok("DEL")
		if now := s.host.Dump(); now != shared {
			t.Errorf("the first DEL left\n%s\nof\n%s", now, shared)
		}
		order[1].ok("CHECK")
		order[1].ok("DEL")
		if now := s.host.Dump(); now != before {
			t.Errorf("the last DEL left\n%s\nof\n%s", now, before)
		}
		s.has()
	}
}

// A route that exists on the host stands in the way, is shared, or gives way.
func TestExistingHostRoute(t *testing.T) {
	for _, tt := range []struct {
		name, there string
		code        uint // 0: ADD succeeds
		says        string
		stays       bool // after DEL
	}{
		{"as it is wanted, not ours", "10.7.0.0/16 via 10.1.0.7 dev cni0 proto 4", 0, "", true},
		{"as it is wanted, ours", "10.7.0.0/16 via 10.1.0.7 dev cni0 proto 77", 0, "", false},
		{"another one, not ours", "10.7.0.0/16 via 10.1.0.9 dev cni0 proto 4", 101, "which is not ours", true},
		{"another one, ours and stale", "10.7.0.0/16 via 10.1.0.9 dev cni0 proto 77", 0, "gives way", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			s.host.IP("route add " + tt.there)
			c := s.of(s.pod("existing"), &decided{want: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0"))})
			if tt.code != 0 {
				c.refused("plan", tt.code, tt.says)
				c.refused("ADD", tt.code, tt.says)
			} else {
				c.ok("plan")
				c.ok("ADD")
				if tt.says != "" {
					s.warned(tt.says)
				}
				c.ok("CHECK")
				c.ok("DEL")
			}
			s.has()
			if got := s.host.IP("route show 10.7.0.0/16"); (got != "") != tt.stays {
				t.Errorf("after all there is %q", got)
			}
			if tt.stays {
				s.host.IP("route del " + tt.there)
			}
		})
	}
}

// A stale route that gave way is put back when the ADD fails.
func TestStaleRouteComesBack(t *testing.T) {
	s := newScene(t)
	s.host.IP("route add 10.7.0.0/16 via 10.1.0.9 dev cni0 proto 77")
	before := s.host.Dump()
	c := s.of(s.pod("stale"), &decided{want: netops.Plan{Host: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0")).Host,
		Pod: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0")).Pod}})
	c.faulty(refuse("10.9.0.0/16", &netops.KernelError{Errno: unix.EPERM})).refused("ADD", 100)
	if after := s.host.Dump(); after != before {
		t.Errorf("the host was\n%s\nand is\n%s", before, after)
	}
	// So is the error, if it cannot be deleted, or the wanted one not be added.
	c.faulty(refuse("route del 10.7.0.0/16", &netops.KernelError{Errno: unix.EPERM})).refused("ADD", 100, "10.7.0.0/16")
	s.host.IP("route del 10.7.0.0/16")
	s.has()
}

// A living attachment's route stands in the way, with its name; a gone one's
// gives way.
func TestOwnedRoute(t *testing.T) {
	s := newScene(t)
	owner := s.pod("owner")
	c1 := s.of(owner, &decided{want: onHost(at("10.7.0.0/16", "10.1.0.9", "cni0"))})
	c2 := s.of(s.pod("second"), &decided{want: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0"))}).as("c2")
	c1.ok("ADD")
	c2.refused("ADD", 101, "which example wants for eth0 of container c1 in network net")
	c2.refused("plan", 101, "which example wants for")

	// A record of a later version may want it.
	path := filepath.Join(s.dir, "example/net/c1:eth0/1.finished")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edit(t, path, `"format":1`, `"format":99`)
	c2.refused("ADD", 101, "may want")
	c1.ok("DEL") // passes it over
	s.warned("passing over a record")

	// So does another attachment that shares the route leave it.
	c3 := c1.as("c3")
	c3.netns = c2.netns
	c3.ok("ADD")
	c3.ok("DEL")
	s.warned("a route stays because a record that cannot be read may want it")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}

	owner.Remove()
	c2.ok("ADD")
	s.warned("gives way")
	c1.ok("DEL")
	c2.ok("CHECK")
	c2.ok("DEL")
	s.has()
}

// edit replaces a text in a file.
func edit(t *testing.T, path, from, to string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(b), from) {
		t.Fatalf("%v: no %s in %s", err, from, b)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What fails on the host is tried again, so many times; an error of the kernel
// goes before a missing interface.
func TestTries(t *testing.T) {
	s := newScene(t)
	d := &decided{want: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0"), at("10.6.0.0/16", "10.1.0.7", "none0"), at("10.5.0.0/16", "10.99.0.7", "cni0")),
		decision: func(d *Decision, _ netops.Snapshot) { d.Tries = 2 }}
	c := s.of(s.pod("tries"), d)
	c.refused("ADD", 100, "10.5.0.0/16", "10.6.0.0/16")
	s.has()

	tried := 0
	d.want = onHost(at("10.7.0.0/16", "10.1.0.7", "cni0"))
	busyOnce := func(_ context.Context, at, command string) error {
		if at == "before" && strings.Contains(command, "10.7.0.0/16") {
			if tried++; tried == 1 {
				return &netops.KernelError{Errno: unix.EBUSY}
			}
		}
		return nil
	}
	c.faulty(busyOnce).ok("ADD")
	if tried != 2 {
		t.Errorf("tried %d times", tried)
	}
	c.ok("DEL")
}

func neigh(mac string) netops.State {
	return netops.State{Neighs: []netops.Neigh{{Dev: "cni0", IP: netip.MustParseAddr("10.1.0.5"), HardwareAddr: mac, Protocol: netops.Protocol}}}
}

// The address of a neighbour is one attachment's.
func TestAddress(t *testing.T) {
	s := newScene(t)
	owner := s.pod("has")
	const mac1, mac2 = "02:00:00:00:00:01", "02:00:00:00:00:02"
	c1 := s.of(owner, &decided{want: netops.Plan{Host: neigh(mac1)}})
	c2 := s.of(s.pod("wants"), &decided{want: netops.Plan{Host: neigh(mac2)}}).as("c2")
	c1.ok("ADD")
	c1.ok("ADD") // a second entry of the chain
	c2.refused("ADD", 101, "10.1.0.5 is the address of eth0 of container c1 in network net")
	c2.refused("plan", 101, "10.1.0.5 is the address of")

	edit(t, filepath.Join(s.dir, "example/net/c1:eth0/1.finished"), `"format":1`, `"format":99`)
	c2.refused("ADD", 101, "may be an address of the record")
	c2.refused("plan", 101, "may be an address of the record")
	edit(t, filepath.Join(s.dir, "example/net/c1:eth0/1.finished"), `"format":99`, `"format":1`)

	owner.Remove()
	c2.ok("ADD")
	s.warned("taking over the address of an attachment whose pod is gone")
	if got := s.host.IP("neigh show dev cni0"); !strings.Contains(got, mac2) {
		t.Errorf("neighbours %q", got)
	}
	c1.ok("DEL")
	c2.ok("CHECK")
	c2.ok("DEL")
	s.has()

	// One that exists and is not ours stands in the way, and stays.
	s.host.IP("neigh add 10.1.0.5 lladdr " + mac1 + " dev cni0 nud permanent")
	c2.refused("ADD", 101, "which is not ours")
	c2.refused("plan", 101, "which is not ours")
	c1 = s.of(s.pod("same"), &decided{want: netops.Plan{Host: neigh(mac1)}})
	c1.ok("ADD")
	c1.ok("DEL")
	if got := s.host.IP("neigh show dev cni0"); !strings.Contains(got, mac1) {
		t.Errorf("neighbours %q", got)
	}
	s.host.IP("neigh del 10.1.0.5 dev cni0")
	s.has()
}

// A neighbour of ours that no record wants, as where records were deleted before DEL,
// gives way; if the ADD fails it is there again.
func TestStaleNeighbour(t *testing.T) {
	s := newScene(t)
	const stale, mac = "02:00:00:00:00:01", "02:00:00:00:00:02"
	s.host.IP("neigh add 10.1.0.5 lladdr " + stale + " dev cni0 nud permanent protocol 77")
	holds := func(mac string) {
		t.Helper()
		if got := s.host.IP("neigh show 10.1.0.5 dev cni0"); !strings.Contains(got, mac+" PERMANENT proto 77") {
			t.Errorf("neighbour %q, want %s", got, mac)
		}
	}
	want := netops.Plan{Host: neigh(mac), Pod: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0")).Pod}
	c := s.of(s.pod("next"), &decided{want: want})
	c.faulty(refuse("10.9.0.0/16", &netops.KernelError{Errno: unix.EPERM})).refused("ADD", 100)
	holds(stale)
	s.has()
	c.faulty(refuse("neigh del 10.1.0.5", &netops.KernelError{Errno: unix.EPERM})).refused("ADD", 100, "10.1.0.5")
	holds(stale)
	s.has()
	c.ok("plan")
	c.ok("ADD")
	s.warned("a neighbour of ours that no attachment wants any more gives way")
	holds(mac)
	c.ok("CHECK")
	c.ok("DEL")
	s.has()
	if got := s.host.IP("neigh show 10.1.0.5 dev cni0"); got != "" {
		t.Errorf("after all there is %q", got)
	}
}

// A note whose record was lost goes at GC.
func TestLostAddress(t *testing.T) {
	s := newScene(t)
	c := s.of(s.pod("lost"), &decided{want: netops.Plan{Host: neigh("02:00:00:00:00:01")}})
	c.ok("ADD")
	edit(t, filepath.Join(s.dir, "example/net/c1:eth0/1.finished"), `{`, `nonsense`)
	c.ok("DEL")
	s.warned("passing over a record")
	s.has("example/net/c1:eth0/1.finished.damaged", "host/address:10.1.0.5")
	c.ok("GC")
	s.has("example/net/c1:eth0/1.finished.damaged")
	s.host.IP("neigh del 10.1.0.5 dev cni0") // no record tells whose it is
}

const hostSysctl = "net/ipv4/conf/cni0/rp_filter"

func sysctl(value string) netops.Plan {
	return netops.Plan{Host: netops.State{Sysctls: []netops.Sysctl{{Key: hostSysctl, Value: value}}}}
}

// sysctlIs fails the test unless the host's sysctl has that value.
func (s *scene) sysctlIs(want string) {
	s.t.Helper()
	b, err := os.ReadFile("/proc/sys/" + hostSysctl)
	if got := strings.TrimSpace(string(b)); err != nil || got != want {
		s.t.Errorf("%s is %q, %v, want %q", hostSysctl, got, err, want)
	}
}

func (s *scene) setSysctl(value string) {
	s.t.Helper()
	if err := os.WriteFile("/proc/sys/"+hostSysctl, []byte(value), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// A sysctl of the host has the value that was wanted last, and goes back to what
// it was before the first attachment.
func TestHostSysctl(t *testing.T) {
	s := newScene(t)
	s.setSysctl("0")
	c1 := s.of(s.pod("one"), &decided{want: sysctl("2")})
	c2 := s.of(s.pod("two"), &decided{want: sysctl("1")}).as("c2")
	c1.ok("ADD")
	s.sysctlIs("2")
	c2.ok("ADD")
	s.warned("another network may want another value")
	s.sysctlIs("1")
	c2.ok("DEL")
	s.sysctlIs("2") // as the first one wants it
	c2.ok("ADD")
	c1.ok("DEL")
	s.sysctlIs("1")
	c2.ok("DEL")
	s.sysctlIs("0")
	s.has()

	// What was set since then stays.
	c1.ok("ADD")
	s.setSysctl("1")
	c1.ok("DEL")
	s.sysctlIs("1")
	s.has()

	// A note that is damaged does not keep the pod.
	c1.ok("ADD")
	boot, err := record.Boot()
	if err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(s.dir, "host/sysctl:"+strings.ReplaceAll(hostSysctl, "/", ":"))
	was, err := os.Readlink(note)
	if err != nil || !strings.HasPrefix(was, boot) {
		t.Fatalf("%q, %v", was, err)
	}
	if err := os.Remove(note); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(strings.TrimRight(was, "012")+"nonsense", note); err != nil {
		t.Fatal(err)
	}
	c1.ok("DEL")
	s.warned("its note is damaged")
	s.has()

	// The same with an interface that is gone.
	c3 := s.of(s.pod("three"), &decided{want: netops.Plan{Host: netops.State{Sysctls: []netops.Sysctl{{Key: "net/ipv4/conf/cni9/rp_filter", Value: "2"}}}}}).as("c3")
	s.host.IP("link add cni9 type bridge")
	c3.ok("ADD")
	s.host.IP("link del cni9")
	c3.refused("CHECK", 106, "cni9")
	c3.ok("DEL")
	s.has()
	c3.refused("ADD", 11, "cni9")
	s.has()
}

// Two attachments of one pod: what both want there goes with the last of them.
func TestSharedInThePod(t *testing.T) {
	s := newScene(t)
	pod := s.pod("both")
	before := pod.Dump()
	want := everything()
	want.Host, want.Pod.Del = netops.State{}, netops.State{}
	c1 := s.of(pod, &decided{want: want})
	c2 := s.of(pod, &decided{want: want}).in("other")
	for _, order := range [][2]call{{c1, c2}, {c2, c1}} {
		c1.ok("ADD")
		c2.ok("ADD")
		shared := pod.Dump()
		order[0].ok("DEL")
		if now := pod.Dump(); now != shared {
			t.Errorf("the first DEL left\n%s\nof\n%s", now, shared)
		}
		order[1].ok("DEL")
		if now := pod.Dump(); now != before {
			t.Errorf("the last DEL left\n%s\nof\n%s", now, before)
		}
		s.has()
	}
}

// A DEL whose failure may go away by itself keeps the record; what is refused for
// good must not make the pod undeletable.
func TestDelThatFails(t *testing.T) {
	s := newScene(t)
	pod := s.pod("delfails")
	c := s.of(pod, &decided{want: netops.Plan{Host: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0")).Host,
		Pod: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0")).Pod}})
	c.ok("ADD")
	c.faulty(refuse("10.9.0.0/16", &netops.KernelError{Errno: unix.EBUSY})).refused("DEL", 11, "10.9.0.0/16")
	s.has("example/net/c1:eth0/1.undoing")
	c.refused("CHECK", 106, "was not finished")
	c.ok("DEL")
	s.has()
	pod.IP("route flush 10.9.0.0/16")

	c.ok("ADD")
	c.faulty(refuse("10.9.0.0/16", &netops.KernelError{Errno: unix.EPERM})).ok("DEL")
	s.warned("not everything in the pod could be taken back")
	s.has()
	pod.IP("route flush 10.9.0.0/16")

	// On the host every refusal keeps it.
	c.ok("ADD")
	c.faulty(refuse("10.7.0.0/16", &netops.KernelError{Errno: unix.EPERM})).refused("DEL", 100, "10.7.0.0/16")
	s.has("example/net/c1:eth0/1.undoing")
	c.faulty(refuse("10.7.0.0/16", &netops.KernelError{Errno: unix.EPERM})).refused("GC", 100, "eth0 of container c1 in network net", "10.7.0.0/16")
	c.ok("GC")
	s.has()
}

// Every operation of a DEL that fails leaves enough for the next one.
func TestDelIsRepeatable(t *testing.T) {
	s := newScene(t)
	pod := s.pod("repeat")
	before := pod.Dump()
	c := s.of(pod, &decided{want: everything()})
	for i := 0; ; i++ {
		c.ok("ADD")
		n := -1
		_, err := c.faulty(func(_ context.Context, at, _ string) error {
			if at == "before" {
				if n++; n == i {
					return &netops.KernelError{Errno: unix.EBUSY}
				}
			}
			return nil
		}).do("DEL")
		if err != nil {
			c.ok("DEL")
		}
		s.has()
		if after := pod.Dump(); after != before {
			t.Fatalf("operation %d: the pod was\n%s\nand is\n%s", i, before, after)
		}
		if n < i {
			break
		}
	}
}
