package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// decoded reads a configuration as ADD does.
func decoded(text, goos string) (config, *strictjson.Problems) {
	p := &strictjson.Problems{}
	o, _ := strictjson.NewValue([]byte(text), "", p).Object()
	if len(p.List) > 0 {
		return config{}, p
	}
	return decode(&cni.Config{Object: o, Problems: p}, goos), p
}

// generatedFor is what ADD would delegate with, on one line.
func generatedFor(t *testing.T, conf, env, goos string, onPath ...string) string {
	t.Helper()
	c, problems := decoded(conf, goos)
	if len(problems.List) > 0 {
		t.Fatalf("%v in %s", problems.List, conf)
	}
	e, err := parseSubnetEnv([]byte(env), "subnet.env", goos)
	if err != nil {
		t.Fatal(err)
	}
	return string(generate(c, e, node{goos: goos, has: func(p string) bool { return slices.Contains(onPath, p) }}))
}

// The example of the page, to the letter.
func TestExample(t *testing.T) {
	const want = `{"name":"mynet","type":"bridge","mtu":1472,"ipMasq":false,"isGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.17.0/24"}]],"routes":[{"dst":"10.1.0.0/16"}]}}`
	if got := generatedFor(t, `{"name":"mynet","type":"flannel"}`, env4text(""), "linux"); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

var update = flag.Bool("update", false, "write what is generated to the golden files")

// Each file below testdata/generate holds a configuration, a subnet.env and
// what is generated from them; one whose name begins with windows does so for
// a node with Windows, with the plugins of "path" on CNI_PATH.
func TestGenerate(t *testing.T) {
	files, err := filepath.Glob("testdata/generate/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{}
			for _, f := range archive.Files {
				parts[f.Name] = string(f.Data)
			}
			goos := "linux"
			if strings.HasPrefix(filepath.Base(file), windows) {
				goos = windows
			}
			got := generatedFor(t, parts["conf.json"], parts["subnet.env"], goos, strings.Fields(parts["path"])...)
			got = strings.ReplaceAll(indented(t, got), "\t", "  ")
			if *update {
				archive.Files[len(archive.Files)-1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(parts["want.json"], got); diff != "" && !*update {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func indented(t *testing.T, conf string) string {
	t.Helper()
	var v json.RawMessage
	if err := json.Unmarshal([]byte(conf), &v); err != nil {
		t.Fatalf("%v in %s", err, conf)
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

// Both families of any number of networks, IPv4 first; the delegate's own
// value of each generated key wins on Linux.
func TestUnlessPresent(t *testing.T) {
	for key, value := range map[string]string{"type": `"ptp"`, "mtu": "1300", "ipMasq": "true", "isGateway": "false", "runtimeConfig": `{"a":1}`, "args": `{"a":1}`, "dns": `{"a":1}`} {
		got := generatedFor(t, `{"name":"n","type":"flannel","runtimeConfig":{},"args":{},"dns":{},"delegate":{"`+key+`":`+value+`}}`, env4text(""), "linux")
		var g map[string]json.RawMessage
		if err := json.Unmarshal([]byte(got), &g); err != nil || string(g[key]) != value {
			t.Errorf("%s: %s, %v in %s", key, g[key], err, got)
		}
		if strings.Count(got, `"`+key+`":`) != 1+strings.Count(got, `"type":"host-local"`)*strings.Count(key, "type") {
			t.Errorf("%s stands there twice: %s", key, got)
		}
	}
}

// Null means absent: what is generated takes its place.
func TestNullIsAbsent(t *testing.T) {
	plain := generatedFor(t, `{"name":"n","type":"flannel"}`, env4text(""), "linux")
	null := generatedFor(t, `{"name":"n","type":"flannel","subnetFile":null,"dataDir":null,"ipam":null,"dns":null,"runtimeConfig":null,
		"delegate":{"type":null,"mtu":null,"ipMasq":null,"isGateway":null,"name":null,"ipam":null,"dns":null}}`, env4text(""), "linux")
	if plain != null {
		t.Errorf("%s\nwant %s", null, plain)
	}
	if all := generatedFor(t, `{"name":"n","type":"flannel","delegate":null,"ipam":{"type":null,"ranges":null,"routes":null}}`, env4text(""), "linux"); all != plain {
		t.Errorf("%s\nwant %s", all, plain)
	}
}

// A route that is there already is not doubled. In another table, or with
// another metric, it is another one.
func TestRoutesOnce(t *testing.T) {
	const own = `{"dst":"10.1.0.0/16"}`
	for given, want := range map[string]string{
		``:                                     own,
		own:                                    own,
		`{"dst":"10.1.2.3/16","mtu":1300}`:     `{"dst":"10.1.0.0/16","mtu":1300}`, // IPAM plugins keep the host's bits, which the kernel refuses
		`{"dst":"10.9.9.9"}`:                   `{"dst":"10.9.9.9/32"},` + own,
		`{"dst":"fd01::9","gw":"fd01::1"}`:     `{"dst":"fd01::9/128","gw":"fd01::1"},` + own,
		`{"dst":"10.2.0.0/16","gw":""}`:        `{"dst":"10.2.0.0/16","gw":""},` + own, // templates write it
		`{"dst":"10.2.0.0/16","gw":"0.0.0.0"}`: `{"dst":"10.2.0.0/16","gw":"0.0.0.0"},` + own,
		`{"dst":"10.1.0.0/16","gw":"1.1.1.1"}`: `{"dst":"10.1.0.0/16","gw":"1.1.1.1"}`,
		`{"dst":"10.1.0.0/16","table":254,"priority":0}`: `{"dst":"10.1.0.0/16","table":254,"priority":0}`,
		`{"dst":"10.1.0.0/16","table":100}`:              `{"dst":"10.1.0.0/16","table":100},` + own,
		`{"dst":"10.1.0.0/16","priority":7}`:             `{"dst":"10.1.0.0/16","priority":7},` + own,
		`{"dst":"10.1.0.0/17"}`:                          `{"dst":"10.1.0.0/17"},` + own,
		`{"dst":"0.0.0.0/0","x":[1]},` + own:             `{"dst":"0.0.0.0/0","x":[1]},` + own,
	} {
		got := generatedFor(t, `{"name":"n","type":"flannel","ipam":{"routes":[`+given+`]}}`, env4text(""), "linux")
		if !strings.HasSuffix(got, `"routes":[`+want+`]}}`) {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
}

// What is refused, and in which words.
func TestConfigProblems(t *testing.T) {
	for _, tt := range []struct {
		keys string
		code uint
		says []string
	}{
		{`"type":"flannel","subnetFile":7`, 7, []string{"subnetFile: 7 is not a string"}},
		{`"type":"flannel","subnetFile":"subnet.env"`, 7, []string{`subnetFile: "subnet.env" is not an absolute path`}},
		{`"type":"flannel","dataDir":""`, 7, []string{`dataDir: "" is not an absolute path`}},
		{`"type":"flannel","dataDir":"/a\u0000b"`, 7, []string{"dataDir: ", "is not an absolute path"}},
		{`"type":"flannel","dataDir":"C:\\flannel"`, 7, []string{"is not an absolute path"}},
		{`"x":1`, 7, []string{`type: missing: it is "flannel"`}},
		{`"type":"bridge"`, 7, []string{`type: "bridge" is not "flannel"`}},
		{`"type":7`, 7, []string{"type: 7 is not a string"}},
		{`"type":"flannel","delegate":[]`, 7, []string{"delegate: [] is not an object"}},
		{`"type":"flannel","delegate":{"name":"x"}`, 2, []string{"delegate.name: is generated, and may not be given"}},
		{`"type":"flannel","delegate":{"Name":"x"}`, 2, []string{"delegate.name: is generated"}},
		{`"type":"flannel","delegate":{"ipam":{}}`, 2, []string{"delegate.ipam: is generated"}},
		{`"type":"flannel","delegate":{"type":7}`, 7, []string{"delegate.type: 7 is not a string"}},
		{`"type":"flannel","delegate":{"type":""}`, 7, []string{`delegate.type: "" is not the name of a plugin`}},
		{`"type":"flannel","delegate":{"type":".."}`, 7, []string{`is not the name of a plugin`}},
		{`"type":"flannel","delegate":{"type":"/bin/sh"}`, 7, []string{`delegate.type: "/bin/sh" is not the name of a plugin`}},
		{`"type":"flannel","delegate":{"type":"..\\sh"}`, 7, []string{`is not the name of a plugin`}},
		{`"type":"flannel","delegate":{"type":"flannel"}`, 7, []string{`delegate.type: "flannel" would delegate to itself without end`}},
		{`"type":"flannel","delegate":{"type":"Flannel.EXE"}`, 7, []string{`would delegate to itself`}},
		{`"type":"flannel","delegate":{"mtu":1,"MTU":2}`, 2, []string{`delegate.MTU: given beside "mtu"`}},
		{`"type":"flannel","ipam":"host-local"`, 7, []string{`ipam: "host-local" is not an object`}},
		{`"type":"flannel","ipam":{"type":[]}`, 7, []string{"ipam.type: [] is not a string"}},
		{`"type":"flannel","ipam":{"routes":{}}`, 7, []string{"ipam.routes: {} is not a list"}},
		{`"type":"flannel","ipam":{"routes":[null,{}]}`, 7, []string{"ipam.routes[0]: null is not an object", "ipam.routes[1].dst: missing"}},
		{`"type":"flannel","ipam":{"routes":[{"dst":"::ffff:10.0.0.1"},{"dst":"x"},{"dst":7},{"dst":"::/0","table":-1}]}`, 7,
			[]string{`ipam.routes[0].dst: "::ffff:10.0.0.1" is not an IP address or subnet`, `ipam.routes[1].dst: "x" is not an IP address or subnet`, "ipam.routes[2].dst: 7 is not a string", "ipam.routes[3].table: -1 is not"}},
		{`"type":"flannel","ipam":{"routes":[{"dst":"0.0.0.0/0","gw":"nonsense"},{"dst":"::/0","gw":"10.1.17.1"},{"dst":"0.0.0.0/0","gw":7},{"dst":"0.0.0.0/0","GW":"fe80::1%eth0"}]}`, 7,
			[]string{`ipam.routes[0].gw: "nonsense" is not an IP address`, "ipam.routes[1].gw: 10.1.17.1 is of another address family than dst ::/0", "ipam.routes[2].gw: 7 is not a string",
				`ipam.routes[3].gw: "fe80::1%eth0" is not an IP address`}},
		{`"type":"flannel","ipam":{"routes":[{"dst":"0.0.0.0/0","mtu":67,"advmss":0,"priority":-1,"metric":1.5,"table":0,"scope":256}]}`, 7,
			[]string{"ipam.routes[0].mtu: 67 is not a whole number from 68 to 65520", "ipam.routes[0].advmss: 0 is not a whole number from 1 to 65495", "ipam.routes[0].priority: -1 is not",
				"ipam.routes[0].metric: 1.5 is not", "ipam.routes[0].table: 0 is not a whole number from 1 to 4294967295", "ipam.routes[0].scope: 256 is not a whole number from 0 to 255"}},
	} {
		_, p := decoded(`{"name":"n",`+tt.keys+`}`, "linux")
		var all []string
		code := uint(2)
		for _, problem := range p.List {
			all = append(all, problem.String())
			if !problem.Unsupported {
				code = 7
			}
		}
		if len(all) == 0 || code != tt.code {
			t.Errorf("%s: %q", tt.keys, all)
		}
		for _, says := range tt.says {
			if !strings.Contains(strings.Join(all, "\n"), says) {
				t.Errorf("%s: %q does not say %q", tt.keys, all, says)
			}
		}
	}
}

// Paths of Windows, where the drive may be left out.
func TestAbsolute(t *testing.T) {
	for path, want := range map[string][2]bool{ // linux, windows
		"/run/flannel/subnet.env":   {true, true},
		`C:\run\flannel\subnet.env`: {false, true},
		"c:/run/flannel/subnet.env": {false, true},
		`\run\flannel\subnet.env`:   {false, true},
		"":                          {},
		"subnet.env":                {},
		`C:subnet.env`:              {},
		"1:/x":                      {},
		"/x\x00":                    {},
	} {
		if got := [2]bool{absolute(path, "linux"), absolute(path, windows)}; got != want {
			t.Errorf("%q: %v, want %v", path, got, want)
		}
	}
}

// What replaces what is given is told.
func TestWarnings(t *testing.T) {
	for conf, want := range map[string]string{
		`{"type":"flannel","ipam":{"ranges":[]}}`:                                                                    "linux: ipam.ranges: not used: flannel's subnet stands in its place",
		`{"type":"flannel","ipam":{"subnet":"10.9.0.0/16"}}`:                                                         "linux: ipam.subnet: not used: flannel's subnet stands in its place",
		`{"type":"flannel","ipam":{"type":"x","subnet":"10.9.0.0/16","rangeStart":"10.9.0.5","gateway":"10.9.0.1"}}`: "linux: ipam.subnet: not used: flannel's subnet stands in its place",
		`{"type":"flannel","ipam":{"type":"host-local","rangeStart":"10.1.17.5"}}`:                                   "linux: ipam.rangeStart: not used: flannel's subnet stands in its place",
		`{"type":"flannel","ipam":{"gateway":"10.1.17.5"}}`:                                                          "linux: ipam.gateway: not used: flannel's subnet stands in its place",
		`{"type":"flannel","ipam":{"Routes":[]}}`:                                                                    `linux: ipam.Routes: taken for "routes"`,
		`{"type":"flannel","delegate":{"isgateway":true}}`:                                                           `linux: delegate.isgateway: taken for "isGateway"`,
		`{"type":"flannel","ipam":{"type":"x"}}`:                                                                     "windows: ipam: not used on Windows",
	} {
		goos, text, _ := strings.Cut(want, ": ")
		if _, p := decoded(conf, goos); !slices.Equal(p.Warnings, []string{text}) || len(p.List) > 0 {
			t.Errorf("%s: %q, %v, want %q", conf, p.Warnings, p.List, text)
		}
	}
}

// Whatever is configured, what is generated from it is one configuration that
// leads to one delegate, and never back here.
func FuzzConfig(f *testing.F) {
	for _, conf := range []string{
		`{}`, `null`, `[]`, `{"name":"mynet","type":"flannel"}`,
		`{"cniVersion":"1.1.0","name":"n","type":"flannel","subnetFile":"/x","dataDir":"C:\\x","stateDir":"/y","delegate":{"type":"win-l2bridge","hairpinMode":true,"AdditionalArgs":[{"Name":"EndpointPolicy"}]},"runtimeConfig":{"portMappings":[]},"args":{"cni":{}},"dns":{}}`,
		`{"name":"n","type":"flannel","delegate":{"type":null,"mtu":null,"MTU":7,"cniVersion":"0.1.0","prevResult":{},"dns":null},"dns":{"domain":"x"}}`,
		`{"name":"n","type":"flannel","ipam":{"type":"","subnet":"10.0.0.0/8","ranges":[],"routes":[{"dst":"10.1.0.0/16","table":254},{"dst":"::/0"}]}}`,
		`{"name":"n","type":"flannel","delegate":{"type":"Flannel.exe"},"ipam":{"routes":[null,7,{"dst":"x"}]}}`,
	} {
		f.Add([]byte(conf), false)
		f.Add([]byte(conf), true)
	}
	env, err := parseSubnetEnv([]byte(six+env4text("")), "/x", "linux")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, conf []byte, onWindows bool) {
		goos := "linux"
		if onWindows {
			goos = windows
		}
		c, p := decoded(string(conf), goos)
		if len(p.List) > 0 || !c.given.Has(keyName) {
			return
		}
		got := generate(c, env, node{goos: goos, has: func(string) bool { return false }})
		var problems strictjson.Problems
		g, ok := strictjson.NewValue(got, "", &problems).Object()
		if !ok || !json.Valid(got) {
			t.Fatalf("%s from %s", got, conf)
		}
		var to string
		if g.Text(keyType, &to); misfit(to) != "" || !g.Has(keyIPAM) || string(g.Raw(keyName)) != string(compact(c.given.Raw(keyName))) {
			t.Fatalf("%s from %s", got, conf)
		}
	})
}
