package main

import (
	"slices"
	"strings"
	"unicode"

	"github.com/cni-netops/plugins/internal/cni"
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
	replaced   []string // keys of ipam in whose place flannel's subnet stands
	routes     []route  // of ipam
}

// decode reads the configuration for a node of that operating system.
func decode(c *cni.Config, goos string) config {
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
		decodeIPAM(&conf, o, c.Problems)
	}
	return conf
}

// checkType holds that the configuration is flannel's: a delegate's that leads
// back here would do so for ever.
func checkType(c *cni.Config) {
	if v, ok := c.Get(keyType); !ok {
		c.Invalid(keyType, "missing: it is %q", flannelType)
	} else if got, ok := v.Text(); ok && got != flannelType {
		v.Invalid("%q is not %q", got, flannelType)
	}
}

const flannelType = "flannel"

// decodeFolders reads what DEL and GC need too. One that is of no use is left
// at its default.
func decodeFolders(conf *config, c *cni.Config, goos string) {
	conf.subnetFile = pathOr(c, keySubnetFile, defaultSubnetFile, goos)
	conf.dataDir = pathOr(c, keyDataDir, defaultDataDir, goos)
}

// pathOr is the absolute path of a key, or else that.
func pathOr(c *cni.Config, key, otherwise, goos string) string {
	path := otherwise
	c.Object.Text(key, &path)
	if !absolute(path, goos) {
		c.Invalid(c.At(key), "%q is not an absolute path", path)
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
	o.FoldCase(generated)
	for _, key := range []string{keyName, keyIPAM} {
		if o.Has(key) {
			p.Unsupported(o.At(key), "is generated, and may not be given")
		}
	}
	if v, t, ok := o.GetText(keyType); ok {
		if why := misfit(t); why != "" {
			v.Invalid("%q %s", t, why)
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

// decodeIPAM judges what is added to, and what flannel's subnet stands in the
// place of.
func decodeIPAM(conf *config, o strictjson.Object, p *strictjson.Problems) {
	o.FoldCase(slices.Concat([]string{keyType, keyRoutes}, subnetKeys))
	conf.ipam, conf.replaced = o, subnetKeys
	t := hostLocal
	o.Text(keyType, &t)
	if t != hostLocal {
		conf.replaced = subnetKeys[:2]
	}
	for _, key := range conf.replaced {
		if o.Has(key) {
			p.Warnings = append(p.Warnings, o.At(key)+": not used: flannel's subnet stands in its place")
		}
	}
	v, ok := o.Get(keyRoutes)
	if !ok {
		return
	}
	for _, e := range v.List() {
		if r, ok := e.Object(); ok {
			conf.routes = append(conf.routes, decodeRoute(r, e))
		}
	}
}

// The delegate's IPAM plugin unless another one is given, and the keys of its
// configuration that are generated.
const (
	hostLocal = "host-local"

	keyRanges = "ranges"
	keySubnet = "subnet"
	keyRoutes = "routes"
)

// subnetKeys say which addresses there are: flannel's subnet does. The last
// three are host-local's, which reads them beside a subnet only; to another
// IPAM plugin they may mean something else.
var subnetKeys = []string{keyRanges, keySubnet, "rangeStart", "rangeEnd", "gateway"}
