package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"

	"github.com/cni-netops/plugins/internal/jsonappend"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// node is where the delegate is to run.
type node struct {
	goos string
	// has reports whether a plugin of that type is on CNI_PATH.
	has func(plugin string) bool
}

const (
	windows = "windows"
	bridge  = "bridge"
)

// Keys of the delegate that are generated.
const (
	keyMTU         = "mtu"
	keyMasq        = "ipMasq"
	keyMasqNetwork = "ipMasqNetwork"
	keyGateway     = "isGateway"
)

// passed are the keys that the delegate gets as we got them, unless it has its
// own.
var passed = []string{"runtimeConfig", "args", "dns"}

// generated are the keys of the delegate that are, or may be, generated.
var generated = slices.Concat([]string{keyVersion, keyName, keyType, keyIPAM, keyMTU, keyMasq, keyMasqNetwork, keyGateway, keyPrevResult}, passed)

// generate is the delegate's configuration, on one line.
func generate(c config, env subnetEnv, n node) []byte {
	g := generator{config: c, env: env, goos: n.goos, out: jsonappend.Open(nil), done: map[string]bool{}}
	if raw := c.given.Raw(keyVersion); raw != nil {
		g.raw(keyVersion, raw)
	}
	g.done[keyVersion] = true // without one the request is of version 0.1.0, so the result is, too
	g.raw(keyName, c.given.Raw(keyName))
	t := delegateType(c, n)
	g.raw(keyType, jsonappend.String(nil, t))
	if n.goos == windows {
		g.windows()
	} else {
		g.linux(t)
	}
	g.rest()
	g.raw(keyIPAM, g.ipamObject())
	return compact(g.out.Close())
}

// delegateType is the plugin to delegate to. That of Windows has another name
// upstream now.
func delegateType(c config, n node) string {
	t := bridge
	const was, is = "win-l2bridge", "win-bridge"
	if n.goos == windows {
		t = was
	}
	c.delegate.Text(keyType, &t)
	if n.goos == windows && t == was && !n.has(was) && n.has(is) {
		return is
	}
	return t
}

// generator writes the configuration, each key once.
type generator struct {
	config
	env  subnetEnv
	goos string
	out  jsonappend.Object
	done map[string]bool
}

func (g *generator) raw(key string, value []byte) {
	g.out.Raw(key, value)
	g.done[key] = true
}

// linux gives the delegate what it does not say itself. Where flanneld does
// not masquerade, the delegate does.
func (g *generator) linux(t string) {
	unlessGiven := func(key string, value []byte) {
		if !g.delegate.Has(key) {
			g.raw(key, value)
		}
	}
	unlessGiven(keyMTU, strconv.AppendUint(nil, uint64(g.env.mtu), 10))
	unlessGiven(keyMasq, strconv.AppendBool(nil, !g.env.ipMasq))
	if t == bridge {
		unlessGiven(keyGateway, strconv.AppendBool(nil, true))
	}
}

// windows says who masquerades: there flanneld cannot, the delegate does so for
// it. It takes one network.
func (g *generator) windows() {
	g.raw(keyMasq, strconv.AppendBool(nil, g.env.ipMasq))
	g.raw(keyMasqNetwork, jsonappend.String(nil, g.env.networks[0].String()))
}

// rest is what the delegate says itself, and what is passed on to it.
func (g *generator) rest() {
	g.done[keyIPAM] = true // null: else it would have been refused
	for _, key := range g.delegate.Keys() {
		if !g.done[key] && (g.delegate.Has(key) || !slices.Contains(passed, key)) {
			g.raw(key, g.delegate.Raw(key))
		}
	}
	for _, key := range passed {
		if v, ok := g.given.Get(key); ok && !g.done[key] {
			g.raw(key, v.Raw)
		}
	}
}

// ipamObject is the delegate's ipam: on Linux the given one with flannel's subnets and
// networks.
func (g *generator) ipamObject() []byte {
	o := jsonappend.Open(nil)
	if t, ok := g.ipam.Get(keyType); ok {
		o.Raw(keyType, t.Raw)
	} else {
		o.Text(keyType, hostLocal)
	}
	if g.goos == windows {
		o.Prefix(keySubnet, g.env.subnets[0])
		return o.Close()
	}
	for _, key := range g.ipam.Keys() {
		if key != keyType && key != keyRoutes && !slices.Contains(g.replaced, key) {
			o.Raw(key, g.ipam.Raw(key))
		}
	}
	o.Raw(keyRanges, jsonappend.List(nil, g.env.subnets, appendRangeSet))
	o.Raw(keyRoutes, jsonappend.List(nil, g.routes(), func(r *route, b []byte) []byte { return append(b, r.raw...) }))
	return o.Close()
}

// appendRangeSet appends a set of one range, as host-local knows them.
func appendRangeSet(subnet *netip.Prefix, b []byte) []byte {
	o := jsonappend.Open(append(b, '['))
	o.Prefix(keySubnet, *subnet)
	return append(o.Close(), ']')
}

// routes are the given ones, and one to each flannel network that has none.
func (g *generator) routes() []route {
	all := slices.Clone(g.config.routes)
	for _, n := range g.env.networks {
		if !slices.ContainsFunc(all, func(r route) bool { return r.main && r.dst == n }) {
			o := jsonappend.Open(nil)
			o.Prefix("dst", n)
			all = append(all, route{dst: n, main: true, raw: o.Close()})
		}
	}
	return all
}

// overlay is a configuration with some keys as another one has them.
func overlay(conf, by strictjson.Object, keys ...string) []byte {
	conf = conf.Overridden(by, keys)
	o := jsonappend.Open(nil)
	for _, key := range conf.Keys() {
		o.Raw(key, conf.Raw(key))
	}
	return compact(o.Close())
}

func compact(conf []byte) []byte {
	var out bytes.Buffer
	_ = json.Compact(&out, conf) // of valid parts
	return out.Bytes()
}
