package stress

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// kernelState is what ip(8) shows of a namespace, by few processes.
func kernelState(t testing.TB, ns *netopstest.NS) string {
	t.Helper()
	var all strings.Builder
	for _, family := range []string{"-4", "-6"} {
		args := []string{family, "-batch", "-"}
		if ns.Name != "" {
			args = append([]string{"-n", ns.Name}, args...)
		}
		cmd := exec.Command("ip", args...)
		cmd.Stdin = strings.NewReader("route show table all\nrule show\nneigh show nud permanent\naddr show\n")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, stderr.String())
		}
		all.Write(out)
	}
	return all.String()
}

// patience bounds how long something is waited for that the kernel, or a
// process, does a moment later.
const patience = 10 * time.Second

// eventually waits until a state is as it is wanted, and returns how it differs
// from that in the end.
func eventually(want string, state func() string) (diff string) {
	for until := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		got := state()
		if got == want {
			return ""
		}
		if time.Now().After(until) {
			return strings.Join(changed(want, got), "\n")
		}
	}
}

func lines(s string) []string { return strings.Split(strings.TrimSpace(s), "\n") }

// changed are the lines that only one of two states has.
func changed(before, after string) (diff []string) {
	a, b := lines(before), lines(after)
	for _, pair := range []struct {
		sign       string
		has, lacks []string
	}{{"-", a, b}, {"+", b, a}} {
		for _, l := range pair.has {
			if !slices.Contains(pair.lacks, l) {
				diff = append(diff, pair.sign+l)
			}
		}
	}
	return diff
}

// mount mounts a tmpfs, or changes one, which goes with the test.
func mount(t testing.TB, dir, options string) {
	t.Helper()
	args := []string{"-t", "tmpfs", "tmpfs", dir}
	if options != "" {
		args = append([]string{"-o", options}, args...)
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
}
