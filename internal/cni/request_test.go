package cni

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/google/go-cmp/cmp"
)

// wanted is what the example plugin reads.
type wanted struct {
	Flag bool
	List []string
}

var example = Plugin{
	Name: "example", Purpose: "Tests the protocol.", Since: "0.3.0",
	Keys:  []Key{{"addroutes", "a list"}, {"flag", "true or false"}},
	Verbs: Verbs{Add: exampleVerb, Check: exampleVerb, Del: exampleVerb, GC: exampleVerb, Status: exampleVerb, Plan: exampleVerb},
}

// exampleVerb reads the configuration, and does nothing.
func exampleVerb(_ context.Context, r *Request) error {
	_, err := decoded(r)
	return err
}

func (w *wanted) read(c *Config) {
	c.Bool("flag", &w.Flag)
	if v, ok := c.Get("addroutes"); ok {
		for _, e := range v.List() {
			text, _ := e.Text()
			w.List = append(w.List, text)
		}
	}
}

// decoded is what the example plugin reads, from args.cni first.
func decoded(r *Request) (w wanted, err error) {
	err = r.Strict(func(c *Config) { r.TakeArgs(); w.read(c) })
	return w, err
}

// newExample is a request to the example with these keys beside the usual
// ones.
func newExample(keys string) *Request {
	conf := `{"cniVersion": "1.1.0", "name": "net", "type": "example"` + keys + `}`
	return requestOf("ADD", &skel.CmdArgs{ContainerID: "c1", IfName: "net1", StdinData: []byte(conf)})
}

// stderr is what f writes there.
func stderr(t testing.TB, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func(was *os.File) { os.Stderr = was }(os.Stderr)
	os.Stderr = w
	all := make(chan string)
	go func() {
		b, _ := io.ReadAll(r)
		all <- string(b)
	}()
	f()
	_ = w.Close()
	return <-all
}

func TestParseArgs(t *testing.T) {
	for _, tt := range []struct {
		args string
		want map[string]string
	}{
		{"", map[string]string{}},
		{";;;", map[string]string{}},
		{"IgnoreUnknown", map[string]string{}},
		{"IgnoreUnknown=1;K8S_POD_NAME=p;", map[string]string{"IgnoreUnknown": "1", "K8S_POD_NAME": "p"}},
		{"K8S_POD_NAME=p;IgnoreUnknown=1", map[string]string{"IgnoreUnknown": "1", "K8S_POD_NAME": "p"}},
		{"IgnoreUnknown=true;IP=10.0.0.1/8;IgnoreUnknown=1", map[string]string{"IgnoreUnknown": "1", "IP": "10.0.0.1/8"}},
		{"A=b=c==;=x;B=", map[string]string{"A": "b=c==", "": "x", "B": ""}},
	} {
		if diff := cmp.Diff(tt.want, parseArgs(tt.args)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.args, diff)
		}
	}
}

// What passes, and what the plugin gets of it.
func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		name, keys string
		want       wanted
		warns      string // of stderr
	}{
		{"nothing", ``, wanted{}, ""},
		{"null means absent", `, "flag": null, "addroutes": null, "args": null, "stateDir": null, "log_options": null, "runtimeConfig": null`, wanted{}, ""},
		{"empty args", `, "flag": true, "args": {}`, wanted{Flag: true}, ""},
		{"empty args.cni", `, "flag": true, "args": {"cni": {}}`, wanted{Flag: true}, ""},
		{"args.cni is null", `, "flag": true, "args": {"cni": null}`, wanted{Flag: true}, ""},
		{"args.cni overrides", `, "flag": true, "addroutes": ["a", "b"], "args": {"cni": {"flag": false, "addroutes": ["c"]}}`, wanted{List: []string{"c"}}, ""},
		{"args.cni overrides what is wrong", `, "flag": 7, "args": {"cni": {"flag": true}}`, wanted{Flag: true}, ""},
		{"null overrides nothing", `, "flag": true, "args": {"cni": {"flag": null}}`, wanted{Flag: true}, ""},
		{"conventional args", `, "args": {"cni": {"ips": ["10.0.0.1"], "mac": "02:00:00:00:00:01"}, "labels": [], "cn": {}}`, wanted{}, ""},
		{"upper case", `, "Flag": true, "ADDROUTES": ["a"]`, wanted{Flag: true, List: []string{"a"}}, `ADDROUTES: taken for \"addroutes\"`},
		{"upper case in args.cni", `, "args": {"cni": {"addRoutes": ["a"]}}`, wanted{List: []string{"a"}}, `args.cni.addRoutes: taken for \"addroutes\"`},
		{"foreign keys", `, "deviceID": "d", "pciBusID": "p", "capabilities": {}, "runtimeConfig": {"portMappings": []}, "ipam": {}, "dns": {}, "x": [null],
			"cni.dev/valid-attachments": [], "comment": "", "master": "eth1", "disableCheck": true`, wanted{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got wanted
			var problems error
			warned := stderr(t, func() { got, problems = decoded(newExample(tt.keys)) })
			if problems != nil {
				t.Fatal(problems)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !strings.Contains(warned, tt.warns) || (tt.warns == "") != (warned == "") {
				t.Errorf("stderr: %q, want %q", warned, tt.warns)
			}
		})
	}
}

// What is refused, by which code, and in which words.
func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		keys string
		code uint
		says []string
	}{
		{`, "addroute": []`, 2, []string{`addroute: unknown key; did you mean "addroutes"?`}},
		{`, "adroute": []`, 2, []string{`adroute: unknown key; did you mean "addroutes"?`}},
		{`, "Add_routes": []`, 2, []string{`Add_routes: unknown key; did you mean "addroutes"?`}},
		{`, "flags": true`, 2, []string{`flags: unknown key; did you mean "flag"?`}},
		{`, "stateDirs": "/x"`, 2, []string{`did you mean "stateDir"?`}},
		{`, "state_dir": "/x"`, 2, []string{`did you mean "stateDir"?`}},
		{`, "log_option": {}`, 2, []string{`did you mean "log_options"?`}},
		{`, "flag": true, "FLAG": true`, 2, []string{`FLAG: given beside "flag"`}},
		{`, "args": {"cni": {"addroute": []}}`, 2, []string{`args.cni.addroute: unknown key; did you mean "addroutes"?`}},
		{`, "args": {"cni": {"stateDir": "/x", "log_options": {}}}`, 2, []string{"args.cni.stateDir: may not be set for a single attachment", "args.cni.log_options: may not"}},
		{`, "log_options": {"level": "debug"}`, 2, []string{`log_options.level: unknown key`, "log_level"}},
		{`, "log_options": {"log_leve": "debug"}`, 2, []string{`log_options.log_leve: unknown key; did you mean "log_level"?`}},

		{`, "flag": 1`, 7, []string{"flag: 1 is not true or false"}},
		{`, "flag": "true"`, 7, []string{`flag: "true" is not true or false`}},
		{`, "addroutes": {}`, 7, []string{"addroutes: {} is not a list"}},
		{`, "addroutes": ["a", 7]`, 7, []string{"addroutes[1]: 7 is not a string"}},
		{`, "args": []`, 7, []string{"args: [] is not an object"}},
		{`, "args": {"cni": "x"}`, 7, []string{`args.cni: "x" is not an object`}},
		{`, "args": {"cni": {"flag": "x"}}`, 7, []string{`args.cni.flag: "x" is not true or false`}},
		{`, "stateDir": "run/cni"`, 7, []string{`stateDir: "run/cni" is not an absolute path`}},
		{`, "stateDir": ""`, 7, []string{`stateDir: "" is not an absolute path`}},
		{`, "stateDir": ["/x"]`, 7, []string{`stateDir: ["/x"] is not a string`}},
		{`, "log_options": "debug"`, 7, []string{`log_options: "debug" is not an object`}},
		{`, "log_options": {"log_level": "loud"}`, 7, []string{`log_options.log_level: "loud" is not debug, info, warn or error`}},
		{`, "log_options": {"log_level": "info+2"}`, 7, []string{"log_options.log_level"}},
		{`, "log_options": {"log_level": 3}`, 7, []string{"log_options.log_level: 3 is not a string"}},
		{`, "log_options": {"log_file": "x.log"}`, 7, []string{`log_options.log_file: "x.log" is not an absolute path`}},
		{`, "log_options": {"log_max_size": 0, "log_max_age": -1, "log_max_count": 1.5}`, 7,
			[]string{"log_options.log_max_size: 0 is", "log_options.log_max_age: -1 is", "log_options.log_max_count: 1.5 is not a whole number"}},

		// A value that is wrong goes before a key that is; both are told.
		{`, "addroute": [], "flag": 1, "args": {"cni": {"flags": 1, "addroutes": 5}}, "stateDir": "x", "log_options": {"x": 1}`, 7,
			[]string{`addroute: unknown key`, "flag: 1 is", "args.cni.flags: unknown key", "args.cni.addroutes: 5 is not a list", "stateDir: ", "log_options.x: unknown key", "(and 5 more)"}},
	} {
		_, err := decoded(newExample(tt.keys))
		if err == nil || Code(err) != tt.code {
			t.Errorf("%s: %v, want code %d", tt.keys, err, tt.code)
			continue
		}
		for _, says := range tt.says {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %q does not say %q", tt.keys, err, says)
			}
		}
		if first, _, _ := strings.Cut(err.Error(), "\n"); tt.code == 7 && strings.Contains(first, "unknown key") {
			t.Errorf("%s: code 7, but the message says %q", tt.keys, first)
		}
	}
}

// Go's decoders, skel's among them, take the keys of the specification in any
// case.
func TestKeysOfTheSpecificationInAnyCase(t *testing.T) {
	r := requestOf("ADD", &skel.CmdArgs{StdinData: []byte(`{"CNIVersion": "1.0.0", "Name": "net", "Type": "example", "PrevResult": {}, "Args": {"cni": {"flag": true}}}`)})
	warned := stderr(t, func() {
		if got, err := decoded(r); err != nil || !r.Config.Has("prevResult") || !got.Flag {
			t.Errorf("%v, %v", got, err)
		}
	})
	if r.Config.Network != "net" || r.Version != "1.0.0" {
		t.Errorf("network %q, version %q", r.Config.Network, r.Version)
	}
	if strings.Count(warned, "taken for") != 4 {
		t.Errorf("stderr: %s", warned)
	}
}

func TestStateDir(t *testing.T) {
	for _, tt := range []struct{ keys, want string }{
		{``, ""},
		{`, "stateDir": "/var/lib/x/"`, "/var/lib/x"},
		{`, "stateDir": "/a/../b//c"`, "/b/c"},
		{`, "stateDir": "relative"`, ""},
		{`, "statedir": "/x"`, "/x"},
	} {
		if got := newExample(tt.keys).StateDir; got != tt.want {
			t.Errorf("%s: %q, want %q", tt.keys, got, tt.want)
		}
	}
}

// DEL and GC read what they can of whatever they are given, and say what is of
// no use.
func TestLenient(t *testing.T) {
	for _, keys := range []string{
		`, "flag": 7, "addroute": 1, "args": 3, "prevResult": [null]`,
		`, "log_options": 7`,
		`, "log_options": {"log_level": 1, "log_file": 2, "x": 3}`,
	} {
		r := requestOf("DEL", &skel.CmdArgs{ContainerID: "c1", IfName: "net1", Netns: "/nowhere",
			StdinData: []byte(`{"cniVersion": "1.1.0", "name": "net", "type": "example"` + keys + `}`)})
		warned := stderr(t, func() {
			var w wanted
			r.Lenient(w.read)
		})
		if got := strings.Count(warned, "level=WARN"); got != len(r.Config.List) {
			t.Errorf("%s: %d warnings for %d problems:\n%s", keys, got, len(r.Config.List), warned)
		}
	}
}

// skel fails an ADD and a DEL in the plugin's own namespace after they were
// carried out, unless it is told not to: we look ourselves, and before.
func TestSkelLooksNoMore(t *testing.T) {
	for value, want := range map[string]bool{"": false, "0": false, "yes": false, "1": true, "true": true, "TRUE": true} {
		args := &skel.CmdArgs{NetnsOverride: value, StdinData: []byte(`{}`)}
		if r := requestOf("DEL", args); r.ownPod != want || args.NetnsOverride != "true" {
			t.Errorf("CNI_NETNS_OVERRIDE=%q: override %v, left for skel %q", value, r.ownPod, args.NetnsOverride)
		}
	}
}

func TestValidAttachments(t *testing.T) {
	one := []Attachment{{Network: "net", ContainerID: "c1", IfName: "net1"}}
	for _, tt := range []struct {
		keys  string
		want  []Attachment
		given bool
		fails bool
	}{
		{``, nil, false, false},
		{`, "cni.dev/valid-attachments": null`, nil, false, false},
		{`, "cni.dev/valid-attachments": []`, nil, true, false},
		{`, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "net1", "more": 1}]`, one, true, false},
		{`, "cni.dev/attachments": [{"containerID": "c1", "ifname": "net1"}]`, one, true, false},
		{`, "cni.dev/valid-attachments": null, "cni.dev/attachments": [{"containerID": "c1", "ifname": "net1"}]`, one, true, false},
		{`, "cni.dev/valid-attachments": [], "cni.dev/attachments": [{"containerID": "c1", "ifname": "net1"}]`, nil, true, false},
		{`, "cni.dev/valid-attachments": {}`, nil, false, true},
		{`, "cni.dev/valid-attachments": [7]`, nil, false, true},
	} {
		got, given, err := newExample(tt.keys).Valid()
		if diff := cmp.Diff(tt.want, got); diff != "" || given != tt.given || (err != nil) != tt.fails {
			t.Errorf("%s: given %v, %v (-want +got):\n%s", tt.keys, given, err, diff)
		}
		if err != nil && Code(err) != 7 {
			t.Errorf("%s: code %d", tt.keys, Code(err))
		}
	}
}

// FuzzRequest: nothing that a runtime sends makes a panic, and a list of
// attachments that cannot be read is never taken for an empty one.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"cniVersion": "1.1.0", "name": "net", "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "net1"}]}`), "IgnoreUnknown=1;K8S_POD_NAME=web")
	f.Add([]byte(`{"NAME": 5, "stateDir": "relative", "log_options": {"log_level": "loud", "log_max_size": -1}, "cni.dev/attachments": null}`), "a=b=c;;=")
	f.Add([]byte(`{"args": {"cni": {"flag": true, "stateDir": "/x"}}, "addrout": [], "cni.dev/valid-attachments": [{}]}`), "K8S_POD_NAMESPACE=a\nb")
	f.Fuzz(func(t *testing.T, conf []byte, args string) {
		r := NewRequest(example, "GC", &skel.CmdArgs{Args: args}, conf)
		r.Mute()
		for _, word := range r.about() {
			if text, ok := word.(string); !ok || text == "" {
				t.Errorf("a line of the log begins with %q", r.about())
			}
		}
		valid, given, err := r.Valid()
		if err != nil && (Code(err) != 7 || given || valid != nil) {
			t.Errorf("%v: code %d, %v, %v", err, Code(err), given, valid)
		}
		for _, a := range valid {
			if a.ContainerID == "" || a.IfName == "" {
				t.Errorf("an attachment %+v", a)
			}
		}
		if _, err := decoded(r); err != nil && Code(err) != 6 && Code(err) != 7 && Code(err) != 2 {
			t.Errorf("code %d: %v", Code(err), err)
		}
	})
}

func ExamplePlugin_help() {
	for _, args := range [][]string{{"--help"}, {"--version"}} {
		fmt.Println(example.Run(context.Background(), args))
	}
	// Output:
	// CNI example plugin version unknown
	// CNI protocol versions supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0
	//
	// Tests the protocol.
	//
	// A container runtime calls it with CNI_COMMAND=ADD, DEL, CHECK, GC, STATUS or VERSION.
	// By hand, with the usual CNI_* variables:
	//
	//   example plan < config.json   show what ADD would do, and change nothing
	//   example show                 list what is on this node, for whom, and what differs (show --help)
	//
	// Keys of its configuration:
	//
	//   addroutes    a list
	//   flag         true or false
	//   stateDir     folder for records, below which each plugin has its own (default /run/cni)
	//   log_options  log_level (debug, info, warn, error), log_file, log_max_size (MB), log_max_age (days), log_max_count
	// 0
	// CNI example plugin version unknown
	// CNI protocol versions supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0
	// 0
}

// requestOf is a request whose configuration is args.StdinData.
func requestOf(verb string, args *skel.CmdArgs) *Request {
	return NewRequest(example, verb, args, args.StdinData)
}

// A plugin may describe a common key in its own words.
func TestOwnWordsForACommonKey(t *testing.T) {
	p := Plugin{Keys: []Key{{"stateDir", "moves nothing"}}}
	want := []Key{{"stateDir", "moves nothing"}, commonKeys[1]}
	if diff := cmp.Diff(want, p.allKeys()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
