//go:build linux

package attach

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// gcByHand calls the sub-command, and returns what it prints.
func (s *scene) gcByHand() (printed string, err error) {
	s.t.Helper()
	conf := []byte(`{"stateDir": "` + s.dir + `"}`)
	printed, s.logged = captured(s.t, func() {
		err = Policy{}.Commands()[0].Run(s.t.Context(), cni.NewRequest(example, "gc", &skel.CmdArgs{}, conf))
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
