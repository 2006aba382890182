//go:build linux

// Package cniresult holds CNI results as values: the prevResult that a plugin is
// given, and the result that it prints.
package cniresult

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/jsonappend"
	"github.com/cni-netops/plugins/internal/listindex"
	"github.com/cni-netops/plugins/internal/netops"
)

// Result is a CNI result (CNI 1.1, section 5). It is edited as the JSON that
// it came as: what is not known here goes out as it came in.
type Result struct {
	Interfaces []Interface
	IPs        []IP
	Routes     []Route

	absent  bool   // there is no prevResult
	version string // of the CNI specification, in which it goes out
	raw     map[string]json.RawMessage
	ips     []json.RawMessage
	placed  *listindex.Index[place] // Routes by their places, made when it is needed
}

// Interface is an element of interfaces.
type Interface struct {
	Name    string `json:"name"`
	Mac     string `json:"mac"`
	Sandbox string `json:"sandbox"`
}

// IP is an element of ips.
type IP struct {
	Address netip.Prefix // with its host bits
	Gateway netip.Addr   // zero where there is none
	Dev     string       // of the interface that it is on, where that is told
}

// Route is an element of routes. Of the optional fields those are
// written that are given.
type Route struct {
	Dst      netip.Prefix
	Gw       netip.Addr   // zero stands for a gateway of ips
	Gws      []netip.Addr // of a multipath route, which has no Gw
	MTU      uint32
	AdvMSS   uint32
	Priority *uint32
	Table    *uint32
	Scope    *uint8

	raw json.RawMessage
}

type routeJSON struct {
	Dst      string   `json:"dst"`
	Gw       string   `json:"gw,omitempty"`
	Gws      []string `json:"gws,omitempty"`
	MTU      uint32   `json:"mtu,omitempty"`
	AdvMSS   uint32   `json:"advmss,omitempty"`
	Priority *uint32  `json:"priority,omitempty"`
	Table    *uint32  `json:"table,omitempty"`
	Scope    *uint8   `json:"scope,omitempty"`
}

// Decode reads prevResult, which is to go out in the given version.
func Decode(raw json.RawMessage, version string) (*Result, error) {
	r := &Result{version: version}
	err := r.decode(raw)
	if err == nil && r.raw == nil {
		err = errors.New("null is no result")
	}
	if err == nil {
		err = r.decodeOld()
	}
	if err != nil {
		return nil, cni.Errorf(types.ErrDecodingFailure, "prevResult: %w", err)
	}
	return r, nil
}

// None is that of a plugin that stands alone.
func None(version string) *Result {
	return &Result{absent: true, version: version, raw: map[string]json.RawMessage{}}
}

func (r *Result) decode(raw json.RawMessage) error {
	if err := json.Unmarshal(raw, &r.raw); err != nil {
		return err
	}
	var interfaces []*Interface
	if err := r.list("interfaces", &interfaces); err != nil {
		return err
	}
	for i, f := range interfaces {
		if f == nil {
			return fmt.Errorf("interfaces[%d] is null", i)
		}
		r.Interfaces = append(r.Interfaces, *f)
	}
	if err := r.decodeIPs(); err != nil {
		return err
	}
	return r.decodeRoutes()
}

func (r *Result) list(key string, into any) error {
	raw, ok := r.raw[key]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func (r *Result) decodeIPs() error {
	var ips []*struct {
		Address, Gateway string
		Interface        *int
	}
	if err := r.list("ips", &ips); err != nil {
		return err
	}
	for i, ip := range ips {
		if ip == nil {
			return fmt.Errorf("ips[%d] is null", i)
		}
		address, err := netip.ParsePrefix(ip.Address)
		if err != nil {
			return fmt.Errorf("ips[%d].address: %q is not an address with its prefix length", i, ip.Address)
		}
		gateway, err := gatewayOf(ip.Gateway)
		if err != nil {
			return fmt.Errorf("ips[%d].gateway: %w", i, err)
		}
		dev := ""
		if n := ip.Interface; n != nil && *n >= 0 && *n < len(r.Interfaces) {
			dev = r.Interfaces[*n].Name
		}
		r.IPs = append(r.IPs, IP{Address: address, Gateway: gateway, Dev: dev})
	}
	return r.list("ips", &r.ips)
}

func gatewayOf(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", s)
	}
	if ip = ip.Unmap(); ip.IsUnspecified() {
		return netip.Addr{}, nil // some plugins write 0.0.0.0 for none
	}
	return ip, nil
}

func (r *Result) decodeRoutes() error {
	var raws []json.RawMessage
	var routes []*routeJSON
	if err := r.list("routes", &raws); err != nil {
		return err
	}
	if err := r.list("routes", &routes); err != nil {
		return err
	}
	r.Routes = make([]Route, 0, len(routes))
	for i, l := range routes {
		if l == nil {
			return fmt.Errorf("routes[%d] is null", i)
		}
		dst, err := netip.ParsePrefix(l.Dst)
		if err != nil {
			return fmt.Errorf("routes[%d].dst: %q is not a subnet", i, l.Dst)
		}
		gw, gws, err := l.gateways()
		if err != nil {
			return fmt.Errorf("routes[%d].%w", i, err)
		}
		r.Routes = append(r.Routes, Route{Dst: dst.Masked(), Gw: gw, Gws: gws, MTU: l.MTU, AdvMSS: l.AdvMSS,
			Priority: l.Priority, Table: l.Table, Scope: l.Scope, raw: raws[i]})
	}
	return nil
}

// gateways are the one of an entry, or those of a multipath route: gw beside gws
// is one of these or one more, as CNI is going to have it
// (containernetworking/cni, pull request 1190).
func (l *routeJSON) gateways() (gw netip.Addr, gws []netip.Addr, err error) {
	if gw, err = gatewayOf(l.Gw); err != nil {
		return gw, nil, fmt.Errorf("gw: %w", err)
	}
	for i, text := range l.Gws {
		ip, err := gatewayOf(text)
		if err == nil && !ip.IsValid() {
			err = fmt.Errorf("%q is no gateway", text)
		}
		if err != nil {
			return gw, nil, fmt.Errorf("gws[%d]: %w", i, err)
		}
		gws = appendNew(gws, ip)
	}
	if gws != nil && gw.IsValid() {
		gws, gw = appendNew(gws, gw), netip.Addr{}
	}
	return gw, gws, nil
}

// appendNew appends an address, unless the list has it.
func appendNew(list []netip.Addr, ip netip.Addr) []netip.Addr {
	if slices.Contains(list, ip) {
		return list
	}
	return append(list, ip)
}

// Gateway is the gateway that a route without one goes by: that of an address
// of its family on dev, or of the first that has one.
func (r *Result) Gateway(dst netip.Prefix, dev string) (netip.Addr, bool) {
	first := netip.Addr{}
	for _, ip := range r.IPs {
		if !ip.Gateway.IsValid() || ip.Gateway.Is4() != dst.Addr().Is4() {
			continue
		}
		if ip.Dev == dev {
			return ip.Gateway, true
		}
		if !first.IsValid() {
			first = ip.Gateway
		}
	}
	return first, false
}

// NextHops are the gateways that an entry of routes stands for, a zero one where it
// stands for none.
func (r *Result) NextHops(l Route) []netip.Addr {
	if l.Gws != nil {
		return l.Gws
	}
	return []netip.Addr{r.nextHop(&l)}
}

// nextHop is the gateway of an entry that has one or none; zero is none.
func (r *Result) nextHop(l *Route) netip.Addr {
	if l.Gw.IsValid() || l.Scope != nil && netops.Scope(*l.Scope) == netops.ScopeLink {
		return l.Gw
	}
	gw, _ := r.Gateway(l.Dst, "")
	return gw
}

// Lists reports whether routes has the route: each of its next hops is one of an entry.
// What an entry does not tell, it does not deny.
func (r *Result) Lists(route *netops.Route) bool {
	for _, hop := range route.NextHops() {
		if !r.has(route, func(l *Route) bool { return r.leads(l, hop.Gw) }) {
			return false
		}
	}
	return true
}

// place is where an entry says that its route is. Thousands of entries may have
// one destination.
type place struct {
	dst           netip.Prefix
	table, metric int64 // or untold
}

const untold = -1

func (l *Route) place() place {
	p, slot := place{l.Dst, untold, untold}, l.slot()
	if l.Table != nil {
		p.table = int64(slot.Table)
	}
	if l.Priority != nil {
		p.metric = int64(slot.Metric)
	}
	return p
}

// has reports whether an entry that may mean a route of slot's key is as match asks.
func (r *Result) has(slot *netops.Route, match func(*Route) bool) bool {
	if r.placed == nil {
		index := listindex.New(len(r.Routes), func(i int) place { return r.Routes[i].place() })
		r.placed = &index
	}
	for _, table := range []int64{int64(slot.Table), untold} {
		for _, metric := range []int64{int64(slot.Metric), untold} {
			if _, found := r.placed.Find(place{slot.Dst, table, metric}, func(i int) bool { return match(&r.Routes[i]) }); found {
				return true
			}
		}
	}
	return false
}

// leads reports whether an entry has a next hop by this gateway.
func (r *Result) leads(l *Route, gw netip.Addr) bool {
	return l.Gws == nil && (r.nextHop(l) == gw || l.Gw == gw) || slices.Contains(l.Gws, gw)
}

// slot is where the kernel has the route of an entry: in table main and with
// its family's metric, where these are not told or 0.
func (l Route) slot() netops.Route {
	r := netops.Route{Dst: l.Dst}
	if l.Table != nil {
		r.Table = *l.Table
	}
	if l.Priority != nil {
		r.Metric = *l.Priority
	}
	return r.Normalize()
}

// Listable reports whether a result can list the route at all.
func Listable(r *netops.Route) bool { return r.Type == netops.Unicast }

// Without is the result without the next hops that goes chooses, by entry and
// gateway; zero is none. An entry that has no other goes with it.
func (r *Result) Without(goes func(l Route, gw netip.Addr) bool) *Result {
	left := *r
	left.Routes, left.placed = make([]Route, 0, len(r.Routes)), nil
	for _, l := range r.Routes {
		if l.Gws == nil {
			if !goes(l, r.nextHop(&l)) {
				left.Routes = append(left.Routes, l)
			}
			continue
		}
		stay := slices.DeleteFunc(slices.Clone(l.Gws), func(gw netip.Addr) bool { return goes(l, gw) })
		if len(stay) > 0 {
			left.Routes = append(left.Routes, l.by(stay))
		}
	}
	return &left
}

// by is an entry of a multipath route that has only some of its next hops left.
func (l Route) by(gws []netip.Addr) Route {
	if len(gws) == len(l.Gws) {
		return l
	}
	key, value := "gws", appendAddrs(nil, gws)
	l.Gws = gws
	if len(gws) == 1 {
		key, value = "gw", jsonappend.String(nil, gws[0].String())
		l.Gw, l.Gws = gws[0], nil
	}
	l.raw = edited(l.raw, key, value, "gw", "gws")
	return l
}

// edited is an object, which was decoded before, with a member in the place of
// those, in whatever case they are written.
func edited(raw json.RawMessage, key string, value []byte, inPlaceOf ...string) json.RawMessage {
	var o map[string]json.RawMessage
	_ = json.Unmarshal(raw, &o)
	maps.DeleteFunc(o, func(k string, _ json.RawMessage) bool {
		return slices.ContainsFunc(inPlaceOf, func(other string) bool { return strings.EqualFold(k, other) })
	})
	o[key] = value
	return object(o)
}

func appendAddrs(b []byte, list []netip.Addr) []byte {
	return jsonappend.List(b, list, func(ip *netip.Addr, b []byte) []byte { return jsonappend.String(b, ip.String()) })
}

// Denies reports whether the result lists another hardware address of an
// interface of the pod: that is the doing of a later plugin.
func (r *Result) Denies(l netops.LinkAddr) bool {
	return slices.ContainsFunc(r.Interfaces, func(f Interface) bool {
		return f.Name == l.Dev && f.Sandbox != "" && f.Mac != "" && !strings.EqualFold(f.Mac, l.HardwareAddr)
	})
}

// WithMac is the result with another hardware address of an interface of the
// pod.
func (r *Result) WithMac(dev, mac string) *Result {
	var raws []json.RawMessage
	_ = r.list("interfaces", &raws) // it was decoded before
	left := *r
	left.raw, left.Interfaces = maps.Clone(r.raw), slices.Clone(r.Interfaces)
	for i := range raws {
		if f := &left.Interfaces[i]; f.Name == dev && f.Sandbox != "" {
			f.Mac = mac
			raws[i] = edited(raws[i], "mac", jsonappend.String(nil, mac), "mac")
		}
	}
	if raws != nil {
		left.raw["interfaces"] = appendRaw(raws)
	}
	return &left
}

// Extended is the result with further elements in a list that is not CNI's.
// Where that is there and is none, the configuration is not valid.
func (r *Result) Extended(key string, elements []json.RawMessage) (*Result, error) {
	left := *r
	left.raw = maps.Clone(r.raw)
	var list []json.RawMessage
	if there, ok := r.raw[key]; ok {
		if err := json.Unmarshal(there, &list); err != nil {
			return nil, cni.Errorf(types.ErrInvalidNetworkConfig, "prevResult.%s: not a list", key)
		}
	}
	left.raw[key] = appendRaw(append(list, elements...))
	return &left, nil
}

// Append lists a route, unless it is listed.
func (r *Result) Append(l Route) {
	hops, slot := r.NextHops(l), l.slot()
	if r.has(&slot, func(o *Route) bool {
		there := o.slot()
		return there.Key() == slot.Key() && sameAddrs(r.NextHops(*o), hops)
	}) {
		return
	}
	r.Routes = append(r.Routes, l)
	r.placed.Append(l.place())
}

// sameAddrs reports whether two lists, in which each is once, have the same.
func sameAddrs(a, b []netip.Addr) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(ip netip.Addr) bool { return !slices.Contains(b, ip) })
}

func (l Route) appendJSON(b []byte) []byte {
	if l.raw != nil {
		return append(b, l.raw...)
	}
	o := jsonappend.Open(b)
	o.Prefix("dst", l.Dst)
	o.Addr("gw", l.Gw)
	if l.Gws != nil {
		o.Raw("gws", appendAddrs(nil, l.Gws))
	}
	o.Number("mtu", l.MTU)
	o.Number("advmss", l.AdvMSS)
	if l.Priority != nil {
		o.Raw("priority", strconv.AppendUint(nil, uint64(*l.Priority), 10))
	}
	if l.Table != nil {
		o.Raw("table", strconv.AppendUint(nil, uint64(*l.Table), 10))
	}
	if l.Scope != nil {
		o.Raw("scope", strconv.AppendUint(nil, uint64(*l.Scope), 10))
	}
	return o.Close()
}

// Print writes the result.
func (r *Result) Print(w io.Writer) error {
	if r.before("0.3.0") {
		r.oldRoutes()
	} else if _, was := r.raw["routes"]; was || len(r.Routes) > 0 {
		r.raw["routes"] = jsonappend.List(nil, r.Routes, (*Route).appendJSON)
	}
	if r.ips != nil {
		r.raw["ips"] = appendRaw(r.ips)
	}
	r.raw["cniVersion"] = jsonappend.String(nil, r.version)
	_, err := w.Write(append(object(r.raw), '\n'))
	return err
}

// object is a JSON object of these members.
func object(members map[string]json.RawMessage) []byte {
	o := jsonappend.Open(nil)
	for _, key := range slices.Sorted(maps.Keys(members)) {
		o.Raw(key, members[key])
	}
	return o.Close()
}

func appendRaw(list []json.RawMessage) []byte {
	return jsonappend.List(nil, list, func(e *json.RawMessage, b []byte) []byte { return append(b, *e...) })
}
