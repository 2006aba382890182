//go:build linux

package attach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// What a killed ADD or DEL has left is taken back by the next ADD, DEL or GC;
// CHECK calls it drift, STATUS and plan pass it by.
func TestUnfinished(t *testing.T) {
	for _, state := range []string{"planned", "undoing"} {
		for _, verb := range []string{"ADD", "DEL", "GC"} {
			t.Run(state+" "+verb, func(t *testing.T) {
				s := newScene(t)
				pod := s.pod("killed")
				before := pod.Dump()
				c := s.of(pod, &decided{want: everything()})
				c.ok("ADD")
				s.rename("example/net/c1:eth0/1.finished", "example/net/c1:eth0/1."+state)
				c.refused("CHECK", 106, "was not finished: record "+s.dir)
				c.ok("STATUS")
				c.ok("plan")
				// A valid attachment's too.
				c.with(`, "prevResult": {}, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]`).ok(verb)
				if verb == "ADD" {
					s.warned("left unfinished")
					c.ok("CHECK")
					c.ok("DEL")
				}
				s.has()
				if after := pod.Dump(); after != before {
					t.Errorf("the pod was\n%s\nand is\n%s", before, after)
				}
			})
		}
	}
}

// A plugin may stand twice in a chain: each entry has its record, a later one
// overrides an earlier one, and one DEL takes both back.
func TestTwiceInAChain(t *testing.T) {
	s := newScene(t)
	pod := s.pod("twice")
	before := pod.Dump()
	first := s.of(pod, &decided{want: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0"))})
	second := first.to(&decided{want: netops.Plan{Pod: netops.Change{
		Del: netops.State{Routes: []netops.Route{at("10.9.0.0/16", "10.2.0.1", "eth0")}},
		Add: netops.State{Routes: []netops.Route{at("10.10.0.0/16", "10.2.0.1", "eth0")}}}}})
	first.ok("ADD")
	second.ok("ADD")
	s.has("example/net/c1:eth0/1.finished", "example/net/c1:eth0/2.finished")
	final := `, "prevResult": {"routes": [{"dst": "10.10.0.0/16", "gw": "10.2.0.1"}]}`
	first.with(final).ok("CHECK")
	pod.IP("route del 10.10.0.0/16")
	first.with(final).refused("CHECK", 106, "10.10.0.0/16")

	// The second one's record says that CHECK skips it, but overrides all the same.
	edit(t, filepath.Join(s.dir, "example/net/c1:eth0/2.finished"), `"held":{}`, `"held":{},"unjudged":true`)
	first.with(final).ok("CHECK")
	first.ok("DEL")
	s.has()
	if after := pod.Dump(); after != before {
		t.Errorf("the pod was\n%s\nand is\n%s", before, after)
	}
}

// One that shares objects of its pod sees it as it was before earlier entries of
// the chain.
func TestPlanFromUnchangedPod(t *testing.T) {
	s := newScene(t)
	pod := s.pod("unchanged")
	var seen []string
	d := &decided{want: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0")), decision: func(_ *Decision, pod netops.Snapshot) {
		seen = append(seen, fmt.Sprint(len(pod.Routes)))
	}}
	c := s.of(pod, d)
	for _, p := range []Planner{d, sharing{decided: d}} {
		for _, verb := range []string{"ADD", "ADD", "plan"} {
			c.to(p).ok(verb)
		}
		c.ok("DEL")
	}
	if got := strings.Join(seen, " "); got != "1 2 2 1 1 1" {
		t.Errorf("the planner saw %s routes", got) // the connected one among them
	}
}

// Records of other sandboxes of the same name: one that is gone is taken back,
// one that lives is kept, and each DEL takes its own back.
func TestOtherSandboxes(t *testing.T) {
	s := newScene(t)
	old, young := s.pod("old"), s.pod("young")
	c1 := s.of(old, &decided{want: netops.Plan{Host: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0")).Host, Pod: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0")).Pod}})
	c2 := c1.to(&decided{want: onHost(at("10.6.0.0/16", "10.1.0.7", "cni0"))})
	c2.netns = young.Path
	c1.ok("ADD")
	c2.ok("ADD")
	s.has("example/net/c1:eth0/1.finished", "example/net/c1:eth0/2.finished")

	// An unfinished one of a sandbox that lives is taken back as well.
	s.rename("example/net/c1:eth0/1.finished", "example/net/c1:eth0/1.planned")
	c2.ok("ADD")
	s.warned("taking back what is left of an earlier sandbox")
	s.has("example/net/c1:eth0/2.finished", "example/net/c1:eth0/3.finished")

	c1.ok("ADD")
	old.Remove()
	c2.ok("ADD")
	s.warned("taking back what is left of an earlier sandbox")
	c2.ok("DEL")
	s.has()
}

// A record that another process works on, by its namespace's lock, is left alone
// by ADD and GC.
func TestLockedRecord(t *testing.T) {
	s := newScene(t)
	old, young := s.pod("locked"), s.pod("unlocked")
	c1 := s.of(old, &decided{want: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0"))})
	c1.ok("ADD")
	store := record.NewStore(s.dir, "example")
	entries, err := store.Entries(record.Key{Network: "net", ContainerID: "c1", IfName: "eth0"})
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	lock, err := store.Lock(entries[0].Netns.Lock)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { lock.Unlock() }()
	old.Remove()
	c2 := c1.to(&decided{want: onHost(at("10.6.0.0/16", "10.1.0.7", "cni0"))})
	c2.netns = young.Path
	c2.ok("GC")
	c2.ok("ADD")
	s.has("example/net/c1:eth0/1.finished", "example/net/c1:eth0/2.finished")
	lock.Unlock()
	lock = nil
	c2.ok("GC")
	s.has("example/net/c1:eth0/2.finished")
	c2.ok("DEL")
	s.has()
}

// GC takes back what belongs to attachments that the runtime does not list, or,
// without a list, to pods that are gone for certain.
func TestGC(t *testing.T) {
	s := newScene(t)
	pod, gone, file := s.pod("lives"), s.pod("gone"), s.pod("file")
	c := s.of(pod, &decided{want: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0"))})
	g := s.of(gone, &decided{want: onHost(at("10.6.0.0/16", "10.1.0.7", "cni0"))}).as("c2")
	f := s.of(file, &decided{want: onHost(at("10.5.0.0/16", "10.1.0.7", "cni0"))}).as("c3")
	for _, one := range []call{c, g, f} {
		one.ok("ADD")
	}
	gone.Remove()
	file.Remove()
	// A plain file may be a living namespace of another mount namespace.
	if err := os.WriteFile(file.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.ok("GC")
	s.has("example/net/c1:eth0/1.finished", "example/net/c3:eth0/1.finished")
	c.with(`, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]`).ok("GC")
	s.has("example/net/c1:eth0/1.finished")
	c.in("other").with(`, "cni.dev/valid-attachments": []`).ok("GC")
	s.has("example/net/c1:eth0/1.finished")
	c.with(`, "cni.dev/valid-attachments": [{}]`).refused("GC", 7)
	c.with(`, "cni.dev/valid-attachments": []`).ok("GC")
	s.has()
	if err := os.Remove(file.Path); err != nil {
		t.Fatal(err)
	}
}

// Records of an earlier boot describe nothing that is left.
func TestEarlierBoot(t *testing.T) {
	s := newScene(t)
	pod := s.pod("boot")
	c := s.of(pod, &decided{want: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0"))})
	c.ok("ADD")
	boot, err := record.Boot()
	if err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(s.dir, "example/net/c1:eth0/1.finished"), boot, "another")
	c.ok("GC")
	s.has()
	if got := pod.IP("route show 10.9.0.0/16"); got == "" {
		t.Error("the route of this boot is gone")
	}
}

// A record in whose place something else lies is told, and kept aside.
func TestDamagedRecord(t *testing.T) {
	s := newScene(t)
	pod := s.pod("damaged")
	c := s.of(pod, &decided{want: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0")), expect: inPod(at("10.9.0.0/16", "10.2.0.1", "eth0"))})
	c.ok("ADD")
	edit(t, filepath.Join(s.dir, "example/net/c1:eth0/1.finished"), `{`, `nonsense`)
	c.with(`, "prevResult": {"routes": [{"dst": "10.9.0.0/16", "gw": "10.2.0.1"}]}`).ok("CHECK") // by Expect
	s.warned("passing over a record")
	c.ok("ADD")
	s.has("example/net/c1:eth0/1.finished.damaged", "example/net/c1:eth0/2.finished")
	c.ok("DEL")
	s.has("example/net/c1:eth0/1.finished.damaged")
}

// A DEL that finds no record goes by what the planner expects, where that is the
// plugin's policy, and removes only what is ours.
func TestDelWithoutRecord(t *testing.T) {
	s := newScene(t)
	d := &decided{expect: onHost(at("10.7.0.0/16", "10.1.0.7", "cni0"), at("10.6.0.0/16", "10.1.0.7", "cni0"))}
	c := s.of(s.pod("norecord"), d)
	s.host.IP("route add 10.7.0.0/16 via 10.1.0.7 dev cni0 proto 77", "route add 10.6.0.0/16 via 10.1.0.7 dev cni0")
	c.ok("DEL")
	if got := s.host.IP("route show 10.7.0.0/16"); got == "" {
		t.Error("DEL without a record removes, though that is not its policy")
	}
	c = c.by(Policy{DelWithoutRecord: true})
	d.notKnown = errors.New("it needs prevResult\nfor that")
	c.ok("DEL")
	s.warned("no record and no usable configuration: nothing was removed")
	c.with(``).ok("DEL") // prevResult is missing
	s.warned("nothing was removed")
	d.notKnown = nil
	c.ok("DEL")
	if got := s.host.IP("route show 10.7.0.0/16"); got != "" {
		t.Errorf("%q stays", got)
	}
	s.host.IP("route del 10.6.0.0/16") // is not ours
}
