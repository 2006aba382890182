package show

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func at(names ...string) (list []netip.Prefix) {
	for _, n := range names {
		list = append(list, netip.MustParsePrefix(n))
	}
	return list
}

// node is a node with a record in every state.
func node() []Record {
	return []Record{
		{Plugin: "route-override", Network: "lan", ContainerID: "0123456789ab", IfName: "net1", Pod: "default/web-1",
			Netns: Netns{"/run/netns/web-1", Lives}, File: "/run/cni/1", State: Finished, InPod: []Change{
				{Command: "ip route del default via 10.1.0.1 dev net1", Differs: "present, should be absent", Names: at("0.0.0.0/0", "10.1.0.1/32")},
				{Command: "ip route add 172.16.0.0/16 via 10.1.0.254 dev net1", Names: at("172.16.0.0/16", "10.1.0.254/32")},
				{Command: "ip route add 172.17.0.0/16 dev net1", Found: true, SharedWith: 1, Names: at("172.17.0.0/16")},
			}},
		{Plugin: "host-routes", Network: "lan", ContainerID: "0123456789ab", IfName: "net1", Pod: "default/web-1",
			Netns: Netns{"/run/netns/web-1", Lives}, File: "/run/cni/2", State: Unfinished, Process: &Process{4711, "host-routes"},
			Node: []Change{{Command: "ip route add blackhole 198.51.100.0/24", SharedWith: 2, Names: at("198.51.100.0/24")}}},
		{Plugin: "router", Network: "under", ContainerID: "c2", IfName: "net1", Pod: "default/db\x1b[2J",
			Netns: Netns{"/run/netns/db", Gone}, File: "/run/cni/3", State: Unfinished},
		{Plugin: "router", Network: "under", ContainerID: "c3", IfName: "net1", Netns: Netns{"/run/netns/c3", Replaced}, File: "/run/cni/4", State: Undoing},
		{Plugin: "router", Network: "under", ContainerID: "c4", IfName: "net1", Netns: Netns{"", Unknown}, File: "/run/cni/5", State: Newer,
			Error: "record of a newer format: 99, this version knows 1"},
		{Plugin: "seamless", Network: "under", ContainerID: "c5", IfName: "net1", Netns: Netns{"/run/netns/c5", Lives}, File: "/run/cni/6", State: Finished, Unchecked: true},
		{Plugin: "seamless", Network: "busy", ContainerID: "c7", IfName: "eth0", Netns: Netns{"/run/netns/c7", Lives}, File: "/run/cni/8", State: Finished, Process: &Process{4712, "router"}},
		{Plugin: "router", Network: "asks", ContainerID: "c5", IfName: "net2", Netns: Netns{"/run/netns/c5", Lives}, File: "/run/cni/7", State: Finished,
			Differs: "eth0 is to have the pod's default route, but net1 of container c5 in network late asks for net1, and later"},
		{Plugin: "flannel", Network: "cbr0", ContainerID: "c6", IfName: "eth0", Netns: Netns{}, File: "/var/lib/cni/flannel/cbr0@c6@eth0", State: Finished,
			Kept: &Kept{Delegate: "bridge", Config: []byte(`{"type":"bridge"}`), Leases: []string{"10.244.1.5"}, Refusal: "no such bridge"}},
	}
}

func TestGolden(t *testing.T) {
	list := node()
	Sort(list)
	for name, write := range map[string]func(*bytes.Buffer) error{
		"text":   func(b *bytes.Buffer) error { return Text(b, list, false) },
		"colour": func(b *bytes.Buffer) error { return Text(b, list, true) },
		"json":   func(b *bytes.Buffer) error { return JSON(b, list) },
		"none":   func(b *bytes.Buffer) error { return Text(b, nil, false) },
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := write(&got); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The page says what every key of the JSON is, and names no other.
func TestKeysAreInThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## For programs\n")
	quoted := regexp.MustCompile("`([^` ]+)`")
	names := func(text string) (list []string) {
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			list = append(list, m[1])
		}
		return list
	}
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, key := range names(cells[1]) {
				rows[key] = strings.Join(cells[2:], "|")
			}
		}
	}
	var text bytes.Buffer
	if err := JSON(&text, node()); err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal(text.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, r := range list {
		for key, value := range r {
			keys[key] = true
			if several, ok := value.([]any); ok && len(several) > 0 {
				value = several[0]
			}
			below, _ := value.(map[string]any)
			for name := range below {
				if !slices.Contains(names(rows[key]), name) {
					t.Errorf("the page does not say what %s of %s is", name, key)
				}
			}
		}
		if state := r["state"].(string); !slices.Contains(names(rows["state"]), state) {
			t.Errorf("the page does not say what %s is", state)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(rows)), slices.Sorted(maps.Keys(keys))); diff != "" {
		t.Errorf("keys (-page +JSON):\n%s", diff)
	}
	for _, life := range []Life{Lives, Gone, Replaced, Unknown} {
		if !slices.Contains(names(rows["netns"]), string(life)) {
			t.Errorf("the page does not say what %s is", life)
		}
	}
}

func TestNarrow(t *testing.T) {
	for _, tt := range []struct {
		name string
		q    Query
		want []string // files, and the commands of those that are cut
	}{
		{"a pod", Query{Only: []string{"default/web-1"}}, []string{"/run/cni/1", "/run/cni/2"}},
		{"a namespace", Query{Only: []string{"/run/netns/c5"}}, []string{"/run/cni/6", "/run/cni/7"}},
		{"a container", Query{Only: []string{"c3"}}, []string{"/run/cni/4"}},
		{"the beginning of a container's ID", Query{Only: []string{"01234"}}, []string{"/run/cni/1", "/run/cni/2"}},
		{"too little of it", Query{Only: []string{"012"}}, nil},
		{"all must hold", Query{Only: []string{"default/web-1", "host-routes"}}, []string{"/run/cni/2"}},
		{"a network", Query{Only: []string{"cbr0"}}, []string{"/var/lib/cni/flannel/cbr0@c6@eth0"}},
		{"an address in a subnet, and no default route", Query{Only: []string{"172.16.3.4"}}, []string{"/run/cni/1", "ip route add 172.16.0.0/16 via 10.1.0.254 dev net1"}},
		{"a subnet of several", Query{Only: []string{"172.16.0.0/12"}}, []string{"/run/cni/1", "ip route add 172.16.0.0/16 via 10.1.0.254 dev net1", "ip route add 172.17.0.0/16 dev net1"}},
		{"a gateway", Query{Only: []string{"10.1.0.254"}}, []string{"/run/cni/1", "ip route add 172.16.0.0/16 via 10.1.0.254 dev net1"}},
		{"the default route", Query{Only: []string{"default"}}, []string{"/run/cni/1", "ip route del default via 10.1.0.1 dev net1"}},
		{"the same as a subnet", Query{Only: []string{"0.0.0.0/0"}}, []string{"/run/cni/1", "ip route del default via 10.1.0.1 dev net1"}},
		{"the other family's", Query{Only: []string{"::/0"}}, nil},
		{"a lease", Query{Only: []string{"10.244.1.5"}}, []string{"/var/lib/cni/flannel/cbr0@c6@eth0"}},
		{"what is wrong", Query{Wrong: true}, []string{"/run/cni/1", "/run/cni/3", "/run/cni/4", "/run/cni/5", "/run/cni/7", "/var/lib/cni/flannel/cbr0@c6@eth0"}},
		{"what is wrong with one", Query{Wrong: true, Only: []string{"seamless"}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			whole := node()
			for _, r := range tt.q.Narrow(whole) {
				got = append(got, r.File)
				was := whole[slices.IndexFunc(whole, func(w Record) bool { return w.File == r.File })]
				if len(r.InPod) < len(was.InPod) {
					for _, c := range r.InPod {
						got = append(got, c.Command)
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is wrong is certain when two looks agree, with the same records beside it.
func TestLooks(t *testing.T) {
	look := func(beside string, differs ...string) []Record {
		r := Record{Name: "1", Beside: beside, State: Finished}
		for i, d := range differs {
			r.InPod = append(r.InPod, Change{Command: string(rune('a' + i)), Differs: d})
		}
		return []Record{r}
	}
	undoing := look("", "")
	undoing[0].State = Undoing
	for name, tt := range map[string]struct {
		looks   [][]Record
		settled bool
		want    []Record
	}{
		"nothing is wrong":              {[][]Record{look("", "")}, true, look("", "")},
		"once":                          {[][]Record{look("", "missing")}, false, look("", "")},
		"twice":                         {[][]Record{look("", "missing", ""), look("", "missing", "")}, true, look("", "missing", "")},
		"not again":                     {[][]Record{look("", "missing"), look("", "")}, true, look("", "")},
		"another thing":                 {[][]Record{look("", "missing", ""), look("", "", "missing")}, false, look("", "", "")},
		"another thing, twice":          {[][]Record{look("", "missing", ""), look("", "", "missing"), look("", "", "missing")}, true, look("", "", "missing")},
		"beside another record":         {[][]Record{look("x", "missing"), look("y", "missing")}, false, look("y", "")},
		"the record is gone":            {[][]Record{look("", "missing"), nil}, true, nil},
		"a record that is half undone":  {[][]Record{undoing, undoing}, true, undoing},
		"unlike other looks, each time": {[][]Record{look("a", "missing"), look("b", "missing"), look("c", "missing")}, false, look("c", "")},
	} {
		t.Run(name, func(t *testing.T) {
			l := First(tt.looks[0])
			for _, again := range tt.looks[1:] {
				l.Again(again)
			}
			if l.Settled() != tt.settled {
				t.Errorf("settled: %v", !tt.settled)
			}
			if diff := cmp.Diff(tt.want, l.List()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestListKept(t *testing.T) {
	dir := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("kept/cbr0@c1@eth0", `{"type": "bridge", "ipam": {"type": "host-local", "dataDir": "`+dir+`/leases"}}`)
	write("kept/cbr0@c2@eth0", "{\"type\": \"ptp\", \"ipam\": {\"type\": \"dhcp\"}}\nno DHCP server")
	write("kept/cbr0@c3@eth0", "{")
	write("kept/c4", "the older plugin's")
	write("leases/cbr0/10.244.1.5", "c1\r\neth0")
	write("leases/cbr0/2001_db8__5", "c1\neth0\n")
	write("leases/cbr0/10.244.1.6", "c9\neth0")
	write("leases/cbr0/last_reserved_ip.0", "10.244.1.6")
	list, err := ListKept(dir + "/kept")
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	if diff := cmp.Diff([]string{"10.244.1.5", "2001:db8::5"}, list[0].Kept.Leases); diff != "" || list[0].Kept.Delegate != "bridge" {
		t.Errorf("%+v: %s", list[0], diff)
	}
	if k := list[1].Kept; k.Refusal != "no DHCP server" || k.Delegate != "ptp" || !list[1].Wrong() {
		t.Errorf("%+v", list[1])
	}
	if list[2].State != Unreadable || list[2].Error == "" || list[2].ContainerID != "c3" {
		t.Errorf("%+v", list[2])
	}
	if none, err := ListKept(dir + "/none"); none != nil || err != nil {
		t.Error(none, err)
	}
}
