package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/cniroute"
	"github.com/cni-netops/plugins/internal/netops"
)

// withFamilies is the configuration without what it adds of an address family that
// the pod lacks there, where that is to be skipped, and a line for each that tells
// what was left out.
func (c config) withFamilies(devs []string, prev *cniresult.Result, pod netops.Snapshot) (config, []string) {
	if !c.skipMissingFamilies {
		return c, nil
	}
	var why []string
	skipped := map[string][]string{}
	skip := func(what, lack string) bool {
		if lack == "" {
			return false
		}
		if skipped[lack] == nil {
			why = append(why, lack)
		}
		skipped[lack] = append(skipped[lack], what)
		return true
	}
	c.add = slices.DeleteFunc(slices.Clone(c.add), func(r cniroute.Route) bool {
		return skip(r.Dst.String(), lacking(r.Dst.Addr().Is6(), devs, devices(&r), prev, pod))
	})
	c.rules = slices.DeleteFunc(slices.Clone(c.rules), func(r netops.Rule) bool {
		return skip("rule "+r.String(), lacking(r.IPv6, devs, nil, prev, pod))
	})
	for i, lack := range why {
		why[i] = "left out, for want of " + lack + ": " + strings.Join(skipped[lack], ", ")
	}
	return c, why
}

// lacking is the address that a route lacks to be of any use: one of its family,
// on an interface that it names, or else of the attachment. It is empty where
// there is one. Every interface has a link-local one.
func lacking(is6 bool, devs, named []string, prev *cniresult.Result, pod netops.Snapshot) string {
	family, where := "IPv4", "the attachment"
	if is6 {
		family = "IPv6"
	}
	if len(named) > 0 {
		devs, where = named, strings.Join(named, ", ")
	} else if slices.ContainsFunc(prev.IPs, func(ip cniresult.IP) bool { return ip.Address.Addr().Is6() == is6 }) {
		return ""
	}
	if slices.ContainsFunc(pod.Addrs, func(a netops.Addr) bool {
		ip := a.Prefix.Addr()
		return ip.Is6() == is6 && !ip.IsLinkLocalUnicast() && slices.Contains(devs, a.Dev)
	}) {
		return ""
	}
	return fmt.Sprintf("an %s address of %s", family, where)
}
