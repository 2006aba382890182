package main

import (
	"encoding/json"
	"math"
	"net/netip"
	"strings"
	"unicode"

	"github.com/cni-netops/plugins/internal/plugin"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// The keys of the configuration, and those of the specification that are read.
const (
	keySubnetFile = "subnetFile"
	keyDataDir    = "dataDir"
	keyDelegate   = "delegate"
	keyIPAM       = "ipam"
	keyStateDir   = "stateDir"

	keyVersion    = "cniVersion"
	keyName       = "name"
	keyType       = "type"
	keyPrevResult = "prevResult"
)

const (
	defaultSubnetFile = "/run/flannel/subnet.env"
	defaultDataDir    = "/var/lib/cni/flannel"
)

// config is a valid configuration.
type config struct {
	given      strictjson.Object // as it came
	subnetFile string
	dataDir    string
	delegate   strictjson.Object
	ipam       strictjson.Object
	routes     []route // of ipam
}

// route is an element of ipam.routes: what tells whether a flannel network's
// route is there already, and the whole as it came.
type route struct {
	dst  netip.Prefix
	main bool // in table main, with the metric that it has by itself
	raw  json.RawMessage
}

// decode reads the configuration for a node of that operating system.
func decode(c *plugin.Config, goos string) config {
	conf := config{given: c.Object}
	checkType(c)
	decodeFolders(&conf, c, goos)
	if o, ok := c.Object.Object(keyDelegate); ok {
		conf.delegate = o
		decodeDelegate(o, c.Problems)
	}
	if o, ok := c.Object.Object(keyIPAM); ok && goos == windows {
		c.Warnings = append(c.Warnings, c.At(keyIPAM)+": not used on Windows")
	} else if ok {
		conf.ipam = o
		conf.routes = decodeIPAM(o, c.Problems)
	}
	return conf
}

// checkType holds that the configuration is flannel's: a delegate's that leads
// back here would do so for ever.
func checkType(c *plugin.Config) {
	if v, ok := c.Get(keyType); !ok {
		c.Invalid(keyType, "missing: it is %q", flannelType)
	} else if got, ok := v.Text(); ok && got != flannelType {
		v.Invalid("%q is not %q", got, flannelType)
	}
}

const flannelType = "flannel"

// decodeFolders reads what DEL and GC need too. One that is of no use is left
// at its default.
func decodeFolders(conf *config, c *plugin.Config, goos string) {
	conf.subnetFile = pathOr(c, keySubnetFile, defaultSubnetFile, goos)
	conf.dataDir = pathOr(c, keyDataDir, defaultDataDir, goos)
}

// pathOr is the absolute path of a key, or else that.
func pathOr(c *plugin.Config, key, otherwise, goos string) string {
	v, ok := c.Get(key)
	if !ok {
		return otherwise
	}
	path, ok := v.Text()
	if !ok {
		return otherwise
	}
	if !absolute(path, goos) {
		v.Invalid("%q is not an absolute path", path)
		return otherwise
	}
	return path
}

// absolute reports whether a path of that operating system does not depend on
// the current folder. On Windows one may leave out the drive, as the defaults
// do.
func absolute(path, goos string) bool {
	if strings.ContainsRune(path, 0) {
		return false
	}
	if goos == windows {
		path = strings.ReplaceAll(path, `\`, "/")
		if len(path) > 1 && path[1] == ':' && strings.ContainsRune("abcdefghijklmnopqrstuvwxyz", rune(path[0]|0x20)) {
			path = path[2:]
		}
	}
	return strings.HasPrefix(path, "/")
}

// decodeDelegate judges what is generated into, or instead of. All else is the
// delegate's business.
func decodeDelegate(o strictjson.Object, p *strictjson.Problems) {
	o.Fold(generated)
	for _, key := range []string{keyName, keyIPAM} {
		if o.Has(key) {
			p.Unsupported(o.At(key), "is generated, and may not be given")
		}
	}
	if v, ok := o.Get(keyType); ok {
		if t, ok := v.Text(); ok {
			if why := misfit(t); why != "" {
				v.Invalid("%q %s", t, why)
			}
		}
	}
}

// misfit is why a type cannot be delegated to; it is empty where it can. On
// Windows a program is found without regard to case, and without its ending.
func misfit(t string) string {
	switch {
	case t == "" || strings.Trim(t, ". ") != t || strings.ContainsAny(t, "/\\:") || strings.ContainsFunc(t, unicode.IsControl):
		return "is not the name of a plugin"
	case strings.EqualFold(strings.TrimSuffix(strings.ToLower(t), ".exe"), flannelType):
		return "would delegate to itself without end"
	}
	return ""
}

// decodeIPAM judges what is added to, and returns the routes.
func decodeIPAM(o strictjson.Object, p *strictjson.Problems) []route {
	o.Fold([]string{keyType, keyRanges, keyRoutes})
	if v, ok := o.Get(keyType); ok {
		v.Text()
	}
	if o.Has(keyRanges) {
		p.Warnings = append(p.Warnings, o.At(keyRanges)+": not used: flannel's subnet stands in its place")
	}
	for _, key := range []string{"subnet", "rangeStart", "rangeEnd"} {
		if o.Has(key) {
			p.Warnings = append(p.Warnings, o.At(key)+": passed on; host-local makes a second range of it beside flannel's")
		}
	}
	v, ok := o.Get(keyRoutes)
	if !ok {
		return nil
	}
	var list []route
	for _, e := range v.List() {
		if r, ok := e.Object(); ok {
			list = append(list, decodeRoute(r, e))
		}
	}
	return list
}

// The keys of the delegate's ipam that are generated.
const (
	keyRanges = "ranges"
	keyRoutes = "routes"
)

// decodeRoute reads what tells routes apart: two of one destination stay two
// where table or metric differ (CNI 1.1, section 5).
func decodeRoute(o strictjson.Object, v strictjson.Value) route {
	r := route{raw: v.Raw}
	var dst string
	o.Text("dst", &dst)
	if p, err := netip.ParsePrefix(dst); err == nil {
		r.dst = p.Masked()
	} else if o.Has("dst") {
		v.Problems().Invalid(o.At("dst"), "%q is not a subnet", dst)
	} else {
		v.Invalid("dst is missing")
	}
	const mainTable = 254
	var table, priority, metric uint32
	o.Uint32("table", &table, 0, math.MaxUint32)
	o.Uint32("priority", &priority, 0, math.MaxUint32)
	o.Uint32("metric", &metric, 0, math.MaxUint32)
	r.main = (table == 0 || table == mainTable) && priority == 0 && metric == 0
	return r
}
