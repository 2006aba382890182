package stress

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// soon bounds how long a plugin may think about what is of no use. ADD of
// seamless waits for what may come, by default longer; it is told not to.
const soon = 8 * time.Second

// judged makes one call after another, and fails the test where an answer takes
// long, or all is not as it was in the end. [plugintest.Call.Do] fails it where
// a plugin panics, or fails without CNI's error object.
type judged struct {
	*sweep
	inputs, calls int
}

func (j *judged) do(c plugintest.Call, verb, what string) plugintest.Answer {
	j.t.Helper()
	j.calls++
	began := time.Now()
	a := c.Do(verb)
	if took := time.Since(began); took > soon {
		j.t.Errorf("%s with %s takes %v", verb, what, took)
	}
	if a.Exit < 0 {
		j.t.Errorf("%s with %s: killed: %s", verb, what, a.Stderr)
	}
	return a
}

// verbs gives an input to ADD and to DEL, which cleans up what ADD has refused, and
// every third one to another verb between.
func (j *judged) verbs(c plugintest.Call, what string, delFails bool) {
	j.t.Helper()
	verbs := []string{"ADD", "DEL"}
	if between := []string{"CHECK", "plan", "GC", "STATUS", "DEL"}; j.inputs%3 == 0 {
		verbs = []string{"ADD", between[j.inputs/3%len(between)], "DEL"}
	}
	j.inputs++
	for _, verb := range verbs {
		if a := j.do(c, verb, what); verb == "DEL" && a.Exit != 0 && !delFails {
			j.t.Errorf("DEL with %s: %s%s", what, a.Stdout, a.Stderr)
		}
	}
}

func (j *judged) unchanged(after string) {
	j.t.Helper()
	if diff := eventually(j.before, func() string { return j.state(j.pod) }); diff != "" {
		j.t.Fatalf("after %s all is not as before:\n%s", after, diff)
	}
}

func eachSubject(t *testing.T, f func(t *testing.T, s subject)) {
	for _, s := range subjects {
		t.Run(s.plugin, func(t *testing.T) { f(t, s) })
	}
}

// odd are values that stand nowhere in a configuration, by what they are.
var odd = [][]string{
	{`null`, `true`},
	{`0`, `-1`, `1e999`, `18446744073709551616`},
	{`""`, `"x"`, `"\u0000"`, `"../../x"`},
	{`[]`, `[null]`, `[[]]`, `[{"dst": 5}, "x"]`},
	{`{}`, `{"": null}`},
}

// odder are values that look more like what stands there, by the ends of keys
// without numbers of elements.
var odder = map[string][]string{
	"_hijack_subnet[]":      {`"0.0.0.0/0"`, `"::/0"`, `"10.0.0.0/33"`, `"10.0.0.0/-1"`, `"10.0.0.0"`, `"fe80::%eth0/64"`, `"::ffff:10.0.0.0/104"`, `"224.0.0.0/4"`, `"fe80::/10"`, `"127.0.0.1/8"`},
	".interval":             {`"0s"`, `"-1s"`, `"1"`, `"1e9h"`, `"9223372036854775808ns"`, `"0.0000000001ns"`, `"1s 2s"`, `1000000`},
	".retries":              {`1001`, `4294967296`, `1.5`},
	".exclude_interfaces[]": {`"["`, `"[a-"`, `"\\"`, `"*"`, `"[^]"`, `"a/b"`},
	".mac_prefix":           {`"01:1b"`, `"ff:ff"`, `"00:00"`, `"0a:1b:2c"`, `"0a1b"`, `"0a:+b"`, `"zz:zz"`, `"0A:1B"`},
	".table":                {`254`, `255`, `4294967295`, `4294967296`, `500`},
	".host_rule_table":      {`253`, `100`, `4294967295`},
	".overlay_interface":    {`"lo"`, `"net1"`, `"wire"`, `"eth0/x"`, `"*"`},
	".value":                {`3`, `2`},
}

// oddAt are the values for a place: one of each kind, which places take by turns, and
// all that look like what stands there.
func oddAt(place string, turn int) (values []string) {
	for _, kind := range odd {
		values = append(values, kind[turn%len(kind)])
	}
	place = elements.ReplaceAllString(place, "[]")
	for key, looksRight := range odder {
		if strings.HasSuffix(place, key) {
			values = append(values, looksRight...)
		}
	}
	return values
}

// sampled are those of a list that are in the sample of all lists together, of
// which so many were seen before.
func sampled[T any](t testing.TB, list []T, seen *int) (some []T) {
	for _, v := range list {
		if *seen%netopstest.Sample(t, 23) == 0 {
			some = append(some, v)
		}
		*seen++
	}
	return some
}

var elements = regexp.MustCompile(`\[\d+\]`)

// optional are router's keys that a typical configuration does not have.
var optional = map[string]any{"exclude_interfaces": []any{"lo", "cali*", "cni*", "veth*"}, "table": 100, "host_rule_table": 500, "overlay_interface": "eth0",
	"default_route_interface": "overlay", "migrate_route": -1, "sriov": false, "skip_call": false, "only_op_mac": false}

// Every value of a configuration, and of what is in it, in turn is something
// else, or missing.
func TestSweepOddValues(t *testing.T) {
	eachSubject(t, func(t *testing.T, s subject) {
		j := &judged{sweep: newSweep(t, s)}
		var conf map[string]any
		if err := json.Unmarshal([]byte(j.call().Conf), &conf); err != nil {
			t.Fatal(err)
		}
		for key, value := range map[string]any{"prevResult": result, "args": map[string]any{"cni": map[string]any{"ips": []any{"x"}}},
			"log_options": map[string]any{"log_level": "info", "log_max_size": 1}, "stateDir": stateDir, "hostTimeout": "0s", "podTimeout": "0s"} {
			if _, there := conf[key]; !there && (s.plugin == "seamless" || !strings.HasSuffix(key, "Timeout")) {
				conf[key] = value
			}
		}
		if s.plugin == "router" {
			maps.Copy(conf, optional)
		}
		if s.alone {
			delete(conf, "prevResult") // what it delegates to panics at some of that
			delete(conf, "args")
		}
		seen, visited := 0, 0 // of all values and places
		places(conf, "", func(at string, set func(any)) {
			if strings.HasPrefix(at, ".delegate.") {
				return // these keys are another plugin's
			}
			visited++
			for _, value := range sampled(t, oddAt(at, visited), &seen) {
				set(json.RawMessage(value))
				c := j.call()
				c.Conf = text(t, conf)
				j.verbs(c, at+" "+value, at == ".name" || at == ".cniVersion" || at == ".stateDir")
			}
			j.unchanged("odd values at " + at)
		})
		t.Logf("%d calls", j.calls)
	})
}

// result is what a plugin before may have said.
var result = map[string]any{"cniVersion": "1.1.0", "interfaces": []any{map[string]any{"name": "eth0", "mac": "02:00:00:00:00:05", "sandbox": "/run/netns/pod"}},
	"ips":    []any{map[string]any{"address": "10.131.0.43/23", "gateway": "10.131.0.1", "interface": 0}},
	"routes": []any{map[string]any{"dst": "0.0.0.0/0", "gw": "10.131.0.1", "mtu": 1400}}, "dns": map[string]any{"nameservers": []any{"10.0.0.1"}}}

func text(t testing.TB, conf any) string {
	t.Helper()
	out, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// places visits every value below v, and puts it back after: of a list, whose
// elements are much like each other, those of the first and the last.
func places(v any, path string, visit func(at string, set func(any))) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			was := v[key]
			visit(path+"."+key, func(other any) { v[key] = other })
			v[key] = was
			places(was, path+"."+key, visit)
		}
	case []any:
		for i, was := range v {
			if 0 < i && i < len(v)-1 {
				continue
			}
			at := fmt.Sprintf("%s[%d]", path, i)
			visit(at, func(other any) { v[i] = other })
			v[i] = was
			places(was, at, visit)
		}
	}
}

// What is on standard input is no configuration at all.
func TestSweepNoConfiguration(t *testing.T) {
	deep := func(opening, closing string) string {
		return strings.Repeat(opening, 200_000) + strings.Repeat(closing, 200_000)
	}
	eachSubject(t, func(t *testing.T, s subject) {
		j := &judged{sweep: newSweep(t, s)}
		bad := map[string]string{
			"nothing": "", "space": " \n", "null": "null", "a list": "[]", "no keys": "{}", "a number": "5", "half": `{"cniVersion": "1.1.0", "na`, "twice": `{}{}`,
			"binary": "\x00\xff\xfe{\x80}", "not UTF-8": "{\"cniVersion\": \"1.1.0\", \"name\": \"\xff\xfe\", \"type\": \"\xc3\x28\"}",
			"deep lists": deep("[", "]"), "deep objects": deep(`{"prevResult":`, "}"), "deep prevResult": `{"cniVersion": "1.1.0", "name": "net", "prevResult": ` + deep("[", "]") + `}`,
			"the same key again": `{"cniVersion": "1.1.0", "cniVersion": "0.1.0", "name": "net", "name": "../x", "type": "t", "prevResult": {}, "prevResult": 5}`,
			"long":               `{"cniVersion": "1.1.0", "name": "net", "x": "` + strings.Repeat("y", 4<<20) + `"}`,
		}
		for n, name := range slices.Sorted(maps.Keys(bad)) {
			if s.takes(t, n) {
				c := j.call()
				c.Conf = bad[name]
				j.verbs(c, name, true)
			}
		}
		j.unchanged("no configuration")
	})
}

// Variables that no runtime sets so.
func TestSweepOddEnvironment(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	names := []string{"", ".", "..", "a/b", "../../../tmp/x", "a b", "a\nb", "\xff\xfe", "a:b", "a@b", "-", "--help", "%s%n", "0", long[:16], long[:300], long}
	eachSubject(t, func(t *testing.T, s subject) {
		j := &judged{sweep: newSweep(t, s)}
		seen := 0
		environment := map[string][]string{
			"CNI_CONTAINERID": names, "CNI_IFNAME": names, "CNI_NETNS": append(namespacePaths(t), names...), "CNI_PATH": names, "CNI_NETNS_OVERRIDE": {"yes", "\xff", long},
			"CNI_ARGS":    {";", "=", "==;;=", "a", "a=b=c;", "IgnoreUnknown=1;;K8S_POD_NAME=a\nb", "K8S_POD_NAME=" + long, "\xff=\xfe;", "K8S_POD_NAME=%s;K8S_POD_NAMESPACE=../.."},
			"TRACEPARENT": {"\xff", "---", long}, "XDG_RUNTIME_DIR": {"..", long}, "HOME": {"..", long}, "GODEBUG": {"x=y,,"},
		}
		for _, key := range slices.Sorted(maps.Keys(environment)) { // a sample is the same each time
			for _, value := range sampled(t, environment[key], &seen) {
				if s.alone && key == "CNI_PATH" {
					continue // where its delegates are: without them nothing is taken back
				}
				refused := key == "CNI_CONTAINERID" || key == "CNI_IFNAME" || key == "CNI_PATH" // skel minds
				j.verbs(j.call().With(map[string]string{key: value}), fmt.Sprintf("%s=%.50q", key, value), refused)
			}
			j.unchanged("odd values of " + key)
		}
		for _, command := range sampled(t, append(names, "add", "ADD ", "UPDATE"), &seen) {
			if command == "" || command == "--help" {
				continue // no request, and tested elsewhere
			}
			j.do(j.call(), command, "as the verb")
		}
		j.unchanged("odd verbs")
	})
}

// namespacePaths lead to something else than the network namespace of a pod.
func namespacePaths(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	socket, err := net.Listen("unix", at("socket"))
	if err == nil {
		t.Cleanup(func() { _ = socket.Close() })
		err = unix.Mkfifo(at("fifo"), 0o600)
	}
	for _, link := range [][2]string{{at("loop"), at("loop")}, {at("nowhere"), at("dangling")}, {"/proc/self/ns/net", at("own")}} {
		if err == nil {
			err = os.Symlink(link[0], link[1])
		}
	}
	if err == nil {
		err = os.WriteFile(at("file"), []byte("no namespace"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return []string{dir, at("file"), at("fifo"), at("socket"), at("loop"), at("dangling"), at("own"), at("missing"), at("file") + "/below",
		"/proc/self/ns/net", "/proc/self/ns/mnt", "/proc/self/ns/user", "/dev/null", "/dev/zero", "/proc/self/mem", "pod", "net:[1]", "container:x"}
}

// The file that tells of the node's subnet is none.
func TestOddSubnetEnv(t *testing.T) {
	j := &judged{sweep: newSweep(t, subjectOf("flannel"))}
	const path = "/run/flannel/subnet.env"
	for name, put := range map[string]func() error{
		"missing":  func() error { return nil },
		"empty":    func() error { return os.WriteFile(path, nil, 0o600) },
		"a folder": func() error { return os.Mkdir(path, 0o700) },
		"a fifo":   func() error { return unix.Mkfifo(path, 0o600) },
		"a loop":   func() error { return os.Symlink(path, path) },
		"a device": func() error { return os.Symlink("/dev/zero", path) },
		"binary":   func() error { return os.WriteFile(path, []byte("FLANNEL_SUBNET=\x00\xff\n=\n=="), 0o600) },
		"huge": func() error {
			return os.WriteFile(path, []byte(subnetEnv+strings.Repeat("X=y\n", 2<<20)), 0o600)
		},
		"odd": func() error {
			return os.WriteFile(path, []byte("FLANNEL_NETWORK=0.0.0.0/99\nFLANNEL_SUBNET=::1/-1\nFLANNEL_MTU=-5\nFLANNEL_IPMASQ=perhaps\n"), 0o600)
		},
	} {
		err := os.RemoveAll(path)
		if err == nil {
			err = put()
		}
		if err != nil {
			t.Fatal(err)
		}
		j.verbs(j.call(), "a subnet.env that is "+name, false)
		j.unchanged("a subnet.env that is " + name)
	}
}
