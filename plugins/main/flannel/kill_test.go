//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 4 * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		// Its delegates go on without it. Runtimes take longer to call DEL than they.
		for running(t, cmd.Process.Pid) {
			time.Sleep(time.Millisecond)
		}
		if a := c.Do("DEL"); a.Exit != 0 {
			t.Errorf("DEL after %s was killed: %s%s", verb, a.Stdout, a.Stderr)
		}
		if links := pod.IP("link show"); strings.Contains(links, "eth0") {
			t.Errorf("after %s was killed, and DEL:\n%s", verb, links)
		}
	}
	nothingLeft(t)
}

// running reports whether a session has a process that has not ended
// (proc_pid_stat(5)).
func running(t *testing.T, session int) bool {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, _ := os.ReadFile(path) // or it has ended meanwhile
		_, after, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(after) // state, parent, group, session
		if len(fields) > 3 && fields[0] != "Z" && fields[3] == strconv.Itoa(session) {
			return true
		}
	}
	return false
}
