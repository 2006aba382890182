package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// lab is a node with a pod on it, the LANs that it is on, and who is there.
//
//	        lan1 .20     lan2 .20     lan3 .20
//	         │            │            │
//	gw ──────┼ LAN 1 .1 ──┼ LAN 2 .1 ──┼ LAN 3 .1        and "outside", behind it
//	         │            │            │
//	node ── up1 .10      up2 .10      up3 (no address)
//	         ┊ macvlan    ┊            ┊
//	pod  ── net1 .51     net2 .52     net3 .53     eth0 ── overlay ── node, peer
//
// The node's default route, and everybody's way to the overlay, are on LAN 1.
// The node answers for a service address, as kube-proxy's IPVS mode has it.
type lab struct {
	t                   *testing.T
	overlay             overlay
	families            families // of the pod on the overlay
	underlay            families // of the pod on the LANs
	routeless           bool     // its underlay interfaces have no default routes
	guarded             bool     // see guard
	node, gw, pod, peer *netopstest.NS
	mac                 string // of the pod's eth0
	lans                []*netopstest.NS
	places              map[string]place
	nets                int
	stateDir            string // of this node alone
}

// place is where one can be reached.
type place struct {
	ns    *netopstest.NS
	addrs []netip.Addr
}

// overlay is how the default CNI links pods.
type overlay string

const (
	calico overlay = "calico" // routed: addresses of their own, by a gateway that proxies
	bridge overlay = "bridge" // one subnet, with the node as its gateway
	ptp    overlay = "ptp"    // a subnet, but all of it by the node's end
	cilium overlay = "cilium" // as calico, by an address that the node has
	ovs    overlay = "ovs"    // as bridge, by a switch that is none of the kernel's
)

// families of the pod's addresses. All others have both.
type families string

const (
	ipv4 families = "ipv4"
	ipv6 families = "ipv6"
	dual families = "dual"
)

// has reports whether one is among them.
func (f families) has(six bool) bool { return f == dual || six == (f == ipv6) }

// of leaves out what the pod does not have.
func (f families) of(prefixes ...string) (list []string) {
	for _, p := range prefixes {
		if f.has(strings.Contains(p, ":")) {
			list = append(list, p)
		}
	}
	return list
}

const (
	lansOf  = 3
	service = "service"
	outside = "outside"
)

// subnet4 and subnet6 are those of a LAN, without the last part.
func subnet4(lan int) string {
	return []string{"192.0.2.", "198.51.100.", "203.0.113."}[lan-1]
}

func subnet6(lan int) string { return fmt.Sprintf("2001:db8:%d::", lan) }

// on are the two addresses of a host of a LAN.
func on(lan, host int) []string {
	return []string{fmt.Sprint(subnet4(lan), host), fmt.Sprint(subnet6(lan), host)}
}

// sized has addresses be of such subnets.
func sized(addrs []string, bits4, bits6 int) []string {
	with := make([]string, len(addrs))
	for i, a := range addrs {
		bits := bits4
		if strings.Contains(a, ":") {
			bits = bits6
		}
		with[i] = fmt.Sprintf("%s/%d", a, bits)
	}
	return with
}

var (
	serviceAddrs = []string{"10.96.0.1", "fd00:10:96::1"}
	outsideAddrs = []string{"100.64.9.1", "2001:db8:9::1"}
)

// overlayAddrs are those of a host on the overlay.
func overlayAddrs(host int) []string {
	return []string{fmt.Sprint("10.244.1.", host), fmt.Sprint("fd00:10:244:1::", host)}
}

// Hosts on the overlay.
const (
	gatewayHost = 1
	podHost     = 5
	peerHost    = 6
)

// podLAN is the number of the pod on a LAN, before that of its interface.
const podLAN = 50

var labs atomic.Int64

// making keeps ip(8) from making /run/netns twice at the same time.
var making sync.Mutex

func newLab(t *testing.T, o overlay, f families) *lab {
	t.Helper()
	return makeLab(t, &lab{t: t, overlay: o, families: f, underlay: f, places: map[string]place{}})
}

func makeLab(t *testing.T, l *lab) *lab {
	t.Helper()
	number := labs.Add(1)
	l.stateDir = fmt.Sprint("/run/cni-", number)
	namespace := func(name string) *netopstest.NS {
		making.Lock()
		defer making.Unlock()
		ns := netopstest.Namespace(t, fmt.Sprintf("%s-%d", name, number))
		l.harden(ns)
		return ns
	}
	l.node, l.gw, l.pod, l.peer = namespace("node"), namespace("gw"), namespace("pod"), namespace("peer")
	for n := range lansOf {
		l.lans = append(l.lans, namespace(fmt.Sprint("lan", n+1)))
	}
	l.makeLANs()
	l.makeNode()
	if l.guarded {
		l.guard(namespace("other"), namespace("far"))
	}
	l.join("pod", l.pod, podHost, l.families)
	l.mac = l.pod.HardwareAddr("eth0")
	l.join("peer", l.peer, peerHost, dual)
	return l
}

// harden has nothing change by itself: redirects would lead later packets by
// other ways than the first. Addresses are usable at once: upstream's plugins wait
// five seconds for that, which is little on a busy machine.
func (l *lab) harden(ns *netopstest.NS) {
	ns.Enter(func() {
		for _, key := range []string{"ipv4/conf/all/send_redirects", "ipv4/conf/default/send_redirects",
			"ipv4/conf/all/accept_redirects", "ipv4/conf/default/accept_redirects", "ipv6/conf/all/accept_redirects", "ipv6/conf/default/accept_redirects",
			"ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter", "ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad"} {
			write(l.t, key, "0")
		}
	})
}

// write sets a sysctl of the namespace that the thread is in.
func write(t testing.TB, key, value string) {
	if err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0o600); err != nil {
		t.Error(err)
	}
}

func (l *lab) forwards(ns *netopstest.NS) {
	ns.Enter(func() {
		write(l.t, "ipv4/ip_forward", "1")
		write(l.t, "ipv6/conf/all/forwarding", "1")
	})
}

func (l *lab) have(name string, ns *netopstest.NS, addrs ...string) {
	p := place{ns: ns}
	for _, a := range addrs {
		p.addrs = append(p.addrs, netip.MustParseAddr(a))
	}
	l.places[name] = p
}

// address is an ip(8) line for each address, which may have words after it.
func address(dev string, prefixes ...string) (lines []string) {
	for _, p := range prefixes {
		prefix, words, _ := strings.Cut(p, " ")
		lines = append(lines, strings.TrimSpace("addr add "+prefix+" dev "+dev+" "+words))
	}
	return lines
}

// makeLANs makes the gateway, which is the switch of each LAN as well, and a
// host on each.
func (l *lab) makeLANs() {
	l.forwards(l.gw)
	gw := address("lo", sized(outsideAddrs, 32, 128)...)
	for i, host := range l.lans {
		n := i + 1
		dev := fmt.Sprint("lan", n)
		gw = append(gw, fmt.Sprintf("link add %s type bridge mcast_snooping 0", dev), "link set "+dev+" up",
			fmt.Sprintf("link add to%d type veth peer name eth0 netns %s", n, host.Name),
			fmt.Sprintf("link add up%d type veth peer name up%d netns %s", n, n, l.node.Name),
			fmt.Sprintf("link set to%d master %s up", n, dev), fmt.Sprintf("link set up%d master %s up", n, dev))
		gw = append(gw, address(dev, sized(on(n, 1), 24, 64)...)...)
		l.have(dev, host, on(n, 20)...)
	}
	gw = append(gw, l.toOverlay()...)
	l.gw.Batch(gw...)
	l.have(outside, l.gw, outsideAddrs...)
	for i, host := range l.lans {
		lines := append(address("eth0", sized(on(i+1, 20), 24, 64)...), "link set eth0 up",
			"route add default via "+on(i+1, 1)[0], "route add default via "+on(i+1, 1)[1])
		if i == 0 {
			lines = append(lines, l.toOverlay()...)
		}
		host.Batch(lines...)
	}
}

// toOverlay are the routes by the node to its pods.
func (l *lab) toOverlay() []string {
	return []string{"route add 10.244.1.0/24 via " + on(1, 10)[0], "route add fd00:10:244:1::/64 via " + on(1, 10)[1]}
}

func (l *lab) makeNode() {
	l.forwards(l.node)
	lines := []string{"link set up1 up", "link set up2 up", "link set up3 up"}
	for n := 1; n <= 2; n++ {
		dev, addrs := fmt.Sprint("up", n), on(n, 10)
		if l.guarded && n > 1 { // else it would answer the LAN past the firewall
			dev, addrs = "mgmt0", []string{"172.16.9.10", "fd00:16::10"}
			lines = append(lines, "link add mgmt0 type bridge", "link set mgmt0 up")
		}
		lines = append(lines, address(dev, sized(addrs, 24, 64)...)...)
		l.have(fmt.Sprint("node", n), l.node, addrs...)
	}
	lines = append(lines, "route add default via "+on(1, 1)[0], "route add default via "+on(1, 1)[1],
		"link add kube-ipvs0 type bridge")
	lines = append(lines, address("kube-ipvs0", sized(serviceAddrs, 32, 128)...)...)
	if dev := l.overlay.device(); dev != "" {
		bits4, bits6 := 24, 64
		if l.overlay == cilium {
			bits4, bits6 = 32, 128
		}
		lines = append(lines, "link add "+dev+" type bridge mcast_snooping 0", "link set "+dev+" up")
		lines = append(lines, address(dev, sized(overlayAddrs(gatewayHost), bits4, bits6)...)...)
	}
	l.node.Batch(lines...)
	l.have(service, l.node, serviceAddrs...)
}

// join gives a pod its interface eth0 on the overlay.
func (l *lab) join(name string, pod *netopstest.NS, host int, f families) {
	veth := map[overlay]string{calico: "cali", cilium: "lxc"}[l.overlay] + name
	if veth == name {
		veth = "veth" + name
	}
	l.node.Batch("link add "+veth+" type veth peer name eth0 netns "+pod.Name, "link set "+veth+" address ee:ee:ee:ee:ee:ee", "link set "+veth+" up")
	pod.Enter(func() { // as hosts have it that are strict
		write(l.t, "ipv4/conf/default/rp_filter", "1")
		write(l.t, "ipv4/conf/eth0/rp_filter", "1")
	})
	addrs := f.of(overlayAddrs(host)...)
	switch l.overlay {
	case calico, cilium:
		l.joinRouted(pod, veth, addrs)
	case ptp:
		l.joinPointToPoint(pod, veth, addrs)
	default:
		l.node.Batch("link set " + veth + " master " + l.overlay.device())
		pod.Batch(append(address("eth0", sized(addrs, 24, 64)...), "link set eth0 up")...)
		for _, gw := range f.of(overlayAddrs(gatewayHost)...) {
			pod.Batch("route add default via " + gw)
		}
	}
	pod.AwaitIPv6("eth0")
	l.have(name, pod, addrs...)
}

// device is the node's interface with the overlay's gateway; empty without one.
func (o overlay) device() string {
	return map[overlay]string{bridge: "cni0", ovs: "ovs-system", cilium: "cilium_host"}[o]
}

// joinRouted does it as Calico does: with addresses in no subnet, and a gateway
// that no interface has, for which the node answers; or as Cilium, by the node's own.
func (l *lab) joinRouted(pod *netopstest.NS, veth string, addrs []string) {
	l.node.Enter(func() {
		write(l.t, "ipv4/neigh/"+veth+"/proxy_delay", "0")
		write(l.t, "ipv4/conf/"+veth+"/proxy_arp", "1")
		write(l.t, "ipv4/conf/"+veth+"/rp_filter", "1")
	})
	gateway := "169.254.1.1"
	if l.overlay == cilium {
		gateway = overlayAddrs(gatewayHost)[0]
	}
	lines := append(address("eth0", sized(addrs, 32, 128)...), "link set eth0 up")
	for _, a := range addrs {
		l.node.Batch("route add " + a + " dev " + veth)
		if strings.Contains(a, ":") {
			lines = append(lines, "route add default via fe80::ecee:eeff:feee:eeee dev eth0")
		} else {
			lines = append(lines, "route add "+gateway+" dev eth0 scope link", "route add default via "+gateway+" dev eth0")
		}
	}
	pod.Batch(lines...)
}

// joinPointToPoint does it as upstream's ptp: the subnet is reached by its first
// address, which is on the host's end of each pod.
func (l *lab) joinPointToPoint(pod *netopstest.NS, veth string, addrs []string) {
	lines := []string{"link set eth0 up"}
	for _, a := range addrs {
		gateways, subnet, bits, host := overlayAddrs(gatewayHost), "10.244.1.0/24", "/24", "/32"
		gateway := gateways[0]
		if strings.Contains(a, ":") {
			gateway, subnet, bits, host = gateways[1], "fd00:10:244:1::/64", "/64", "/128"
		}
		l.node.Batch(append(address(veth, gateway+host), "route add "+a+" dev "+veth)...)
		lines = append(lines, address("eth0", a+bits+" noprefixroute")...)
		lines = append(lines, "route add "+gateway+" dev eth0", "route add "+subnet+" via "+gateway+" dev eth0", "route add default via "+gateway+" dev eth0")
	}
	pod.Batch(lines...)
}

// detach takes the newest underlay interface away, as macvlan's DEL does.
func (l *lab) detach(ifname string) {
	l.t.Helper()
	l.unplug(ifname)
	l.nets--
}

func (l *lab) unplug(ifname string) {
	l.t.Helper()
	l.pod.Batch("link del " + ifname)
	delete(l.places, "pod."+ifname)
}

// attach gives the pod its next underlay interface, by upstream's macvlan on a
// LAN. It returns the result.
func (l *lab) attach(lan int) (ifname, prevResult string) {
	l.t.Helper()
	l.nets++
	return l.plug(l.nets, lan)
}

// plug is attach of any interface, netN.
func (l *lab) plug(n, lan int) (ifname, prevResult string) {
	l.t.Helper()
	ifname = fmt.Sprint("net", n)
	var addrs, routes []string
	gateways := l.underlay.of(on(lan, 1)...)
	own := l.underlay.of(on(lan, podLAN+n)...)
	for i, a := range sized(own, 24, 64) {
		addrs = append(addrs, fmt.Sprintf(`{"address": %q, "gateway": %q}`, a, gateways[i]))
	}
	for _, dst := range l.underlay.of("0.0.0.0/0", "::/0") {
		if l.routeless {
			break
		}
		routes = append(routes, fmt.Sprintf(`{"dst": %q}`, dst))
	}
	conf := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "type": "macvlan", "master": "up%d",
		"ipam": {"type": "static", "addresses": [%s], "routes": [%s]}}`, ifname, lan, strings.Join(addrs, ", "), strings.Join(routes, ", "))
	c := plugintest.New(l.t, "macvlan", l.pod, conf).With(map[string]string{"CNI_IFNAME": ifname, "CNI_PATH": os.Getenv("PATH")})
	l.node.Enter(func() { prevResult = c.OK("ADD").Stdout })
	l.pod.AwaitIPv6(ifname)
	l.have("pod."+ifname, l.pod, own...)
	return ifname, prevResult
}
