package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// many are n routes by 10.1.0.1.
func many(t testing.TB, n int) []netops.Route {
	t.Helper()
	routes := make([]netops.Route, n)
	for i := range routes {
		routes[i] = netopstest.ParseRoute(t, fmt.Sprintf("172.%d.%d.0/24 via 10.1.0.1 dev eth0", 16+i/256, i%256))
	}
	return routes
}

func netip6(first uint16, i int) netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint16(a[:], first)
	binary.BigEndian.PutUint32(a[2:], uint32(i))
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}
