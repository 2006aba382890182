package main

import (
	"os"
	"os/exec"
	"strings"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// Questions go to the echo's port. A firewall with state lets answers pass of
// whose questions it knows, and nothing else: no answer of a conversation of which
// it has not seen the beginning. (Of UDP, conntrack takes that for a new one.)
const (
	firewall = `*filter
-P FORWARD DROP
-A INPUT -p udp --sport 7 -m conntrack --ctstate NEW -j DROP
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -p udp --dport 7 -m conntrack --ctstate NEW -j ACCEPT
COMMIT
`
	// dropInvalid is what a node has that drops invalid packets, as kube-proxy does.
	dropInvalid = `*filter
-A FORWARD -p udp --sport 7 -m conntrack --ctstate NEW -j DROP
COMMIT
`
)

// guard puts a firewall between the LANs, makes another node with a pod, and has
// nodes drop what they have seen half of.
func (l *lab) guard(other, far *netopstest.NS) {
	l.t.Helper()
	l.forwards(other)
	l.gw.Batch("link add other1 type veth peer name up1 netns "+other.Name, "link set other1 master lan1 up")
	other.Batch(append(append(address("up1", sized(on(1, 11), 24, 64)...), address("lo", "10.244.2.1/32", "fd00:10:244:2::1/128")...),
		"link set up1 up", "route add default via "+on(1, 1)[0], "route add default via "+on(1, 1)[1],
		"link add vethfar type veth peer name eth0 netns "+far.Name, "link set vethfar up", "addr add fe80::1/64 dev vethfar nodad",
		"route add 10.244.2.6 dev vethfar", "route add fd00:10:244:2::6 dev vethfar",
		"route add 10.244.1.0/24 via "+on(1, 10)[0], "route add fd00:10:244:1::/64 via "+on(1, 10)[1])...)
	far.Batch("link set eth0 up", "addr add 10.244.2.6/32 dev eth0", "addr add fd00:10:244:2::6/128 dev eth0", "route add 10.244.2.1 dev eth0",
		"route add default via 10.244.2.1 dev eth0", "route add default via fe80::1 dev eth0")
	byOther := []string{"route add 10.244.2.0/24 via " + on(1, 11)[0], "route add fd00:10:244:2::/64 via " + on(1, 11)[1]}
	for _, ns := range []*netopstest.NS{l.node, l.gw, l.lans[0]} {
		ns.Batch(byOther...)
	}
	l.have("other", other, on(1, 11)...)
	l.have("far", far, "10.244.2.6", "fd00:10:244:2::6")
	for _, ns := range []*netopstest.NS{l.node, other} {
		l.filter(ns, dropInvalid)
	}
	l.filter(l.gw, firewall)
	for _, ns := range []*netopstest.NS{l.node, l.gw} { // what passes a bridge is none of a firewall's business
		ns.Enter(func() {
			for _, key := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
				if err := os.WriteFile("/proc/sys/net/bridge/"+key, []byte("0"), 0o600); err != nil && !os.IsNotExist(err) {
					l.t.Error(err)
				}
			}
		})
	}
}

// filter gives a namespace rules of both families.
func (l *lab) filter(ns *netopstest.NS, rules string) {
	l.t.Helper()
	ns.Enter(func() {
		for _, tool := range []string{"iptables-restore", "ip6tables-restore"} {
			cmd := exec.Command(tool)
			cmd.Stdin = strings.NewReader(rules)
			if out, err := cmd.CombinedOutput(); err != nil {
				l.t.Fatalf("%s: %v: %s", tool, err, out)
			}
		}
	})
}
