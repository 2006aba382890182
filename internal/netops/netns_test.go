package netops

import (
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

func TestMain(m *testing.M) { netopstest.Main(m) }

func TestScratch(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Veth("eth0", "10.1.0.5/16", "fd00::5/64")
	pod.Veth("net1", "10.2.0.5/16")
	pod.IP("route add default via 10.1.0.1", "route append default via 10.2.0.1 mtu 1400", "-6 route add default via fd00::1",
		"route add 10.9.0.0/16 nexthop via 10.1.0.1 weight 2 nexthop via 10.2.0.1")
	t.Log(pod.Dump())
	n, err := Open(pod.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	s, err := n.Snapshot(t.Context(), Query{Links: []string{"eth0", "x"}, Addrs: true, Tables: []uint32{TableMain}})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(s.Links, s.Addrs)
	for _, r := range s.Routes {
		t.Logf("%s", r)
	}
	id, err := n.Identity("eth0")
	t.Log(id, err)
	var c Change
	for _, r := range s.Routes {
		if !r.Learnt() {
			c.Remove(r, func(h NextHop) bool { return h.Dev == "net1" || r.is6() })
		}
	}
	done, _ := c.Needed(s.State)
	t.Log("\n" + done.String())
	before := pod.Dump()
	if err := n.Apply(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	t.Log(pod.Dump())
	if err := n.Undo(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if pod.Dump() != before {
		t.Error(pod.Dump())
	}
}
