package main

import (
	"encoding/json"
	"math"
	"net/netip"

	"github.com/cni-netops/plugins/internal/jsonappend"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// route is an element of ipam.routes: what tells whether a flannel network's
// route is there already, and the whole as the delegate gets it.
type route struct {
	dst  netip.Prefix
	main bool // in table main, with the metric that it has by itself
	raw  json.RawMessage
}

// routeKeys are the fields of a route that are looked at: those of CNI 1.1,
// section 5, "Success", and ours for priority. What else there is goes to the
// delegate.
var routeKeys = []string{"dst", "gw", "mtu", "advmss", "priority", "metric", "table", "scope"}

// decodeRoute judges the values of a route. Two of one destination stay two
// where table or metric differ.
func decodeRoute(o strictjson.Object, v strictjson.Value) route {
	o.FoldCase(routeKeys)
	r := route{raw: v.Raw}
	if text, dst := decodeDst(o, v); dst.IsValid() {
		r.dst = dst
		checkGateway(o, dst)
		if text != dst.String() {
			r.raw = withDst(o, dst)
		}
	}
	number := func(key string, low, high uint32) (n uint32) {
		o.Uint32(key, &n, low, high)
		return n
	}
	// Limits of the kernel: it cuts larger values silently (RTAX_MTU,
	// RTAX_ADVMSS in net/ipv4/metrics.c); RFC 791 has the least MTU.
	number("mtu", leastMTU, mostMTU-15)
	number("advmss", 1, mostMTU-40)
	number("scope", 0, math.MaxUint8)
	const mainTable = 254
	table, priority, metric := number("table", 1, math.MaxUint32), number("priority", 0, math.MaxUint32), number("metric", 0, math.MaxUint32)
	r.main = (table == 0 || table == mainTable) && priority == 0 && metric == 0
	return r
}

// decodeDst reads the destination: a subnet, or an address as a host route.
func decodeDst(o strictjson.Object, v strictjson.Value) (text string, dst netip.Prefix) {
	d, ok := o.Get("dst")
	if !ok {
		v.Problems().Invalid(o.At("dst"), "missing")
		return "", netip.Prefix{}
	}
	if text, ok = d.Text(); !ok {
		return "", netip.Prefix{}
	}
	if p, err := netip.ParsePrefix(text); err == nil && !p.Addr().Is4In6() {
		return text, p.Masked()
	}
	if ip, err := netip.ParseAddr(text); err == nil && plain(ip) {
		return text, netip.PrefixFrom(ip, ip.BitLen())
	}
	d.Invalid("%q is not an IP address or subnet", text)
	return "", netip.Prefix{}
}

// checkGateway judges the gateway. An empty one is none, as templates write it;
// 0.0.0.0 and :: are for on-link.
func checkGateway(o strictjson.Object, dst netip.Prefix) {
	v, text, ok := o.GetText("gw")
	if !ok || text == "" {
		return
	}
	switch gw, err := netip.ParseAddr(text); {
	case err != nil || !plain(gw):
		v.Invalid("%q is not an IP address", text)
	case gw.Is4() != dst.Addr().Is4():
		v.Invalid("%s is of another address family than dst %s", gw, dst)
	}
}

// plain reports whether an address is one that IPAM plugins and the kernel take
// as written.
func plain(ip netip.Addr) bool { return ip.Zone() == "" && !ip.Is4In6() }

// withDst is the route with its destination as IPAM plugins and the kernel take
// it: they refuse a bare address, and bits of the host.
func withDst(o strictjson.Object, dst netip.Prefix) json.RawMessage {
	out := jsonappend.Open(nil)
	for _, key := range o.Keys() {
		if key == "dst" {
			out.Prefix(key, dst)
		} else {
			out.Raw(key, o.Raw(key))
		}
	}
	return out.Close()
}
