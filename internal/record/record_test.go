package record

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops"
)

func testRoute(dst string) netops.Route {
	return netops.Route{Dst: netip.MustParsePrefix(dst)}.Normalize()
}

// fullRecord has every field set.
func fullRecord() Record {
	added := testRoute("10.9.0.0/16")
	added.Gw, added.Dev, added.AnyDev, added.OnLink = netip.MustParseAddr("10.1.0.1"), "eth0", true, true
	added.Metric, added.MTU, added.AdvMSS, added.Protocol, added.Tos, added.Expires = 5, 1400, 1360, netops.Protocol, 16, 30
	added.Scope, added.Src = netops.ScopeGlobal, netip.MustParseAddr("10.1.0.5")
	several := testRoute("fd09::/64")
	several.Hops = []netops.NextHop{{Gw: netip.MustParseAddr("fe80::1"), Dev: `a"b\`, Weight: 256}, {Gw: netip.MustParseAddr("fd00::1")}}
	removed := testRoute("0.0.0.0/0")
	removed.Siblings, removed.Position = []netops.Route{testRoute("0.0.0.0/0"), testRoute("0.0.0.0/0")}, 1
	return Record{
		Format: Format, Boot: "b-1", Plugin: testPlugin, Key: testKey, SkipCheck: true,
		Netns: Namespace{Path: "/run/netns/\"p\"\n\u00e9", Lock: netnsLock,
			Identity: netops.Identity{Cookie: 1<<64 - 1, LinkIndex: 1<<32 - 1, HardwareAddr: "02:00:00:00:00:01"}},
		Done: netops.Plan{Pod: netops.Change{Del: netops.State{Routes: []netops.Route{removed}}, Add: netops.State{Routes: []netops.Route{added, several}}},
			Host: netops.State{Routes: []netops.Route{several}}},
		Held: netops.Plan{Pod: netops.Change{Add: netops.State{Routes: []netops.Route{testRoute("10.8.0.0/16")}}}},
	}
}

func TestEncodeAndDecode(t *testing.T) {
	bare := Record{Format: Format, Boot: "b", Plugin: testPlugin, Key: testKey, Netns: Namespace{Lock: netnsLock}}
	for _, r := range []Record{fullRecord(), bare} {
		data := r.encode()
		got, err := decode(data, testPlugin, testKey)
		must(t, err)
		if diff := cmp.Diff(r, got, sameValues); diff != "" {
			t.Errorf("(-written +read):\n%s", diff)
		}
		// What is written by hand is what encoding/json would write.
		reflected, err := json.Marshal(r)
		must(t, err)
		got, err = decode(reflected, testPlugin, testKey)
		must(t, err)
		if diff := cmp.Diff(r, got, sameValues); diff != "" {
			t.Errorf("encoding/json (-written +read):\n%s", diff)
		}
	}
}

// Want is a new list: to add to it must not change the record.
func TestWant(t *testing.T) {
	r := fullRecord()
	r.Done.Pod.Add.Routes = append(make([]netops.Route, 0, 8), r.Done.Pod.Add.Routes...)
	want := r.Want()
	if len(want.Pod.Del.Routes) != 1 || len(want.Pod.Add.Routes) != 3 {
		t.Errorf("%v", want)
	}
	want.Pod.Add.Routes[2].Dev = "changed"
	again := r.Want()
	if again.Pod.Add.Routes[2].Dev != "" || len(r.Done.Pod.Add.Routes) != 2 {
		t.Errorf("%v", again)
	}
}

func TestKeyNamesTheAttachment(t *testing.T) {
	if got, want := testKey.String(), "eth0 of container c1 in network net"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzDecode feeds the decoder what no plugin writes: no panic, an error of
// ours, and what it takes is written and read back as the same.
func FuzzDecode(f *testing.F) {
	r := fullRecord()
	f.Add(r.encode())
	r.Done, r.Held = netops.Plan{}, netops.Plan{}
	f.Add(r.encode())
	for _, s := range []string{"", "null", "{}", `{"format":1}`, `{"format":2}`, `{"format":1,"boot":"b","plugin":"route-override",` +
		`"network":"net","containerID":"c1","ifName":"eth0","netns":{"lock":"netns-42"},"done":{"pod":{"add":{"routes":` +
		`[{"dst":"10.0.0.0/8","table":254,"type":1,"gw":"fe80::1%\"x\"","raw":"","hops":[{}]}]}}}}`,
		`{"format":1,"boot":"b","plugin":"route-override","network":"net","containerID":"c1","ifName":"eth0","netns":{"lock":"netns-42"},` +
			`"done":{"pod":{"add":{"routes":[{"dst":"10.0.0.0/8","table":254,"type":1,"peers":[{"dst":"10.0.0.0/8","table":254,"type":1,` +
			`"peers":[{"dst":"10.0.0.0/8","table":254,"type":1,"rank":-1}]}]}]}}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode(data, testPlugin, testKey)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Errorf("neither damaged nor newer: %v", err)
			}
			return
		}
		again, err := decode(r.encode(), testPlugin, testKey)
		if err != nil {
			t.Fatalf("%s\ncannot be read back: %v", r.encode(), err)
		}
		if diff := cmp.Diff(r, again, sameValues); diff != "" {
			t.Errorf("(-read +read back):\n%s", diff)
		}
	})
}
