package kernel

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

// FuzzDecodeRoute feeds the decoder what a kernel never sends: no panic, and
// what it takes can be encoded again.
func FuzzDecodeRoute(f *testing.F) {
	index := func(string) (uint32, error) { return 2, nil }
	for _, line := range []string{"default via 10.1.0.1 dev eth0 mtu 1400", "fd00::/64 dev eth0 metric 7", "blackhole 10.0.0.0/8"} {
		r := netopstest.ParseRoute(f, line)
		raw, err := appendRoute(nil, &r, index)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		name := func(int) (string, error) { return "eth0", nil }
		r, err := netops.DecodeRoute(nil, body, name)
		if err != nil {
			return
		}
		again, err := appendRoute(nil, &r, index)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := netops.DecodeRoute(nil, again, name); err != nil {
			t.Errorf("%s cannot be read back: %v", r, err)
		}
		var c netops.Change
		if hops := r.NextHops(); len(hops) > 1 {
			_, left := c.Remove(&r, hops[0].SameHop)
			if _, err := appendRoute(nil, left[0], index); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzReplies feeds the other decoders what a kernel never sends.
func FuzzReplies(f *testing.F) {
	addr := make([]byte, unix.SizeofIfAddrmsg)
	f.Add(rtattr.AppendAddr(addr, unix.IFA_LOCAL, netip.MustParseAddr("10.1.0.5")))
	f.Add(rtattr.AppendUint32(rtattr.AppendAddr(addr, unix.IFA_ADDRESS, netip.MustParseAddr("fd01::5")), unix.IFA_FLAGS, 1<<20))
	f.Add(rtattr.Append(make([]byte, 20), unix.NLMSGERR_ATTR_MSG, []byte("a reason\x00")))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := decodeAddr(body, func(int) (string, error) { return "eth0", nil })
		if err == nil && a.Prefix.IsValid() && a.Prefix.Bits() > a.Prefix.Addr().BitLen() {
			t.Errorf("an address of %d bits: %v", a.Prefix.Bits(), a)
		}
		for _, typ := range []uint16{unix.NLMSG_ERROR, unix.NLMSG_DONE} {
			var k *netops.KernelError
			if err := (reply{typ: typ, flags: unix.NLM_F_ACK_TLVS, body: body}).verdict(); err != nil && (!errors.As(err, &k) || err.Error() == "") {
				t.Errorf("verdict %#v", err)
			}
		}
		for _, to := range []map[netip.Prefix]bool{nil, {netip.MustParsePrefix("10.0.0.0/8"): true}} {
			routeQuery{family: unix.AF_INET, to: to}.wants(body)
		}
	})
}

// FuzzDecodeObjects feeds the decoders what a kernel never sends: no panic, and
// what is taken can be sent and read again.
func FuzzDecodeObjects(f *testing.F) {
	index := func(string) (uint32, error) { return 2, nil }
	name := func(int) (string, error) { return "eth0", nil }
	seeds := netopstest.ParseState(f, "rule pref 5 from 10.1.0.5 to 10.0.0.0/8 lookup 100", "rule pref 5 to fd00::/64 lookup 100",
		"neigh 10.1.0.7 lladdr "+mac1+" dev eth0", "neigh fd00::7 lladdr "+mac1+" dev eth0", "link dev eth0 address "+mac1)
	for i := range seeds.Rules {
		f.Add(appendRule(nil, &seeds.Rules[i]))
	}
	for i := range seeds.Neighs {
		body, err := appendNeigh(nil, &seeds.Neighs[i], false, index)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	body, err := appendLinkAddr(nil, &seeds.Links[0], index)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = decodeLink(body)
		if r, ok, err := decodeRule(body); err == nil && ok && !r.MoreSelectors && r.Table != 0 {
			if err := (netops.Plan{Host: netops.StateOf(&r)}).Validate(); err != nil {
				t.Error(err)
			}
			again := appendRule(nil, &r)
			if back, ok, err := decodeRule(again); back != r || !ok || err != nil {
				t.Errorf("%+v is read back as %+v, %v", r, back, err)
			}
		}
		e, ok, err := decodeNeigh(body, name)
		if err != nil || !ok || (netops.Plan{Host: netops.StateOf(&e)}).Validate() != nil {
			return
		}
		again, err := appendNeigh(nil, &e, false, index)
		if err != nil {
			t.Fatal(err)
		}
		if back, _, err := decodeNeigh(again, name); back != e || err != nil {
			t.Errorf("%+v is read back as %+v, %v", e, back, err)
		}
	})
}
func TestUnited(t *testing.T) {
	at := func(texts ...string) (list []netops.Addr) {
		for _, text := range texts {
			list = append(list, netops.Addr{Dev: "eth0", Prefix: netip.MustParsePrefix(text)})
		}
		return list
	}
	for _, tt := range []struct{ first, second, want []netops.Addr }{
		{at("10.0.0.1/8", "10.0.0.2/8"), at("10.0.0.1/8", "10.0.0.2/8"), at("10.0.0.1/8", "10.0.0.2/8")},
		{at("10.0.0.3/8", "10.0.0.1/8"), at("10.0.0.1/8", "10.0.0.2/8", "10.0.0.3/8"), at("10.0.0.3/8", "10.0.0.1/8", "10.0.0.2/8")},
		{nil, at("10.0.0.1/8"), at("10.0.0.1/8")},
	} {
		if got := united(tt.first, tt.second); !slices.Equal(got, tt.want) {
			t.Errorf("%v and %v are %v", tt.first, tt.second, got)
		}
	}
	tentative := at("fd01::5/64")
	tentative[0].Flags = unix.IFA_F_TENTATIVE
	if got := united(at("fd01::5/64"), tentative); len(got) != 1 || got[0].Flags != 0 {
		t.Errorf("one that is tentative no more is %v", got)
	}
}
