package netops

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Addr is an address of an interface as it was found.
type Addr struct {
	Dev    string
	Prefix netip.Prefix // with its host bits: 10.1.0.5/16
	Subnet netip.Prefix // that is reached directly: the peer's, where there is one
	Scope  Scope
	Flags  uint32 // IFA_F_… (rtnetlink(7))
}

// Primary reports whether the address is global, and none that the kernel made
// for a while or that was added to another of its subnet. (IPv4 has no
// temporary ones: the bit is one.)
func (a Addr) Primary() bool {
	return a.Scope == ScopeGlobal && a.Flags&(unix.IFA_F_SECONDARY|unix.IFA_F_TEMPORARY) == 0
}

// Duplicate reports whether the kernel has found the address on another host of
// the link (RFC 4862, section 5.4).
func (a Addr) Duplicate() bool { return a.Flags&unix.IFA_F_DADFAILED != 0 }

// Usable reports whether the host would choose the address for what it sends.
func (a Addr) Usable() bool {
	return a.Primary() && !a.Duplicate() && a.Flags&unix.IFA_F_DEPRECATED == 0
}
