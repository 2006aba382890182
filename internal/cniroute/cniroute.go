// Package cniroute decodes routes as configurations give them: the route
// object of CNI 1.1 with what ip-route(8) has beyond it.
package cniroute

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// Optional is a field for which zero is a value as well.
type Optional[T comparable] struct {
	Value T
	Given bool
}

// Some is a field that is given.
func Some[T comparable](v T) Optional[T] { return Optional[T]{v, true} }

// Or is the field's value, or another where it is not given.
func (o Optional[T]) Or(other T) T {
	if o.Given {
		return o.Value
	}
	return other
}

// Matches reports whether v is what the field asks for, if it asks.
func (o Optional[T]) Matches(v T) bool { return !o.Given || o.Value == v }

// Route is a valid route of a configuration. Fields that are not given are
// zero.
type Route struct {
	Dst    netip.Prefix         // masked
	Gw     Optional[netip.Addr] // given and zero: by no gateway, on the link
	Gws    []netops.NextHop
	Dev    string
	Src    netip.Addr
	MTU    uint32 // bytes
	AdvMSS uint32 // bytes
	Metric Optional[uint32]
	Table  Optional[uint32]
	Scope  Optional[netops.Scope]
	Type   Optional[netops.Type]
	OnLink Optional[bool]
}

// Wanted is the route as it is asked of the kernel. By one gateway of a list it is no
// multipath route.
func (r *Route) Wanted() netops.Route {
	want := netops.Route{Dst: r.Dst, Table: r.Table.Or(0), Metric: r.Metric.Or(0), Type: r.Type.Or(0), Gw: r.Gw.Value, Dev: r.Dev, Src: r.Src,
		Scope: r.Scope.Or(netops.ScopeAuto), OnLink: r.OnLink.Value, MTU: r.MTU, AdvMSS: r.AdvMSS, Protocol: netops.Protocol}
	if len(r.Gws) == 1 {
		want.Gw, want.Dev = r.Gws[0].Gw, r.Gws[0].Dev
	} else {
		want.Hops = slices.Clone(r.Gws)
	}
	return want.Normalize()
}

// manyProblems are more than anybody reads, of a list of a million that is all
// wrong.
const manyProblems = 1000

// Limits of the kernel: it cuts larger values silently (RTAX_MTU, RTAX_ADVMSS
// in net/ipv4/metrics.c); RFC 791 has the least MTU.
const (
	minMTU    = 68
	maxMTU    = 65535 - 15
	maxAdvMSS = 65535 - 40
	maxWeight = 256
	maxHops   = 128 // not far above it the kernel cannot list a route any more
)

// Schema says under which names routes have the fields that not all give the
// same ones.
type Schema struct {
	Dst, Gw, Dev string
	Gws          string // a multipath route; empty where there are none
	Priority     string // another name of metric; empty where there is none
	// Complete says that a route tells its way itself: nothing is filled in.
	Complete bool
}

// CNI is the schema of the CNI specification, and what is beyond it here.
var CNI = Schema{Dst: "dst", Gw: "gw", Dev: "dev", Gws: "gws", Priority: "priority"}

// Keys are the fields of a route.
func (s Schema) Keys() []string {
	keys := []string{s.Dst, s.Gw, s.Gws, "mtu", "advmss", s.Priority, "metric", "table", "scope", s.Dev, "src", "onlink", "type"}
	return slices.DeleteFunc(keys, func(k string) bool { return k == "" })
}

// fields is a route before its values are looked at.
type fields struct {
	Dst, Gw, Dev, Src, Type              Optional[string]
	MTU, AdvMSS, Priority, Metric, Table Optional[uint32]
	Scope                                Optional[uint32]
	OnLink                               Optional[bool]
	Gws                                  []strictjson.Value // nil where it is not given
	// refused: the destination was of the wrong type, which is told; faulty:
	// something is told already.
	refused, faulty bool
}

// DecodeList decodes a list of routes and notes all problems in it. Thousands
// are read in one quick pass; only if that fails, each by itself.
func (s Schema) DecodeList(list strictjson.Value) []Route {
	plain, ok := s.scanList(list.Raw)
	if !ok {
		plain = s.decodeFields(list)
	}
	routes := make([]Route, 0, len(plain))
	for i := range plain {
		if r, ok := plain[i].route(checker{schema: s, list: list, index: i}); ok {
			routes = append(routes, r)
		}
	}
	return routes
}

// decodeFields is the slow way, which names each value of a wrong type and
// leaves it out.
func (s Schema) decodeFields(list strictjson.Value) []fields {
	var all []fields
	keys := s.Keys()
	for _, v := range list.List() {
		if len(list.Problems().List) > manyProblems {
			break // enough to tell
		}
		o, ok := v.Object()
		if !ok {
			all = append(all, fields{refused: true, faulty: true})
			continue
		}
		told := len(list.Problems().List)
		o.Only(keys...)
		f := s.fields(o)
		f.faulty = len(list.Problems().List) > told
		all = append(all, f)
	}
	return all
}

func (s Schema) fields(o strictjson.Object) (f fields) {
	f.Dst, f.Gw, f.Dev, f.Src, f.Type = text(o, s.Dst), text(o, s.Gw), text(o, s.Dev), text(o, "src"), text(o, "type")
	f.refused = o.Has(s.Dst) && !f.Dst.Given
	f.MTU = number(o, "mtu", minMTU, maxMTU)
	f.AdvMSS = number(o, "advmss", 1, maxAdvMSS)
	if s.Priority != "" {
		f.Priority = number(o, s.Priority, 0, math.MaxUint32)
	}
	f.Metric = number(o, "metric", 0, math.MaxUint32)
	f.Table = number(o, "table", 1, math.MaxUint32)
	f.Scope = number(o, "scope", 0, math.MaxUint8)
	if v, ok := o.Get("onlink"); ok {
		f.OnLink.Value, f.OnLink.Given = v.Bool()
	}
	if v, ok := o.Get(s.Gws); ok && s.Gws != "" {
		f.Gws = v.List()
	}
	return f
}

func text(o strictjson.Object, key string) (f Optional[string]) {
	if v, ok := o.Get(key); ok {
		f.Value, f.Given = v.Text()
	}
	return f
}

func number(o strictjson.Object, key string, low, high uint32) (f Optional[uint32]) {
	if v, ok := o.Get(key); ok {
		f.Value, f.Given = v.Uint32(low, high)
	}
	return f
}

// checker notes problems of one route of a list. The path is only made when
// there is one.
type checker struct {
	schema Schema
	list   strictjson.Value
	index  int
}

func (c checker) value(key string) strictjson.Value {
	path := fmt.Sprintf("%s[%d].%s", c.list.Path, c.index, key)
	return strictjson.NewValue(nil, strings.TrimSuffix(path, "."), c.list.Problems())
}

func (c checker) invalid(key, format string, args ...any) {
	c.value(key).Invalid(format, args...)
}

// route checks the values of the fields, and that they go together.
func (f *fields) route(c checker) (Route, bool) {
	before := len(c.list.Problems().List)
	for _, text := range []*Optional[string]{&f.Gw, &f.Src, &f.Type} {
		text.Given = text.Given && text.Value != "" // templates leave empty what they have no value for
	}
	r := Route{Dev: c.dev(c.schema.Dev, f.Dev), OnLink: f.OnLink}
	switch {
	case f.Dst.Given:
		r.Dst = c.prefix(c.schema.Dst, f.Dst.Value)
	case !f.refused:
		c.invalid(c.schema.Dst, "missing")
	}
	r.Gw, r.Src = c.gateway(f.Gw, r.Dst), c.addr("src", f.Src, r.Dst)
	if r.Gws = c.hops(f.Gws, r.Dst); r.Gws != nil {
		r.Gws, r.Gw = c.besides(r.Gws, r.Gw), Optional[netip.Addr]{}
	}
	r.MTU = c.number("mtu", f.MTU, minMTU, maxMTU).Value
	r.AdvMSS = c.number("advmss", f.AdvMSS, 1, maxAdvMSS).Value
	r.Metric = c.metric(f)
	r.Table = c.number("table", f.Table, 1, math.MaxUint32)
	if scope := c.number("scope", f.Scope, 0, math.MaxUint8); scope.Given {
		r.Scope = Some(netops.WireScope(uint8(scope.Value)))
	}
	if f.Type.Given {
		r.Type = Some(c.kind(f.Type.Value))
	}
	c.together(r, f)
	if told := len(c.list.Problems().List); c.schema.Complete && !f.faulty && told == before {
		c.complete(r)
	}
	return r, !f.refused && len(c.list.Problems().List) == before
}

// together notes what does not go with what.
func (c checker) together(r Route, f *fields) {
	s := c.schema
	if f.Gws != nil && len(f.Gws) == 0 {
		c.invalid(s.Gws, "an empty list")
	}
	if len(r.Gws) > maxHops {
		c.invalid(s.Gws, "%d gateways, %d at most", len(r.Gws), maxHops)
	}
	if f.Gws != nil && f.Dev.Value != "" {
		c.invalid(s.Gws, "given beside %q, which belongs to each gateway here", s.Dev)
	}
	if r.Type.Given && r.Type.Value.Rejects() && (f.Gw.Given || f.Gws != nil || r.Dev != "" || r.OnLink.Value) {
		ways := slices.DeleteFunc([]string{s.Gw, s.Gws, s.Dev}, func(k string) bool { return k == "" })
		c.invalid("type", "a route of type %s goes without %s and onlink", r.Type.Value, strings.Join(ways, ", "))
	}
}

// complete notes what a route lacks that has to tell its way.
func (c checker) complete(r Route) {
	s := c.schema
	switch {
	case r.Type.Value.Rejects():
	case !r.Gw.Value.IsValid() && r.Dev == "":
		c.invalid("", "neither %s nor %s", s.Dev, s.Gw)
	case r.OnLink.Value && (!r.Gw.Value.IsValid() || r.Dev == ""):
		c.invalid("onlink", "goes with %s and %s", s.Dev, s.Gw)
	}
}

func (c checker) metric(f *fields) Optional[uint32] {
	if f.Metric.Given && f.Priority.Given && f.Metric != f.Priority {
		c.invalid("metric", "%d, but %s, which is the same, is %d", f.Metric.Value, c.schema.Priority, f.Priority.Value)
	}
	if f.Metric.Given {
		return f.Metric
	}
	return f.Priority
}

func (c checker) number(key string, n Optional[uint32], low, high uint32) Optional[uint32] {
	if n.Given && (n.Value < low || n.Value > high) {
		c.invalid(key, "%d is not a whole number from %d to %d", n.Value, low, high)
	}
	return n
}

func (c checker) kind(name string) netops.Type {
	for _, t := range []netops.Type{netops.Unicast, netops.Blackhole, netops.Unreachable, netops.Prohibit} {
		if t.String() == name {
			return t
		}
	}
	c.invalid("type", "%q is not unicast, blackhole, unreachable or prohibit", name)
	return netops.Unicast
}

// prefix reads a destination.
func (c checker) prefix(key, s string) netip.Prefix {
	p, ok := parsePrefix(s)
	if !ok {
		c.invalid(key, "%q is not an IP address or subnet", s)
	}
	return p
}

// parsePrefix reads a subnet, or an address as the subnet of one host.
func parsePrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil && !p.Addr().Is4In6() {
		return p.Masked(), true
	}
	if ip, err := netip.ParseAddr(s); err == nil && plain(ip) {
		return netip.PrefixFrom(ip, ip.BitLen()), true
	}
	return netip.Prefix{}, false
}

// gateway reads one. The unspecified address of the family is what plugins have
// always taken for none.
func (c checker) gateway(s Optional[string], dst netip.Prefix) Optional[netip.Addr] {
	ip, err := netip.ParseAddr(s.Value)
	if s.Given && err == nil && ip.IsUnspecified() && dst.IsValid() && ip.Is4() == dst.Addr().Is4() {
		return Some(netip.Addr{})
	}
	gw := c.addr(c.schema.Gw, s, dst)
	return Optional[netip.Addr]{gw, gw.IsValid()}
}

// besides are the gateways of a list and the one beside it, which is one of them
// or one more, as the CNI specification is going to have it
// (containernetworking/cni, pull request 1190).
func (c checker) besides(hops []netops.NextHop, gw Optional[netip.Addr]) []netops.NextHop {
	switch {
	case gw.Given && !gw.Value.IsValid():
		c.invalid(c.schema.Gws, "given beside a %q that says that there is none", c.schema.Gw)
	case gw.Given && !slices.ContainsFunc(hops, func(h netops.NextHop) bool { return h.Gw == gw.Value }):
		return append(hops, netops.NextHop{Gw: gw.Value})
	}
	return hops
}

// addr reads an address of the destination's family.
func (c checker) addr(key string, s Optional[string], dst netip.Prefix) netip.Addr {
	if !s.Given {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(s.Value)
	switch {
	case err != nil || !plain(ip):
		c.invalid(key, "%q is not an IP address", s.Value)
	case dst.IsValid() && ip.Is4() != dst.Addr().Is4():
		c.invalid(key, "%s is of another address family than %s %s", ip, c.schema.Dst, dst)
	case ip.IsUnspecified():
		c.invalid(key, "%q is no address of a host", s.Value)
	default:
		return ip
	}
	return netip.Addr{}
}

// plain reports whether an address is one that the kernel takes as written.
func plain(ip netip.Addr) bool { return ip.Zone() == "" && !ip.Is4In6() }

// dev reads the name of an interface; an empty one is none.
func (c checker) dev(key string, s Optional[string]) string {
	if name := s.Value; name != "" && !netops.ValidDevice(name) {
		c.invalid(key, "%q is not the name of an interface", name)
	}
	return s.Value
}

// Device sets name where the key is there, to the name of an interface.
func Device(o strictjson.Object, key string, name *string) {
	if v, text, ok := o.GetText(key); ok && !netops.ValidDevice(text) {
		v.Invalid("%q is not the name of an interface", text)
	} else if ok {
		*name = text
	}
}

// hops reads gws: addresses, or objects of gw, dev and weight.
func (c checker) hops(values []strictjson.Value, dst netip.Prefix) []netops.NextHop {
	var hops []netops.NextHop
	for i, v := range values {
		key := fmt.Sprintf("%s[%d]", c.schema.Gws, i)
		hop, ok := c.hop(v, key, dst)
		if ok && slices.ContainsFunc(hops, func(h netops.NextHop) bool { return h.Gw == hop.Gw && h.Dev == hop.Dev }) {
			c.invalid(key, "%s is there twice", hop.Gw)
		}
		hops = append(hops, hop)
	}
	return hops
}

func (c checker) hop(v strictjson.Value, key string, dst netip.Prefix) (hop netops.NextHop, ok bool) {
	if len(v.Raw) > 0 && v.Raw[0] == '"' {
		s, _ := v.Text()
		hop.Gw = c.addr(key, Some(s), dst)
		return hop, hop.Gw.IsValid()
	}
	o, ok := v.Object()
	if !ok {
		return hop, false
	}
	o.Only("gw", "dev", "weight")
	var weight uint32
	hop.Dev = c.dev(key+".dev", text(o, "dev"))
	o.Uint32("weight", &weight, 1, maxWeight)
	hop.Weight = uint16(weight)
	if gw := text(o, "gw"); gw.Given {
		hop.Gw = c.addr(key+".gw", gw, dst)
	} else if !o.Has("gw") {
		c.invalid(key+".gw", "missing")
	}
	return hop, hop.Gw.IsValid()
}
