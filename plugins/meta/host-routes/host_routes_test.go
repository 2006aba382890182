package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// What ADD makes of each field; after it CHECK is content, and DEL leaves what
// was there before.
func TestFields(t *testing.T) {
	h := newHost(t)
	pod := newPod(t)
	for _, tt := range []struct{ routing, kernel string }{
		{`[]`, ``},
		{podAddresses, `
			10.9.0.5 dev cni0 proto 77 scope link
			fd09::5 dev cni0 proto 77 metric 1024`},
		{`[{prefix: "10.9.0.0/24", gateway: "10.1.0.9"}, {prefix: "fd09::/64", gateway: "fd01::9", metric: 7}]`, `
			10.9.0.0/24 via 10.1.0.9 dev cni0 proto 77
			fd09::/64 via fd01::9 dev cni0 proto 77 metric 7`},
		{`[{prefix: "10.9.0.0/24", gateway: "10.99.0.1", device: "cni0", onlink: true}]`, `10.9.0.0/24 via 10.99.0.1 dev cni0 proto 77 onlink`},
		{`[{prefix: "10.9.0.0/24", device: "cni0", table: 100, metric: 7, src: "10.1.0.1", mtu: 1400, advmss: 1300}]`,
			`10.9.0.0/24 dev cni0 table 100 proto 77 scope link src 10.1.0.1 metric 7 mtu 1400 advmss 1300`},
		{`[{prefix: "10.9.0.0/24", device: "cni0", scope: 0}]`, `10.9.0.0/24 dev cni0 proto 77`},
		{`[{prefix: "10.9.0.0/24", type: "blackhole"}, {prefix: "10.8.0.0/24", type: "unreachable"}, {prefix: "10.7.0.0/24", type: "prohibit", table: 9},
		   {prefix: "fd09::/64", type: "blackhole"}, {prefix: "fd08::/64", type: "prohibit"}]`, `
			blackhole 10.9.0.0/24 proto 77
			unreachable 10.8.0.0/24 proto 77
			prohibit 10.7.0.0/24 table 9 proto 77
			blackhole fd09::/64 dev lo proto 77 metric 1024
			prohibit fd08::/64 dev lo proto 77 metric 1024`},
		{`[{prefix: "0.0.0.0/0", gateway: "10.1.0.9", table: 100}, {prefix: "::/0", gateway: "fe80::9", device: "cni0"}]`, `
			default via 10.1.0.9 dev cni0 table 100 proto 77
			default via fe80::9 dev cni0 proto 77 metric 1024`},
		// One leads over another, in whatever order they are given.
		{`[{prefix: "10.9.0.0/24", gateway: "10.8.0.1"}, {prefix: "10.8.0.1", device: "cni0"}]`, `
			10.8.0.1 dev cni0 proto 77 scope link
			10.9.0.0/24 via 10.8.0.1 dev cni0 proto 77`},
		// The same prefix by another metric, or in another table.
		{`[{prefix: "10.9.0.5", device: "cni0"}, {prefix: "10.9.0.5", gateway: "10.1.0.9", metric: 5}, {prefix: "10.9.0.5", gateway: "10.1.0.8", table: 5}]`, `
			10.9.0.5 dev cni0 proto 77 scope link
			10.9.0.5 via 10.1.0.9 dev cni0 proto 77 metric 5
			10.9.0.5 via 10.1.0.8 dev cni0 table 5 proto 77`},
	} {
		c := call(t, pod, tt.routing)
		added := c.OK("ADD")
		if added.Stderr != "" {
			t.Errorf("%s: ADD: %s", tt.routing, added.Stderr)
		}
		h.has(tt.kernel)
		c.After(added).OK("CHECK")
		c.OK("CHECK") // libcni drops hostRoutes
		if got := c.OK("plan").Stdout; got != "" {
			t.Errorf("%s: after ADD there is still to do:\n%s", tt.routing, got)
		}
		c.After(added).OK("DEL")
		h.restored()
	}
}

// The result is prevResult, with the list of what was applied.
func TestResult(t *testing.T) {
	newHost(t)
	pod := newPod(t)
	const routing = `[.prevResult.ips[0] | {device: "cni0", prefix: .address, metric: 5.0}, {prefix: "10.9.0.0/24", metric: 5, device: "cni0"}]`
	want := map[string]any{}
	if err := json.Unmarshal([]byte(prevResult), &want); err != nil {
		t.Fatal(err)
	}
	added := call(t, pod, routing).OK("ADD")
	got := map[string]any{}
	if err := json.Unmarshal([]byte(added.Stdout), &got); err != nil {
		t.Fatal(err)
	}
	if list := hostRoutesOf(t, added); list != `{"device":"cni0","metric":5.0,"prefix":"10.9.0.5/24"}` && list != `{"device":"cni0","metric":5,"prefix":"10.9.0.5/24"}` {
		t.Errorf("hostRoutes: %s", list)
	}
	delete(got, "hostRoutes")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the rest of the result (-want +got):\n%s", diff)
	}
}

func TestResultOfNothing(t *testing.T) {
	newHost(t)
	pod := newPod(t)
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		c := call(t, pod, `[]`).Edit(func(conf map[string]any) { conf["cniVersion"] = version; delete(conf, "prevResult") })
		if got, want := c.OK("ADD").Stdout, `{"cniVersion":"`+version+`","hostRoutes":[]}`+"\n"; got != want {
			t.Errorf("alone: %s, want %s", got, want)
		}
		c.OK("DEL")
	}
}

func TestHostRoutesThatAreThere(t *testing.T) {
	h := newHost(t)
	c := call(t, newPod(t), `[{prefix: "10.9.0.5", device: "cni0"}]`)
	with := func(list any) plugintest.Call {
		return c.Edit(func(conf map[string]any) { conf["prevResult"].(map[string]any)["hostRoutes"] = list })
	}
	for value, list := range map[string]any{`"x"`: "x", "5": 5, `{}`: map[string]any{}} {
		if a := with(list).Refused("ADD", 7, "prevResult.hostRoutes: "); strings.Contains(a.Stdout, "panic") {
			t.Errorf("%s: %s", value, a.Stdout)
		}
		h.restored()
	}
	for want, list := range map[string]any{
		`{"device":"cni0","prefix":"10.9.0.5"}`:                    nil,
		"5\n" + `{"device":"cni0","prefix":"10.9.0.5"}`:            []any{5},
		`{"a":1}` + "\n" + `{"device":"cni0","prefix":"10.9.0.5"}`: []any{map[string]any{"a": 1}},
	} {
		added := with(list).OK("ADD")
		if got := hostRoutesOf(t, added); got != want {
			t.Errorf("after %v: %s, want %s", list, got, want)
		}
		c.OK("DEL")
	}
}

// The expression sees the whole configuration and $cni, and nothing of the
// process.
func TestInput(t *testing.T) {
	newHost(t)
	pod := newPod(t)
	show := func(c plugintest.Call, expression string) string {
		t.Helper()
		c = c.Edit(func(conf map[string]any) {
			conf["routing"] = fmt.Sprintf(`[{prefix: "10.9.0.5", device: "cni0", metric: (if (%s) then 1 else 2 end)}]`, expression)
		})
		got := hostRoutesOf(t, c.OK("ADD"))
		c.OK("DEL")
		return got
	}
	c := call(t, pod, `[]`, `"mine": {"n": 10000000000000000000001}`).With(map[string]string{
		"CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth7", "CNI_ARGS": "A=1;IgnoreUnknown=true;K8S_POD_NAMESPACE=prod;X=a=b;A=2;;Y", "SECRET": "s",
	})
	for _, is := range []string{
		`.type == "host-routes" and .name == "net" and .cniVersion == "1.1.0" and (.routing | type) == "string"`,
		`.prevResult.ips[0].address == "10.9.0.5/24" and .prevResult.unknown.kept`,
		`.mine.n == 10000000000000000000001`,
		`$cni == {command: "ADD", containerID: "c1", ifname: "eth7", netns: "/run/netns/pod",
			args: {A: "2", IgnoreUnknown: "true", K8S_POD_NAMESPACE: "prod", X: "a=b"}}`,
		`(env | keys) == ["CNI_ARGS", "CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH"] and $ENV == env`,
		`env.CNI_COMMAND == "ADD" and $ENV.CNI_IFNAME == "eth7" and (env.CNI_ARGS | startswith("A=1;Ign"))`,
	} {
		if got := show(c, is); !strings.Contains(got, `"metric":1`) {
			t.Errorf("not so: %s", is)
		}
	}
	if got := show(c.With(map[string]string{"CNI_ARGS": ""}), `$cni.args == {}`); !strings.Contains(got, `"metric":1`) {
		t.Error("without CNI_ARGS")
	}
	for _, not := range []string{`input`, `inputs`, `input_filename`, `import "a" as a; 1`, `include "a"; 1`, `"a" | modulemeta`, `$__prog_args`, `get_search_list`, `debug`, `stderr`} {
		c := c.Edit(func(conf map[string]any) { conf["routing"] = not })
		if a := c.Do("ADD"); a.Exit != 1 || a.Error.Code != 7 && a.Error.Code != 103 {
			t.Errorf("%s: %s", not, a.Stdout)
		}
	}
	// Which command it is evaluated for.
	for verb, command := range map[string]string{"ADD": "ADD", "plan": "ADD", "CHECK": "CHECK", "DEL": "DEL"} {
		a := c.Edit(func(conf map[string]any) { conf["routing"] = `error("it is " + $cni.command)` }).Do(verb)
		if !strings.Contains(a.Error.Msg+a.Stderr, "error: it is "+command) {
			t.Errorf("%s: %s%s", verb, a.Stdout, a.Stderr)
		}
	}
}

// An expression that reads the environment, as those of the older plugin could,
// names the same route at DEL as at ADD, where there is no record to go by.
func TestEnvironment(t *testing.T) {
	h := newHost(t)
	c := call(t, newPod(t), `[{prefix: "10.9.0.5", device: (if env.CNI_IFNAME == "net7" then "cni0" else "lo" end), metric: ($ENV.CNI_CONTAINERID | length)}]`).
		With(map[string]string{"CNI_IFNAME": "net7", "CNI_CONTAINERID": "abcde"})
	c.OK("ADD")
	const route = "10.9.0.5 dev cni0 proto 77 scope link metric 5"
	h.has(route)
	if got, want := c.OK("plan").Stdout, ""; got != want {
		t.Errorf("plan: %s", got)
	}
	if err := os.RemoveAll(stateDir); err != nil {
		t.Fatal(err)
	}
	c.OK("CHECK")
	c.OK("DEL")
	h.restored()
}

// Each category of errors has its code and its words, and nothing is changed.
func TestErrors(t *testing.T) {
	h := newHost(t, "route add 10.8.0.0/24 via 10.1.0.8")
	t.Cleanup(func() { h.IP("route del 10.8.0.0/24") })
	pod := newPod(t)
	for _, tt := range []struct {
		routing string
		code    uint
		says    []string
	}{
		{`.ips | foo`, 7, []string{"host-routes: routing: function not defined: foo/0 (line 1, column 8)", ".ips | foo\n       ^"}},
		{`[.prevResult.ips[] |`, 7, []string{"unexpected EOF (line 1, column 21)"}},
		{``, 7, []string{"missing query"}},
		{`error("no route")`, 103, []string{"host-routes: routing: the expression failed: error: no route", `error("no route")`}},
		{`.name.x`, 103, []string{`expected an object but got: string ("net")`, `.name.x`}},
		{`halt`, 103, []string{"it halted"}},
		{`"x" | halt_error`, 103, []string{"it halted"}},
		{`empty`, 103, []string{"it yields no value, where it must yield one"}},
		{`[], []`, 103, []string{"it yields 2 values, where it must yield one"}},
		{`def f: f; f`, 104, []string{"host-routes: routing: the expression took too long: more than 1s of processor time", "def f: f; f"}},
		{`"x" * 1e9`, 103, []string{"it needs more than 64 MiB of memory"}},
		{`{}`, 7, []string{"routing: it yields {}, where a list of routes is wanted"}},
		{`[{prefix: "10.9.0.5", device: "cni0"}, {prefix: "10.9.0.300", device: "cni0"}]`, 7, []string{`host-routes: routing[1].prefix: "10.9.0.300" is not an IP address or subnet`}},
		{`[{prefix: "10.9.0.5", device: "cni0"}, {prefix: "10.9.0.0/24", gateway: "10.77.0.1"}]`, 100,
			[]string{"host-routes: ip route add 10.9.0.0/24 via 10.77.0.1: network is unreachable (Nexthop has invalid gateway)"}},
		{`[{prefix: "10.9.0.5", device: "cni0"}, {prefix: "10.8.0.0/24", gateway: "10.1.0.9"}]`, 101,
			[]string{`host-routes: ip route add 10.8.0.0/24 via 10.1.0.9: there is "10.8.0.0/24 via 10.1.0.8 dev cni0" already, which is not ours`}},
		{`[{prefix: "10.9.0.5", device: "cni0"}, {prefix: "10.9.0.0/24", device: "nope"}]`, 11,
			[]string{`host-routes: ip route add 10.9.0.0/24 dev nope: no such interface: "nope"`}},
		// All failures are told, that with the code first.
		{`[{prefix: "10.9.0.0/24", device: "nope"}, {prefix: "10.9.1.0/24", gateway: "10.77.0.1"}, {prefix: "10.8.0.0/24", type: "blackhole"}]`, 101,
			[]string{"host-routes: ip route add blackhole 10.8.0.0/24: there is", "10.9.1.0/24 via 10.77.0.1: network is unreachable", `no such interface: "nope"`}},
		{`[{prefix: "10.9.0.0/24", device: "nope"}, {prefix: "10.9.1.0/24", gateway: "10.77.0.1"}]`, 100, []string{"host-routes: ip route add 10.9.1.0/24", `no such interface: "nope"`}},
		{`[{prefix: "10.9.0.0/24", gateway: "10.1.0.9", device: "lo"}]`, 100, []string{"ip route add 10.9.0.0/24 via 10.1.0.9 dev lo: "}},
	} {
		call(t, pod, tt.routing).Refused("ADD", tt.code, tt.says...)
		h.restored()
		if tt.code == 100 || tt.code == 11 {
			continue // plan does not try
		}
		call(t, pod, tt.routing).Refused("plan", tt.code, tt.says[:1]...)
	}
	for keys, says := range map[string]string{
		`"routing": null`:                      "routing: missing",
		`"routing": 5`:                         "routing: 5 is not a string",
		`"routing": ["x"]`:                     `routing: ["x"] is not a string`,
		`"routing": "[]", "log_options": "x"`:  "log_options: ",
		`"routing": ".a | b", "stateDir": "x"`: `(and 1 more)`,
	} {
		conf := `{"cniVersion": "1.1.0", "name": "net", "type": "host-routes", ` + keys + `}`
		for _, verb := range []string{"ADD", "STATUS"} {
			plugintest.New(t, hostRoutes.Name, pod, conf).Refused(verb, 7, says)
		}
	}
	conf := `{"cniVersion": "1.1.0", "name": "net", "type": "host-routes", "routin": "[]", "routing": "[]"}`
	plugintest.New(t, hostRoutes.Name, pod, conf).Refused("ADD", 2, `routin: unknown key; did you mean "routing"?`)
	conf = `{"cniVersion": "1.1.0", "name": "net", "type": "host-routes", "routin": "[]"}`
	plugintest.New(t, hostRoutes.Name, pod, conf).Refused("ADD", 2, `host-routes: routin: unknown key; did you mean "routing"? (and 1 more)`)
	call(t, pod, `[{prefx: "10.9.0.5", device: "cni0"}]`).
		Refused("ADD", 7, `host-routes: routing[0].prefx: unknown key; did you mean "prefix"? (and 1 more)`)
}

// Endless, hungry and deeply recursive expressions end within their limits, and
// change nothing. (Package jqexpr tries many more.)
func TestHostileExpressions(t *testing.T) {
	h := newHost(t)
	pod := newPod(t)
	for _, routing := range []string{
		`def f: f; f`, `def f: [f]; f`, `[range(1e9)]`, `reduce range(60) as $i ("x"; . + .)`, `[limit(1e9; repeat("x"))] | add`,
		strings.Repeat("(", 100000) + "1" + strings.Repeat(")", 100000), `"\(range(1e9))"`, `until(false; .)`,
	} {
		a := call(t, pod, routing).Do("ADD")
		if a.Exit != 1 || a.Error.Code != 103 && a.Error.Code != 104 && a.Error.Code != 7 {
			t.Errorf("%.40s: %.200s%s", routing, a.Stdout, a.Stderr)
		}
		h.restored()
	}
}

// attempts is how often an ADD with this log tried its route.
func attempts(log string) int {
	return strings.Count(log, `msg="ip route add 10.9.0.5 dev late0"`)
}

// What fails is tried again, 50 ms apart: so often, and no longer than needed.
func TestRetries(t *testing.T) {
	h := newHost(t)
	pod := newPod(t)
	const debug = `"log_options": {"log_level": "debug"}`
	for value, want := range map[string]int{`0`: 3, `1`: 1, `2`: 2, `10`: 10, `99`: 10, `"x"`: 3, `1.5`: 3, `null`: 3} {
		c := call(t, pod, `[{prefix: "10.9.0.5", device: "late0"}]`, `"tries": `+value, debug)
		began := time.Now()
		a := c.Refused("ADD", 11, `no such interface: "late0"`)
		if got := attempts(a.Stderr); got != want {
			t.Errorf("tries %s: %d attempts, want %d", value, got, want)
		}
		if took := time.Since(began); took < time.Duration(want-1)*50*time.Millisecond {
			t.Errorf("tries %s: after %s", value, took)
		}
		for _, verb := range []string{"CHECK", "DEL", "plan"} { // never wait
			if got := attempts(c.Do(verb).Stderr); got > 0 {
				t.Errorf("%s tries %d times", verb, got)
			}
		}
		h.restored()
	}
	// A device that appears meanwhile is enough, and others are not made twice.
	c := call(t, pod, `[{prefix: "10.9.0.5", device: "late0"}, {prefix: "10.9.0.6", device: "cni0"}]`, debug)
	adding := c.Failing(plugintest.Fault{At: "after", N: 1, Kill: syscall.SIGSTOP}).Begin("ADD")
	adding.Stopped()
	h.IP("link add late0 type bridge", "link set late0 addrgenmode none", "link set late0 up")
	adding.Continue()
	log := adding.Ends(0)
	if got := attempts(log); got != 2 {
		t.Errorf("%d attempts: %s", got, log)
	}
	if got := strings.Count(log, `msg="ip route add 10.9.0.6`); got != 1 {
		t.Errorf("what worked was tried %d times", got)
	}
	h.has("10.9.0.5 dev late0 proto 77 scope link\n10.9.0.6 dev cni0 proto 77 scope link")
	c.OK("CHECK")
	// The device gone at DEL, its route is, too.
	h.IP("link del late0")
	c.Refused("CHECK", 106, "ip route add 10.9.0.5 dev late0: missing")
	c.OK("DEL")
	h.restored()
}

// All routes of an attachment are tried before one is tried again.
func TestAtOnce(t *testing.T) {
	newHost(t)
	a := call(t, newPod(t), `["a", "b", "c", "d"] | [.[] | {prefix: ({a: "10.9.0.5", b: "10.9.0.6", c: "10.9.0.7", d: "10.9.0.8"}[.]), device: .}]`,
		`"log_options": {"log_level": "debug"}`).Refused("ADD", 11, `"a"`, `"b"`, `"c"`, `"d"`)
	var order []string
	for l := range strings.Lines(a.Stderr) {
		if _, dev, ok := strings.Cut(l, " dev "); ok && strings.Contains(l, `msg="ip route add`) {
			order = append(order, dev[:1])
		}
	}
	if got, want := strings.Join(order, ""), "abcdabcdabcd"; got != want {
		t.Errorf("tried in the order %s, want %s", got, want)
	}
}

// However an ADD fails that takes the place of a stale route, this is there
// again. Where it is killed the stale one may be gone, and nothing else is left.
func TestStaleRouteAtFaults(t *testing.T) {
	h := newHost(t, "route add 10.9.3.0/24 via 10.1.0.3 proto 77")
	pod := newPod(t)
	c := call(t, pod, `[{prefix: "10.9.3.0/24", gateway: "10.1.0.9"}]`, `"tries": 1`)
	const operations = 3 // an addition that meets it, a deletion, an addition
	for n := range operations {
		for _, errno := range []unix.Errno{unix.ENETUNREACH, unix.ENOMEM} {
			a := c.Failing(plugintest.Fault{At: "before", N: n, Deny: errno}).Do("ADD")
			if want := map[unix.Errno]uint{unix.ENETUNREACH: 100, unix.ENOMEM: 11}[errno]; a.Exit != 1 || a.Error.Code != want {
				t.Errorf("operation %d refused: %s", n, a.Stdout)
			}
			h.restored()
		}
		for _, at := range []string{"before", "after"} {
			if a := c.Failing(plugintest.Fault{At: at, N: n, Kill: syscall.SIGTERM}).Do("ADD"); a.Exit != 1 || a.Error.Code != 11 {
				t.Errorf("SIGTERM %s operation %d: %s", at, n, a.Stdout)
			}
			h.restored()
			if a := c.Failing(plugintest.Fault{At: at, N: n, Kill: syscall.SIGKILL}).Do("ADD"); a.Exit != -1 {
				t.Errorf("not killed %s operation %d: %s", at, n, a.Stdout)
			}
			c.Refused("CHECK", 106)
			c.OK("DEL")
			// A stale route that has given way does not come back.
			h.IP("route replace 10.9.3.0/24 via 10.1.0.3 proto 77")
			h.restored()
		}
	}
	if a := c.Failing(plugintest.Fault{At: "before", N: operations, Deny: unix.EPERM}).OK("ADD"); a.Stdout == "" {
		t.Error("there are more operations")
	}
	c.OK("DEL")
}

// One route that fails at DEL does not stop the rest.
func TestDelGoesOn(t *testing.T) {
	h := newHost(t)
	c := call(t, newPod(t), `[{prefix: "10.9.1.0/24", device: "cni0"}, {prefix: "10.9.2.0/24", device: "cni0"}, {prefix: "10.9.3.0/24", device: "cni0"}]`)
	c.OK("ADD")
	c.Failing(plugintest.Fault{At: "before", N: 1, Deny: unix.EPERM}).Refused("DEL", 100, "10.9.2.0/24 dev cni0: operation not permitted")
	h.has("10.9.2.0/24 dev cni0 proto 77 scope link")
	c.OK("DEL")
	h.restored()
}

// What the predecessor or the runtime may do to the pod, or to the
// configuration, between ADD and DEL.
func TestDel(t *testing.T) {
	for name, between := range map[string]func(h *host, c plugintest.Call) plugintest.Call{
		"nothing": func(_ *host, c plugintest.Call) plugintest.Call { return c },
		"without prevResult": func(_ *host, c plugintest.Call) plugintest.Call {
			return c.Edit(func(conf map[string]any) { delete(conf, "prevResult") })
		},
		"without CNI_NETNS": func(_ *host, c plugintest.Call) plugintest.Call { return c.With(map[string]string{"CNI_NETNS": ""}) },
		"the pod gone":      func(h *host, c plugintest.Call) plugintest.Call { h.IP("netns del pod"); return c },
		"a plain file there": func(h *host, c plugintest.Call) plugintest.Call {
			h.IP("netns del pod")
			_ = os.WriteFile("/run/netns/pod", nil, 0o600)
			return c
		},
		"another expression": func(_ *host, c plugintest.Call) plugintest.Call {
			return c.Edit(func(conf map[string]any) { conf["routing"] = `[]` })
		},
		"a broken expression": func(_ *host, c plugintest.Call) plugintest.Call {
			return c.Edit(func(conf map[string]any) { conf["routing"] = `.a | foo` })
		},
		"no expression": func(_ *host, c plugintest.Call) plugintest.Call {
			return c.Edit(func(conf map[string]any) { conf["routing"] = 5 })
		},
		"an endless one": func(_ *host, c plugintest.Call) plugintest.Call {
			return c.Edit(func(conf map[string]any) { conf["routing"] = `def f: f; f` })
		},
		"its routes gone": func(h *host, c plugintest.Call) plugintest.Call {
			h.IP("route flush proto 77", "-6 route flush proto 77")
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			c := call(t, newPod(t), podAddresses)
			c.OK("ADD")
			c = between(h, c)
			if a := c.OK("DEL"); a.Stderr != "" {
				t.Errorf("DEL warns: %s", a.Stderr)
			}
			_ = os.Remove("/run/netns/pod")
			h.restored()
			for range 2 {
				c.OK("DEL")
			}
			h.restored()
		})
	}
}

// Without a record the expression is evaluated again: what carries our tag
// goes, unless somebody wants it.
func TestDelWithoutRecord(t *testing.T) {
	h := newHost(t, "route add 10.9.1.0/24 dev cni0")
	t.Cleanup(func() { h.IP("route del 10.9.1.0/24") })
	pod := newPod(t)
	c := call(t, pod, `[{prefix: "10.9.1.0/24", device: "cni0"}, {prefix: "10.9.2.0/24", device: "cni0"}, {prefix: "10.9.3.0/24", gateway: "10.1.0.9"}, {prefix: "fd09::5", device: "cni0"}]`)
	other := call(t, pod, `[{prefix: "10.9.2.0/24", device: "cni0"}]`, `"tries": 1`)
	c.OK("ADD")
	other.OK("ADD")
	_ = os.RemoveAll(stateDir + "/host-routes/net/" + c.Env["CNI_CONTAINERID"] + ":eth0")
	_ = os.RemoveAll(stateDir + "/host-routes/net/" + c.Env["CNI_CONTAINERID"] + ":net1")
	c.OK("CHECK")
	c.OK("DEL")
	h.has("10.9.1.0/24 dev cni0 scope link\n10.9.2.0/24 dev cni0 proto 77 scope link")
	c.Refused("CHECK", 106, "ip route add 10.9.3.0/24 via 10.1.0.9: missing (and 1 more)", "ip -6 route add fd09::5 dev cni0: missing")
	other.OK("DEL")
	// GC sweeps what the index still has of a record that was removed by hand.
	other.Edit(func(conf map[string]any) { conf["cni.dev/valid-attachments"] = []any{} }).OK("GC")
	h.restored()

	// Where that is of no use, nothing says that there is anything.
	h.IP("route add 10.9.2.0/24 dev cni0 proto 77")
	for _, broken := range []func(conf map[string]any){
		func(conf map[string]any) { conf["routing"] = `.a | foo` },
		func(conf map[string]any) { delete(conf, "routing") },
		func(conf map[string]any) { conf["routing"] = `empty` },
		func(conf map[string]any) { conf["routing"] = `def f: f; f` },
		func(conf map[string]any) { conf["routing"] = `{}` },
		func(conf map[string]any) {
			conf["routing"] = `[{prefix: .prevResult.ips[0].address, device: "cni0"}]`
			delete(conf, "prevResult")
		},
		func(conf map[string]any) { conf["prevResult"] = 5 },
		func(conf map[string]any) { conf["routng"] = 5 },
	} {
		broken := c.Edit(broken)
		if a := broken.OK("DEL"); !strings.Contains(a.Stderr, "level=WARN") {
			t.Errorf("no warning: %q for %.150s", a.Stderr, broken.Conf)
		}
	}
	h.has("10.9.1.0/24 dev cni0 scope link\n10.9.2.0/24 dev cni0 proto 77 scope link")
	h.IP("route del 10.9.2.0/24")
	// CHECK needs it.
	c.Edit(func(conf map[string]any) { conf["routing"] = `.a | foo` }).Refused("CHECK", 7, "function not defined: foo/0")
	c.Edit(func(conf map[string]any) { conf["routing"] = `empty` }).Refused("CHECK", 103)
	c.Edit(func(conf map[string]any) { conf["routing"] = `def f: f; f` }).Refused("CHECK", 104)
}

// CHECK goes by the record, and tells all that is not as it was asked for.
func TestCheck(t *testing.T) {
	h := newHost(t)
	c := call(t, newPod(t), `[{prefix: "10.9.1.0/24", device: "cni0", mtu: 1400}, {prefix: "10.9.2.0/24", gateway: "10.1.0.9"}, {prefix: "10.9.3.0/24", type: "blackhole"}, {prefix: "fd09::5", device: "cni0"}]`)
	c.OK("ADD")
	c = c.Edit(func(conf map[string]any) { conf["routing"] = `.a | foo` }) // is not looked at
	c.OK("CHECK")
	h.IP("route add 10.9.9.0/24 dev cni0") // is none of our business
	c.OK("CHECK")
	h.IP("route replace 10.9.1.0/24 dev cni0 mtu 1300 proto 77", "route del 10.9.3.0/24", "-6 route del fd09::5")
	c.Refused("CHECK", 106, `ip route add 10.9.1.0/24 dev cni0 mtu 1400: found 10.9.1.0/24 dev cni0 mtu 1300 instead (and 2 more)`,
		"ip route add blackhole 10.9.3.0/24: missing", "ip -6 route add fd09::5 dev cni0: missing")
	c.Edit(func(conf map[string]any) { delete(conf, "routing") }).Refused("CHECK", 7, "routing: missing")
	h.IP("route del 10.9.9.0/24")
	c.OK("DEL")
	h.restored()
}

func TestGC(t *testing.T) {
	h := newHost(t)
	pod := newPod(t)
	stays := call(t, pod, `[{prefix: "10.9.1.0/24", device: "cni0"}]`)
	goes := call(t, pod, `[{prefix: "10.9.1.0/24", device: "cni0"}, {prefix: "10.9.2.0/24", device: "cni0"}]`)
	foreign := call(t, pod, `[{prefix: "10.9.3.0/24", device: "cni0"}]`).Edit(func(conf map[string]any) { conf["name"] = "other" })
	for _, c := range []plugintest.Call{stays, goes, foreign} {
		c.OK("ADD")
	}
	gc := stays.Edit(func(conf map[string]any) {
		conf["cni.dev/valid-attachments"] = []any{map[string]string{"containerID": stays.Env["CNI_CONTAINERID"], "ifname": "net1"}}
		conf["routing"] = 5 // is not read
	})
	// What the kernel refuses is reported, and left for the next one.
	gc.Failing(plugintest.Fault{At: "before", N: 0, Deny: unix.EPERM}).Refused("GC", 100, "10.9.2.0/24 dev cni0: operation not permitted")
	gc.OK("GC")
	h.has("10.9.1.0/24 dev cni0 proto 77 scope link\n10.9.3.0/24 dev cni0 proto 77 scope link")
	stays.OK("CHECK")
	// Without a list only what belongs to pods that are gone.
	stays.Edit(func(conf map[string]any) { delete(conf, "prevResult") }).OK("GC")
	stays.OK("CHECK")
	pod.Remove()
	stays.OK("GC")
	h.has("10.9.3.0/24 dev cni0 proto 77 scope link")
	foreign.OK("DEL")
	h.restored()
}

func TestStatus(t *testing.T) {
	h := newHost(t)
	c := call(t, newPod(t), podAddresses).With(map[string]string{"CNI_CONTAINERID": "", "CNI_IFNAME": "", "CNI_NETNS": ""})
	c.OK("STATUS")
	c.Edit(func(conf map[string]any) { delete(conf, "prevResult") }).OK("STATUS")
	c.Edit(func(conf map[string]any) { conf["routing"] = `.a | foo` }).Refused("STATUS", 7, "routing: function not defined: foo/0 (line 1, column 6)", ".a | foo\n     ^")
	c.Edit(func(conf map[string]any) { conf["routing"] = strings.Repeat("[", 200000) + strings.Repeat("]", 200000) }).Refused("STATUS", 7, "routing: ")
	c.Edit(func(conf map[string]any) { conf["stateDir"] = "/proc/nowhere" }).Refused("STATUS", 50, "records cannot be saved")
	_ = os.RemoveAll(stateDir)
	h.restored()
}

// A pod's annotation must not become a route on the host.
func TestArgsDoNotOverride(t *testing.T) {
	h := newHost(t)
	c := call(t, newPod(t), `[]`, `"args": {"cni": {"routing": "[{prefix: \"10.9.0.5\", device: \"cni0\"}]", "tries": "x"}}`)
	c.OK("ADD")
	c.OK("DEL")
	h.restored()
}
