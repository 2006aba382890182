//go:build linux

package attach

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/record"
)

// gcByHand calls the sub-command, and returns what it prints.
func (s *scene) gcByHand() (printed string, err error) {
	s.t.Helper()
	conf := []byte(`{"stateDir": "` + s.dir + `"}`)
	printed, s.logged = captured(s.t, func() {
		err = Policy{}.Verbs(nil).GCByHand(s.t.Context(), cni.NewRequest(example, "gc", &skel.CmdArgs{}, conf))
	})
	return printed, err
}

// Without a runtime, what belongs to pods that are gone is taken back, of all
// networks; nothing of a living pod, or of one that cannot be seen.
func TestGCByHand(t *testing.T) {
	s := newScene(t)
	gone := netopstest.Namespace(t, "gone")
	living, hidden := s.pod("living"), s.pod("hidden")
	calls := map[string]call{
		gone.Path:   s.of(gone, &decided{want: onHost(at("10.2.0.6/32", "", "cni0"), at("10.2.0.9/32", "", "cni0"))}).in("first").as("gone"),
		living.Path: s.of(living, &decided{want: onHost(at("10.2.0.7/32", "", "cni0"), at("10.2.0.9/32", "", "cni0"))}).in("second").as("living"),
		hidden.Path: s.of(hidden, &decided{want: onHost(at("10.2.0.8/32", "", "cni0"))}).in("second").as("hidden"),
	}
	for _, c := range calls {
		c.ok("ADD")
	}
	gone.Remove()
	record := filepath.Join(s.dir, "example/second/hidden:eth0/1.finished")
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := strings.Replace(string(text), hidden.Path, "/run/not-here/pod", 1)
	if err := os.WriteFile(record, []byte(elsewhere), 0o600); err != nil {
		t.Fatal(err)
	}
	printed, err := s.gcByHand()
	if want := "# host\nip route del 10.2.0.6 dev cni0\n# eth0 of container gone in network first: taken back\n"; printed != want {
		t.Errorf("gc prints %q, want %q", printed, want)
	}
	if err == nil || !strings.Contains(err.Error(), "eth0 of container hidden in network second: cannot tell whether its pod is gone") {
		t.Errorf("error %v", err)
	}
	s.has("example/second/hidden:eth0/1.finished", "example/second/living:eth0/1.finished")
	if routes := s.host.IP("route show dev cni0 proto 77"); !strings.Contains(routes, "10.2.0.7") || !strings.Contains(routes, "10.2.0.9") {
		t.Errorf("routes %s", routes)
	}

	if err := os.WriteFile(record, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if printed, err := s.gcByHand(); printed != "" || err != nil {
		t.Errorf("gc prints %q and fails with %v where all pods live", printed, err)
	}
	calls[living.Path].ok("DEL")
	calls[hidden.Path].ok("DEL")
	s.has()
}

// A pod whose namespace has lost its path lives as long as a process is in it.
func TestGCByHandSparesInhabitedNamespaces(t *testing.T) {
	s := newScene(t)
	pod := s.pod("inhabited")
	c := s.of(pod, &decided{want: onHost(at("10.2.0.6/32", "", "cni0"))})
	c.ok("ADD")
	process := exec.Command("ip", "netns", "exec", pod.Name, "sh", "-c", "echo here; exec sleep 1000")
	said, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	if here, err := bufio.NewReader(said).ReadString('\n'); err != nil {
		t.Fatal(here, err)
	}
	pod.Remove()
	if printed, err := s.gcByHand(); printed != "" || err == nil || !strings.Contains(err.Error(), "cannot tell whether its pod is gone") {
		t.Errorf("gc prints %q and fails with %v while a process is there", printed, err)
	}
	s.has("example/net/c1:eth0/1.finished")
	_ = process.Process.Kill()
	_ = process.Wait()
	if printed, err := s.gcByHand(); !strings.Contains(printed, "ip route del 10.2.0.6 dev cni0") || err != nil {
		t.Errorf("gc prints %q and fails with %v", printed, err)
	}
	s.has()
}

// Where another folder is at the path of namespaces than at ADD, as in a container
// that has an empty one of that name, no pod is gone.
func TestGCByHandInAnotherMountNamespace(t *testing.T) {
	s := newScene(t)
	pod := s.pod("elsewhere")
	c := s.of(pod, &decided{want: onHost(at("10.2.0.6/32", "", "cni0"))})
	c.ok("ADD")
	if err := unix.Mount("tmpfs", filepath.Dir(pod.Path), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	printed, err := s.gcByHand()
	if err := unix.Unmount(filepath.Dir(pod.Path), 0); err != nil {
		t.Fatal(err)
	}
	if printed != "" || err == nil || !strings.Contains(err.Error(), "cannot tell whether its pod is gone") {
		t.Errorf("gc prints %q and fails with %v", printed, err)
	}
	c.ok("CHECK")
	c.ok("DEL")
	s.has()
}

// A path that another pod has now does not stand for the one that is gone, and what
// that one's ADD has recorded, or is about to, is not touched.
func TestGCByHandWhereAPathIsReused(t *testing.T) {
	s := newScene(t)
	old := s.pod("reused")
	s.of(old, &decided{want: onHost(at("10.2.0.6/32", "", "cni0"), at("10.2.0.9/32", "", "cni0"))}).as("old").ok("ADD")
	old.Remove()
	young := s.pod("reused")
	living := s.of(young, &decided{want: onHost(at("10.2.0.7/32", "", "cni0"), at("10.2.0.9/32", "", "cni0"))}).as("young")
	living.ok("ADD")
	adding := s.of(young, &decided{want: onHost(at("10.2.0.8/32", "", "cni0"))}).as("young").in("second")
	adding.ok("ADD")
	s.rename("example/second/young:eth0/1.finished", "example/second/young:eth0/1.planned")
	store := record.NewStore(s.dir, "example")
	entries, err := store.Entries(record.Key{Network: "second", ContainerID: "young", IfName: "eth0"})
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	lock, err := store.Lock(entries[0].Netns.Lock) // as the ADD that is at work holds it
	if err != nil {
		t.Fatal(err)
	}
	printed, err := s.gcByHand()
	if want := "# host\nip route del 10.2.0.6 dev cni0\n# eth0 of container old in network net: taken back\n"; printed != want || err != nil {
		t.Errorf("gc prints %q and fails with %v, want %q", printed, err, want)
	}
	s.has("example/net/young:eth0/1.finished", "example/second/young:eth0/1.planned")
	routes := s.host.IP("route show dev cni0 proto 77")
	for _, dst := range []string{"10.2.0.7", "10.2.0.8", "10.2.0.9"} {
		if !strings.Contains(routes, dst) {
			t.Errorf("%s is gone: %s", dst, routes)
		}
	}
	lock.Unlock()
	living.ok("DEL")
	adding.ok("DEL")
	s.has()
}

// What a record that cannot be read may want on the host stays, and so does that
// record: a later version's beside all else, a damaged one keeps all.
func TestGCByHandBesideUnreadableRecords(t *testing.T) {
	for name, tt := range map[string]struct{ text, want, fails string }{
		"newer":   {`{"format":99,"what":["10.2.0.9/32"]}`, "# eth0 of container gone in network net: taken back\n", ""},
		"damaged": {`{"format":1,"boot":`, "", "living:eth0/1.finished may be a living pod's, so that nothing is taken back"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			gone, living := s.pod("gone-"+name), s.pod("living-"+name)
			shared := onHost(at("10.2.0.9/32", "", "cni0"))
			s.of(gone, &decided{want: shared}).as("gone").ok("ADD")
			c := s.of(living, &decided{want: shared}).as("living")
			c.ok("ADD")
			path := filepath.Join(s.dir, "example/net/living:eth0/1.finished")
			readable, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write := func(text []byte) {
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write([]byte(tt.text))
			gone.Remove()
			printed, err := s.gcByHand()
			if printed != tt.want || (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("gc prints %q and fails with %v", printed, err)
			}
			if !strings.Contains(s.host.IP("route show dev cni0 proto 77"), "10.2.0.9") {
				t.Error("the route is gone")
			}
			write(readable)
			if _, err := s.gcByHand(); err != nil {
				t.Error(err)
			}
			s.has("example/net/living:eth0/1.finished")
			c.ok("DEL")
			s.has()
		})
	}
}
