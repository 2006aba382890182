package main

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniroute"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// The keys of the configuration.
const (
	overlayHijack     = "overlay_hijack_subnet"
	serviceHijack     = "service_hijack_subnet"
	additionalHijack  = "additional_hijack_subnet"
	overlayInterface  = "overlay_interface"
	migrateRoute      = "migrate_route"
	hostRuleTable     = "host_rule_table"
	table             = "table"
	skipCall          = "skip_call"
	sriov             = "sriov"
	rpFilter          = "rp_filter"
	ipConflict        = "ip_conflict"
	macPrefix         = "mac_prefix"
	onlyOpMAC         = "only_op_mac"
	excludeInterfaces = "exclude_interfaces"
	defaultRoute      = "default_route_interface"
)

// theOverlay stands for the overlay's interface, whatever its name.
const theOverlay = "overlay"

// migration says whether the interface takes the pod's default route.
type migration int

const (
	byOrder migration = -1
	never   migration = 0
	always  migration = 1
)

// config is a valid configuration.
type config struct {
	verb       string
	ifName     string         // CNI_IFNAME
	cluster    []netip.Prefix // subnets of pods and services
	additional []netip.Prefix
	overlay    string
	migrate    migration
	defaultDev string // the interface that is to have the default route; empty where none is asked for
	hostTable  uint32
	table      uint32 // zero where it is still to be found
	warnings   []string
	skip       bool
	sriov      bool
	rpFilter   uint32
	rpHost     bool
	probe      probe
	macPrefix  []byte // two octets, or none
	onlyMAC    bool
	exclude    []string     // shell patterns
	node       node         // by Prepare
	others     netops.State // what other attachments of the pod want there, by Beside
}

// probe is how an address conflict is looked for.
type probe struct {
	enabled  bool
	interval time.Duration
	retries  uint32
}

// defaultExclude are the interfaces of container networks and the like.
var defaultExclude = []string{"lo", "docker*", "cbr*", "dummy*", "virbr*", "lxcbr*", "veth*", "cali*", "flannel*", "kube-ipvs*", "cni*", "vx-submariner", "cilium*", "lxc*"}

func decode(c *cni.Config) attach.Planner {
	conf := config{verb: c.Verb, ifName: c.IfName, overlay: "eth0", migrate: byOrder, hostTable: 500, rpFilter: 2,
		probe: probe{interval: time.Second, retries: 3}, exclude: defaultExclude}
	c.Bool(skipCall, &conf.skip)
	c.Bool(sriov, &conf.sriov)
	c.Bool(onlyOpMAC, &conf.onlyMAC)
	conf.decodeSubnets(c)
	conf.decodeOverlay(c)
	conf.decodeMigration(c)
	conf.decodeDefaultRoute(c)
	conf.decodeTables(c)
	conf.decodeRPFilter(c)
	conf.decodeProbe(c)
	conf.decodeMAC(c)
	conf.decodeExclude(c)
	return conf
}

// routes reports whether anything is to be routed.
func (c config) routes() bool { return !c.skip && !c.onlyMAC }

// decodeOverlay reads the name of the overlay's interface: another one than that
// of the attachment, which would take the default route from itself.
func (c *config) decodeOverlay(p *cni.Config) {
	cniroute.Device(p.Object, overlayInterface, &c.overlay)
	if c.routes() && c.overlay == c.ifName {
		p.Invalid(overlayInterface, "%s is the interface of this attachment", c.overlay)
	}
}

// decodeSubnets reads the lists of subnets. Unless nothing is to be routed, the
// cluster's have to be there.
func (c *config) decodeSubnets(p *cni.Config) {
	routes := c.routes()
	c.cluster = subnets(p, overlayHijack, routes)
	for _, s := range subnets(p, serviceHijack, routes) {
		if !slices.Contains(c.cluster, s) {
			c.cluster = append(c.cluster, s)
		}
	}
	c.additional = subnets(p, additionalHijack, false)
}

func subnets(p *cni.Config, key string, required bool) (list []netip.Prefix) {
	v, ok := p.Get(key)
	if !ok {
		if required {
			p.Invalid(key, "missing: a list of subnets")
		}
		return nil
	}
	elements := v.List()
	if required && elements != nil && len(elements) == 0 {
		v.Invalid("it names no subnet")
	}
	for _, e := range elements {
		text, ok := e.Text()
		if !ok {
			continue
		}
		s, err := netip.ParsePrefix(text)
		if err != nil || s.Addr().Is4In6() {
			e.Invalid("%q is not a subnet", text)
		} else if s.Bits() == 0 {
			e.Invalid("%q is everything: no rule is for that", text)
		} else if s = s.Masked(); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

func (c *config) decodeMigration(p *cni.Config) {
	v, ok := p.Get(migrateRoute)
	if !ok {
		return
	}
	n, err := strconv.Atoi(string(v.Raw))
	if m := migration(n); err != nil || m < byOrder || m > always {
		v.Invalid("%s is not -1, 0 or 1", strictjson.Short(v.Raw))
	} else {
		c.migrate = m
	}
}

// decodeDefaultRoute reads which interface is to have the pod's default route.
func (c *config) decodeDefaultRoute(p *cni.Config) {
	if c.migrate == always {
		c.defaultDev = c.ifName
	}
	v, name, ok := p.GetText(defaultRoute)
	switch {
	case !ok:
	case !netops.ValidDevice(name):
		v.Invalid("%q is neither %q nor the name of an interface", name, theOverlay)
	case name == theOverlay:
		c.defaultDev = c.overlay
	default:
		c.defaultDev = name
	}
}

// decodeTables reads the tables. The kernel's own are not for this.
func (c *config) decodeTables(p *cni.Config) {
	decodeTable(p, hostRuleTable, &c.hostTable)
	decodeTable(p, table, &c.table)
	if c.table == overlayTable {
		// The first design asked for it where interfaces have other names than netN.
		c.warnings = append(c.warnings, fmt.Sprintf("%s: %d is the overlay's and is passed over", table, overlayTable))
		c.table = 0
	}
	if n, ok := numbered(c.ifName); ok && c.table == 0 {
		c.table = overlayTable + n
	}
}

func decodeTable(p *cni.Config, key string, into *uint32) {
	v, ok := p.Get(key)
	if !ok {
		return
	}
	const kernelFirst, kernelLast = 253, 255 // default, main, local
	n, ok := v.Uint32(1, 1<<32-1)
	if ok && n >= kernelFirst && n <= kernelLast {
		v.Invalid("%d is one of the kernel's own tables", n)
	} else if ok {
		*into = n
	}
}

// The pod's tables: the overlay's, behind it those of netN and ethN, and behind
// those, from the last one down, those of interfaces with other names.
const (
	overlayTable = 100
	lastNumber   = 150
	lastTable    = overlayTable + lastNumber + 1
)

// numbered takes the name of an interface that Multus numbers apart.
func numbered(name string) (n uint32, ok bool) {
	for _, kind := range []string{"net", "eth"} {
		digits, found := strings.CutPrefix(name, kind)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		return uint32(n), err == nil && n >= 1 && n <= lastNumber && digits[0] != '0' && digits[0] != '+'
	}
	return 0, false
}

func (c *config) decodeRPFilter(p *cni.Config) {
	o, ok := p.Object.Object(rpFilter)
	if !ok {
		return
	}
	o.Only("value", "set_host")
	o.Uint32("value", &c.rpFilter, 0, 2)
	o.Bool("set_host", &c.rpHost)
}

func (c *config) decodeProbe(p *cni.Config) {
	o, ok := p.Object.Object(ipConflict)
	if !ok {
		return
	}
	o.Only("enabled", "interval", "retries")
	o.Bool("enabled", &c.probe.enabled)
	c.probe.enabled = c.probe.enabled && c.routes() // only_op_mac does just that
	if v, text, ok := o.GetText("interval"); ok {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			v.Invalid("%q is not a duration above 0, as \"500ms\" is", text)
		}
		c.probe.interval = d
	}
	o.Uint32("retries", &c.probe.retries, 1, 1000)
}

func (c *config) decodeMAC(p *cni.Config) {
	if c.onlyMAC && !p.Has(macPrefix) {
		p.Invalid(onlyOpMAC, "there is no %q", macPrefix)
	}
	v, text, ok := p.GetText(macPrefix)
	if !ok {
		return
	}
	mac, err := net.ParseMAC(text + ":00:00:00:00")
	const multicast = 1 // IEEE 802, the bit of group addresses
	switch {
	case err != nil || len(mac) != 6:
		v.Invalid("%q is not two octets, as \"0a:1b\" is", text)
	case mac[0]&multicast != 0:
		v.Invalid("%q is the prefix of multicast addresses", text)
	default:
		c.macPrefix = mac[:2]
	}
}

func (c *config) decodeExclude(p *cni.Config) {
	v, ok := p.Get(excludeInterfaces)
	if !ok {
		return
	}
	c.exclude = []string{}
	for _, e := range v.List() {
		text, ok := e.Text()
		if !ok {
			continue
		}
		if _, err := path.Match(text, ""); err != nil {
			e.Invalid("%q is not a pattern", text)
		}
		c.exclude = append(c.exclude, text)
	}
}

// excluded reports whether the addresses of one of the node's interfaces are not
// the node's.
func (c config) excluded(dev string) bool {
	return slices.ContainsFunc(c.exclude, func(pattern string) bool {
		match, _ := path.Match(pattern, dev)
		return match
	})
}

// Beside is the planner that knows what other attachments of the pod want there.
func (c config) Beside(wanted netops.State) attach.Planner {
	c.others = wanted
	return c
}

// SkipCheck says that CHECK has nothing to judge where nothing was done.
func (c config) SkipCheck() bool { return c.skip }
