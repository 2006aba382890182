package netopstest

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cni-netops/plugins/internal/netops"
)

// ParseRoute reads a route as ip(8) takes it, as far as tests need.
func ParseRoute(t testing.TB, line string) netops.Route {
	t.Helper()
	words := strings.Fields(line)
	r := netops.Route{Protocol: netops.Protocol}
	for _, kind := range []netops.Type{netops.Blackhole, netops.Unreachable, netops.Prohibit} {
		if words[0] == kind.String() {
			r.Type, words = kind, words[1:]
		}
	}
	var err error
	check := func() {
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	dst := words[0]
	if !strings.Contains(dst, "/") && dst != "default" {
		dst += map[bool]string{true: "/128", false: "/32"}[strings.Contains(dst, ":")]
	}
	if dst == "default" {
		dst = map[bool]string{true: "::/0", false: "0.0.0.0/0"}[strings.Contains(line, ":")]
	}
	r.Dst, err = netip.ParsePrefix(dst)
	check()
	for i := 1; i+1 < len(words); i += 2 {
		value := words[i+1]
		number := func() uint32 {
			n, e := strconv.ParseUint(value, 10, 32)
			err = e
			return uint32(n)
		}
		switch words[i] {
		case "via":
			r.Gw, err = netip.ParseAddr(value)
		case "dev":
			r.Dev = value
		case "src":
			r.Src, err = netip.ParseAddr(value)
		case "metric":
			r.Metric = number()
		case "table":
			r.Table = number()
		case "mtu":
			r.MTU = number()
		case "advmss":
			r.AdvMSS = number()
		case "scope":
			r.Scope = netops.ScopeLink
		case "proto":
			r.Protocol = uint8(number())
		default:
			t.Fatalf("%s: unknown word %q", line, words[i])
		}
		check()
	}
	return r.Normalize()
}

// ParseRoutes reads several routes into a state.
func ParseRoutes(t testing.TB, lines ...string) netops.State {
	t.Helper()
	var s netops.State
	for _, line := range lines {
		s.Routes = append(s.Routes, ParseRoute(t, line))
	}
	return s
}

// ParseState reads objects as ip(8) and sysctl(8) take them, as far as tests
// need; "learnt" at a neighbour's end stands for one that is.
func ParseState(t testing.TB, lines ...string) netops.State {
	t.Helper()
	var s netops.State
	for _, line := range lines {
		words := strings.Fields(line)
		value := func(key string) string {
			if i := slices.Index(words, key); i >= 0 {
				return words[i+1]
			}
			return ""
		}
		switch words[0] {
		case "rule":
			r := netops.Rule{Protocol: netops.Protocol, IPv6: strings.Contains(line, ":"), Priority: parseNumber(t, value("pref")), Table: parseNumber(t, value("lookup"))}
			r.From, r.To = parseSelector(value("from")), parseSelector(value("to"))
			if p := value("proto"); p != "" {
				r.Protocol = uint8(parseNumber(t, p))
			}
			s.Rules = append(s.Rules, r)
		case "neigh":
			s.Neighs = append(s.Neighs, netops.Neigh{IP: netip.MustParseAddr(words[1]), HardwareAddr: value("lladdr"), Dev: value("dev"), Learnt: words[len(words)-1] == "learnt"})
		case "link":
			s.Links = append(s.Links, netops.LinkAddr{Dev: value("dev"), HardwareAddr: value("address")})
		case "route":
			s.Routes = append(s.Routes, ParseRoute(t, strings.TrimPrefix(line, "route ")))
		default:
			key, v, _ := strings.Cut(line, "=")
			v, atMost := strings.CutSuffix(v, " or less")
			s.Sysctls = append(s.Sysctls, netops.Sysctl{Key: key, Value: v, AtMost: atMost})
		}
	}
	return s
}

func parseNumber(t testing.TB, s string) uint32 {
	t.Helper()
	n := uint32(0)
	for _, c := range s {
		n = n*10 + uint32(c-'0')
	}
	return n
}

func parseSelector(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return p
	}
	ip := netip.MustParseAddr(s)
	return netip.PrefixFrom(ip, ip.BitLen())
}

// Same fails the test unless two values of the model are equal.
func Same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
