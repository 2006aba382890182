package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// site is a node on a LAN and a machine beside it, in namespaces of their own,
// so that tests can run at the same time.
type site struct {
	t         testing.TB
	node, lan *netopstest.NS // the plugin runs on the node
	records   string         // stateDir
	pods      int
}

var sites atomic.Int64

// The machine on the LAN is everybody's gateway, on net1's subnet, which is the
// node's own, and on those of net2 and net3.
func newSite(t testing.TB) *site {
	t.Helper()
	n := sites.Add(1)
	s := &site{t: t, lan: netopstest.Namespace(t, fmt.Sprint("lan", n)), node: netopstest.Namespace(t, fmt.Sprint("node", n)), records: t.TempDir()}
	s.node.IP("link add up0 type veth peer name eth0 netns "+s.lan.Name, "link set up0 addrgenmode none up",
		"addr add 192.0.2.10/24 dev up0", "addr add 2001:db8::10/64 dev up0 nodad",
		"route add default via 192.0.2.1", "-6 route add default via 2001:db8::1 dev up0")
	s.sysctl(s.node, "net/ipv4/conf/all/rp_filter", "1") // what many distributions have
	s.lan.IP("link set eth0 addrgenmode none up")
	for i, subnet := range []string{"192.0.2", "198.51.100", "203.0.113"} {
		s.lan.IP("addr add "+subnet+".1/24 dev eth0", fmt.Sprintf("addr add %s1/64 dev eth0 nodad", prefix6(i+1)))
	}
	return s
}

// sysctl sets one in a namespace.
func (s *site) sysctl(ns *netopstest.NS, key, value string) {
	s.t.Helper()
	var err error
	ns.Enter(func() { err = os.WriteFile("/proc/sys/"+key, []byte(value), 0o600) })
	if err != nil {
		s.t.Fatal(err)
	}
}

// value is that of a sysctl in a namespace.
func (s *site) value(ns *netopstest.NS, key string) string {
	s.t.Helper()
	var text []byte
	var err error
	ns.Enter(func() { text, err = os.ReadFile("/proc/sys/" + key) })
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// prefix6 is that of netN, without its last digits.
func prefix6(n int) string {
	return map[int]string{1: "2001:db8::", 2: "2001:db8:2::", 3: "2001:db8:3::"}[n]
}

// pod is one whose eth0 is Calico's, and whose netN are macvlan's on the node's
// LAN: each came with a default route of its own.
type pod struct {
	*netopstest.NS
	s *site
	n int // tells its addresses
}

// pod makes one with interfaces net1 to netN.
func (s *site) pod(nets int) *pod {
	s.t.Helper()
	s.pods++
	p := &pod{netopstest.Namespace(s.t, fmt.Sprintf("%s-pod%d", s.node.Name, s.pods)), s, s.pods}
	four, six := p.overlay()
	cali := p.veth()
	s.node.Batch("link add "+cali+" address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns "+p.Name,
		"link set "+cali+" addrgenmode none up", "addr add fe80::1/64 dev "+cali+" nodad",
		"route add "+four+" dev "+cali, "-6 route add "+six+" dev "+cali)
	p.Batch("link set eth0 up", "addr add "+four+"/32 dev eth0", "addr add "+six+"/128 dev eth0",
		"route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1 dev eth0", "-6 route add default via fe80::1 dev eth0")
	for i := range nets {
		p.plug(i + 1)
	}
	p.AwaitIPv6("eth0", six)
	s.sysctl(p.NS, "net/ipv4/conf/all/rp_filter", "2")
	s.sysctl(p.NS, "net/ipv4/conf/eth0/rp_filter", "1")
	return p
}

// plug gives the pod netN, as the plugin before in the chain does.
func (p *pod) plug(n int) {
	p.s.t.Helper()
	dev, four, six := fmt.Sprint("net", n), p.ip(n), p.ip6(n)
	p.s.node.IP("link add link up0 name " + dev + " netns " + p.Name + " type macvlan mode bridge")
	p.Batch("link set "+dev+" up", "addr add "+four+"/24 dev "+dev, "addr add "+six+"/64 dev "+dev,
		fmt.Sprintf("route prepend default via %s1 dev %s", four[:strings.LastIndex(four, ".")+1], dev),
		fmt.Sprintf("-6 route append default via %s1 dev %s", prefix6(n), dev))
	p.AwaitIPv6(dev, six)
}

func (p *pod) overlay() (four, six string) {
	return fmt.Sprint("10.244.1.", p.n), fmt.Sprint("fd00:10:244::", p.n)
}

func (p *pod) veth() string { return fmt.Sprint("cali", p.n) }

func (p *pod) ip(net int) string {
	return fmt.Sprint([]string{"192.0.2.", "198.51.100.", "203.0.113."}[net-1], 100+p.n)
}

func (p *pod) ip6(net int) string { return fmt.Sprint(prefix6(net), 100+p.n) }

// call is one that a site's node makes.
type call struct {
	plugintest.Call
	s *site
}

const usual = `"overlay_hijack_subnet": ["10.244.0.0/16", "fd00:10:244::/96"], "service_hijack_subnet": ["10.96.0.0/12", "fd00:10:96::/108"]`

// call is a call for the attachment of netN, in a chain after the plugin that
// made it, with these keys beside the usual ones.
func (p *pod) call(n int, keys ...string) call {
	p.s.t.Helper()
	dev := fmt.Sprint("net", n)
	prev := fmt.Sprintf(`{"cniVersion": "1.1.0", "interfaces": [{"name": "up0"}, {"name": %q, "mac": %q, "sandbox": %q, "mtu": 1500}],
		"ips": [{"address": "%s/24", "interface": 1}, {"address": "%s/64", "interface": 1}],
		"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}], "dns": {"nameservers": ["192.0.2.1"]}, "unknown": {"kept": true}}`,
		dev, p.HardwareAddr(dev), p.Path, p.ip(n), p.ip6(n))
	conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "lan%d", "type": "router", "stateDir": %q, %s, "prevResult": %s}`,
		n, p.s.records, strings.Join(append([]string{usual}, keys...), ", "), prev)
	// All networks of a pod name the same container.
	return call{plugintest.New(p.s.t, router.Name, p.NS, conf), p.s}.With(map[string]string{"CNI_IFNAME": dev, "CNI_CONTAINERID": p.Name})
}

func (c call) With(env map[string]string) call            { c.Call = c.Call.With(env); return c }
func (c call) Edit(change func(conf map[string]any)) call { c.Call = c.Call.Edit(change); return c }
func (c call) After(added plugintest.Answer) call         { c.Call = c.Call.After(added); return c }
func (c call) Failing(f plugintest.Fault) call            { c.Call = c.Call.Failing(f); return c }
func (c call) Do(verb string) (a plugintest.Answer) {
	c.s.node.Enter(func() { a = c.Call.Do(verb) })
	return a
}
func (c call) OK(verb string) (a plugintest.Answer) {
	c.TB.Helper()
	c.s.node.Enter(func() { a = c.Call.OK(verb) })
	return a
}

func (c call) Refused(verb string, code uint, texts ...string) (a plugintest.Answer) {
	c.TB.Helper()
	c.s.node.Enter(func() { a = c.Call.Refused(verb, code, texts...) })
	return a
}

// set is the call with another value of a key, given as JSON.
func (c call) set(key, value string) call {
	c.TB.Helper()
	return c.Edit(func(conf map[string]any) { conf[key] = json.RawMessage(value) })
}

func (c call) Begin(verb string) (p *plugintest.Process) {
	c.TB.Helper()
	c.s.node.Enter(func() { p = c.Call.Begin(verb) })
	return p
}

// dump is all of a namespace that router may change, as ip(8) shows it, but for
// neighbours that the kernel learns and forgets.
func dump(t testing.TB, ns *netopstest.NS) string {
	t.Helper()
	var all strings.Builder
	for _, family := range []string{"-4", "-6"} {
		all.WriteString(stable(family, ns.IPWith(family+" -d", "route show table all", "rule show", "neigh show nud permanent")))
	}
	all.WriteString(stable("", ns.IP("addr show")))
	ns.Enter(func() { all.WriteString(sysctls(t)) })
	return all.String()
}

// stable leaves out what changes by itself, and puts in order what the kernel
// keeps in none: the next hops of IPv6 routes, and neighbours, which are in a hash
// table.
func stable(family, out string) string {
	var lines, unordered []string
	end := func() {
		slices.Sort(unordered)
		lines, unordered = append(lines, unordered...), nil
	}
	for l := range strings.Lines(out) {
		l = strings.TrimRight(strings.ReplaceAll(l, " linkdown", ""), " \n")
		if strings.HasPrefix(l, "\tnexthop ") && family == "-6" || strings.Contains(l, " PERMANENT") {
			unordered = append(unordered, l)
			continue
		}
		end()
		l = strings.TrimSuffix(l, " tentative")
		if route, lifetime, ok := strings.Cut(l, " expires "); ok { // the seconds that it has left
			_, rest, _ := strings.Cut(lifetime, "sec")
			l = route + " expires" + rest
		}
		l, _, _ = strings.Cut(l, " link-netns")
		if name, rest, ok := strings.Cut(l, "@"); ok { // a peer's index, or some name that has it
			_, rest, _ = strings.Cut(rest, ":")
			l = name + ":" + rest
		}
		if word := strings.TrimLeft(l, " "); l == word || strings.HasPrefix(word, "inet") || strings.HasPrefix(word, "link/") {
			lines = append(lines, l)
		}
	}
	end()
	return "# ip " + family + "\n" + strings.Join(lines, "\n") + "\n"
}

// sysctls are those that router sets, of the namespace that the thread is in.
func sysctls(t testing.TB) string {
	t.Helper()
	var lines []string
	for _, pattern := range []string{"ipv4/conf/*/rp_filter", "ipv6/conf/*/disable_ipv6"} {
		files, err := filepath.Glob("/proc/sys/net/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			value, err := os.ReadFile(f)
			if err == nil { // or it has gone meanwhile
				lines = append(lines, strings.TrimPrefix(f, "/proc/sys/")+" = "+strings.TrimSpace(string(value)))
			}
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// state is what there was of a site and some pods at one time.
type state struct {
	s    *site
	was  map[*netopstest.NS]string
	list []*netopstest.NS
}

func (s *site) state(pods ...*pod) state {
	s.t.Helper()
	st := state{s: s, was: map[*netopstest.NS]string{}, list: []*netopstest.NS{s.node}}
	for _, p := range pods {
		st.list = append(st.list, p.NS)
	}
	for _, ns := range st.list {
		st.was[ns] = dump(s.t, ns)
	}
	return st
}

// same fails the test unless all is as it was.
func (st state) same(when string) {
	st.s.t.Helper()
	for _, ns := range st.list {
		if diff := cmp.Diff(st.was[ns], dump(st.s.t, ns)); diff != "" {
			st.s.t.Errorf("%s: %s is not as before (-want +got):\n%s", when, ns.Name, diff)
		}
	}
}

// restored fails the test unless all is as it was, and no record is left.
func (st state) restored(when string) {
	st.s.t.Helper()
	st.same(when)
	st.s.nothingLeft(when)
}

// nothingLeft fails the test if there is a record, a lock or a note.
func (s *site) nothingLeft(when string) {
	s.t.Helper()
	err := filepath.WalkDir(s.records, func(path string, _ os.DirEntry, err error) error {
		switch name := strings.TrimPrefix(path, s.records); {
		case err != nil:
			return err
		case name != "" && name != "/host" && name != "/host/index" && name != "/"+router.Name:
			s.t.Errorf("%s: left: %s", when, name)
		}
		return nil
	})
	if err != nil {
		s.t.Error(err)
	}
}

// has fails the test unless a text has all these lines.
func has(t testing.TB, what, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !slices.ContainsFunc(strings.Split(text, "\n"), func(have string) bool {
			return strings.TrimSpace(have) == l || strings.HasPrefix(strings.TrimSpace(have), l+" ")
		}) {
			t.Errorf("%s lacks %q; it has%s", what, l, near(text, l))
		}
	}
}

// near are the lines of a text that begin as another one, or have its second
// word: a dump is too long to be read.
func near(text, line string) (lines string) {
	words := strings.Fields(line)
	for l := range strings.Lines(text) {
		if strings.Contains(l, words[min(1, len(words)-1)]) || strings.HasPrefix(l, words[0]) {
			lines += "\n" + strings.TrimRight(l, "\n")
		}
	}
	return lines
}

func lacks(t testing.TB, what, text, part string) {
	t.Helper()
	if strings.Contains(text, part) {
		t.Errorf("%s has %q:%s", what, part, near(text, part))
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
