//go:build linux

package cniresult

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/cni-netops/plugins/internal/jsonappend"
)

// before reports whether the result is of an older version of the CNI
// specification.
func (r *Result) before(v string) bool {
	later, err := version.GreaterThanOrEqualTo(r.version, v)
	return err == nil && !later
}

// Absent reports whether there is no prevResult.
func (r *Result) Absent() bool { return r.absent }

// Of is the result of a plugin that stands alone: an interface of the pod, and
// its addresses. Before 0.3.0 a result has the first of each family, and no
// interface (CNI 0.2.0, "Result").
func (r *Result) Of(i Interface, addrs []netip.Prefix) *Result {
	of := None(r.version)
	if r.before("0.3.0") {
		for key, is6 := range map[string]bool{"ip4": false, "ip6": true} {
			if at := slices.IndexFunc(addrs, func(a netip.Prefix) bool { return a.Addr().Is6() == is6 }); at >= 0 {
				o := jsonappend.Open(nil)
				o.Prefix("ip", addrs[at])
				of.raw[key] = o.Close()
			}
		}
		return of
	}
	of.Interfaces = []Interface{i}
	of.raw["interfaces"] = append(i.appendJSON([]byte{'['}), ']')
	for _, a := range addrs {
		of.IPs = append(of.IPs, IP{Address: a, Dev: i.Name})
		of.ips = append(of.ips, ipJSON(a, r.before("1.0.0")))
	}
	return of
}

func (i Interface) appendJSON(b []byte) []byte {
	o := jsonappend.Open(b)
	o.Text("name", i.Name)
	o.Text("mac", i.Mac)
	o.Text("sandbox", i.Sandbox)
	return o.Close()
}

// ipJSON is an address of the first interface. Before 1.0.0 it tells its
// family, too.
func ipJSON(a netip.Prefix, withVersion bool) []byte {
	o := jsonappend.Open(nil)
	if withVersion {
		family := "4"
		if a.Addr().Is6() {
			family = "6"
		}
		o.Text("version", family)
	}
	o.Prefix("address", a)
	o.Raw("interface", []byte("0"))
	return o.Close()
}

// oldResult is what a result before 0.3.0 has of a family.
type oldResult struct {
	raw    map[string]json.RawMessage
	routes []json.RawMessage
	dsts   []netip.Prefix
}

// oldFamilies are the members of such a result.
var oldFamilies = []string{"ip4", "ip6"}

// decodeOld judges them: what is added to must be what it ought to be.
func (r *Result) decodeOld() error {
	if !r.before("0.3.0") {
		return nil
	}
	for _, key := range oldFamilies {
		if _, _, err := r.old(key); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// old is one of them, if it is there.
func (r *Result) old(key string) (o oldResult, there bool, err error) {
	raw, ok := r.raw[key]
	if !ok || string(raw) == "null" {
		return o, false, nil
	}
	if err := json.Unmarshal(raw, &o.raw); err != nil {
		return o, false, err
	}
	var routes []*struct{ Dst string }
	if list, ok := o.raw["routes"]; ok {
		if err := cmp.Or(json.Unmarshal(list, &o.routes), json.Unmarshal(list, &routes)); err != nil {
			return o, false, fmt.Errorf("routes: %w", err)
		}
	}
	for i, route := range routes {
		if route == nil {
			return o, false, fmt.Errorf("routes[%d] is null", i)
		}
		dst, err := netip.ParsePrefix(route.Dst)
		if err != nil {
			return o, false, fmt.Errorf("routes[%d].dst: %q is not a subnet", i, route.Dst)
		}
		o.dsts = append(o.dsts, dst.Masked())
	}
	return o, true, nil
}

// oldRoutes puts the routes that a result has gained where those before 0.3.0
// have them: with the address of their family. Without an address there is no
// place for them.
func (r *Result) oldRoutes() {
	for _, key := range oldFamilies {
		o, there, _ := r.old(key)
		if !there {
			continue
		}
		for _, l := range r.Routes {
			if l.Dst.Addr().Is6() == (key == "ip6") && !slices.Contains(o.dsts, l.Dst) {
				o.routes = append(o.routes, l.appendJSON(nil))
			}
		}
		if o.routes != nil {
			o.raw["routes"] = appendRaw(o.routes)
		}
		r.raw[key] = object(o.raw)
	}
}
