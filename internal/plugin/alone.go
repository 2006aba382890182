//go:build linux

package plugin

import (
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/cni-netops/plugins/internal/jsonappend"
)

// before reports whether the result is of an older version of the CNI
// specification.
func (r *Result) before(v string) bool {
	ours := ""
	_ = json.Unmarshal(r.raw["cniVersion"], &ours)
	later, err := version.GreaterThanOrEqualTo(ours, v)
	return err == nil && !later
}

// Absent reports whether there is no prevResult.
func (r *Result) Absent() bool { return r.absent }

// Of is the result of a plugin that stands alone: an interface of the pod, and
// its addresses. Before 0.3.0 a result has the first of each family, and no
// interface (CNI 0.2.0, "Result").
func (r *Result) Of(i Interface, addrs []netip.Prefix) *Result {
	of := noResult("")
	of.raw["cniVersion"] = r.raw["cniVersion"]
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

// oldRoutes puts the routes that a result has gained where those before 0.3.0
// have them: with the address of their family.
func (r *Result) oldRoutes() error {
	for _, l := range r.Routes {
		key := "ip4"
		if l.Dst.Addr().Is6() {
			key = "ip6"
		}
		raw, ok := r.raw[key]
		if !ok {
			continue // without an address there is no place for it
		}
		err := edit(&raw, func(o map[string]json.RawMessage) {
			var routes []json.RawMessage
			_ = json.Unmarshal(o["routes"], &routes)
			o["routes"] = appendRaw(append(routes, l.appendJSON(nil)))
		})
		if err != nil {
			return err
		}
		r.raw[key] = raw
	}
	return nil
}
