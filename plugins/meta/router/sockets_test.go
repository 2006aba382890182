//go:build strace

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// An ADD opens one netlink socket for each of the two namespaces.
func TestNetlinkSockets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	c := p.probing("50ms", 1, everything...)
	trace := filepath.Join(t.TempDir(), "trace")
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		path, err := exec.LookPath(c.Plugin)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("strace", "-f", "-e", "trace=socket", "-o", trace, path)
		cmd.Env, cmd.Stdin = c.Environ(verb), strings.NewReader(c.Conf)
		var out []byte
		s.node.Enter(func() { out, err = cmd.CombinedOutput() })
		if err != nil {
			t.Fatalf("%s: %v: %s", verb, err, out)
		}
		if got := strings.Count(readFile(t, trace), "AF_NETLINK"); got != 2 {
			t.Errorf("%s opens %d netlink sockets:\n%s", verb, got, readFile(t, trace))
		}
	}
}
