package netops

import (
	"fmt"
	"net"

	"github.com/cni-netops/plugins/internal/jsonappend"
)

// LinkAddr is the hardware address of an interface.
type LinkAddr struct {
	Dev          string `json:"dev"`
	HardwareAddr string `json:"hardwareAddr"` // as net.HardwareAddr prints it
}

// Command is the ip(8) command that gives the interface the address.
func (l *LinkAddr) Command(Verb) string {
	return "ip link set dev " + l.Dev + " address " + l.HardwareAddr
}

// Instead is the address where the interface should have another one.
func (l *LinkAddr) Instead() string { return l.HardwareAddr }

func (l *LinkAddr) satisfiedBy(have *LinkAddr) bool { return l.HardwareAddr == have.HardwareAddr }

// AddTo adds the address to a state.
func (l *LinkAddr) AddTo(s *State) { s.Links = append(s.Links, *l) }

// Cover makes a query look at the interface, and at the neighbours that a new
// address would take away.
func (l *LinkAddr) Cover(q *Query) {
	q.Links, q.HardwareAddrs = append(q.Links, l.Dev), true
	q.Neighs = append(q.Neighs, l.Dev)
}

func (l *LinkAddr) stage(verb Verb) Stage {
	if verb == Delete {
		return Never
	}
	return SetLinks
}

func (l *LinkAddr) validate() error {
	if !ValidDevice(l.Dev) {
		return fmt.Errorf("interface %q: no interface can have that name", l.Dev)
	}
	return validHardwareAddr(l.HardwareAddr)
}

func (l *LinkAddr) appendJSON(b []byte) []byte {
	o := jsonappend.Open(b)
	o.Text("dev", l.Dev)
	o.Text("hardwareAddr", l.HardwareAddr)
	return o.Close()
}

// Link is an interface as it was found.
type Link struct {
	Name         string
	Index        uint32
	Type         uint16           // ARPHRD_… (linux/if_arp.h)
	Flags        uint32           // IFF_… (netdevice(7))
	HardwareAddr net.HardwareAddr // nil where it has none
}

// Peer is the other end of a pair of interfaces.
type Peer struct {
	Name         string
	Index        uint32
	HardwareAddr string
	Master       string // the bridge, say, that it is a port of; empty without
	MasterKind   string // "bridge", "openvswitch", …
}
