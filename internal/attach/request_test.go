//go:build linux

package attach

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
)

// wanted is the configuration of a plugin for tests, and decides nothing.
type wanted struct{ Flag bool }

func (wanted) Query(*cniresult.Result) netops.Query                       { return netops.Query{} }
func (wanted) Plan(*cniresult.Result, netops.Snapshot) (*Decision, error) { return &Decision{}, nil }
func (wanted) Expect(*cniresult.Result, netops.Snapshot) (netops.Plan, error) {
	return netops.Plan{}, nil
}
func (wanted) SkipCheck() bool { return false }

var example = cni.Plugin{
	Name: "example", Purpose: "Tests the life of attachments.", Since: "0.3.0",
	Keys: []cni.Key{{Name: "addroutes", Help: "a list"}, {Name: "flag", Help: "true or false"}},
}

func decodeExample(c *cni.Config) Planner {
	var w wanted
	c.Bool("flag", &w.Flag)
	return w
}

// newExample is a request to the example, with these keys beside the
// usual ones.
func newExample(verb, keys string) *request {
	conf := `{"cniVersion": "1.1.0", "name": "net", "type": "example"` + keys + `}`
	args := &skel.CmdArgs{ContainerID: "c1", IfName: "net1", Netns: "/nowhere"}
	return Policy{}.request(cni.NewRequest(example, verb, args, []byte(conf)), decodeExample)
}

// A chained plugin without prevResult tells where it is to stand. Problems of
// the configuration go before one of prevResult.
func TestPrevResult(t *testing.T) {
	for _, tt := range []struct {
		keys string
		code uint
		says string
	}{
		{``, 7, "prevResult: missing: example must stand after the plugin that makes the interface"},
		{`, "prevResult": null`, 7, "prevResult: missing"},
		{`, "prevResult": []`, 6, "prevResult: "},
		{`, "prevResult": {"interfaces": [null]}`, 6, "prevResult: interfaces[0] is null"},
		{`, "prevResult": {"interfaces": [null]}, "flag": 1`, 7, "flag: 1"},
		{`, "plugins": [{"type": "example"}]`, 7, "plugins: a whole list of plugins: example takes its own entry of it"},
		{`, "addroute": 1`, 7, `did you mean "addroutes"?`},
	} {
		if _, _, err := newExample("ADD", tt.keys).decode(); err == nil || cni.Code(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want code %d, %q", tt.keys, err, tt.code, tt.says)
		}
	}
}

// A GC that cannot read the list must not take anything for invalid.
func TestUnreadableAttachments(t *testing.T) {
	r := newExample("GC", `, "stateDir": "`+t.TempDir()+`", "cni.dev/valid-attachments": 7`)
	if err := gc(t.Context(), r); err == nil || cni.Code(err) != 7 {
		t.Errorf("gc: %v", err)
	}
}

// Where records are: a stateDir of no use is refused by ADD, but DEL has to look
// somewhere.
func TestRoot(t *testing.T) {
	for keys, want := range map[string]string{
		``:                            "/run/cni",
		`, "stateDir": "/var/lib/x/"`: "/var/lib/x",
		`, "stateDir": "relative"`:    "/run/cni",
	} {
		if got := newExample("DEL", keys).root; got != want {
			t.Errorf("%s: %s, want %s", keys, got, want)
		}
	}
}

// DEL reads nothing that it does not need.
func TestDelMindsNoProblem(t *testing.T) {
	r := newExample("DEL", `, "stateDir": "`+t.TempDir()+`", "flag": 7, "addroute": 1, "args": 3, "prevResult": [null], "log_options": 7`)
	r.Mute()
	if err := del(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// Whether a plugin may stand alone, and whether a pod's annotations may set its
// keys, is its policy.
func TestPolicy(t *testing.T) {
	for _, tt := range []struct {
		name, keys string
		policy     Policy
		want       wanted
		fails      bool
	}{
		{"alone", ``, Policy{PrevResultOptional: true}, wanted{}, false},
		{"alone, but may not", ``, Policy{}, wanted{}, true},
		{"args.cni", `, "prevResult": {}, "args": {"cni": {"flag": true}}`, Policy{KeysFromArgs: true}, wanted{Flag: true}, false},
		{"args.cni for what it may not set", `, "prevResult": {}, "args": {"cni": {"flag": true}}`, Policy{}, wanted{}, false},
	} {
		conf := `{"cniVersion": "1.1.0", "name": "net", "type": "example"` + tt.keys + `}`
		got, prev, err := tt.policy.Parse(example, decodeExample, []byte(conf), "net1")
		if (err != nil) != tt.fails {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if err == nil && (cmp.Diff(Planner(tt.want), got) != "" || prev.Absent() != tt.policy.PrevResultOptional) {
			t.Errorf("%s: %+v, %+v", tt.name, got, prev)
		}
	}
}
