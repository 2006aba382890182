package main

import (
	"net/netip"
	"slices"
	"time"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniroute"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// The keys of the configuration.
const (
	podInterface  = "interface"
	hostInterface = "hostInterface"
	hostIPs       = "hostIPs"
	gateway       = "gateway"
	families      = "families"
	hostTimeout   = "hostTimeout"
	podTimeout    = "podTimeout"
	routes        = "routes"
)

// family is an address family.
type family string

const (
	ipv4 family = "ipv4"
	ipv6 family = "ipv6"
)

// everything is the destination of a default route.
func (f family) everything() netip.Prefix {
	if f == ipv4 {
		return netops.IPv4Default
	}
	return netops.IPv6Default
}

func familyOf(ip netip.Addr) family {
	if ip.Is4() {
		return ipv4
	}
	return ipv6
}

// config is a valid configuration.
type config struct {
	podInterface  string
	hostInterface string       // empty: that of the default route
	hostIPs       []netip.Addr // given; or found by Prepare
	given         bool         // hostIPs is
	gateways      map[family]netip.Addr
	families      []family
	hostTimeout   time.Duration
	podTimeout    time.Duration
	routes        []cniroute.Route

	netns string // CNI_NETNS
	waits bool   // the verb is ADD: Prepare waits for what is missing
	// unknown is why Prepare has found no addresses of the node. CHECK may do
	// without.
	unknown error
}

func decode(c *cni.Config) attach.Planner {
	conf := config{podInterface: "eth0", families: []family{ipv4}, gateways: map[family]netip.Addr{},
		hostTimeout: 60 * time.Second, podTimeout: 10 * time.Second, netns: c.Netns, waits: c.Verb == "ADD"}
	cniroute.Device(c.Object, podInterface, &conf.podInterface)
	cniroute.Device(c.Object, hostInterface, &conf.hostInterface)
	duration(c, hostTimeout, &conf.hostTimeout)
	duration(c, podTimeout, &conf.podTimeout)
	if v, ok := c.Get(families); ok {
		conf.families = decodeFamilies(v)
	}
	conf.decodeHostIPs(c)
	conf.decodeGateways(c)
	if v, ok := c.Get(routes); ok {
		conf.routes = cniroute.CNI.DecodeList(v)
		conf.checkRoutes(v)
	}
	return conf
}

func duration(c *cni.Config, key string, d *time.Duration) {
	v, text, ok := c.GetText(key)
	if !ok {
		return
	}
	got, err := time.ParseDuration(text)
	if err != nil || got < 0 {
		v.Invalid("%q is not a duration, as \"90s\" is", text)
		return
	}
	*d = got
}

func decodeFamilies(v strictjson.Value) (list []family) {
	told := len(v.Problems().List)
	for _, e := range v.List() {
		text, ok := e.Text()
		if f := family(text); !ok {
			continue
		} else if f != ipv4 && f != ipv6 {
			e.Invalid("%q is not ipv4 or ipv6", text)
		} else if !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	if list == nil && len(v.Problems().List) == told {
		v.Invalid("it names no family")
	}
	return list
}

// No host has these addresses (RFC 1122, section 3.2.1.3).
var (
	unusable  = netip.MustParsePrefix("0.0.0.0/8")
	broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// address reads an address of one of the families.
func (c *config) address(v strictjson.Value) (ip netip.Addr, ok bool) {
	text, ok := v.Text()
	if !ok {
		return ip, false
	}
	ip, err := netip.ParseAddr(text)
	switch {
	case err != nil || ip.Zone() != "" || ip.Is4In6():
		v.Invalid("%q is not an IP address", text)
	case ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() || unusable.Contains(ip) || ip == broadcast:
		v.Invalid("%q is no address of a host", text)
	case !slices.Contains(c.families, familyOf(ip)):
		v.Invalid("%s is of a family that families does not name", ip)
	default:
		return ip, true
	}
	return ip, false
}

func (c *config) decodeHostIPs(p *cni.Config) {
	v, ok := p.Get(hostIPs)
	if !ok {
		return
	}
	if p.Has(hostInterface) {
		v.Invalid("given beside %q", hostInterface)
	}
	c.given = true
	before := len(p.List)
	for _, e := range v.List() {
		ip, ok := c.address(e)
		switch {
		case !ok || slices.Contains(c.hostIPs, ip):
		case ip.IsLinkLocalUnicast():
			e.Invalid("%s is reached on one link only", ip)
		default:
			c.hostIPs = append(c.hostIPs, ip)
		}
	}
	for _, f := range c.families {
		if len(p.List) == before && !slices.ContainsFunc(c.hostIPs, func(ip netip.Addr) bool { return familyOf(ip) == f }) {
			v.Invalid("there is no address of %s", f)
		}
	}
}

// decodeGateways reads an address, or a list of them.
func (c *config) decodeGateways(p *cni.Config) {
	v, ok := p.Get(gateway)
	if !ok {
		return
	}
	list := []strictjson.Value{v}
	if v.Raw[0] == '[' {
		list = v.List()
	}
	for _, e := range list {
		ip, ok := c.address(e)
		if !ok {
			continue
		}
		if other, there := c.gateways[familyOf(ip)]; there {
			e.Invalid("%s is a second one of %s beside %s", ip, familyOf(ip), other)
			continue
		}
		c.gateways[familyOf(ip)] = ip
	}
}

// checkRoutes notes routes that would go by the gateway of a family that there
// is none of, and gateways that are none.
func (c *config) checkRoutes(v strictjson.Value) {
	if len(v.Problems().List) > 0 {
		return // the list is not whole
	}
	for i := range c.routes {
		r := &c.routes[i]
		e := v.At(i)
		if byGateway(r) && !slices.Contains(c.families, familyOf(r.Dst.Addr())) {
			e.Invalid("%s is of a family that families does not name, and has no way of its own", r.Dst)
		}
		if r.OnLink.Value && !byGateway(r) && !r.Gw.Value.IsValid() && r.Gws == nil {
			e.Invalid("onlink: there is no gateway for %s", r.Dst)
		}
	}
}

// byGateway reports whether a route goes by the same gateway as those to the
// node: it has no way of its own.
func byGateway(r *cniroute.Route) bool {
	return !r.Gw.Given && r.Gws == nil && r.Dev == "" && !r.Type.Given && r.Scope.Or(netops.ScopeAuto) != netops.ScopeLink
}

// SkipCheck says that CHECK judges everything.
func (c config) SkipCheck() bool { return false }
