// Package cniroute decodes routes as configurations give them: the route
// object of CNI 1.1 with what ip-route(8) has beyond it.
package cniroute

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"

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
	Dst    netip.Prefix // masked
	Gw     netip.Addr
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

// Limits of the kernel: it cuts larger values silently (RTAX_MTU, RTAX_ADVMSS
// in net/ipv4/metrics.c); RFC 791 has the least MTU.
const (
	minMTU    = 68
	maxMTU    = 65535 - 15
	maxAdvMSS = 65535 - 40
	maxWeight = 256
)

// Keys are the fields of a route.
var Keys = []string{"dst", "gw", "gws", "mtu", "advmss", "priority", "metric", "table", "scope", "dev", "src", "onlink", "type"}

// fields is a route before its values are looked at.
type fields struct {
	Dst      *string           `json:"dst"`
	Gw       *string           `json:"gw"`
	Gws      []json.RawMessage `json:"gws"`
	Dev      string            `json:"dev"`
	Src      *string           `json:"src"`
	MTU      *uint32           `json:"mtu"`
	AdvMSS   *uint32           `json:"advmss"`
	Priority *uint32           `json:"priority"`
	Metric   *uint32           `json:"metric"`
	Table    *uint32           `json:"table"`
	Scope    *uint8            `json:"scope"`
	Type     *string           `json:"type"`
	OnLink   *bool             `json:"onlink"`
	told     map[string]bool   // keys whose value was refused already
}

// DecodeList decodes a list of routes and notes all problems in it. Thousands
// are decoded in one typed pass; only if that fails, each by itself.
func DecodeList(list strictjson.Value) []Route {
	var typed []*fields
	d := json.NewDecoder(bytes.NewReader(list.Raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&typed); err == nil && !slices.Contains(typed, nil) {
		routes := make([]Route, 0, len(typed))
		for i, f := range typed {
			if r, ok := f.route(checker{list: list, index: i}); ok {
				routes = append(routes, r)
			}
		}
		return routes
	}
	for i, v := range list.List() {
		if f := decodeFields(v); f != nil {
			f.route(checker{list: list, index: i})
		}
	}
	return nil // there is a problem, or there would not be a second pass
}

// decodeFields is the slow way, which names each value of a wrong type and
// leaves it out.
func decodeFields(v strictjson.Value) *fields {
	o, ok := v.Object()
	if !ok {
		return nil
	}
	o.Fold(Keys)
	o.Only(Keys...)
	f := fields{told: map[string]bool{}}
	text := func(key string, into **string) {
		if v, ok := o.Get(key); ok {
			s, ok := v.Text()
			if f.told[key] = !ok; ok {
				*into = &s
			}
		}
	}
	number := func(key string, into **uint32, low, high uint32) {
		if v, ok := o.Get(key); ok {
			if n, ok := v.Uint32(low, high); ok {
				*into = &n
			}
		}
	}
	text("dst", &f.Dst)
	text("gw", &f.Gw)
	text("src", &f.Src)
	text("type", &f.Type)
	o.Text("dev", &f.Dev)
	number("mtu", &f.MTU, minMTU, maxMTU)
	number("advmss", &f.AdvMSS, 1, maxAdvMSS)
	number("priority", &f.Priority, 0, math.MaxUint32)
	number("metric", &f.Metric, 0, math.MaxUint32)
	number("table", &f.Table, 1, math.MaxUint32)
	var scope *uint32
	if number("scope", &scope, 0, math.MaxUint8); scope != nil {
		narrow := uint8(*scope)
		f.Scope = &narrow
	}
	if o.Has("onlink") {
		f.OnLink = new(bool)
		o.Bool("onlink", f.OnLink)
	}
	if gws, ok := o.Get("gws"); ok {
		for _, hop := range gws.List() {
			f.Gws = append(f.Gws, hop.Raw)
		}
	}
	return &f
}

// checker notes problems of one route of a list. The path is only made when
// there is one.
type checker struct {
	list   strictjson.Value
	index  int
	failed *bool
}

func (c checker) value(key string) strictjson.Value {
	return strictjson.NewValue(nil, fmt.Sprintf("%s[%d].%s", c.list.Path, c.index, key), c.list.Problems())
}

func (c checker) invalid(key, format string, args ...any) {
	*c.failed = true
	c.value(key).Invalid(format, args...)
}

// route checks the values of the fields, and that they go together.
func (f *fields) route(c checker) (Route, bool) {
	failed := false
	c.failed = &failed
	r := Route{Dev: f.Dev}
	switch {
	case f.Dst != nil:
		r.Dst = c.prefix("dst", *f.Dst)
	case !f.told["dst"]:
		c.invalid("dst", "missing")
	}
	r.Gw, r.Src = c.addr("gw", f.Gw, r.Dst), c.addr("src", f.Src, r.Dst)
	r.Gws = c.hops(f.Gws, r.Dst)
	r.MTU = c.number("mtu", f.MTU, minMTU, maxMTU)
	r.AdvMSS = c.number("advmss", f.AdvMSS, 1, maxAdvMSS)
	r.Metric = c.metric(f)
	if f.Table != nil {
		r.Table = Some(c.number("table", f.Table, 1, math.MaxUint32))
	}
	if f.Scope != nil {
		r.Scope = Some(scopeOf(*f.Scope))
	}
	if f.OnLink != nil {
		r.OnLink = Some(*f.OnLink)
	}
	if f.Type != nil {
		r.Type = Some(c.kind(*f.Type))
	}
	c.together(r, f)
	return r, !failed
}

// together notes what does not go with what.
func (c checker) together(r Route, f *fields) {
	if f.Gws != nil {
		switch {
		case len(f.Gws) == 0:
			c.invalid("gws", "an empty list")
		case f.Gw != nil:
			c.invalid("gws", "given beside \"gw\"")
		case r.Dev != "":
			c.invalid("gws", "given beside \"dev\", which belongs to each gateway here")
		}
	}
	if r.Type.Given && r.Type.Value.Rejects() && (f.Gw != nil || f.Gws != nil || r.Dev != "" || r.OnLink.Value) {
		c.invalid("type", "a route of type %s goes without gw, gws, dev and onlink", r.Type.Value)
	}
}

func scopeOf(s uint8) netops.Scope {
	if s == 0 {
		return netops.ScopeGlobal
	}
	return netops.Scope(s)
}

func (c checker) metric(f *fields) Optional[uint32] {
	switch {
	case f.Metric == nil && f.Priority == nil:
		return Optional[uint32]{}
	case f.Metric == nil:
		return Some(*f.Priority)
	case f.Priority != nil && *f.Priority != *f.Metric:
		c.invalid("metric", "%d, but priority, which is the same, is %d", *f.Metric, *f.Priority)
	}
	return Some(*f.Metric)
}

func (c checker) number(key string, n *uint32, low, high uint32) uint32 {
	if n == nil {
		return 0
	}
	if *n < low || *n > high {
		c.invalid(key, "%d is not a whole number from %d to %d", *n, low, high)
	}
	return *n
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

// prefix reads a subnet, or an address as a host route.
func (c checker) prefix(key, s string) netip.Prefix {
	if p, err := netip.ParsePrefix(s); err == nil && !p.Addr().Is4In6() {
		return p.Masked()
	}
	if ip, err := netip.ParseAddr(s); err == nil && plain(ip) {
		return netip.PrefixFrom(ip, ip.BitLen())
	}
	c.invalid(key, "%q is not an IP address or subnet", s)
	return netip.Prefix{}
}

// addr reads an address of the destination's family.
func (c checker) addr(key string, s *string, dst netip.Prefix) netip.Addr {
	if s == nil {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(*s)
	switch {
	case err != nil || !plain(ip):
		c.invalid(key, "%q is not an IP address", *s)
	case ip.IsUnspecified():
		c.invalid(key, "%q is no address of a host", *s)
	case dst.IsValid() && ip.Is4() != dst.Addr().Is4():
		c.invalid(key, "%s is of another address family than dst %s", ip, dst)
	default:
		return ip
	}
	return netip.Addr{}
}

// plain reports whether an address is one that the kernel takes as written.
func plain(ip netip.Addr) bool { return ip.Zone() == "" && !ip.Is4In6() }

// hops reads gws: addresses, or objects of gw, dev and weight.
func (c checker) hops(raws []json.RawMessage, dst netip.Prefix) []netops.NextHop {
	var hops []netops.NextHop
	for i, raw := range raws {
		v := c.value(fmt.Sprintf("gws[%d]", i))
		v.Raw = raw
		hop, ok := c.hop(v, i, dst)
		if ok && slices.ContainsFunc(hops, func(h netops.NextHop) bool { return h.Gw == hop.Gw && h.Dev == hop.Dev }) {
			c.invalid(fmt.Sprintf("gws[%d]", i), "%s is there twice", hop.Gw)
		}
		hops = append(hops, hop)
	}
	return hops
}

func (c checker) hop(v strictjson.Value, i int, dst netip.Prefix) (hop netops.NextHop, ok bool) {
	key := fmt.Sprintf("gws[%d]", i)
	before := len(v.Problems().List)
	defer func() { *c.failed = *c.failed || len(v.Problems().List) > before }()
	if len(v.Raw) > 0 && v.Raw[0] == '"' {
		s, _ := v.Text()
		hop.Gw = c.addr(key, &s, dst)
		return hop, hop.Gw.IsValid()
	}
	o, ok := v.Object()
	if !ok {
		return hop, false
	}
	o.Only("gw", "dev", "weight")
	var gw string
	var weight uint32
	o.Text("gw", &gw)
	o.Text("dev", &hop.Dev)
	o.Uint32("weight", &weight, 1, maxWeight)
	hop.Weight = uint16(weight)
	hop.Gw = c.addr(key+".gw", &gw, dst)
	return hop, hop.Gw.IsValid()
}
