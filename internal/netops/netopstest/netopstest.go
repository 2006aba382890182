// Package netopstest gives tests network namespaces of their own.
//
// A test binary whose TestMain goes through [Main] runs in fresh user, mount
// and network namespaces: it needs no root, and cannot touch the machine's own
// network, or its files ([isolate.Fresh] are the test's own). Inside,
// [Namespace] makes further ones by the ip(8) command.
package netopstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/utils/sysctl"

	"github.com/cni-netops/plugins/internal/isolate"
)

// M is testing.M, or what wraps it.
type M interface{ Run() int }

// Main wraps the tests of m so that they run in namespaces of their own. What
// needs the machine as it is (a build, say) is done by prepare, before.
func Main(m M, prepare ...func() error) M { return &isolated{m, prepare} }

type isolated struct {
	M
	prepare []func() error
}

func (m *isolated) Run() int {
	exit, err := m.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "netopstest:", err)
	}
	return exit
}

func (m *isolated) run() (exit int, err error) {
	// go test names a folder of its own to the test, and scripts/cover.sh, by a
	// further argument, the one where all is collected: that is for processes too.
	for _, arg := range os.Args {
		if dir, is := strings.CutPrefix(arg, "-test.gocoverdir="); is {
			_ = os.Setenv("GOCOVERDIR", dir)
		}
	}
	if isolate.Inside() {
		room, err := room()
		if err != nil {
			return 1, err
		}
		if err := isolate.Furnish(room); err != nil {
			return 1, err
		}
		if err := ip("link", "set", "lo", "up"); err != nil {
			return 1, err
		}
		return m.M.Run(), nil
	}
	for _, f := range m.prepare {
		if err := f(); err != nil {
			return 1, err
		}
	}
	return isolate.Again(os.Args[1:])
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// NS is a network namespace of a test.
type NS struct {
	tb   testing.TB
	Name string
	Path string
}

// Namespace makes a network namespace with lo up, which goes with the test.
func Namespace(tb testing.TB, name string) *NS {
	tb.Helper()
	n := &NS{tb: tb, Name: name, Path: filepath.Join("/run/netns", name)}
	Host(tb).IP("netns add " + name)
	tb.Cleanup(n.Remove)
	// Without duplicate address detection nothing changes by itself later.
	n.Sysctl("net/ipv6/conf/default/accept_dad", "0")
	n.IP("link set lo up")
	return n
}

// Host is the namespace that the test runs in.
func Host(tb testing.TB) *NS { return &NS{tb: tb} }

// Remove takes the namespace away, if it is still there.
func (n *NS) Remove() {
	if _, err := os.Stat(n.Path); err == nil {
		Host(n.tb).IP("netns del " + n.Name)
	}
}

// IP runs ip(8) commands in the namespace, those that follow each other with the
// same options in one process, and returns what was printed. The test fails at
// the first command that does.
func (n *NS) IP(lines ...string) string {
	n.tb.Helper()
	var out strings.Builder
	for len(lines) > 0 {
		options, first := splitOptions(lines[0])
		batch := []string{first}
		for lines = lines[1:]; len(lines) > 0; lines = lines[1:] {
			next, command := splitOptions(lines[0])
			if !slices.Equal(next, options) {
				break
			}
			batch = append(batch, command)
		}
		out.WriteString(n.run(options, batch))
	}
	return out.String()
}

// splitOptions is a line's options, and the command after them.
func splitOptions(line string) (options []string, command string) {
	words := strings.Fields(line)
	n := 0
	for n < len(words) && strings.HasPrefix(words[n], "-") {
		n++
	}
	return words[:n], strings.Join(words[n:], " ")
}

// run starts one ip(8) for all commands. A list in which the kernel was interrupted may
// lack something: where there are only lists, which change nothing, they are read again.
func (n *NS) run(options, commands []string) string {
	n.tb.Helper()
	if n.Name != "" {
		options = append([]string{"-n", n.Name}, options...)
	}
	changes := slices.ContainsFunc(commands, func(c string) bool { return !strings.Contains(c, " show") })
	for {
		cmd := exec.Command("ip", append(slices.Clip(options), strings.Fields(commands[0])...)...)
		if len(commands) > 1 {
			cmd = exec.Command("ip", append(slices.Clip(options), "-batch", "-")...)
			cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
		}
		var complaint strings.Builder
		cmd.Stderr = &complaint
		out, err := cmd.Output()
		if err != nil {
			n.tb.Fatalf("ip %s: %v: %s%s\n%s", strings.Join(options, " "), err, out, complaint.String(), strings.Join(commands, "\n"))
		}
		if changes || !strings.Contains(complaint.String(), "Dump was interrupted") {
			return string(out)
		}
	}
}

// Batch runs many commands of both families by one ip(8), which takes the family
// from the addresses.
func (n *NS) Batch(lines ...string) {
	n.tb.Helper()
	n.run(nil, strings.Split(strings.ReplaceAll(strings.Join(lines, "\n"), "-6 ", ""), "\n"))
}

// Enter calls f on a thread that is in the namespace: a process that is started
// there is in it, too.
func (n *NS) Enter(f func()) {
	n.tb.Helper()
	returned := false
	err := ns.WithNetNSPath(n.Path, func(ns.NetNS) error { f(); returned = true; return nil })
	if err != nil {
		n.tb.Fatal(err)
	}
	if !returned { // it has ended the test, but for this goroutine
		n.tb.FailNow()
	}
}

// Sysctl sets a kernel parameter, named by its path below /proc/sys.
func (n *NS) Sysctl(key, value string) {
	n.tb.Helper()
	n.Enter(func() {
		if _, err := sysctl.Sysctl(key, value); err != nil {
			n.tb.Fatalf("sysctl %s=%s: %v", key, value, err)
		}
	})
}

// Dump is all the routing of the namespace as ip(8) shows it, for comparing
// what was before with what is after. Of links it does not tell whether they have
// a carrier: that comes a moment after they are up.
func (n *NS) Dump() string {
	n.tb.Helper()
	routes, rules := cutRules(n.IP("-4 -d route show table all", "-4 -d rule show"))
	routes6, rules6 := cutRules(n.IP("-6 -d route show table all", "-6 -d rule show"))
	dump := "# ip route show table all\n" + routes + "# ip -6 route show table all\n" + routes6 + "# ip rule\n" + rules + rules6
	return strings.ReplaceAll(dump, " linkdown", "")
}

// cutRules parts a list of routes from the rules that follow it: "32766:\tfrom
// all lookup main".
func cutRules(out string) (routes, rules string) {
	at := regexp.MustCompile(`(?m)^\d+:\t`).FindStringIndex(out)
	if at == nil {
		return out, ""
	}
	return out[:at[0]], out[at[0]:]
}

// Unordered is a dump with what IPv6 keeps no order of sorted: the routes of
// one metric, and the next hops of one route.
func Unordered(dump string) []string {
	lines := strings.Split(dump, "\n")
	six := 0
	for i, l := range lines {
		if strings.HasPrefix(l, "# ip -6") {
			six = i
		}
	}
	var joined []string
	for _, l := range lines[six:] {
		if strings.HasPrefix(l, "\t") && len(joined) > 0 {
			hops := append(strings.Split(joined[len(joined)-1], "\t"), strings.TrimPrefix(l, "\t"))
			slices.Sort(hops[1:])
			joined[len(joined)-1] = strings.Join(hops, "\t")
		} else {
			joined = append(joined, l)
		}
	}
	slices.Sort(joined)
	return append(lines[:six:six], joined...)
}

// Print runs many lines of ip(8) commands, as Batch does, and returns what they
// print, in one line each.
func (n *NS) Print(lines ...string) string {
	n.tb.Helper()
	return n.run([]string{"-oneline"}, lines)
}

// PrintOf is Print of what there is of one family.
func (n *NS) PrintOf(six bool, lines ...string) string {
	n.tb.Helper()
	family := "-4"
	if six {
		family = "-6"
	}
	return n.run([]string{"-oneline", family}, lines)
}

var peers atomic.Int64

// Veth links the namespace to the test's own by a pair of interfaces, the
// inner one called dev, with these addresses, and waits for its link-local
// one.
func (n *NS) Veth(dev string, addrs ...string) {
	n.tb.Helper()
	// A namespace's interfaces vanish some time after its name.
	peer := fmt.Sprintf("veth%d", peers.Add(1))
	Host(n.tb).IP("link add "+peer+" type veth peer name "+dev+" netns "+n.Name, "link set "+peer+" up")
	n.tb.Cleanup(func() { _ = ip("link", "del", peer) })
	var lines []string
	for _, a := range addrs {
		lines = append(lines, "addr add "+a+" dev "+dev)
	}
	n.IP(append(lines, "link set "+dev+" up")...)
	n.AwaitIPv6(dev, addrs...)
}

// AwaitIPv6 waits for the link-local address that the kernel gives an interface,
// and for the routes to itself by those of these addresses that are IPv6: they
// come a moment after the link is up, in any order.
func (n *NS) AwaitIPv6(dev string, addrs ...string) {
	n.tb.Helper()
	n.until("IPv6 of "+dev+" does not come up", func() bool {
		local := n.IP("-6 route show table local dev " + dev)
		missing := func(addr string) bool {
			ip, _, _ := strings.Cut(addr, "/")
			return strings.Contains(ip, ":") && !strings.Contains(local, "local "+ip+" ")
		}
		return strings.Contains(local, "local fe80::") && !slices.ContainsFunc(addrs, missing)
	})
}

// patience is how long the kernel of a busy machine may take for what it does
// after a command has returned.
const patience = time.Minute

// Settle waits until every link with a carrier has its link-local address, and
// every IPv6 address its route: the kernel gives them a moment after the link is
// up. Of links without a carrier it expects nothing.
func (n *NS) Settle() {
	n.tb.Helper()
	n.until("it does not settle", func() bool {
		return settled(n.IP("-o -d link show up"), n.IP("-6 -o addr show up"), n.IP("-6 route show table local"))
	})
}

func settled(links, addrs, local string) bool {
	dev := regexp.MustCompile(`^\d+: ([^:@]+)`)
	for link := range strings.Lines(links) {
		name := dev.FindStringSubmatch(link)[1]
		made := name != "lo" && strings.Contains(link, "LOWER_UP") && !strings.Contains(link, "addrgenmode none")
		if made && !regexp.MustCompile(`(?m)^\d+: `+regexp.QuoteMeta(name)+` +inet6 fe80:`).MatchString(addrs) {
			return false
		}
	}
	for addr := range strings.Lines(addrs) { // "2: eth0    inet6 fd00::5/64 scope global …"
		words := strings.Fields(addr)
		ip, _, _ := strings.Cut(words[3], "/")
		has := strings.Contains(local, "local "+ip+" dev "+words[1]+" ")
		if carrier := regexp.MustCompile(`(?m)^\d+: ` + regexp.QuoteMeta(words[1]) + `[:@].*LOWER_UP`).MatchString(links); carrier && !has {
			return false
		}
	}
	return true
}

func (n *NS) until(otherwise string, done func() bool) {
	n.tb.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.tb.Fatalf("namespace %q: %s", n.Name, otherwise)
		}
	}
}
