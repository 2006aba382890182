package netops

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Protocol is the rtnetlink protocol number of every route made here, the tag
// by which ours are known on the host (rtnetlink(7), rtm_protocol).
const Protocol = 77

// TableMain is the kernel's main routing table.
const TableMain = unix.RT_TABLE_MAIN

// metric6 is the metric that the kernel gives an IPv6 route without one
// (IP6_RT_PRIO_USER).
const metric6 = 1024

// Scope is the distance to a route's destination (rtnetlink(7), rtm_scope).
// Zero is what ip(8) would choose; every other value is the kernel's, but for
// ScopeGlobal, which is 0 on the wire.
type Scope uint16

// The scopes that the kernel names.
const (
	ScopeAuto   Scope = 0
	ScopeGlobal Scope = 256 + unix.RT_SCOPE_UNIVERSE
	ScopeSite   Scope = unix.RT_SCOPE_SITE
	ScopeLink   Scope = unix.RT_SCOPE_LINK
	ScopeHost   Scope = unix.RT_SCOPE_HOST
)

func (s Scope) String() string {
	switch s {
	case ScopeGlobal:
		return "global"
	case ScopeSite:
		return "site"
	case ScopeLink:
		return "link"
	case ScopeHost:
		return "host"
	}
	return strconv.Itoa(int(s))
}

// Type is what becomes of a packet that a route matches (rtnetlink(7),
// rtm_type).
type Type uint8

// The types that a route may be made with.
const (
	Unicast     Type = unix.RTN_UNICAST
	Blackhole   Type = unix.RTN_BLACKHOLE
	Unreachable Type = unix.RTN_UNREACHABLE
	Prohibit    Type = unix.RTN_PROHIBIT
	throw       Type = unix.RTN_THROW
)

var typeNames = [...]string{
	Unicast: "unicast", unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast",
	unix.RTN_ANYCAST: "anycast", unix.RTN_MULTICAST: "multicast", Blackhole: "blackhole",
	Unreachable: "unreachable", Prohibit: "prohibit", throw: "throw",
}

func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return strconv.Itoa(int(t))
}

// Rejects reports whether the type sends packets nowhere, so that its routes
// have no next hop. (IPv6 lists such a route on lo.)
func (t Type) Rejects() bool {
	return t == Blackhole || t == Unreachable || t == Prohibit || t == throw
}

// NextHop is one of those that a multipath route sends packets to.
type NextHop struct {
	Gw     netip.Addr `json:"gw"`
	Dev    string     `json:"dev"`
	Weight uint16     `json:"weight"` // 1 to 256; zero means 1
	OnLink bool       `json:"onlink"` // the gateway is reached directly, whatever the subnets say
}

func (h NextHop) weight() uint16 { return max(h.Weight, 1) }

// SameHop reports whether two hops lead the same way, whatever their weights.
func (h NextHop) SameHop(o NextHop) bool { return h.Gw == o.Gw && h.Dev == o.Dev }

// Route is one entry of a routing table. In a route that is wanted, a zero
// field means that nothing is asked of it. One that was read from the kernel
// has all fields, and carries the kernel's own message, by which it goes back
// exactly as it was, attributes unknown here included.
type Route struct {
	Dst    netip.Prefix `json:"dst"`    // masked; a default route has length 0
	Table  uint32       `json:"table"`  // never 0
	Metric uint32       `json:"metric"` // IPv6: never 0, which the kernel reads as 1024
	Type   Type         `json:"type"`
	Gw     netip.Addr   `json:"gw"`
	Dev    string       `json:"dev"`
	// AnyDev says that Dev is our choice: the same gateway by another device
	// is the same route.
	AnyDev bool `json:"anyDev"`
	// AnyGw says that Gw is our choice: every route by the same device is the
	// same route.
	AnyGw bool `json:"anyGw"`
	// Hops are the next hops of a multipath route, which has no Gw and Dev.
	Hops     []NextHop  `json:"hops"`
	Src      netip.Addr `json:"src"`
	Scope    Scope      `json:"scope"`  // IPv4 only: IPv6 routes have none
	OnLink   bool       `json:"onlink"` // of a multipath route: all of its next hops
	MTU      uint32     `json:"mtu"`    // bytes
	AdvMSS   uint32     `json:"advmss"` // bytes
	Protocol uint8      `json:"protocol"`
	Tos      uint8      `json:"tos"`
	// From is the source that an IPv6 route is for (RTA_SRC); zero is any.
	From netip.Prefix `json:"from"`
	// NhID is the nexthop object that the route goes by; it is one of others.
	NhID    uint32 `json:"nhid"`
	Expires uint32 `json:"expires"` // seconds left; zero is for ever

	// Raw is the kernel's message, an rtmsg and its attributes, without what
	// cannot be sent back.
	Raw []byte `json:"raw"`
	// Siblings are the routes that the kernel listed beside this one under the
	// same key, in its order; the first Position of them stood before it. It is
	// put back among them. Records say peers and rank, as the first release did.
	Siblings []Route `json:"peers"`
	Position int     `json:"rank"`
}

// ValidDevice reports whether an interface can have that name (dev_valid_name in
// net/core/dev.c).
func ValidDevice(name string) bool {
	return name != "" && len(name) < unix.IFNAMSIZ && name != "." && name != ".." && !strings.ContainsAny(name, "/: \t\n\v\f\r\x00")
}

// Normalize fills in what the kernel would: table main, type unicast, and
// IPv6's metric 1024.
func (r Route) Normalize() Route {
	r.Dst = r.Dst.Masked()
	r.Table = cmp.Or(r.Table, TableMain)
	r.Type = cmp.Or(r.Type, Unicast)
	if r.Is6() {
		r.Metric = cmp.Or(r.Metric, metric6)
	}
	return r
}

// Default reports whether the route is for every destination of its family.
func (r *Route) Default() bool { return r.Dst.Bits() == 0 }

// Learnt reports whether the kernel made the route by itself: from an
// address, a router advertisement or a redirect.
func (r *Route) Learnt() bool {
	switch r.Protocol {
	case unix.RTPROT_KERNEL, unix.RTPROT_RA, unix.RTPROT_REDIRECT:
		return true
	}
	return false
}

// NextHops are the next hops of the route, one also where it is no multipath
// route, none where it rejects.
func (r *Route) NextHops() []NextHop {
	switch {
	case len(r.Hops) > 0:
		return r.Hops
	case r.Type.Rejects():
		return nil
	}
	return []NextHop{{Gw: r.Gw, Dev: r.Dev, OnLink: r.OnLink}}
}

// SingleNextHop is the next hop of a route that has just one; false for one with
// several, or none.
func (r *Route) SingleNextHop() (NextHop, bool) {
	return NextHop{Gw: r.Gw, Dev: r.Dev, OnLink: r.OnLink}, r.single() && !r.Type.Rejects()
}

// Is6 reports whether the route is of IPv6.
func (r *Route) Is6() bool { return r.Dst.Addr().Is6() }

// RouteKey is what the kernel lets only one route have that is added exclusively.
type RouteKey struct {
	dst           netip.Prefix
	table, metric uint32
	tos           uint8
	from          netip.Prefix
}

// Key is the route's.
func (r *Route) Key() RouteKey { return RouteKey{r.Dst, r.Table, r.Metric, r.Tos, r.From} }

// SameRoute reports whether o is this route: it has its key, its type and its next
// hops. Which other attributes it carries does not matter.
func (r *Route) SameRoute(o *Route) bool {
	return r.Key() == o.Key() && r.Type == o.Type && r.sameHops(o)
}

// SatisfiedBy reports whether have is this route and every further field that this
// one asks for is as asked. IPv6 merges routes of one metric, so there the
// next hops asked for may be some of those that have has.
func (r *Route) SatisfiedBy(have *Route) bool {
	return r.SameNextHops(have) &&
		(!r.Src.IsValid() || r.Src == have.Src) &&
		(r.Scope == ScopeAuto || r.Is6() || r.Scope == have.Scope) &&
		(!r.OnLink || have.OnLink || r.AnyGw) &&
		(r.MTU == 0 || r.MTU == have.MTU) &&
		(r.AdvMSS == 0 || r.AdvMSS == have.AdvMSS)
}

// SameNextHops reports whether have is this route, whatever else it carries.
func (r *Route) SameNextHops(have *Route) bool {
	return r.Key() == have.Key() && r.Type == have.Type && r.hopsIn(have)
}

// single reports whether the route has one next hop or none, the usual case, in
// which no list need be made to compare it.
func (r *Route) single() bool { return len(r.Hops) == 0 }

func (r *Route) sameHops(o *Route) bool {
	switch {
	case r.Type.Rejects():
		return true
	case r.single() && o.single():
		return r.Gw == o.Gw && r.Dev == o.Dev
	}
	a, b := r.NextHops(), o.NextHops()
	return len(a) == len(b) && containsAll(a, b)
}

// hopsIn reports whether have leads where r asks.
func (r *Route) hopsIn(have *Route) bool {
	switch {
	case r.Type.Rejects():
		return true
	case r.AnyGw:
		return !slices.ContainsFunc(have.NextHops(), func(h NextHop) bool { return h.Dev != r.Dev })
	case r.single() && have.single():
		return r.Gw == have.Gw && (r.Dev == have.Dev || r.AnyDev)
	}
	asked, there := r.NextHops(), have.NextHops()
	if len(asked) != len(there) && !r.Is6() {
		return false
	}
	for _, h := range asked {
		if !slices.ContainsFunc(there, func(t NextHop) bool {
			return h.Gw == t.Gw && (h.Dev == t.Dev || r.AnyDev) && (h.Weight == 0 || h.Weight == t.weight())
		}) {
			return false
		}
	}
	return true
}

// SubsetOf reports whether all of the route's next hops are next hops of have.
func (r *Route) SubsetOf(have *Route) bool {
	return r.Key() == have.Key() && r.Type == have.Type && containsAll(have.NextHops(), r.NextHops())
}

func containsAll(have, want []NextHop) bool {
	for _, w := range want {
		if !slices.ContainsFunc(have, w.SameHop) {
			return false
		}
	}
	return true
}

// SameAttributes reports whether both have the same fields. How long a route has left
// does not count.
func (r *Route) SameAttributes(o *Route) bool {
	return r.SameRoute(o) && r.Src == o.Src && r.Scope == o.Scope && r.OnLink == o.OnLink &&
		r.MTU == o.MTU && r.AdvMSS == o.AdvMSS && r.Protocol == o.Protocol
}

// Identical reports whether they also are one message of the kernel.
func (r *Route) Identical(o *Route) bool { return r.SameAttributes(o) && bytes.Equal(r.Raw, o.Raw) }

// protocolNames are those of /etc/iproute2/rt_protos that the kernel itself
// uses and ip(8) always knows.
var protocolNames = map[uint8]string{
	unix.RTPROT_REDIRECT: "redirect", unix.RTPROT_KERNEL: "kernel",
	unix.RTPROT_STATIC: "static", unix.RTPROT_RA: "ra",
}

// String is the route as ip(8) takes it, without our own protocol and without
// what ip chooses by itself.
func (r Route) String() string {
	var b strings.Builder
	if r.Type != Unicast {
		b.WriteString(r.Type.String() + " ")
	}
	b.WriteString(dstString(r.Dst))
	if !r.Type.Rejects() && r.single() && r.NhID == 0 {
		writeNextHop(&b, r.Dst, r.Gw, r.Dev)
	}
	r.writeAttributes(&b)
	for _, h := range r.Hops {
		if r.NhID != 0 {
			break // the object says which
		}
		b.WriteString(" nexthop")
		writeNextHop(&b, r.Dst, h.Gw, h.Dev)
		fmt.Fprintf(&b, " weight %d", h.weight())
		if r.OnLink || h.OnLink {
			b.WriteString(" onlink")
		}
	}
	return b.String()
}

func (r *Route) writeAttributes(b *strings.Builder) {
	number := func(key string, n uint32, unless uint32) {
		if n != unless {
			fmt.Fprintf(b, " %s %d", key, n)
		}
	}
	if r.From.IsValid() {
		b.WriteString(" from " + r.From.String())
	}
	if r.Tos != 0 {
		fmt.Fprintf(b, " tos %#02x", r.Tos)
	}
	number("table", r.Table, TableMain)
	b.WriteString(protocolWord(r.Protocol))
	if r.Scope != ScopeAuto && r.Scope != r.DefaultScope() {
		b.WriteString(" scope " + r.Scope.String())
	}
	if r.Src.IsValid() {
		b.WriteString(" src " + r.Src.String())
	}
	if r.Is6() {
		number("metric", r.Metric, metric6)
	} else {
		number("metric", r.Metric, 0)
	}
	number("nhid", r.NhID, 0)
	number("mtu", r.MTU, 0)
	number("advmss", r.AdvMSS, 0)
	number("expires", r.Expires, 0)
	if r.OnLink && r.single() {
		b.WriteString(" onlink")
	}
}

// protocolWord is how ip(8) takes a protocol, but for our own and those that it
// does not show.
func protocolWord(p uint8) string {
	if name, ok := protocolNames[p]; ok {
		return " proto " + name
	}
	if p == Protocol || p == unix.RTPROT_BOOT || p == unix.RTPROT_UNSPEC {
		return ""
	}
	return " proto " + strconv.Itoa(int(p))
}

// DefaultScope is the scope that ip(8) gives a route that is made without one.
func (r *Route) DefaultScope() Scope {
	if !r.Is6() && r.Type == Unicast && r.single() && !r.Gw.IsValid() {
		return ScopeLink
	}
	return ScopeGlobal
}

func dstString(p netip.Prefix) string {
	switch {
	case p.Bits() == 0:
		return "default"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

func writeNextHop(b *strings.Builder, dst netip.Prefix, gw netip.Addr, dev string) {
	if gw.IsValid() {
		b.WriteString(" via ")
		if gw.Is6() != dst.Addr().Is6() { // RFC 5549
			b.WriteString("inet6 ")
		}
		b.WriteString(gw.String())
	}
	if dev != "" {
		b.WriteString(" dev " + dev)
	}
}

// Command is the ip(8) command that does that with the route.
func (r *Route) Command(verb Verb) string {
	if r.Is6() {
		return "ip -6 route " + string(verb) + " " + r.String()
	}
	return "ip route " + string(verb) + " " + r.String()
}

// Instead is the route where another one should be.
func (r *Route) Instead() string { return r.String() }

// AddTo adds the route to a state.
func (r *Route) AddTo(s *State) { s.Routes = append(s.Routes, *r) }

// Cover makes a query list the routes to the destination in the table.
func (r *Route) Cover(q *Query) {
	if !slices.Contains(q.Tables, r.Table) {
		q.Tables = append(q.Tables, r.Table)
	}
	if q.To != nil {
		q.To[r.Dst] = true
	}
}

// stage is none of its own: a change sorts its routes by [Change.RouteSteps].
func (r *Route) stage(Verb) Stage { return Never }

// InTable is the route in another table, message included.
func (r *Route) InTable(table uint32) Route {
	moved := *r
	moved.Table, moved.Siblings, moved.Position = table, nil, 0
	if r.Raw != nil {
		moved.Raw = rawInTable(r.Raw, table)
	}
	return moved
}

// AsOnLink is the route by the same next hops, which are reached directly whatever
// other routes say.
func (r *Route) AsOnLink() Route {
	on := *r
	on.OnLink = true
	if r.Raw != nil {
		on.Raw = rawOnLink(r.Raw)
	}
	return on
}

// ViaDevice is the part of a route that leads over an interface.
func (r *Route) ViaDevice(dev string) (Route, bool) {
	if r.Type.Rejects() {
		return Route{}, false
	}
	over, rest := Partition(r.NextHops(), func(h NextHop) bool { return h.Dev == dev })
	switch {
	case len(over) == 0:
		return Route{}, false
	case len(rest) == 0:
		return *r, true
	}
	return r.withNextHops(over), true
}

// Copy is the route in another table, made by us. All its other attributes are
// kept, but for its lifetime: no router prolongs that of the copy, as it does
// with what it announces.
func (r *Route) Copy(table uint32) Route {
	c := r.InTable(table)
	c.Protocol, c.Expires = Protocol, 0
	if c.Raw != nil {
		header(c.Raw).Protocol = Protocol
	}
	return c
}

// The destinations of default routes.
var (
	IPv4Default = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	IPv6Default = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)
