package netops_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cni-netops/plugins/internal/netops"
)

// What the record loses, DEL cannot put back: a member that is added to a type
// and not to its AppendJSON fails here.
func TestJSONHasEveryMember(t *testing.T) {
	prefix, gw := netip.MustParsePrefix("fd00::/64"), netip.MustParseAddr("fe80::1")
	hop := netops.NextHop{Gw: gw, Dev: "net1", Weight: 3, OnLink: true}
	r := netops.Route{
		Dst: prefix, Table: 100, Metric: 5, Type: netops.Blackhole, Gw: gw, Dev: "net1", AnyDev: true, AnyGw: true, Hops: []netops.NextHop{hop, hop},
		Src: netip.MustParseAddr("fd00::5"), Scope: netops.ScopeLink, OnLink: true, MTU: 1400, AdvMSS: 1300, Protocol: 99, Tos: 16,
		From: netip.MustParsePrefix("fd01::/64"), NhID: 7, Expires: 60, Raw: []byte{0, 255}, Position: 1,
	}
	r.Siblings = []netops.Route{r, {Dst: prefix}}
	filled(t, hop)
	filled(t, r)
	mac := "02:00:00:00:00:07"
	s := netops.State{
		Links:   []netops.LinkAddr{{Dev: "net1", HardwareAddr: mac}},
		Sysctls: []netops.Sysctl{{Key: "net/ipv4/conf/net1/rp_filter", Value: "2", AtMost: true}},
		Neighs:  []netops.Neigh{{Dev: "net1", IP: gw, HardwareAddr: mac, Learnt: true, Flags: 128, Protocol: 3}},
		Routes:  []netops.Route{r},
		Rules:   []netops.Rule{{IPv6: true, Priority: 1000, From: prefix, To: prefix, Table: 100, Protocol: 77, MoreSelectors: true}},
	}
	filled(t, s.Links[0])
	filled(t, s.Sysctls[0])
	filled(t, s.Neighs[0])
	filled(t, s.Rules[0])
	if kinds := reflect.TypeFor[netops.State]().NumField(); s.Len() != kinds {
		t.Errorf("%d objects of %d kinds: one has no row in kinds", s.Len(), kinds)
	}
	want := netops.Plan{Pod: netops.Change{Del: s, Add: s, AddFirst: true, Flushed: s.Neighs}, Host: s}
	filled(t, want)
	filled(t, want.Pod)
	filled(t, want.Pod.Del)

	var got netops.Plan
	if err := json.Unmarshal(want.AppendJSON(nil), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
}

func filled(t *testing.T, value any) {
	t.Helper()
	for field, v := range reflect.ValueOf(value).Fields() {
		if v.IsZero() {
			t.Errorf("%T.%s is not in this test", value, field.Name)
		}
	}
}
