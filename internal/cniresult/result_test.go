//go:build linux

package cniresult

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
)

func mustDecode(t testing.TB, prevResult string) *Result {
	t.Helper()
	r, err := Decode(json.RawMessage(prevResult), "1.1.0")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// printed is the result as it goes out.
func printed(t testing.TB, r *Result) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// routes is the list of routes as it goes out, one on a line.
func routes(t testing.TB, r *Result) string {
	t.Helper()
	var out struct{ Routes []json.RawMessage }
	if err := json.Unmarshal([]byte(printed(t, r)), &out); err != nil {
		t.Fatal(err)
	}
	lines := make([]string, len(out.Routes))
	for i, raw := range out.Routes {
		var tight bytes.Buffer
		_ = json.Compact(&tight, raw)
		lines[i] = tight.String()
	}
	return strings.Join(lines, "\n")
}

func sameJSON(t *testing.T, want, got string) {
	t.Helper()
	decode := func(s string) (v any) {
		d := json.NewDecoder(strings.NewReader(s))
		d.UseNumber() // floats would make long numbers equal
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%v in %s", err, s)
		}
		return v
	}
	if diff := cmp.Diff(decode(want), decode(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func ptr[T any](v T) *T { return &v }

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func entry(dst, gw string) Route {
	return Route{Dst: netip.MustParsePrefix(dst), Gw: addr(gw)}
}

// What is not known here goes out as it came in, whatever it is; only the
// version becomes the one that was asked for.
func TestResultGoesOutAsItCameIn(t *testing.T) {
	const all = `{
		"cniVersion": "%s", "unknown": {"number": 12345678901234567890.5, "text": "<&>\u00e9", "null": null},
		"interfaces": [{"name": "net1", "mac": "02:00:00:00:00:02", "mtu": 1500, "sandbox": "/run/netns/pod", "socketPath": "/s", "pciID": "p", "more": [1]}, {"name": "host0"}],
		"ips": [{"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0, "more": true}, {"address": "fd01::5/64"}],
		"routes": [{"dst": "10.1.2.3/16", "gw": "10.1.0.1", "mtu": 1400, "advmss": 0, "priority": 0, "table": 254, "scope": 0, "more": {"a": 1}}, {"dst": "::/0"}],
		"dns": {"nameservers": ["10.1.0.1"], "search": null}}`
	for _, prev := range []string{
		all,
		`{"cniVersion": "%s"}`,
		`{"cniVersion": "%s", "interfaces": null, "dns": {}}`,
		`{"cniVersion": "%s", "interfaces": [], "ips": [], "routes": []}`,
	} {
		r, err := Decode(json.RawMessage(fmt.Sprintf(prev, "0.4.0")), "1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, fmt.Sprintf(prev, "1.0.0"), printed(t, r))

		// Neither does choosing nothing change anything.
		same := r.Without(func(Route, netip.Addr) bool { return false })
		sameJSON(t, fmt.Sprintf(prev, "1.0.0"), printed(t, same))
	}
}

func TestResultThatCannotBeDecoded(t *testing.T) {
	for _, tt := range []struct{ prev, says string }{
		{`[]`, "prevResult: "},
		{`"text"`, "prevResult: "},
		{`7`, "prevResult: "},
		{`{"interfaces": {}}`, "interfaces: "},
		{`{"interfaces": [{"name": "net1"}, null]}`, "interfaces[1] is null"},
		{`{"interfaces": [{"name": 1}]}`, "interfaces: "},
		{`{"ips": [null]}`, "ips[0] is null"},
		{`{"ips": "10.0.0.1/8"}`, "ips: "},
		{`{"ips": [{"address": "10.0.0.1/8"}, {"address": "10.0.0.1"}]}`, `ips[1].address: "10.0.0.1" is not an address with its prefix length`},
		{`{"ips": [{}]}`, `ips[0].address: ""`},
		{`{"ips": [{"address": "10.0.0.1/33"}]}`, `ips[0].address: "10.0.0.1/33"`},
		{`{"ips": [{"address": "10.0.0.1/8", "gateway": "10.0.0.300"}]}`, `ips[0].gateway: "10.0.0.300" is not an IP address`},
		{`{"ips": [{"address": "10.0.0.1/8", "interface": "net1"}]}`, "ips: "},
		{`{"routes": [{"dst": "0.0.0.0/0"}, null]}`, "routes[1] is null"},
		{`{"routes": {}}`, "routes: "},
		{`{"routes": [{"dst": "10.0.0.0"}]}`, `routes[0].dst: "10.0.0.0" is not a subnet`},
		{`{"routes": [{"gw": "10.0.0.1"}]}`, `routes[0].dst: ""`},
		{`{"routes": [{"dst": "10.0.0.0/8", "gw": "there"}]}`, `routes[0].gw: "there" is not an IP address`},
		{`{"routes": [{"dst": "10.0.0.0/8", "gws": ["10.0.0.1", "there"]}]}`, `routes[0].gws[1]: "there" is not an IP address`},
		{`{"routes": [{"dst": "10.0.0.0/8", "gws": ["0.0.0.0"]}]}`, `routes[0].gws[0]: "0.0.0.0" is no gateway`},
		{`{"routes": [{"dst": "10.0.0.0/8", "gws": "10.0.0.1"}]}`, "routes: "},
		{`{"routes": [{"dst": "10.0.0.0/8", "mtu": -1}]}`, "routes: "},
		{`{"routes": [{"dst": "10.0.0.0/8", "scope": 256}]}`, "routes: "},
		{`{"routes": [{"dst": "10.0.0.0/8", "priority": 4294967296}]}`, "routes: "},
	} {
		_, err := Decode(json.RawMessage(tt.prev), "1.1.0")
		if err == nil || cni.Code(err) != 6 || !strings.HasPrefix(err.Error(), "prevResult: ") || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: code %d, %v; want 6, %q", tt.prev, cni.Code(err), err, tt.says)
		}
	}
}

func TestGatewayThatIsNone(t *testing.T) {
	for _, gw := range []string{``, `, "gateway": ""`, `, "gateway": "0.0.0.0"`, `, "gateway": "::"`, `, "gateway": null`} {
		prev := `{"ips": [{"address": "10.1.0.5/16"` + gw + `}], "routes": [{"dst": "10.2.0.0/16"` + strings.Replace(gw, "gateway", "gw", 1) + `}]}`
		r := mustDecode(t, prev)
		if r.IPs[0].Gateway.IsValid() || r.Routes[0].Gw.IsValid() || r.NextHops(r.Routes[0])[0].IsValid() {
			t.Errorf("%s: gateway %v, way %v", prev, r.IPs[0].Gateway, r.NextHops(r.Routes[0]))
		}
	}
}

// By a gateway of ips goes what names none itself: that of the interface, else
// the first of the family.
func TestGatewayAndWay(t *testing.T) {
	r := mustDecode(t, `{
		"interfaces": [{"name": "net1"}, {"name": "net2"}],
		"ips": [{"address": "10.0.0.5/16", "interface": 0}, {"address": "fd01::5/64", "gateway": "fd01::1", "interface": 0},
			{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}, {"address": "10.2.0.5/16", "gateway": "10.2.0.1", "interface": 1},
			{"address": "10.3.0.5/16", "gateway": "10.3.0.1", "interface": 7}]}`)
	for _, tt := range []struct {
		dst, dev, gw string
		own          bool
	}{
		{"10.9.0.0/16", "net1", "10.1.0.1", true},
		{"10.9.0.0/16", "net2", "10.2.0.1", true},
		{"10.9.0.0/16", "net3", "10.1.0.1", false},
		{"10.9.0.0/16", "", "10.3.0.1", true}, // an index that nothing has names no interface
		{"fd09::/64", "net1", "fd01::1", true},
		{"fd09::/64", "net2", "fd01::1", false},
	} {
		if gw, own := r.Gateway(netip.MustParsePrefix(tt.dst), tt.dev); gw != addr(tt.gw) || own != tt.own {
			t.Errorf("Gateway(%s, %q) = %v, %v; want %s, %v", tt.dst, tt.dev, gw, own, tt.gw, tt.own)
		}
	}

	r = mustDecode(t, `{"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}], "routes": [
		{"dst": "10.9.0.0/16", "gws": ["10.1.0.2", "10.1.0.3"]}, {"dst": "10.9.0.0/16", "gw": "10.1.0.3", "gws": ["10.1.0.2", "10.1.0.2"]},
		{"dst": "10.9.0.0/16", "gw": "10.1.0.3", "gws": ["10.1.0.3", "10.1.0.2"]}, {"dst": "10.9.0.0/16", "gws": []}]}`)
	for i, want := range []string{"[10.1.0.2 10.1.0.3]", "[10.1.0.2 10.1.0.3]", "[10.1.0.3 10.1.0.2]", "[10.1.0.1]"} {
		if got := fmt.Sprint(r.NextHops(r.Routes[i])); got != want {
			t.Errorf("next hops of entry %d: %s, want %s", i, got, want)
		}
	}
	onLink, global := entry("10.9.0.0/16", ""), entry("10.9.0.0/16", "")
	onLink.Scope, global.Scope = ptr(uint8(253)), ptr(uint8(0))
	for _, tt := range []struct {
		entry Route
		want  string
	}{
		{entry("10.9.0.0/16", ""), "10.1.0.1"},
		{entry("10.9.0.0/16", "10.1.0.2"), "10.1.0.2"},
		{onLink, ""},
		{global, "10.1.0.1"},
		{entry("fd09::/64", ""), ""}, // no gateway of its family
	} {
		if got := r.NextHops(tt.entry); len(got) != 1 || got[0] != addr(tt.want) {
			t.Errorf("NextHops(%+v) = %v, want %s", tt.entry, got, tt.want)
		}
	}
}

func TestLists(t *testing.T) {
	r := mustDecode(t, `{"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}], "routes": [
		{"dst": "0.0.0.0/0"}, {"dst": "10.2.3.4/16", "gw": "10.1.0.2", "priority": 5}, {"dst": "10.3.0.0/16", "gw": "10.1.0.2", "table": 100},
		{"dst": "10.4.0.0/16", "scope": 253}, {"dst": "10.5.0.0/16", "gw": "10.1.0.1"}, {"dst": "10.5.0.0/16", "gw": "10.1.0.2"},
		{"dst": "10.6.0.0/16", "gw": "10.1.0.1", "table": 0, "priority": 0}, {"dst": "fd06::/64", "priority": 0},
		{"dst": "10.8.0.0/16", "gws": ["10.1.0.2", "10.1.0.3"]}]}`)
	route := func(dst, gw string, edit ...func(*netops.Route)) netops.Route {
		r := netops.Route{Dst: netip.MustParsePrefix(dst), Gw: addr(gw), Dev: "net1"}
		for _, e := range edit {
			e(&r)
		}
		return r.Normalize()
	}
	metric := func(m uint32) func(*netops.Route) { return func(r *netops.Route) { r.Metric = m } }
	table := func(n uint32) func(*netops.Route) { return func(r *netops.Route) { r.Table = n } }
	hops := func(gws ...string) func(*netops.Route) {
		return func(r *netops.Route) {
			for _, gw := range gws {
				r.Hops = append(r.Hops, netops.NextHop{Gw: addr(gw), Dev: "net1"})
			}
		}
	}
	for _, tt := range []struct {
		name  string
		route netops.Route
		want  bool
	}{
		{"by the gateway of ips", route("0.0.0.0/0", "10.1.0.1"), true},
		{"what is not told is not denied", route("0.0.0.0/0", "10.1.0.1", metric(50), table(100)), true},
		{"an entry without gw may be on-link", route("0.0.0.0/0", ""), true},
		{"by another gateway", route("0.0.0.0/0", "10.1.0.9"), false},
		{"host bits do not matter", route("10.2.0.0/16", "10.1.0.2", metric(5)), true},
		{"another metric", route("10.2.0.0/16", "10.1.0.2"), false},
		{"another prefix length", route("10.2.0.0/24", "10.1.0.2", metric(5)), false},
		{"in its table", route("10.3.0.0/16", "10.1.0.2", table(100)), true},
		{"in another table", route("10.3.0.0/16", "10.1.0.2"), false},
		{"on-link", route("10.4.0.0/16", ""), true},
		{"told to be on-link", route("10.4.0.0/16", "10.1.0.1"), false},
		{"multipath", route("10.5.0.0/16", "", hops("10.1.0.1", "10.1.0.2")), true},
		{"multipath, one way not listed", route("10.5.0.0/16", "", hops("10.1.0.1", "10.1.0.3")), false},
		{"multipath in one entry", route("10.8.0.0/16", "", hops("10.1.0.3", "10.1.0.2")), true},
		{"one of several in one entry", route("10.8.0.0/16", "10.1.0.3"), true},
		{"in one entry, one more", route("10.8.0.0/16", "", hops("10.1.0.3", "10.1.0.2", "10.1.0.1")), false},
		{"several do not stand for that of ips", route("10.8.0.0/16", "10.1.0.1"), false},
		{"table and metric 0 are the kernel's default", route("10.6.0.0/16", "10.1.0.1"), true},
		{"as metric 0 is for IPv6", route("fd06::/64", ""), true},
		{"not listed at all", route("10.7.0.0/16", "10.1.0.1"), false},
	} {
		if got := r.Lists(&tt.route); got != tt.want {
			t.Errorf("%s: Lists(%s) = %v", tt.name, &tt.route, got)
		}
	}
}

func TestWithout(t *testing.T) {
	const prev = `{"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "more": 1}, {"address": "fd01::5/64", "gateway": "fd01::1"}, {"address": "10.9.0.5/16"}],
		"routes": [{"dst": "10.2.0.0/16", "mtu": 1400, "more": 1}, {"dst": "fd02::/64"}, {"dst": "10.4.0.0/16", "gw": "10.1.0.9"}]}`
	r := mustDecode(t, prev)
	left := r.Without(func(l Route, _ netip.Addr) bool { return l.Dst.Addr().Is6() })
	sameJSON(t, strings.Replace(strings.Replace(prev, `{"dst": "fd02::/64"}, `, ``, 1), `{`, `{"cniVersion": "1.1.0", `, 1), printed(t, left))
	if gone := (netops.Route{Dst: netip.MustParsePrefix("fd02::/64"), Gw: addr("fd01::1")}).Normalize(); left.Lists(&gone) {
		t.Error("the route that went is still listed")
	}
	// The result that it was made from stays as it is.
	sameJSON(t, strings.Replace(prev, `{`, `{"cniVersion": "1.1.0", `, 1), printed(t, r))

	gone := r.Without(func(Route, netip.Addr) bool { return true })
	if got := printed(t, gone); !strings.Contains(got, `"routes":[]`) {
		t.Errorf("no empty list: %s", got)
	}
}

// A multipath route loses some of its next hops, or all.
func TestWithoutSomeNextHops(t *testing.T) {
	const prev = `{"routes": [{"dst": "10.2.0.0/16", "gws": ["10.1.0.2", "10.1.0.3"], "gw": "10.1.0.4", "mtu": 1400, "more": 1}]}`
	for _, tt := range []struct{ gone, want string }{
		{"10.1.0.9", `{"dst":"10.2.0.0/16","gws":["10.1.0.2","10.1.0.3"],"gw":"10.1.0.4","mtu":1400,"more":1}`},
		{"10.1.0.3", `{"dst":"10.2.0.0/16","gws":["10.1.0.2","10.1.0.4"],"more":1,"mtu":1400}`},
		{"10.1.0.2 10.1.0.3", `{"dst":"10.2.0.0/16","gw":"10.1.0.4","more":1,"mtu":1400}`},
		{"10.1.0.2 10.1.0.3 10.1.0.4", ``},
	} {
		r := mustDecode(t, prev).Without(func(_ Route, gw netip.Addr) bool { return strings.Contains(tt.gone, gw.String()) })
		if diff := cmp.Diff(tt.want, routes(t, r)); diff != "" {
			t.Errorf("without %s (-want +got):\n%s", tt.gone, diff)
		}
	}
}

func TestWithMac(t *testing.T) {
	const prev = `{"cniVersion": "1.1.0", "interfaces": [{"name": "net1"}, {"name": "net1", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/pod", "mtu": 1500}, {"name": "eth0", "mac": "x", "sandbox": "/run/netns/pod"}]}`
	r := mustDecode(t, prev)
	sameJSON(t, strings.Replace(prev, "02:00:00:00:00:01", "0a:0b:0a:01:00:05", 1), printed(t, r.WithMac("net1", "0a:0b:0a:01:00:05")))
	sameJSON(t, prev, printed(t, r))
	none := mustDecode(t, `{}`)
	sameJSON(t, `{"cniVersion": "1.1.0"}`, printed(t, none.WithMac("net1", "0a:0b:0a:01:00:05")))
	sameJSON(t, `{"cniVersion": "1.1.0", "interfaces": [{"name": "net1", "sandbox": "/s", "mac": "0a:0b:0a:01:00:05"}]}`,
		printed(t, mustDecode(t, `{"interfaces": [{"name": "net1", "sandbox": "/s", "Mac": "02:00:00:00:00:01"}]}`).WithMac("net1", "0a:0b:0a:01:00:05")))
}

func TestAppend(t *testing.T) {
	r := mustDecode(t, `{"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}], "routes": [{"dst": "10.2.0.0/16"}, {"dst": "10.3.0.0/16", "gw": "10.1.0.2", "table": 254}]}`)
	with := func(l Route, edit func(*Route)) Route { edit(&l); return l }
	full := Route{Dst: netip.MustParsePrefix("fd02::/64"), Gw: addr("fd01::1"), MTU: 1400, AdvMSS: 1300, Priority: ptr(uint32(0)), Table: ptr(uint32(100)), Scope: ptr(uint8(0))}
	for range 2 { // the second time, each is listed
		for _, l := range []Route{
			entry("10.2.0.0/16", "10.1.0.1"), // as the entry without gw
			entry("10.3.0.0/16", "10.1.0.2"), // in table main, as is told there
			entry("10.2.0.0/16", "10.1.0.2"),
			with(entry("10.2.0.0/16", "10.1.0.1"), func(l *Route) { l.Priority = ptr(uint32(5)) }),
			with(entry("10.2.0.0/16", "10.1.0.1"), func(l *Route) { l.Priority = ptr(uint32(0)) }), // the same as none
			with(entry("10.2.0.0/16", "10.1.0.1"), func(l *Route) { l.Table = ptr(uint32(100)) }),
			with(entry("10.2.0.0/16", ""), func(l *Route) { l.Scope = ptr(uint8(253)) }),
			with(entry("10.2.0.0/16", ""), func(l *Route) { l.Gws = []netip.Addr{addr("10.1.0.1"), addr("10.1.0.2")} }),
			with(entry("10.2.0.0/16", ""), func(l *Route) { l.Gws = []netip.Addr{addr("10.1.0.2"), addr("10.1.0.1")} }),
			full,
		} {
			r.Append(l)
		}
	}
	want := strings.Join([]string{
		`{"dst":"10.2.0.0/16"}`,
		`{"dst":"10.3.0.0/16","gw":"10.1.0.2","table":254}`,
		`{"dst":"10.2.0.0/16","gw":"10.1.0.2"}`,
		`{"dst":"10.2.0.0/16","gw":"10.1.0.1","priority":5}`,
		`{"dst":"10.2.0.0/16","gw":"10.1.0.1","table":100}`,
		`{"dst":"10.2.0.0/16","scope":253}`,
		`{"dst":"10.2.0.0/16","gws":["10.1.0.1","10.1.0.2"]}`,
		`{"dst":"fd02::/64","gw":"fd01::1","mtu":1400,"advmss":1300,"priority":0,"table":100,"scope":0}`,
	}, "\n")
	if diff := cmp.Diff(want, routes(t, r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	empty := mustDecode(t, `{}`)
	if got := printed(t, empty); strings.Contains(got, "routes") {
		t.Errorf("a list out of nothing: %s", got)
	}
	empty.Append(entry("10.2.0.0/16", ""))
	if diff := cmp.Diff(`{"dst":"10.2.0.0/16"}`, routes(t, empty)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Work that grows by the square would take minutes here.
func TestLongLists(t *testing.T) {
	const n = 50_000
	for name, at := range map[string]func(i int) (string, uint32){
		"many destinations":   func(i int) (string, uint32) { return fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), 1 },
		"many metrics of one": func(i int) (string, uint32) { return "10.0.0.0/24", uint32(i) + 1 },
	} {
		t.Run(name, func(t *testing.T) { longList(t, n, at) })
	}
}

func longList(t *testing.T, n int, at func(i int) (dst string, metric uint32)) {
	t.Helper()
	list := make([]string, n)
	for i := range list {
		dst, metric := at(i)
		list[i] = fmt.Sprintf(`{"dst": %q, "gw": "10.1.0.1", "priority": %d}`, dst, metric)
	}
	r := mustDecode(t, `{"routes": [`+strings.Join(list, ",")+`]}`)
	r = r.Without(func(l Route, _ netip.Addr) bool { return *l.Priority%7 == 0 || l.Dst.Addr().As4()[2] == 7 })
	for i := range n {
		dst, metric := at(i)
		l := entry(dst, "10.1.0.1")
		l.Priority = &metric
		r.Append(l)
		if route := (netops.Route{Dst: l.Dst, Gw: l.Gw, Metric: metric}).Normalize(); !r.Lists(&route) {
			t.Fatalf("%s metric %d is not listed", l.Dst, metric)
		}
	}
	if len(r.Routes) != n {
		t.Errorf("%d entries", len(r.Routes))
	}
	printed(t, r)
}

// Whatever can be decoded goes out as JSON that can be decoded again, and
// lists what was appended.
func FuzzResult(f *testing.F) {
	f.Add([]byte(`{"interfaces": [{"name": "net1"}], "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}]}`))
	f.Add([]byte(`{"ips": null, "routes": [{"dst": "::ffff:10.0.0.0/104", "gw": "::", "GW": "fd00::1", "priority": 0, "table": 0, "scope": 253}]}`))
	f.Add([]byte(`{"routes": [{"dst": "10.0.0.0/8", "gw": "fe80::1%eth0"}], "\"": "\u2028"}`))
	f.Fuzz(func(t *testing.T, prev []byte) {
		r, err := Decode(prev, "1.1.0")
		if err != nil {
			if cni.Code(err) != 6 {
				t.Fatalf("code %d: %v", cni.Code(err), err)
			}
			return
		}
		left := r.Without(func(l Route, _ netip.Addr) bool { return l.MTU == 1 })
		for _, dst := range []string{"0.0.0.0/0", "10.0.0.0/8", "::/0"} {
			left.Append(entry(dst, ""))
		}
		again, err := Decode(json.RawMessage(printed(t, left)), "1.1.0")
		if err != nil {
			t.Fatalf("%v in what was printed: %s", err, printed(t, left))
		}
		if len(again.Routes) != len(left.Routes) || len(again.IPs) != len(left.IPs) {
			t.Fatalf("%d routes and %d addresses became %d and %d", len(left.Routes), len(left.IPs), len(again.Routes), len(again.IPs))
		}
	})
}
