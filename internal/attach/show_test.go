//go:build linux

package attach

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

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
	list, err := Show(t.Context(), q)
	if err != nil || len(list) != 1 || list[0].Process == nil || list[0].Process.PID != os.Getpid() || list[0].Wrong() {
		t.Errorf("%+v, %v", list, err)
	}
	lock.Unlock()
	if list, err = Show(t.Context(), q); err != nil || len(list) != 1 || list[0].Process != nil || !list[0].Broken() {
		t.Errorf("%+v, %v", list, err)
	}
	c.ok("DEL")
}
