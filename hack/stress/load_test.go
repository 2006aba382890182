package stress

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

const (
	manyLinks    = 50   // one list of them takes several batches
	foreignAddrs = 2000 // one list of them takes many batches
)

// Many attachments of all plugins come and go at once, again and again, on
// a node with thousands of routes, while links, addresses and routes of others
// come and go beside; some are killed, and what they were to do is asked for
// again. Nothing fails, nothing is left, nothing of others' is lost, and every
// attachment has all of its own. That the kernel's lists were interrupted is
// counted: without it, this would show less.
//
// It goes on for DURATION, if that is set.
func TestSweepLoad(t *testing.T) {
	least, err := time.ParseDuration(os.Getenv("DURATION"))
	if err != nil && os.Getenv("DURATION") != "" {
		t.Fatal("DURATION:", err)
	}
	l := newLoad(t)
	began := time.Now()
	for rounds := 1; ; rounds++ {
		l.round()
		l.count("rounds", 1)
		took := time.Since(began)
		seen := l.seen()
		if t.Failed() || rounds > 1 && took > least && seen {
			break
		}
		if took > max(least, 2*time.Minute) {
			t.Error("the kernel's lists were not interrupted")
			break
		}
		if least > 0 && rounds%10 == 0 {
			fmt.Fprintln(os.Stderr, l.summary())
		}
	}
	l.count("in seconds", int(time.Since(began).Seconds()))
	fmt.Fprintln(os.Stderr, l.summary())
}

type load struct {
	*node
	t             *testing.T
	loadedPods    int // each with an attachment of every plugin that needs no other kind of pod
	routedPods    int // each with two attachments of router, which share the node's rules and sysctls
	foreignRoutes int

	pods   []*netopstest.NS
	all    []*attachment
	before string
	log    string // of all plugins

	mu     sync.Mutex
	counts map[string]int
}

// attachment is one of the load's.
type attachment struct {
	subject
	call  plugintest.Call
	added plugintest.Answer
}

func newLoad(t *testing.T) *load {
	t.Helper()
	l := &load{
		node: newNode(t), t: t, log: filepath.Join(t.TempDir(), "log"), counts: map[string]int{},
		loadedPods: 20 / netopstest.Sample(t, 7), routedPods: 10 / netopstest.Sample(t, 5), foreignRoutes: 5000 / netopstest.Sample(t, 4),
	}
	l.addLinks(l.NS)
	var lines []string
	for i := range foreignAddrs {
		lines = append(lines, fmt.Sprintf("addr add fd40::%x/128 dev many0 nodad", i+1))
	}
	for i := range l.foreignRoutes / 2 {
		lines = append(lines, fmt.Sprintf("route add 198.18.%d.%d/32 via 192.0.2.1 proto static", i/250, i%250),
			fmt.Sprintf("route add fd30::%x/128 via 2001:db8::1 proto static", i+1))
	}
	netopstest.Host(t).Batch(lines...)
	for i := range l.loadedPods {
		l.addPod(i)
	}
	for i := range l.routedPods {
		l.addRouted(l.loadedPods + i)
	}
	// Pods whose lists are as long as the node's.
	l.addLinks(l.manyLinks())
	l.manyLinks().IP("addr add fd50::1/64 dev many0 nodad")
	lines = nil
	for i := range l.foreignRoutes / 2 {
		lines = append(lines, fmt.Sprintf("route add fd30::%x/128 via fd00:244::1", i+1))
	}
	l.pods[0].Batch(lines...)
	for until := time.Now().Add(patience); l.before == "" || unsettled(l.before) && time.Now().Before(until); {
		l.before = l.state(l.pods...)
	}
	return l
}

// addLinks makes links, of which nobody wants anything.
func (l *load) addLinks(ns *netopstest.NS) {
	l.t.Helper()
	var add, del []string
	for i := range manyLinks {
		add = append(add, fmt.Sprintf("link add many%d address 02:00:00:00:04:%02x type bridge", i, i))
		del = append(del, fmt.Sprintf("link del many%d", i))
	}
	ns.Batch(append(add, "link set many0 addrgenmode none up")...)
	if ns.Name == "" {
		l.t.Cleanup(func() { netopstest.Host(l.t).Batch(del...) })
	}
}

// manyLinks is the pod that has them.
func (l *load) manyLinks() *netopstest.NS { return l.pods[l.loadedPods] }

// addRouted makes a pod with net1 and net2, and router's calls for both: they are
// of one container, and come in any order. net2 has IPv6 turned off.
func (l *load) addRouted(i int) {
	l.t.Helper()
	s := subjectOf("router")
	pod := s.newPod(l.t, fmt.Sprintf("pod%d", i))
	n := number(pod)
	macvlan(pod, "net2", "02:00:00:00:00:06", "10.77.0."+n+"/16")
	pod.Sysctl("net/ipv6/conf/net2/accept_ra", "0")
	pod.Sysctl("net/ipv6/conf/net2/disable_ipv6", "1")
	pod.IP("route add default via 10.77.0.1 dev net2 metric 50")
	l.pods = append(l.pods, pod)
	first := s.call(l.t, pod)
	keys, _, _ := strings.Cut(s.conf, `"prevResult"`)
	second := s.callWith(l.t, pod, keys+prevResult("net2", "10.77.0.#/16", "fd77::#/64")).With(map[string]string{"CNI_IFNAME": "net2", "CNI_CONTAINERID": first.Env["CNI_CONTAINERID"]})
	for _, c := range []plugintest.Call{first, second} {
		l.all = append(l.all, &attachment{subject: s, call: l.logged(c).Edit(func(conf map[string]any) {
			conf["exclude_interfaces"] = []string{"lo", "cali*", "cni1", "veth*", "many*", "churn*"}
		})})
	}
}

// logged is a call that says in the log what it does.
func (l *load) logged(c plugintest.Call) plugintest.Call {
	return c.Edit(func(conf map[string]any) {
		conf["log_options"] = map[string]any{"log_level": "debug", "log_file": l.log, "log_max_size": 1000}
	})
}

// addPod makes a pod, and a call of each plugin for it. Two plugins of a pod
// work in it at the same time.
func (l *load) addPod(i int) {
	l.t.Helper()
	pod := netopstest.Namespace(l.t, fmt.Sprintf("pod%d", i))
	twoNetworks(l.t, pod)
	l.pods = append(l.pods, pod)
	for _, s := range subjects {
		if s.plugin == "router" {
			continue
		}
		if s.alone {
			s.ifName = "eth1"
		}
		c := l.logged(s.call(l.t, pod)).Edit(func(conf map[string]any) {
			if s.plugin == "host-routes" {
				delete(conf, "tries")
				conf["routing"] = fmt.Sprintf(`[{prefix: "10.9.%d.0/24", device: "cni0"}, {prefix: "fd09::/64", device: "cni0"}, {prefix: "fd09:%x::/64", device: "cni0"}, {prefix: "10.9.4.0/24", gateway: "10.22.0.4"}]`, 100+i, i+1)
			}
		})
		l.all = append(l.all, &attachment{subject: s, call: c})
	}
}

// churn makes links, addresses and routes of others, and takes them away, until
// it is stopped; then nothing of them is left.
const churn = `
add() {
	i=0; while [ $i -lt 100 ]; do
		echo "route add fd31::$i/128 via $2"; echo "addr add fd41::$i/128 dev $1 nodad"
		echo "addr del fd41::$i/128 dev $1"; echo "addr add fd41::$i/128 dev $1 nodad"
		case $i in *0) echo "link add churn2 type bridge"; echo "link del churn2" ;; esac
		i=$((i+1))
	done
	echo "link add churn0 type veth peer name churn1"; echo "link set churn0 up"; echo "link set churn1 up"
	echo "addr add 198.51.100.1/24 dev churn0"; echo "route add 203.0.113.0/24 via 198.51.100.9"
	echo "link del churn0"
	i=0; while [ $i -lt 100 ]; do
		echo "route del fd31::$i/128 via $2"; echo "addr del fd41::$i/128 dev $1"
		i=$((i+1))
	done
}
stop=; trap stop=1 TERM
while [ -z "$stop" ]; do add "$2" "$3" | ip $1 -batch - || exit 1; done
`

// beside runs churn on the node, or in a pod, during f.
func (l *load) beside(pod *netopstest.NS, dev, gateway string, f func()) {
	where := ""
	if pod != nil {
		where = "-n " + pod.Name
	}
	cmd := exec.Command("sh", "-c", churn, "sh", where, dev, gateway)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		l.t.Error(err)
		return
	}
	f()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		l.t.Errorf("churn: %v: %s", err, said.String())
	}
}

// watch lists, time and again, what is on the node: however the kernel's lists
// are interrupted, what stays is in each of them.
func (l *load) watch(until <-chan struct{}) {
	host, err := kernel.Here()
	if err != nil {
		l.t.Error(err)
		return
	}
	defer host.Close()
	host.OnSend = func(what string, _ time.Duration, _ error) {
		l.count(strings.Replace(what, "list the", "lists of", 1)+" interrupted", 1)
	}
	now := time.NewTicker(10 * time.Millisecond)
	defer now.Stop()
	for {
		select {
		case <-until:
			return
		case <-now.C:
		}
		have, err := host.Snapshot(l.t.Context(), netops.Query{EveryLink: true, Addrs: true, Tables: []uint32{netops.TableMain}})
		if errors.Is(err, netops.ErrInterrupted) {
			continue
		} else if err != nil {
			l.t.Error(err)
			return
		}
		l.count("views of the node", 1)
		if addrs, routes, links := stable(have); addrs != foreignAddrs || routes != l.foreignRoutes || links != l.routedPods {
			l.t.Errorf("a view of the node with %d of %d addresses, %d of %d routes, %d of %d pods' links", addrs, foreignAddrs, routes, l.foreignRoutes, links, l.routedPods)
		}
	}
}

// stable counts what nobody changes.
func stable(have netops.Snapshot) (addrs, routes, links int) {
	different := map[netip.Prefix]bool{}
	for _, a := range have.Addrs {
		if foreignSubnet.Contains(a.Prefix.Addr()) {
			different[a.Prefix] = true
		}
	}
	for i := range have.Routes {
		const static = 4 // RTPROT_STATIC
		if have.Routes[i].Protocol == static {
			routes++
		}
	}
	for _, name := range have.Links {
		if strings.HasPrefix(name, "cali") {
			links++
		}
	}
	return len(different), routes, links
}

var foreignSubnet = netip.MustParsePrefix("fd40::/16")

// round has all attachments come and go once.
func (l *load) round() {
	l.t.Helper()
	var watching sync.WaitGroup
	over := make(chan struct{})
	l.beside(nil, "many0", "2001:db8::1", func() {
		watching.Go(func() { l.watch(over) })
		watching.Go(func() { l.watchShow(over) })
		l.beside(l.pods[0], "net1", "fd00:244::1", func() {
			l.beside(l.manyLinks(), "many0", "fd50::2", l.comeAndGo)
		})
	})
	close(over)
	watching.Wait()
	if diff := eventually(l.before, func() string { return l.state(l.pods...) }); diff != "" {
		l.t.Errorf("all is not as before:\n%s", diff)
	}
}

func (l *load) comeAndGo() {
	half := len(l.all) / 2
	rand.Shuffle(len(l.all), func(i, j int) { l.all[i], l.all[j] = l.all[j], l.all[i] })
	var gcs sync.WaitGroup
	gcs.Go(l.collect)
	l.atOnce(l.all, l.add)
	gcs.Wait()
	l.atOnce(l.all, l.check)
	l.allIsShown()
	l.atOnce(l.all[:half], l.del)
	l.atOnce(l.all[half:], l.check)
	l.atOnce(l.all, func(a *attachment) { // the second half goes while the first comes again
		if !slices.Contains(l.all[half:], a) {
			l.add(a)
		} else {
			l.del(a)
		}
	})
	l.atOnce(l.all[:half], l.check)
	l.allIsShown()
	l.atOnce(l.all, l.del)
}

func (l *load) atOnce(list []*attachment, do func(*attachment)) {
	var done sync.WaitGroup
	for _, a := range list {
		done.Go(func() { do(a) })
	}
	done.Wait()
}

// collect has each plugin collect what is not valid, which nothing is.
func (l *load) collect() {
	for _, s := range subjects {
		var valid []plugintest.Call
		for _, a := range l.all {
			if a.plugin == s.plugin {
				valid = append(valid, a.call)
			}
		}
		l.until(gc(valid[0], valid...), s, "GC")
	}
}

func (l *load) add(a *attachment) { a.added = l.until(a.call, a.subject, "ADD") }
func (l *load) del(a *attachment) { l.until(a.call, a.subject, "DEL") }

func (l *load) check(a *attachment) {
	if a.added.Exit == 0 {
		l.until(a.call.After(a.added), a.subject, "CHECK")
	}
}

// leftInMain is what router's CHECK tells of net1 when net2 had its DEL since: the
// interface stays here, and so does its default route (README, Limits).
const leftInMain = "ip route del default via 10.77.0.1 dev net2 metric 50: present, should be absent"

// until makes a call until it is done: as a runtime does, again where it is told
// to try again, and after DEL where the process of an ADD was killed.
func (l *load) until(c plugintest.Call, s subject, verb string) plugintest.Answer {
	const often = 50
	for range often {
		a := l.once(c, s, verb)
		switch {
		case a.Exit == 0:
			return a
		case a.Exit < 0 && verb == "ADD":
			l.until(c, s, "DEL")
		case a.Exit < 0:
		case a.Error.Code == 11:
			l.count("told to try again", 1)
		case verb == "CHECK" && s.plugin == "router" && strings.Contains(a.Stdout, leftInMain):
			l.count("told of the default route of an interface that stays", 1)
			return a
		default:
			l.t.Errorf("%s %s: %s%s", s.plugin, verb, a.Stdout, a.Stderr)
			return a
		}
	}
	l.t.Errorf("%s %s: %d times in vain", s.plugin, verb, often)
	return plugintest.Answer{Exit: 1}
}

// once makes a call, of which some have a fault in them.
func (l *load) once(c plugintest.Call, s subject, verb string) plugintest.Answer {
	if !s.alone && verb != "CHECK" && rand.N(10) == 0 {
		c = c.Failing(plugintest.Fault{At: []string{"before", "after"}[rand.N(2)], N: rand.N(6), Kill: syscall.SIGKILL})
		c.Plugin = filepath.Join("../../bin", faulty, s.plugin)
	}
	began := time.Now()
	a := c.Do(verb)
	if took := time.Since(began); took > time.Minute {
		l.t.Errorf("%s %s took %v", s.plugin, verb, took)
	}
	l.count(verb, 1)
	if a.Exit < 0 {
		l.count("processes killed", 1)
	}
	return a
}

func (l *load) count(what string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[what] += n
}

// seen counts what the plugins say of lists that were interrupted, and reports
// whether there were some of each kind.
func (l *load) seen() bool {
	text, err := os.ReadFile(l.log)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := os.Truncate(l.log, 0); err != nil {
		l.t.Fatal(err)
	}
	all := true
	for _, what := range []string{"addresses", "routes", "interfaces"} {
		l.count("lists of "+what+" interrupted", bytes.Count(text, []byte(`"list the `+what+`"`)))
		all = all && l.counts["lists of "+what+" interrupted"] > 0
	}
	return all
}

func (l *load) summary() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, what := range slices.Sorted(maps.Keys(l.counts)) {
		all = append(all, fmt.Sprintf("%s %d", what, l.counts[what]))
	}
	findings := "none"
	if l.t.Failed() {
		findings = "see above"
	}
	return "load: " + strings.Join(all, ", ") + ", findings: " + findings
}
