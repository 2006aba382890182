package cniroute

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// decode decodes the list as it stands in a configuration, as addroutes.
func decode(t testing.TB, list string) ([]Route, []string) {
	t.Helper()
	p := &strictjson.Problems{}
	o, ok := strictjson.NewValue([]byte(`{"addroutes":`+list+`}`), "", p).Object()
	v, given := o.Get("addroutes")
	if !ok || !given {
		t.Fatalf("%s is no value", list)
	}
	routes := CNI.DecodeList(v)
	var told []string
	for _, problem := range p.List {
		line := problem.String()
		if problem.Unsupported {
			line += " (key)"
		}
		told = append(told, line)
	}
	for _, w := range p.Warnings {
		told = append(told, "warning: "+w)
	}
	return routes, told
}

// slowly is the list in a form that only the slow way reads: a string may
// have escapes, of which the quick one knows nothing.
func slowly(list string) string {
	return strings.Replace(list, `"dst"`, `"\u0064st"`, 1)
}

var (
	dst, dst6 = netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("fd09::/64")
	gw, gw6   = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fe80::1")
	same      = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})}
)

func TestGoodRoutes(t *testing.T) {
	for _, tt := range []struct {
		name, entry string
		want        Route
	}{
		{"a destination alone", `{"dst": "10.9.0.0/16"}`, Route{Dst: dst}},
		{"every field", `{"dst": "10.9.0.0/16", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 100, "scope": 253,
			"dev": "eth0", "src": "10.1.0.5", "onlink": true, "type": "unicast"}`,
			Route{Dst: dst, Gw: Some(gw), MTU: 1400, AdvMSS: 1360, Metric: Some[uint32](5), Table: Some[uint32](100), Scope: Some(netops.ScopeLink),
				Dev: "eth0", Src: netip.MustParseAddr("10.1.0.5"), OnLink: Some(true), Type: Some(netops.Unicast)}},
		{"a bare address", `{"dst": "10.9.0.7"}`, Route{Dst: netip.MustParsePrefix("10.9.0.7/32")}},
		{"a bare IPv6 address", `{"dst": "FD09::7"}`, Route{Dst: netip.MustParsePrefix("fd09::7/128")}},
		{"host bits", `{"dst": "10.9.3.4/16"}`, Route{Dst: dst}},
		{"IPv6 host bits", `{"dst": "fd09::dead:0:0:1/64", "gw": "fe80::1"}`, Route{Dst: dst6, Gw: Some(gw6)}},
		{"a default route", `{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}`, Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gw: Some(gw)}},
		{"an IPv6 default route, host bits", `{"dst": "fd00::1/0"}`, Route{Dst: netip.MustParsePrefix("::/0")}},
		{"metric", `{"dst": "10.9.0.0/16", "metric": 0}`, Route{Dst: dst, Metric: Some[uint32](0)}},
		{"metric and priority alike", `{"dst": "10.9.0.0/16", "metric": 7, "priority": 7}`, Route{Dst: dst, Metric: Some[uint32](7)}},
		{"the largest numbers", `{"dst": "10.9.0.0/16", "mtu": 65520, "advmss": 65495, "metric": 4294967295, "table": 4294967295, "scope": 255}`,
			Route{Dst: dst, MTU: 65520, AdvMSS: 65495, Metric: Some[uint32](4294967295), Table: Some[uint32](4294967295), Scope: Some(netops.Scope(255))}},
		{"the least numbers", `{"dst": "10.9.0.0/16", "mtu": 68, "advmss": 1, "priority": 0, "table": 1, "scope": 0}`,
			Route{Dst: dst, MTU: 68, AdvMSS: 1, Metric: Some[uint32](0), Table: Some[uint32](1), Scope: Some(netops.ScopeGlobal)}},
		{"not on-link", `{"dst": "10.9.0.0/16", "onlink": false}`, Route{Dst: dst, OnLink: Some(false)}},
		{"blackhole", `{"dst": "10.9.0.0/16", "type": "blackhole", "onlink": false, "dev": ""}`, Route{Dst: dst, Type: Some(netops.Blackhole), OnLink: Some(false)}},
		{"unreachable", `{"dst": "10.9.0.0/16", "type": "unreachable", "metric": 5}`, Route{Dst: dst, Type: Some(netops.Unreachable), Metric: Some[uint32](5)}},
		{"prohibit", `{"dst": "fd09::/64", "type": "prohibit"}`, Route{Dst: dst6, Type: Some(netops.Prohibit)}},
		{"gateways as addresses", `{"dst": "10.9.0.0/16", "gws": ["10.1.0.1", "10.1.0.2"]}`,
			Route{Dst: dst, Gws: []netops.NextHop{{Gw: gw}, {Gw: gw.Next()}}}},
		{"gateways as objects, and mixed", `{"dst": "fd09::/64", "gws": [{"gw": "fe80::1", "dev": "eth0", "weight": 1}, {"gw": "fe80::1", "dev": "net1", "weight": 256}, "fe80::1"]}`,
			Route{Dst: dst6, Gws: []netops.NextHop{{Gw: gw6, Dev: "eth0", Weight: 1}, {Gw: gw6, Dev: "net1", Weight: 256}, {Gw: gw6}}}},
		{"one gateway of several", `{"dst": "10.9.0.0/16", "gws": ["10.1.0.1"], "onlink": true}`,
			Route{Dst: dst, Gws: []netops.NextHop{{Gw: gw}}, OnLink: Some(true)}},
		{"by no gateway", `{"dst": "10.9.0.0/16", "gw": "0.0.0.0"}`, Route{Dst: dst, Gw: Some(netip.Addr{})}},
		{"IPv6, by no gateway", `{"dst": "fd09::/64", "gw": "0::0"}`, Route{Dst: dst6, Gw: Some(netip.Addr{})}},
		{"what a template left empty", `{"dst": "10.9.0.0/16", "gw": "", "src": "", "dev": "", "type": ""}`, Route{Dst: dst}},
		{"a gateway beside several", `{"dst": "10.9.0.0/16", "gws": ["10.1.0.2"], "gw": "10.1.0.1"}`, Route{Dst: dst, Gws: []netops.NextHop{{Gw: gw.Next()}, {Gw: gw}}}},
		{"one of several beside them", `{"dst": "10.9.0.0/16", "gw": "10.1.0.1", "gws": [{"gw": "10.1.0.1", "weight": 2}, "10.1.0.2"]}`,
			Route{Dst: dst, Gws: []netops.NextHop{{Gw: gw, Weight: 2}, {Gw: gw.Next()}}}},
		{"nothing beside several", `{"dst": "10.9.0.0/16", "gw": "", "gws": ["10.1.0.1"]}`, Route{Dst: dst, Gws: []netops.NextHop{{Gw: gw}}}},
		{"null is absent", `{"dst": "10.9.0.0/16", "gw": null, "gws": null, "mtu": null, "advmss": null, "priority": null, "metric": null, "table": null,
			"scope": null, "dev": null, "src": null, "onlink": null, "type": null}`, Route{Dst: dst}},
		{"the longest interface", `{"dst": "10.9.0.0/16", "dev": "abcdefghijklmno"}`, Route{Dst: dst, Dev: "abcdefghijklmno"}},
		{"an interface's odd name", `{"dst": "10.9.0.0/16", "dev": "é\"\\"}`, Route{Dst: dst, Dev: `é"\`}},
		{"what stands last counts", `{"dst": 5, "dst": "10.9.0.0/16", "mtu": 1400, "mtu": null, "dev": "eth0", "dev": null, "scope": 300, "scope": 253}`,
			Route{Dst: dst, Scope: Some(netops.ScopeLink)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, list := range []string{"[" + tt.entry + "]", "[\n" + tt.entry + " ]\t", slowly("[" + tt.entry + "]")} {
				routes, told := decode(t, list)
				if diff := cmp.Diff([]Route{tt.want}, routes, same); diff != "" {
					t.Errorf("%s (-want +got):\n%s", list, diff)
				}
				if told != nil {
					t.Errorf("%s: %q", list, told)
				}
			}
		})
	}
}

func TestAnEmptyList(t *testing.T) {
	for _, list := range []string{"[]", " [ ] ", "[\n]"} {
		if routes, told := decode(t, list); len(routes) != 0 || told != nil {
			t.Errorf("%q: %v, %q", list, routes, told)
		}
	}
}

// Upper and lower case are folded with a warning, as on the configuration's
// own level; the quick way must not do so without a word.
func TestKeysInUpperCase(t *testing.T) {
	routes, told := decode(t, `[{"DST": "10.9.0.0/16", "Gws": [{"GW": "10.1.0.1"}]}]`)
	if diff := cmp.Diff([]Route{{Dst: dst, Gws: []netops.NextHop{{Gw: gw}}}}, routes, same); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{`warning: addroutes[0].DST: taken for "dst"`, `warning: addroutes[0].Gws: taken for "gws"`,
		`warning: addroutes[0].gws[0].GW: taken for "gw"`}, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadRoutes(t *testing.T) {
	for _, tt := range []struct {
		entry string // after a good dst, unless it has one
		want  []string
	}{
		{`"gw": "10.0.0.300"`, []string{`.gw: "10.0.0.300" is not an IP address`}},
		{`"gw": "10.1.0.1/16"`, []string{`.gw: "10.1.0.1/16" is not an IP address`}},
		{`"gw": "::ffff:10.1.0.1"`, []string{`.gw: "::ffff:10.1.0.1" is not an IP address`}},
		{`"gw": "fe80::1%eth0"`, []string{`.gw: "fe80::1%eth0" is not an IP address`}},
		{`"gw": "fe80::1"`, []string{`.gw: fe80::1 is of another address family than dst 10.9.0.0/16`}},
		{`"gw": "::"`, []string{`.gw: :: is of another address family than dst 10.9.0.0/16`}},
		{`"gw": " "`, []string{`.gw: " " is not an IP address`}},
		{`"src": "0.0.0.0"`, []string{`.src: "0.0.0.0" is no address of a host`}},
		{`"type": "blackhole", "gw": "0.0.0.0"`, []string{`.type: a route of type blackhole goes without gw, gws, dev and onlink`}},
		{`"src": "fd00::5"`, []string{`.src: fd00::5 is of another address family than dst 10.9.0.0/16`}},
		{`"src": "eth0"`, []string{`.src: "eth0" is not an IP address`}},
		{`"gw": 5, "src": true, "dev": [], "type": {}`, []string{`.gw: 5 is not a string`, `.dev: [] is not a string`, `.src: true is not a string`, `.type: {} is not a string`}},

		{`"dst": null`, []string{`.dst: missing`}},
		{`"dst": 10`, []string{`.dst: 10 is not a string`}},
		{`"dst": "10.9.0.0/33"`, []string{`.dst: "10.9.0.0/33" is not an IP address or subnet`}},
		{`"dst": "default"`, []string{`.dst: "default" is not an IP address or subnet`}},
		{`"dst": ""`, []string{`.dst: "" is not an IP address or subnet`}},
		{`"dst": "10.9.0.0/16 "`, []string{`.dst: "10.9.0.0/16 " is not an IP address or subnet`}},
		{`"dst": "::ffff:10.9.0.0/112"`, []string{`.dst: "::ffff:10.9.0.0/112" is not an IP address or subnet`}},
		{`"dst": "::ffff:10.9.0.1"`, []string{`.dst: "::ffff:10.9.0.1" is not an IP address or subnet`}},
		{`"dst": "fe80::1%eth0"`, []string{`.dst: "fe80::1%eth0" is not an IP address or subnet`}},
		{`"dst": "fe80::%eth0/64"`, []string{`.dst: "fe80::%eth0/64" is not an IP address or subnet`}},
		{`"dst": "fd09::/64", "gw": "10.1.0.1"`, []string{`.gw: 10.1.0.1 is of another address family than dst fd09::/64`}},

		{`"metric": 5, "priority": 6`, []string{`.metric: 5, but priority, which is the same, is 6`}},
		{`"metric": 5, "priority": 0`, []string{`.metric: 5, but priority, which is the same, is 0`}},
		{`"metric": 4294967296`, []string{`.metric: 4294967296 is not a whole number from 0 to 4294967295`}},
		{`"priority": -1`, []string{`.priority: -1 is not a whole number from 0 to 4294967295`}},
		{`"priority": 1.0`, []string{`.priority: 1.0 is not a whole number from 0 to 4294967295`}},
		{`"metric": "5"`, []string{`.metric: "5" is not a whole number from 0 to 4294967295`}},
		{`"table": 0`, []string{`.table: 0 is not a whole number from 1 to 4294967295`}},
		{`"table": "main"`, []string{`.table: "main" is not a whole number from 1 to 4294967295`}},
		{`"mtu": 67`, []string{`.mtu: 67 is not a whole number from 68 to 65520`}},
		{`"mtu": 65521`, []string{`.mtu: 65521 is not a whole number from 68 to 65520`}},
		{`"mtu": 0`, []string{`.mtu: 0 is not a whole number from 68 to 65520`}},
		{`"mtu": 1e3`, []string{`.mtu: 1e3 is not a whole number from 68 to 65520`}},
		{`"advmss": 65496`, []string{`.advmss: 65496 is not a whole number from 1 to 65495`}},
		{`"advmss": 0`, []string{`.advmss: 0 is not a whole number from 1 to 65495`}},
		{`"scope": 256`, []string{`.scope: 256 is not a whole number from 0 to 255`}},
		{`"scope": "link"`, []string{`.scope: "link" is not a whole number from 0 to 255`}},
		{`"onlink": "yes"`, []string{`.onlink: "yes" is not true or false`}},
		{`"onlink": 1`, []string{`.onlink: 1 is not true or false`}},
		{`"dev": "abcdefghijklmnop"`, []string{`.dev: "abcdefghijklmnop" is not the name of an interface`}},
		{`"dev": "eth0/1"`, []string{`.dev: "eth0/1" is not the name of an interface`}},
		{`"dev": "eth 0"`, []string{`.dev: "eth 0" is not the name of an interface`}},
		{`"dev": ".."`, []string{`.dev: ".." is not the name of an interface`}},

		{`"type": "local"`, []string{`.type: "local" is not unicast, blackhole, unreachable or prohibit`}},
		{`"type": "throw"`, []string{`.type: "throw" is not unicast, blackhole, unreachable or prohibit`}},
		{`"type": "Unicast"`, []string{`.type: "Unicast" is not unicast, blackhole, unreachable or prohibit`}},
		{`"type": "blackhole", "gw": "10.1.0.1"`, []string{`.type: a route of type blackhole goes without gw, gws, dev and onlink`}},
		{`"type": "unreachable", "dev": "eth0"`, []string{`.type: a route of type unreachable goes without gw, gws, dev and onlink`}},
		{`"type": "prohibit", "gws": ["10.1.0.1"]`, []string{`.type: a route of type prohibit goes without gw, gws, dev and onlink`}},
		{`"type": "prohibit", "onlink": true`, []string{`.type: a route of type prohibit goes without gw, gws, dev and onlink`}},

		{`"gws": []`, []string{`.gws: an empty list`}},
		{`"gws": {}`, []string{`.gws: {} is not a list`}},
		{`"gws": "10.1.0.1"`, []string{`.gws: "10.1.0.1" is not a list`}},
		{`"gws": ["10.1.0.1"], "gw": "0.0.0.0"`, []string{`.gws: given beside a "gw" that says that there is none`}},
		{`"gws": ["10.1.0.1"], "dev": "eth0"`, []string{`.gws: given beside "dev", which belongs to each gateway here`}},
		{`"gws": ["10.1.0.1"], "dev": "eth0", "gw": "10.1.0.2"`,
			[]string{`.gws: given beside "dev", which belongs to each gateway here`}},
		{`"gws": ["10.1.0.1", "10.1.0.1"]`, []string{`.gws[1]: 10.1.0.1 is there twice`}},
		{`"gws": [{"gw": "10.1.0.1", "dev": "eth0"}, {"gw": "10.1.0.1", "dev": "eth0", "weight": 5}]`, []string{`.gws[1]: 10.1.0.1 is there twice`}},
		{`"gws": ["10.1.0.300", "fe80::1", "::ffff:10.1.0.1", "0.0.0.0", ""]`, []string{
			`.gws[0]: "10.1.0.300" is not an IP address`, `.gws[1]: fe80::1 is of another address family than dst 10.9.0.0/16`,
			`.gws[2]: "::ffff:10.1.0.1" is not an IP address`, `.gws[3]: "0.0.0.0" is no address of a host`, `.gws[4]: "" is not an IP address`}},
		{`"gws": [{"gw": "10.1.0.1", "weight": 0}, {"gw": "10.1.0.2", "weight": 257}, {"gw": "10.1.0.3", "weight": "1"}]`, []string{
			`.gws[0].weight: 0 is not a whole number from 1 to 256`, `.gws[1].weight: 257 is not a whole number from 1 to 256`,
			`.gws[2].weight: "1" is not a whole number from 1 to 256`}},
		{`"gws": [5, null, [], true]`, []string{`.gws[0]: 5 is not an object`, `.gws[1]: null is not an object`,
			`.gws[2]: [] is not an object`, `.gws[3]: true is not an object`}},
		{`"gws": [{}, {"gw": null}, {"dev": "eth0"}, {"gw": 5}, {"gw": ""}, {"gw": "x", "dev": 7}]`, []string{
			`.gws[0].gw: missing`, `.gws[1].gw: missing`, `.gws[2].gw: missing`, `.gws[3].gw: 5 is not a string`,
			`.gws[4].gw: "" is not an IP address`, `.gws[5].dev: 7 is not a string`, `.gws[5].gw: "x" is not an IP address`}},
		{`"gws": [{"gw": "10.1.0.1", "wieght": 1, "via": 2, "dev": "a/b"}]`, []string{
			`.gws[0].via: unknown key; there are gw, dev, weight (key)`, `.gws[0].wieght: unknown key; did you mean "weight"? (key)`,
			`.gws[0].dev: "a/b" is not the name of an interface`}},

		{`"gateway": "10.1.0.1"`, []string{`.gateway: unknown key; there are dst, gw, gws, mtu, advmss, priority, metric, table, scope, dev, src, onlink, type (key)`}},
		{`"onlnk": true`, []string{`.onlnk: unknown key; did you mean "onlink"? (key)`}},
		{`"MTU": 1400, "mtu": 1400`, []string{`.MTU: given beside "mtu" (key)`}},
		{`"told": {"dst": true}`, []string{`.told: unknown key; there are dst, gw, gws, mtu, advmss, priority, metric, table, scope, dev, src, onlink, type (key)`}},
		{`"gw": "x", "mtu": 1, "table": 0, "type": "y", "metric": 1, "priority": 2, "src": "z", "dst": "w"`, []string{
			`.dst: "w" is not an IP address or subnet`, `.gw: "x" is not an IP address`, `.mtu: 1 is not a whole number from 68 to 65520`,
			`.table: 0 is not a whole number from 1 to 4294967295`, `.src: "z" is not an IP address`,
			`.metric: 1, but priority, which is the same, is 2`, `.type: "y" is not unicast, blackhole, unreachable or prohibit`}},
	} {
		entry := tt.entry
		if !strings.Contains(entry, `"dst"`) || strings.Contains(entry, `"told"`) {
			entry = `"dst": "10.9.0.0/16", ` + entry
		}
		for at, list := range []string{"[{" + entry + "}]", `[{"dst": "10.8.0.0/16"}, ` + slowly("{"+entry+"}") + "]"} {
			want := slices.Clone(tt.want)
			for i := range want {
				want[i] = fmt.Sprintf("addroutes[%d]%s", at, want[i])
			}
			_, told := decode(t, list)
			// The slow way meets numbers before addresses; what is told is the same.
			slices.Sort(want)
			slices.Sort(told)
			if diff := cmp.Diff(want, told); diff != "" {
				t.Errorf("%s (-want +got):\n%s", list, diff)
			}
		}
	}
}

func TestEntriesThatAreNoRoutes(t *testing.T) {
	_, told := decode(t, `[{"dst": "10.9.0.0/16"}, null, 5, "10.9.0.0/16", [], {}, {"dst": "10.8.0.0/16", "gw": "10.0.0.300"}, true]`)
	if diff := cmp.Diff([]string{
		`addroutes[1]: null is not an object`,
		`addroutes[2]: 5 is not an object`,
		`addroutes[3]: "10.9.0.0/16" is not an object`,
		`addroutes[4]: [] is not an object`,
		`addroutes[7]: true is not an object`,
		`addroutes[5].dst: missing`,
		`addroutes[6].gw: "10.0.0.300" is not an IP address`,
	}, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, list := range []string{`{}`, `{"dst": "10.9.0.0/16"}`, `"10.9.0.0/16"`, `5`, `false`} {
		routes, told := decode(t, list)
		if diff := cmp.Diff([]string{"addroutes: " + strings.ReplaceAll(list, ": ", ":") + " is not a list"}, told); diff != "" || len(routes) != 0 {
			t.Errorf("%v (-want +got):\n%s", routes, diff)
		}
	}
}

// The path is that of where the list came from.
func TestPathOfAnOverriddenList(t *testing.T) {
	p := &strictjson.Problems{}
	CNI.DecodeList(strictjson.NewValue([]byte(`[{"dst":"10.9.0.0/16","gws":["x"]},{"dst":"y"}]`), "args.cni.addroutes", p))
	want := []strictjson.Problem{{Path: "args.cni.addroutes[0].gws[0]", Text: `"x" is not an IP address`},
		{Path: "args.cni.addroutes[1].dst", Text: `"y" is not an IP address or subnet`}}
	if diff := cmp.Diff(want, p.List); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOptional(t *testing.T) {
	var none Optional[uint32]
	if none.Or(5) != 5 || Some[uint32](0).Or(5) != 0 {
		t.Error("Or")
	}
	if !none.Matches(7) || !Some[uint32](7).Matches(7) || Some[uint32](0).Matches(7) {
		t.Error("Matches")
	}
}

// What the quick way reads is JSON, and the slow way reads the same.
func TestScan(t *testing.T) {
	for list, quick := range map[string]bool{
		`[]`:                             true,
		` [ {"dst":"a"} , {} ] `:         true,
		`[{"mtu":0,"onlink":false}]`:     true,
		``:                               false,
		`[`:                              false,
		`[{]`:                            false,
		`[{"dst"}]`:                      false,
		`[{"dst":}]`:                     false,
		`[{"dst":"a"`:                    false,
		`[{"dst":"a`:                     false,
		`[{"dst":"a"}`:                   false,
		`[{"dst":"a"}]]`:                 false,
		`[{"dst":"a"},]`:                 false,
		`[,{"dst":"a"}]`:                 false,
		`[{"dst":"a",}]`:                 false,
		`[{,"dst":"a"}]`:                 false,
		`[{"dst":"a" "gw":"b"}]`:         false,
		`[{"dst":"a"}{"dst":"b"}]`:       false,
		`[{"mtu":01}]`:                   false,
		`[{"mtu":-1}]`:                   false,
		`[{"mtu":1.0}]`:                  false,
		`[{"mtu":1e3}]`:                  false,
		`[{"mtu":4294967296}]`:           false,
		`[{"mtu":18446744073709551616}]`: false,
		`[{"onlink":truest}]`:            false,
		`[{"onlink":tru`:                 false,
		`[{"dst":null}]`:                 false,
		`[{"dst":"\u0061"}]`:             false,
		`[{"dst":"é"}]`:                  false,
		`[{"Dst":"a"}]`:                  false,
		`[{"gws":[]}]`:                   false,
		`[null]`:                         false,
		`null`:                           false,
		"[{\"dst\":\"a\nb\"}]":           false,
		"[\v]":                           false,
	} {
		got, ok := CNI.scanList([]byte(list))
		if ok != quick {
			t.Errorf("%s: %v", list, ok)
		}
		if ok && !json.Valid([]byte(list)) {
			t.Errorf("%s is no JSON", list)
		}
		if ok {
			slow := CNI.decodeFields(strictjson.NewValue([]byte(list), "", &strictjson.Problems{}))
			if diff := cmp.Diff(len(slow), len(got)); diff != "" {
				t.Errorf("%s (-slow +quick):\n%s", list, diff)
			}
		}
	}
}

// FuzzDecodeList: no panic; what is not told to be wrong is a route of valid
// values for each entry, and the quick way and the slow one agree.
func FuzzDecodeList(f *testing.F) {
	for _, list := range []string{`[]`, `[null]`, `{}`, `[{"dst":"10.9.3.4/16","gw":"10.1.0.1","mtu":1400,"metric":5,"priority":5,"onlink":true}]`,
		`[{"dst":"fd00::1","gws":["fe80::1",{"gw":"fe80::2","dev":"eth0","weight":256}],"scope":0,"table":254}]`,
		`[{"DST":"::/0","type":"blackhole"},{"dst":"0.0.0.0/0","dst":null,"advmss":1}]`, `[{"dst":5,"dst":"10.0.0.0/8"}]`} {
		f.Add([]byte(list))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		p := &strictjson.Problems{}
		routes := CNI.DecodeList(strictjson.NewValue(list, "r", p))
		quick, ok := CNI.scanList(list)
		if ok && !json.Valid(list) {
			t.Fatal("the quick way reads what is no JSON")
		}
		if ok {
			agree(t, list, quick, routes, p)
		}
		if len(p.List) > 0 {
			return
		}
		var entries []json.RawMessage
		if err := json.Unmarshal(list, &entries); err != nil {
			t.Fatalf("taken without a problem: %v", err)
		}
		if len(routes) != len(entries) {
			t.Fatalf("%d routes of %d entries", len(routes), len(entries))
		}
		for _, r := range routes {
			valid(t, r)
		}
	})
}

// agree holds the quick way against the slow one.
func agree(t *testing.T, list []byte, quick []fields, routes []Route, p *strictjson.Problems) {
	slow := &strictjson.Problems{}
	v := strictjson.NewValue(list, "r", slow)
	var again []Route
	for i, f := range CNI.decodeFields(v) {
		if r, ok := f.route(checker{list: v, index: i}); ok {
			again = append(again, r)
		}
	}
	if (len(p.List) > 0) != (len(slow.List) > 0) {
		t.Errorf("%d entries: quickly %v, slowly %v", len(quick), p.List, slow.List)
	}
	if diff := cmp.Diff(routes, again, same, cmpopts.EquateEmpty()); diff != "" && len(p.List) == 0 {
		t.Errorf("(-quick +slow):\n%s", diff)
	}
}

func valid(t *testing.T, r Route) {
	hops := append(slices.Clone(r.Gws), netops.NextHop{Gw: r.Gw.Value, Dev: r.Dev}, netops.NextHop{Gw: r.Src})
	switch {
	case !r.Dst.IsValid() || r.Dst != r.Dst.Masked() || r.Dst.Addr().Is4In6():
		t.Errorf("dst %s", r.Dst)
	case r.Gws != nil && (r.Gw.Given || r.Dev != "" || len(r.Gws) == 0):
		t.Errorf("%+v", r)
	case r.Table.Given && r.Table.Value == 0, r.MTU > maxMTU, r.AdvMSS > maxAdvMSS, r.Type.Given && r.Type.Value == 0:
		t.Errorf("%+v", r)
	}
	for _, h := range hops {
		if h.Gw.IsValid() && (h.Gw.Zone() != "" || h.Gw.Is4() != r.Dst.Addr().Is4() || h.Gw.IsUnspecified()) || h.Weight > maxWeight || len(h.Dev) > 15 {
			t.Errorf("%+v", h)
		}
	}
}

func BenchmarkDecodeList(b *testing.B) {
	entries := make([]string, 5000)
	for i := range entries {
		entries[i] = fmt.Sprintf(`{"dst": "10.%d.%d.0/24", "gw": "10.1.0.1", "mtu": 1400, "priority": %d}`, i/250, i%250, i)
	}
	list := "[" + strings.Join(entries, ",\n ") + "]"
	for name, list := range map[string]string{"quick": list, "slow": slowly(list)} {
		b.Run(name, func(b *testing.B) {
			p := &strictjson.Problems{}
			v := strictjson.NewValue([]byte(list), "addroutes", p)
			b.ReportAllocs()
			b.SetBytes(int64(len(list)))
			for b.Loop() {
				if routes := CNI.DecodeList(v); len(routes) != len(entries) || len(p.List) > 0 {
					b.Fatal(len(routes), p.List)
				}
			}
		})
	}
}
