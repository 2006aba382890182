package netops

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/jsonappend"
)

// Neigh is a neighbour entry (ip-neighbour(8)). One that is wanted is
// permanent.
type Neigh struct {
	Dev          string     `json:"dev"`
	IP           netip.Addr `json:"ip"`
	HardwareAddr string     `json:"hardwareAddr"`
	// Learnt says that the kernel has it from the network, or tries to: it
	// gives way to one that is configured.
	Learnt bool `json:"learnt"`
	// Flags (NTF_ROUTER, NTF_EXT_LEARNED) and Protocol are those of an entry that
	// was there, with which it goes back.
	Flags    uint8 `json:"flags"`
	Protocol uint8 `json:"protocol"`
}

// String is the entry as ip(8) takes it, but for its state.
func (n *Neigh) String() string {
	s := n.IP.String()
	if n.HardwareAddr != "" {
		s += " lladdr " + n.HardwareAddr
	}
	s += " dev " + n.Dev
	if n.Flags&unix.NTF_ROUTER != 0 {
		s += " router"
	}
	return s
}

// Command is the ip(8) command that does that with the entry.
func (n *Neigh) Command(verb Verb) string {
	c := "ip neigh " + string(verb) + " " + n.String()
	if verb != Delete {
		c += " nud permanent"
	}
	return c
}

// Instead is the entry where another one should be.
func (n *Neigh) Instead() string {
	if n.Learnt {
		return n.String() + " (learnt by the kernel)"
	}
	return n.String()
}

type neighKey struct {
	dev string
	ip  netip.Addr
}

func (n *Neigh) key() neighKey { return neighKey{n.Dev, n.IP} }

// SatisfiedBy reports whether have, which is of the same address on the same
// interface, is as it is asked for.
func (n *Neigh) SatisfiedBy(have *Neigh) bool {
	return have.HardwareAddr == n.HardwareAddr && !have.Learnt
}

// AddTo adds the entry to a state.
func (n *Neigh) AddTo(s *State) { s.Neighs = append(s.Neighs, *n) }

// Cover makes a query look at the entries of the interface.
func (n *Neigh) Cover(q *Query) { q.Neighs = append(q.Neighs, n.Dev) }

func (n *Neigh) stage(verb Verb) Stage {
	if verb == Delete {
		return DropNeighs
	}
	return AddNeighs
}

func (n *Neigh) validate() error {
	if !ValidDevice(n.Dev) || !n.IP.IsValid() || n.IP.Zone() != "" || n.IP.Is4In6() || n.Learnt {
		return fmt.Errorf("neighbour %s: none that these plugins make", n)
	}
	return validHardwareAddr(n.HardwareAddr)
}

func validHardwareAddr(s string) error {
	mac, err := net.ParseMAC(s)
	if err == nil && mac.String() != s {
		err = fmt.Errorf("hardware address %s: written otherwise than %s", s, mac)
	}
	return err
}

func (n *Neigh) appendJSON(b []byte) []byte {
	o := jsonappend.Open(b)
	o.Text("dev", n.Dev)
	o.Addr("ip", n.IP)
	o.Text("hardwareAddr", n.HardwareAddr)
	o.Flag("learnt", n.Learnt)
	o.Number("flags", uint32(n.Flags))
	o.Number("protocol", uint32(n.Protocol))
	return o.Close()
}

// ConflictingNeigh finds the entry that keeps one from being added: another one
// for its address on its interface that is permanent, too.
func (s State) ConflictingNeigh(want *Neigh) *Neigh {
	for have := range each(s.Neighs) {
		if have.key() == want.key() && have.HardwareAddr != want.HardwareAddr && !have.Learnt {
			return have
		}
	}
	return nil
}

// flushed are the permanent entries that the kernel deletes with a hardware
// address (NETDEV_CHANGEADDR in net/ipv4/arp.c and net/ipv6/ndisc.c) and that
// the change does not delete, and those that were flushed before.
func (c *Change) flushed(have State, needed *Change) (flushed []Neigh) {
	changes := func(dev string) bool {
		return slices.ContainsFunc(needed.Add.Links, func(l LinkAddr) bool { return l.Dev == dev })
	}
	for h := range each(have.Neighs) {
		if !h.Learnt && changes(h.Dev) && !slices.Contains(needed.Del.Neighs, *h) {
			flushed = append(flushed, *h)
		}
	}
	for l := range each(c.Flushed) {
		if !slices.ContainsFunc(flushed, func(n Neigh) bool { return n.key() == l.key() }) {
			flushed = append(flushed, *l)
		}
	}
	return flushed
}
