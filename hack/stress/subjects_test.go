// Package stress shows for every plugin that nothing is ever left behind:
// whatever is refused, whenever the process ends, however many work at once,
// and whatever it is given to read.
//
// A plugin gets into all of these tests by its line in subjects.
package stress

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// Released plugins, and those that faults can be put into.
const (
	released = "stress"
	faulty   = "stress/faulty"
)

func TestMain(m *testing.M) {
	prepare := []func() error{plugintest.Upstream, plugintest.Faulty(faulty, "../../plugins/..."), plugintest.Ours(released)}
	if os.Getenv("STRESS_BUILT") != "" { // a part of the tests beside others: what runs cannot be written to
		prepare = []func() error{plugintest.Upstream, built}
	}
	os.Exit(netopstest.Main(m, prepare...).Run())
}

// built puts the plugins on PATH that are there already.
func built() error {
	dir, err := filepath.Abs("../../bin/" + released)
	if err != nil {
		return err
	}
	return os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// stateDir is where plugins keep their records.
const stateDir = "/run/cni"

// subject is a plugin, and a typical attachment by it.
type subject struct {
	plugin string
	ifName string
	conf   string // what it has beside name, type and version; # is the pod's number
	// pod furnishes the pod as those before it in the chain do.
	pod func(t testing.TB, pod *netopstest.NS)
	// beside is the configuration of another attachment, which lives on.
	beside string
	// capabilities are those that it needs, as capabilities(7) has them.
	capabilities []string
	// alone says that it changes nothing by the engine itself.
	alone bool
}

var subjects = []subject{
	{plugin: "route-override", ifName: "net1", pod: twoNetworks, capabilities: network, conf: `"flushroutes": true, "delroutes": [{"dst": "10.7.0.0/16"}],
		"addroutes": [{"dst": "172.16.0.0/16"}, {"dst": "10.7.0.0/16", "gw": "10.1.0.9"}, {"dst": "fd20::/64", "gw": "fd01::9"}, {"dst": "172.17.0.0/16", "type": "blackhole"}],
		"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "net1", "sandbox": "/run/netns/pod"}], "routes": [{"dst": "0.0.0.0/0"}],
		"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}, {"address": "fd01::5/64", "gateway": "fd01::1", "interface": 0}]}`},
	{plugin: "host-routes", ifName: "eth0", pod: bare, capabilities: network, conf: `"tries": 1,
		"routing": "[{prefix: \"10.9.1.0/24\", device: \"cni0\"}, {prefix: \"fd09::/64\", device: \"cni0\"}, {prefix: \"10.9.2.0/24\", gateway: \"10.22.0.9\"}, {prefix: \"10.9.4.0/24\", gateway: \"10.22.0.4\"}]"`,
		beside: `"routing": "[{prefix: \"10.9.2.0/24\", gateway: \"10.22.0.9\"}]"`},
	{plugin: "seamless", ifName: "eth0", pod: oneNetwork, capabilities: network, conf: `"families": ["ipv4", "ipv6"], "routes": [{"dst": "172.16.0.0/12"}]`},
	// The other attachment shares with it one of the node's rules, and some sysctls.
	{plugin: "router", ifName: "net1", pod: overlay, capabilities: append(network, "net_raw"),
		conf: routed + `, "additional_hijack_subnet": ["fd00:10:10::/64"], "mac_prefix": "0a:0b",
		"ip_conflict": {"enabled": true, "interval": "1ms", "retries": 1}, ` + prevResult("net1", "192.0.2.#/24", "2001:db8::#/64"),
		beside: routed + ", " + prevResult("net1", "192.0.2.#/24")},
	{plugin: "flannel", ifName: "eth0", pod: bare, capabilities: network, alone: true, conf: `"delegate": {"bridge": "cni1", "ipMasq": false}`},
}

// subjectOf is a plugin's.
func subjectOf(plugin string) subject {
	return subjects[slices.IndexFunc(subjects, func(s subject) bool { return s.plugin == plugin })]
}

// takes reports whether a case is in the plugin's sample: of those that every plugin
// goes through, the next plugin takes the next.
func (s subject) takes(t testing.TB, n int) bool {
	own := slices.IndexFunc(subjects, func(other subject) bool { return other.plugin == s.plugin })
	return (n+own)%netopstest.Sample(t, 3) == 0
}

// network is what it takes to change routes, and to enter a pod.
var network = []string{"net_admin", "sys_admin"}

// routed is what router needs to know, of any pod.
const routed = `"overlay_hijack_subnet": ["10.244.0.0/16", "fd00:10:244::/96"], "service_hijack_subnet": ["10.96.0.0/12"],
	"rp_filter": {"value": 0, "set_host": true}`

// prevResult is what the plugin before says of an interface, as a key of a
// configuration.
func prevResult(dev string, addrs ...string) string {
	ips := make([]string, len(addrs))
	for i, a := range addrs {
		ips[i] = fmt.Sprintf(`{"address": %q, "interface": 0}`, a)
	}
	return fmt.Sprintf(`"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": %q, "sandbox": "/run/netns/pod"}], "ips": [%s]}`, dev, strings.Join(ips, ", "))
}

// number tells a pod's addresses.
func number(pod *netopstest.NS) string {
	n, isOne := strings.CutPrefix(pod.Name, "pod")
	switch {
	case !isOne:
		return "6"
	case n == "":
		return "5"
	}
	return "1" + fmt.Sprintf("%02s", n)
}

func bare(testing.TB, *netopstest.NS) {}

func oneNetwork(_ testing.TB, pod *netopstest.NS) {
	attach(pod, "eth0", "10.131.0.43/23", "fd01::5/64")
}

// attach gives a pod an interface. Its other end is in the pod as well: on the
// node nothing changes when it comes or goes, and the next pod has the same.
func attach(pod *netopstest.NS, dev string, addrs ...string) {
	other := dev + "-wire"
	lines := []string{"link add " + dev + " address 02:00:00:00:00:05 type veth peer name " + other + " address 02:00:00:00:00:06", "link set " + other + " addrgenmode none up", "link set " + dev + " up"}
	for _, a := range addrs {
		lines = append(lines, "addr add "+a+" dev "+dev)
	}
	pod.IP(lines...)
	pod.AwaitIPv6(dev, addrs...)
}

// overlay is a pod whose eth0 is Calico's, with its other end on the node, and
// whose net1 is a macvlan: each came with a default route of its own. All but
// that other end goes with the pod.
func overlay(t testing.TB, pod *netopstest.NS) {
	t.Helper()
	n, cali := number(pod), "cali"+pod.Name
	deleteLink(cali) // which may be left of a pod that has just vanished
	four, six := "10.244.1."+n, "fd00:10:244::"+n
	netopstest.Host(t).Batch("link add "+cali+" address ee:ee:ee:ee:ee:ee type veth peer name eth0 address 02:00:00:00:01:05 netns "+pod.Name,
		"link set "+cali+" addrgenmode none up", "addr add fe80::1/64 dev "+cali+" nodad", "route add "+four+" dev "+cali, "route add "+six+" dev "+cali)
	pod.Batch("link set eth0 up", "addr add "+four+"/32 dev eth0", "addr add "+six+"/128 dev eth0",
		"route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1 dev eth0", "-6 route add default via fe80::1 dev eth0",
		"link add wire address 02:00:00:00:03:05 type veth peer name wire-end address 02:00:00:00:03:06", // which answers for nothing
		"link set wire arp off addrgenmode none up", "link set wire-end arp off addrgenmode none up")
	for _, dev := range []string{"wire", "wire-end"} {
		pod.Sysctl("net/ipv6/conf/"+dev+"/disable_ipv6", "1")
	}
	pod.AwaitIPv6("eth0", six) // before the next: routes of equal interest keep the order in which they came
	four, six = "192.0.2."+n, "2001:db8::"+n
	macvlan(pod, "net1", "02:00:00:00:00:05", four+"/24", six+"/64")
	pod.Batch("route prepend default via 192.0.2.1 dev net1", "-6 route append default via 2001:db8::1 dev net1")
	pod.Sysctl("net/ipv4/conf/all/rp_filter", "2")
	pod.Sysctl("net/ipv4/conf/eth0/rp_filter", "1")
}

// macvlan gives a pod an interface of that kind.
func macvlan(pod *netopstest.NS, dev, mac string, addrs ...string) {
	lines := []string{"link add link wire name " + dev + " address " + mac + " type macvlan mode bridge", "link set " + dev + " up"}
	for _, a := range addrs {
		lines = append(lines, "addr add "+a+" dev "+dev)
	}
	pod.Batch(lines...)
	pod.AwaitIPv6(dev, addrs...)
}

// twoNetworks is a pod with eth0 of another network, whose default route has an
// equal one of net1 behind it.
func twoNetworks(_ testing.TB, pod *netopstest.NS) {
	attach(pod, "eth0", "10.244.1.5/24", "fd00:244::5/64")
	attach(pod, "net1", "10.1.0.5/16", "fd01::5/64")
	pod.Batch(
		"route add default via 10.244.1.1",
		"route append default via 10.1.0.1 dev net1",
		"route add default via 10.1.0.1 dev net1 metric 50",
		"route add 192.168.0.0/24 via 10.1.0.1",
		"route add 10.7.0.0/16 dev net1",
		"route add default via fd00:244::1",
		"route add default via fd01::1 dev net1 metric 50",
		"route add fd20::/64 via fd01::1",
		"route add 172.30.0.0/16 mtu 1400 nexthop via 10.244.1.1 nexthop via 10.1.0.1",
	)
}

// nodeLines furnish the namespace that the tests run in, and the plugins with
// them: an uplink, and bridges.
var nodeLines = []string{
	"addr add 192.0.2.10/24 dev up0", "addr add 2001:db8::10/64 dev up0 nodad",
	"addr add 10.22.0.1/16 dev cni0", "addr add fd22::1/64 dev cni0 nodad",
	"addr add 10.244.3.1/24 dev cni1", "link set cni1 mtu 1450",
	"route add default via 192.0.2.1", "-6 route add default via 2001:db8::1",
	"route add 10.9.4.0/24 via 10.22.0.4",
}

// bridges are the node's interfaces. None of them changes by itself later, or
// when pods come and go: each has an address of its own, and a port that is up.
var bridges = []string{"up0", "cni0", "cni1"}

const subnetEnv = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"

// node is the namespace that the tests run in.
type node struct {
	*netopstest.NS
	t testing.TB
}

func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{netopstest.Host(t), t}
	t.Cleanup(func() {
		var lines []string
		for _, dev := range bridges {
			lines = append(lines, "link del "+dev+"-port", "link del "+dev)
		}
		n.IP(lines...)
		unplug(t)
		for _, dir := range []string{stateDir, "/run/flannel", "/var/lib/cni"} {
			_ = os.RemoveAll(dir)
		}
	})
	for _, link := range []string{"all", "default"} { // as many distributions have it
		put(t, "/proc/sys/net/ipv4/conf/"+link+"/rp_filter", "1")
	}
	var lines []string
	for i, dev := range bridges {
		lines = append(lines, fmt.Sprintf("link add %s address 02:00:00:00:01:%02x type bridge", dev, i), "link set "+dev+" addrgenmode none up",
			"link add "+dev+"-port type veth peer name "+dev+"-wire", "link set "+dev+"-wire addrgenmode none up",
			"link set "+dev+"-port master "+dev+" addrgenmode none up")
	}
	n.Batch(append(lines, nodeLines...)...)
	put(t, "/run/flannel/subnet.env", subnetEnv)
	return n
}

// unplug takes away the ends of pods' interfaces that are on the node, which
// otherwise go some time after the pods.
func unplug(t testing.TB) {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, "cali") {
			deleteLink(l.Name)
		}
	}
}

// deleteLink takes an interface away, if it is still there.
func deleteLink(name string) {
	if link, err := netlink.LinkByName(name); err == nil {
		_ = netlink.LinkDel(link)
	}
}

func put(t testing.TB, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// newPod is a pod for a subject, as it is before the plugin is called.
func (s subject) newPod(t testing.TB, name string) *netopstest.NS {
	t.Helper()
	pod := netopstest.Namespace(t, name)
	s.pod(t, pod)
	return pod
}

// call is a call for a new container in a pod.
func (s subject) call(t testing.TB, pod *netopstest.NS) plugintest.Call {
	t.Helper()
	return s.callWith(t, pod, s.conf)
}

func (s subject) callWith(t testing.TB, pod *netopstest.NS, conf string) plugintest.Call {
	t.Helper()
	conf = strings.ReplaceAll(conf, "#", number(pod))
	return plugintest.New(t, s.plugin, pod, fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": "%s", %s}`, s.plugin, conf)).
		With(map[string]string{"CNI_IFNAME": s.ifName, "CNI_PATH": os.Getenv("PATH")})
}

// gc is the call of a runtime that names these attachments of the network as
// valid.
func gc(c plugintest.Call, valid ...plugintest.Call) plugintest.Call {
	list := []any{}
	for _, v := range valid {
		list = append(list, map[string]any{"containerID": v.Env["CNI_CONTAINERID"], "ifname": v.Env["CNI_IFNAME"]})
	}
	return c.With(map[string]string{"CNI_CONTAINERID": "", "CNI_IFNAME": "", "CNI_NETNS": ""}).Edit(func(conf map[string]any) {
		delete(conf, "prevResult")
		conf["cni.dev/valid-attachments"] = list
	})
}

// state is all that a plugin may change: what the kernel holds of some
// namespaces, and the files that were kept.
func (n *node) state(pods ...*netopstest.NS) string {
	n.t.Helper()
	return n.kernel(pods...) + strings.Join(n.files(), "\n")
}

func (n *node) kernel(pods ...*netopstest.NS) string {
	n.t.Helper()
	var all strings.Builder
	for _, ns := range append(pods, n.NS) {
		fmt.Fprintf(&all, "# namespace %q\n%s", ns.Name, kernelState(n.t, ns))
	}
	return all.String()
}

// files are those that were kept, but for those that host-local leaves for good.
func (n *node) files() (kept []string) {
	n.t.Helper()
	for _, dir := range []string{stateDir, "/var/lib/cni"} {
		for _, path := range plugintest.Left(n.t, dir) {
			if base := filepath.Base(path); base != "lock" && !strings.HasPrefix(base, "last_reserved_ip.") {
				if note, err := os.Readlink(path); err == nil {
					path += " -> " + note
				}
				kept = append(kept, path)
			}
		}
	}
	return kept
}
