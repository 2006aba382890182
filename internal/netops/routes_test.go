package netops

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// parse reads a route as ip(8) takes it, as far as tests need.
func parse(t testing.TB, line string) Route {
	t.Helper()
	words := strings.Fields(line)
	r := Route{Protocol: Protocol}
	for _, kind := range []Type{Blackhole, Unreachable, Prohibit} {
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
			r.Scope = ScopeLink
		case "proto":
			r.Protocol = uint8(number())
		default:
			t.Fatalf("%s: unknown word %q", line, words[i])
		}
		check()
	}
	return r.Normalize()
}

func parseAll(t testing.TB, lines ...string) State {
	t.Helper()
	var s State
	for _, line := range lines {
		s.Routes = append(s.Routes, parse(t, line))
	}
	return s
}

// many are n routes by 10.1.0.1.
func many(t testing.TB, n int) []Route {
	t.Helper()
	routes := make([]Route, n)
	for i := range routes {
		routes[i] = parse(t, fmt.Sprintf("172.%d.%d.0/24 via 10.1.0.1 dev eth0", 16+i/256, i%256))
	}
	return routes
}

func netip6(first uint16, i int) netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint16(a[:], first)
	binary.BigEndian.PutUint32(a[2:], uint32(i))
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

func sortFrom(list []string, at int) { slices.Sort(list[at:]) }
