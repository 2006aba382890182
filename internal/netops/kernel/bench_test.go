package kernel

import (
	"context"
	"fmt"
	"testing"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// BenchmarkApply looks at a pod, and exchanges some of its routes and back,
// within one process: what netlink messages cost.
func BenchmarkApply(b *testing.B) {
	for _, size := range []struct{ table, changes int }{{3, 2}, {5000, 1}, {5000, 5000}} {
		b.Run(fmt.Sprintf("table=%d/changes=%d", size.table, size.changes), func(b *testing.B) {
			pod := netopstest.Namespace(b, "pod")
			pod.Veth("net1", "10.1.0.5/16")
			lines := make([]string, size.table)
			var c netops.Change
			for i := range lines {
				lines[i] = fmt.Sprintf("route add 172.%d.%d.0/24 via 10.1.0.1", i/256, i%256)
				if i < size.changes {
					added := fmt.Sprintf("192.%d.%d.0/24 via 10.1.0.2 dev net1", i/256, i%256)
					c.Add.Routes = append(c.Add.Routes, netopstest.ParseRoute(b, added))
				}
			}
			pod.Batch(lines...)
			n := enter(b, pod)
			b.ReportAllocs()
			for b.Loop() {
				s, err := n.Snapshot(context.Background(), netops.Query{Links: []string{"net1"}, HardwareAddrs: true, Addrs: true,
					Tables: []uint32{netops.TableMain}, Rules: true, Neighs: []string{"net1"}})
				if err != nil {
					b.Fatal(err)
				}
				exchange := netops.Change{Add: c.Add}
				for i := range s.Routes {
					if r := &s.Routes[i]; r.Gw.Is4() && r.Dst.Addr().As4()[0] == 172 && len(exchange.Del.Routes) < size.changes {
						exchange.Del.Routes = append(exchange.Del.Routes, *r)
					}
				}
				if err := n.Apply(context.Background(), exchange); err != nil {
					b.Fatal(err)
				}
				if err := n.Undo(context.Background(), exchange); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
