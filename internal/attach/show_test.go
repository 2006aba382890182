//go:build linux

package attach

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
	"github.com/cni-netops/plugins/internal/show"
)

// shown is what show lists, of one record a line of its plugin, state and life,
// then its changes.
func (s *scene) shown(q show.Query) (lines []string) {
	s.t.Helper()
	q.StateDir = s.dir
	list, err := Show(s.t.Context(), q)
	if err != nil {
		s.t.Fatal(err)
	}
	show.Sort(list)
	for _, r := range list {
		lines = append(lines, r.Plugin+" "+r.ContainerID+" "+string(r.State)+" "+string(r.Netns.Life))
		for _, c := range slices.Concat(r.Node, r.InPod) {
			line := "  " + c.Command
			if c.Found {
				line += ", found"
			}
			if c.SharedWith > 0 {
				line += ", shared"
			}
			if c.Differs != "" {
				line += ": " + c.Differs
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func (s *scene) shows(q show.Query, want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.shown(q)); diff != "" {
		s.t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is on the node and in the pod, whom it is shared with, and what differs;
// of every plugin by All only. In a pod that is gone nothing differs.
func TestShow(t *testing.T) {
	s := newScene(t)
	q := show.Query{Plugin: "example"}
	s.shows(q)
	one, two := s.pod("show-1"), s.pod("show-2")
	plan := inPod(at("172.16.0.0/16", "10.2.0.1", "eth0"))
	plan.Host = onHost(at("198.51.100.0/24", "10.1.0.9", "cni0")).Host
	first, second := s.of(one, &decided{want: plan}), s.of(two, &decided{want: plan}).as("c2")
	third := s.of(one, &decided{want: inPod(at("172.17.0.0/16", "10.2.0.1", "eth0"))})
	third.plugin = "other"
	first.ok("ADD")
	second.ok("ADD")
	third.ok("ADD")
	node, pod := "  ip route add 198.51.100.0/24 via 10.1.0.9 dev cni0, shared", "  ip route add 172.16.0.0/16 via 10.2.0.1 dev eth0"
	s.shows(q, "example c1 finished lives", node, pod, "example c2 finished lives", node, pod)

	one.IP("route del 172.16.0.0/16")
	s.host.IP("route change 198.51.100.0/24 via 10.1.0.8 dev cni0")
	node += ": found 198.51.100.0/24 via 10.1.0.8 dev cni0 instead"
	q.All, q.DataDir, q.Only = true, s.dir+"/none", []string{"c1"}
	s.shows(q, "example c1 finished lives", node, pod+": missing",
		"other c1 finished lives", "  ip route add 172.17.0.0/16 via 10.2.0.1 dev eth0")
	s.host.IP("route del 198.51.100.0/24 via 10.1.0.8 dev cni0")
	first.ok("DEL")
	second.ok("DEL")
	s.rename("other/net/c1:eth0/1.finished", "other/net/c1:eth0/1.undoing")
	s.shows(q, "other c1 undoing lives", "  ip route add 172.17.0.0/16 via 10.2.0.1 dev eth0")
	third.ok("DEL")
	s.shows(q)
}

// What a record that was written later has taken over is that one's.
func TestShowOfOverriddenRoutes(t *testing.T) {
	s := newScene(t)
	pod := s.pod("show-3")
	first := s.of(pod, &decided{want: inPod(at("172.16.0.0/16", "10.2.0.1", "eth0"))})
	replaced := inPod(at("172.16.0.0/16", "10.2.0.2", "eth0"))
	replaced.Pod.Del.Routes = []netops.Route{at("172.16.0.0/16", "10.2.0.1", "eth0")}
	second := s.of(pod, &decided{want: replaced, query: netops.Query{Tables: []uint32{254}}})
	second.plugin = "other"
	first.ok("ADD")
	second.ok("ADD")
	s.shows(show.Query{Plugin: "example", All: true, DataDir: s.dir + "/none"},
		"example c1 finished lives", "  ip route add 172.16.0.0/16 via 10.2.0.1 dev eth0",
		"other c1 finished lives", "  ip route del 172.16.0.0/16 via 10.2.0.1 dev eth0", "  ip route add 172.16.0.0/16 via 10.2.0.2 dev eth0")
	second.ok("DEL")
	first.ok("DEL")
}

// told is what show says of the records of an attachment, as CHECK would.
func (c call) told() (lines []string) {
	c.s.t.Helper()
	list, err := Show(c.s.t.Context(), show.Query{Plugin: c.plugin, StateDir: c.s.dir, Only: []string{c.network}})
	if err != nil {
		c.s.t.Fatal(err)
	}
	for _, r := range list {
		if r.Differs != "" {
			lines = append(lines, r.Differs)
		}
		for _, change := range slices.Concat(r.Node, r.InPod) {
			if change.Differs != "" {
				lines = append(lines, change.Command+": "+change.Differs)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// moreToTell is what the first line of an error has beside what CHECK found.
var moreToTell = regexp.MustCompile(`^example: | \(and \d+ more\)`)

// tells fails the test unless CHECK and show say that and nothing else.
func (c call) tells(want ...string) {
	c.s.t.Helper()
	var checked []string
	if _, err := c.do("CHECK"); err != nil {
		checked = strings.Split(strings.TrimSpace(moreToTell.ReplaceAllString(text(err), "")), "\n")
		slices.Sort(checked)
	}
	if diff := cmp.Diff(want, checked); diff != "" {
		c.s.t.Errorf("CHECK (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, c.told()); diff != "" {
		c.s.t.Errorf("show (-want +got):\n%s", diff)
	}
}

// Of default routes that attachments of a pod choose together show says what
// CHECK says: to which interface they go, which are too many, which are missing.
func TestShowOfDefaultRoutes(t *testing.T) {
	s := newScene(t)
	pod := s.pod("show-5")
	pod.IP("route add default via 10.2.0.1", "-6 addr add fd02::5/64 dev eth0 nodad")
	second(pod, "net1")
	second(pod, "net2")
	of := func(dev string, asked bool) call {
		prefers := record.Default{Dev: dev, Asked: asked, Number: trailingNumber(dev)}
		return s.of(pod, sharing{&decided{query: mainDefaults()}, prefers}).in("of-" + dev)
	}
	one, two, overlay := of("net1", false), of("net2", false), of("eth0", true)
	one.ok("ADD")
	one.tells()
	two.ok("ADD")
	one.tells()
	two.tells()

	const stray = "ip route del default via 192.0.2.1 dev net1 metric 7: present, should be absent"
	pod.IP("route add default via 192.0.2.1 dev net1 metric 7")
	one.tells(stray)
	two.tells(stray)
	pod.IP("route del default metric 7", "-6 route add default via fd02::1 proto ra", "-6 route add default via fe80::1 dev net2 metric 512")
	advertised := "ip -6 route del default via fd02::1 dev eth0 proto ra: present, should be absent; the sysctl net.ipv6.conf.eth0.accept_ra_defrtr=0 keeps routers from making it"
	one.tells(advertised)
	two.tells(advertised)
	pod.IP("-6 route del default via fd02::1", "-6 route del default via fe80::1")

	overlay.ok("ADD")
	overlay.tells()
	asks := of("net1", true).in("asks")
	asks.ok("ADD")
	asks.tells()
	overlay.tells("eth0 is to have the pod's default route, but eth0 of container c1 in network asks asks for net1, and later")
	pod.IP("route del default")
	missing := "ip route add default via 192.0.2.1 dev net1: missing"
	one.tells(missing)
	for _, c := range []call{asks, overlay, two, one} {
		c.ok("DEL")
	}
	s.has()
}

// A record that a process works on says which.
func TestShowOfAProcessAtWork(t *testing.T) {
	s := newScene(t)
	pod := s.pod("show-4")
	c := s.of(pod, &decided{want: inPod(at("172.16.0.0/16", "10.2.0.1", "eth0"))})
	c.ok("ADD")
	s.rename("example/net/c1:eth0/1.finished", "example/net/c1:eth0/1.planned")
	q := show.Query{Plugin: "example", StateDir: s.dir}
	store := record.NewStore(s.dir, "example")
	entries, err := store.All()
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	lock, err := store.Lock(entries[0].Netns.Lock)
	if err != nil {
		t.Fatal(err)
	}
	list, err := Show(t.Context(), q) // it does not wait for the lock
	if err != nil || len(list) != 1 || list[0].Process == nil || list[0].Process.PID != os.Getpid() || list[0].Wrong() {
		t.Errorf("%+v, %v", list, err)
	}
	lock.Unlock()
	if list, err = Show(t.Context(), q); err != nil || len(list) != 1 || list[0].Process != nil || !list[0].Broken() {
		t.Errorf("%+v, %v", list, err)
	}
	c.ok("DEL")
}

// What differs in a pod where a process works is not told: it may be half done.
func TestShowComparesNothingWhereAProcessWorks(t *testing.T) {
	s := newScene(t)
	pod := s.pod("show-6")
	c := s.of(pod, &decided{want: inPod(at("172.16.0.0/16", "10.2.0.1", "eth0"))})
	c.ok("ADD")
	pod.IP("route del 172.16.0.0/16")
	q := show.Query{Plugin: "example"}
	missing := []string{"example c1 finished lives", "  ip route add 172.16.0.0/16 via 10.2.0.1 dev eth0: missing"}
	s.shows(q, missing...)
	store := record.NewStore(s.dir, "example")
	entries, err := store.All()
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	lock, err := store.Lock(entries[0].Netns.Lock)
	if err != nil {
		t.Fatal(err)
	}
	s.shows(q, "example c1 finished lives", "  ip route add 172.16.0.0/16 via 10.2.0.1 dev eth0")
	lock.Unlock()
	s.shows(q, missing...)
	c.ok("DEL")
}

// No process ever finds a lock that show has taken.
func TestShowLocksNothing(t *testing.T) {
	s := newScene(t)
	pod := s.pod("show-7")
	plan := inPod(at("172.16.0.0/16", "10.2.0.1", "eth0"))
	plan.Host = onHost(at("198.51.100.0/24", "10.1.0.9", "cni0")).Host
	c := s.of(pod, &decided{want: plan})
	c.ok("ADD")
	pod.IP("route del 172.16.0.0/16") // so that it looks more than once
	store := record.NewStore(s.dir, "example")
	entries, err := store.All()
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	done := make(chan error)
	go func() {
		var err error
		for i := 0; i < 50 && err == nil; i++ {
			_, err = Show(t.Context(), show.Query{Plugin: "example", StateDir: s.dir})
		}
		done <- err
	}()
	at := []string{filepath.Join(s.dir, entries[0].Netns.Lock), filepath.Join(s.dir, "host")}
	for tries := 0; ; tries++ {
		select {
		case err := <-done:
			if err != nil || tries == 0 {
				t.Error(err, tries)
			}
			c.ok("DEL")
			return
		default:
		}
		for _, path := range at {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			_ = f.Close()
		}
	}
}
