package stress

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
		out := ns.IPWith(family, "route show table all", "rule show", "neigh show nud permanent", "addr show", "link show")
		all.WriteString(inOrder(family, incidental.ReplaceAllString(out, "")))
	}
	ns.Enter(func() { all.WriteString(sysctls(t)) })
	return all.String()
}

// incidental is by which an interface that was made anew, as the one before it,
// differs from that: its number, those of its peer and of its peer's namespace.
var incidental = regexp.MustCompile(`(?m)^\d+: |@if\d+| link-netnsid \d+`)

// unsettled reports whether a state is another one a moment later: the kernel has
// not finished with a link, or has not come to make the route of an address.
func unsettled(state string) bool {
	addrs := map[string]int{}
	for l := range strings.Lines(state) {
		// A bridge of the load test has no port, and never a carrier.
		if passingFlags.MatchString(l) && !strings.Contains(l, "many") {
			return true
		}
		words := strings.Fields(l)
		if len(words) < 2 {
			continue
		}
		switch ip, _, _ := strings.Cut(words[1], "/"); words[0] {
		case "inet6":
			addrs[ip]++
		case "local":
			addrs[ip]--
		}
	}
	for _, without := range addrs {
		if without > 0 {
			return true
		}
	}
	return false
}

var passingFlags = regexp.MustCompile("tentative|linkdown|NO-CARRIER|state (LOWERLAYER)?DOWN")

// inOrder sorts what the kernel keeps in no order: the next hops of an IPv6 route,
// and neighbours, which are in a hash table.
func inOrder(family, out string) string {
	all := strings.SplitAfter(out, "\n")
	unordered := func(line string) bool {
		return strings.HasPrefix(line, "\tnexthop ") && family == "-6" || strings.Contains(line, " PERMANENT")
	}
	for i := 0; i < len(all); i++ {
		first := i
		for i < len(all) && unordered(all[i]) {
			i++
		}
		slices.Sort(all[first:i])
	}
	return strings.Join(all, "")
}

// sysctls are those that plugins set, of the namespace that the thread is in.
func sysctls(t testing.TB) string {
	t.Helper()
	var lines strings.Builder
	for _, pattern := range []string{"ipv4/conf/*/rp_filter", "ipv6/conf/*/disable_ipv6"} {
		files, err := filepath.Glob("/proc/sys/net/" + pattern)
		if err != nil || files == nil {
			t.Fatal(pattern, err)
		}
		for _, f := range files {
			if value, err := os.ReadFile(f); err == nil { // or the interface has gone meanwhile
				fmt.Fprintf(&lines, "%s = %s", f, value)
			}
		}
	}
	return lines.String()
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
			if diff := changed(want, got); diff != nil {
				return strings.Join(diff, "\n")
			}
			a, b := lines(want), lines(got)
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					return fmt.Sprintf("%d lines, of which there were %d; the first that differ:\n-%s\n+%s", len(b), len(a), strings.Join(a[i:min(i+5, len(a))], "\n-"), strings.Join(b[i:min(i+5, len(b))], "\n+"))
				}
			}
			return fmt.Sprintf("%d lines, of which there were %d", len(b), len(a))
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
