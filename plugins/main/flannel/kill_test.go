//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// Killed at any moment of an ADD or DEL, with the real delegates, what is left
// is found by the DEL that follows.
func TestKilledAnywhere(t *testing.T) {
	writeEnv(t, "/run/flannel", env4)
	t.Cleanup(func() { tidy(t) })
	pod := netopstest.Namespace(t, "pod")
	for i := range 30 {
		c := attachment(t, pod, fmt.Sprintf("c%d", i), "eth0")
		verb := "ADD"
		if i%3 == 2 {
			c.OK("ADD")
			verb = "DEL"
		}
		cmd := exec.Command(flannel.Name)
		cmd.Env, cmd.Stdin = c.Environ(verb), strings.NewReader(c.Conf)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 4 * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		time.Sleep(30 * time.Millisecond) // runtimes take longer
		if a := c.Do("DEL"); a.Exit != 0 {
			t.Errorf("DEL after %s was killed: %s%s", verb, a.Stdout, a.Stderr)
		}
		if links := pod.IP("link show"); strings.Contains(links, "eth0") {
			t.Errorf("after %s was killed, and DEL:\n%s", verb, links)
		}
	}
	nothingLeft(t)
}
