package jqexpr

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// worked are expressions as users write them, which must cost no child.
var worked = map[string]struct{ source, want string }{
	"pod addresses to a bridge": {
		`[.prevResult.ips[] | {prefix: (.address | split("/")[0]), device: "cni0"}]`,
		`[{"device":"cni0","prefix":"10.1.0.5"},{"device":"cni0","prefix":"fd00:1::5"}]`,
	},
	"only IPv6": {
		`[.prevResult.ips[].address | select(contains(":")) | {prefix: "\(split("/")[0])/128", device: "cni0", metric: 50}]`,
		`[{"device":"cni0","metric":50,"prefix":"fd00:1::5/128"}]`,
	},
	"gateway from runtimeConfig": {
		`.runtimeConfig.gateway as $gw | [.prevResult.ips[] | .address | split("/") | first | select(contains(":") | not) | {prefix: ., gateway: $gw, device: "eth1", onlink: true}]`,
		`[{"device":"eth1","gateway":"192.0.2.1","onlink":true,"prefix":"10.1.0.5"}]`,
	},
	"by the pod's namespace": {
		`if $cni.args.K8S_POD_NAMESPACE == "prod" then [.prevResult.ips[] | {prefix: (.address | split("/")[0]), device: "cni0", table: 100}] else [] end`,
		`[{"device":"cni0","prefix":"10.1.0.5","table":100},{"device":"cni0","prefix":"fd00:1::5","table":100}]`,
	},
	"a constant blackhole": {
		`[{prefix: "198.51.100.0/24", type: "blackhole"}]`,
		`[{"prefix":"198.51.100.0/24","type":"blackhole"}]`,
	},
}

func TestWorkedExpressions(t *testing.T) {
	t.Parallel()
	for name, tt := range worked {
		e, err := Compile(tt.source, environ)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := e.evaluateHere([]byte(network), encode(t, arguments)); err != nil || string(got) != tt.want {
			t.Errorf("%s, in the process: %s, %v; want %s", name, got, err, tt.want)
		}
		again := request{Source: []byte(tt.source), Input: []byte(network), CNI: encode(t, arguments)}
		if got, err := evaluateInChild(context.Background(), usual, again); err != nil || string(got) != tt.want {
			t.Errorf("%s, in a child: %s, %v; want %s", name, got, err, tt.want)
		}
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestValues(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("# a long comment\n", 300)
	for _, tt := range []struct{ source, input, want string }{
		{`.`, `[]`, `[]`},
		{`.`, `{"a":10000000000000000000001,"b":1.50,"c":1e2}`, `{"a":10000000000000000000001,"b":1.50,"c":1e2}`},
		{`[.[] | select(. > 1)]`, `[1,2,3]`, `[2,3]`},
		{`"<&>"`, `null`, `"<&>"`},
		{`[limit(3; range(10))]`, `null`, `[0,1,2]`},
		{`def f: if . > 9 then . else . + 1 | f end; 0 | f`, `null`, `10`},
		{`[.[] | test("^a")]`, `["ab","b"]`, `[true,false]`},
		{`[..]`, `[1]`, `[[1],1]`},
		{`.a |= map(. + 1)`, `{"a":[1]}`, `{"a":[2]}`},
		{`try error("x") catch .`, `null`, `"x"`},
		{`[.[]?]`, `1`, `[]`},
		{`"x" * 10000000 | length`, `null`, `10000000`},
		{`"x" * 4000000 | length`, `null`, `4000000`},
		{`$cni.args.K8S_POD_NAME + $cni.command`, `null`, `"webADD"`},
		{`[env.CNI_COMMAND, $ENV.CNI_ARGS, env.PATH]`, `null`, `["ADD","a=b;c=d",null]`},
		{`[env, $ENV] | map_values(keys)`, `null`, `[["CNI_ARGS","CNI_COMMAND"],["CNI_ARGS","CNI_COMMAND"]]`},
		{`now | type`, `null`, `"number"`},
		{`0 | localtime | length`, `null`, `8`},
		{`0 | todate`, `null`, `"1970-01-01T00:00:00Z"`},
		{`def input: 1; input`, `null`, `1`},
		{long + `.a`, `{"a":1}`, `1`},
	} {
		if got, err := evaluate(tt.source, tt.input); err != nil || got != tt.want {
			t.Errorf("%s of %s: %s, %v; want %s", tt.source, tt.input, got, err, tt.want)
		}
	}
}

// What jq 1.6, which the older host-routes has in it, makes of what people write, as it
// answered when it was asked; objects here have their keys sorted, as gojq has them.
func TestAsJq16(t *testing.T) {
	t.Parallel()
	const input = `{"ips":[{"address":"10.22.0.5/16"},{"address":"fd01::5/64"}],"interfaces":[{"name":"cni0","sandbox":""},{"name":"eth0","sandbox":"/x","mac":"02:00:00:00:00:01"}],"rt":{"z":1,"a":2}}`
	for _, tt := range []struct{ source, want string }{
		{`[.ips[] | {prefix: (.address | split("/")[0]), device: "cni0"}]`, `[{"device":"cni0","prefix":"10.22.0.5"},{"device":"cni0","prefix":"fd01::5"}]`},
		{`.ips[0].address | capture("(?<ip>[^/]+)/(?<bits>[0-9]+)") | .bits`, `"16"`},
		{`[.ips[].address | select(test(":") | not)] | length`, `1`},
		{`.ips[0].address | sub("/.*"; "/32")`, `"10.22.0.5/32"`},
		{`.ips[0].address | gsub("[.]"; "-")`, `"10-22-0-5/16"`},
		{`[.ips[0].address | scan("[0-9]+")]`, `["10","22","0","5","16"]`},
		{`.rt | keys`, `["a","z"]`},
		{`[.interfaces[] | select(.sandbox != "")] | first | .name`, `"eth0"`},
		{`.interfaces | INDEX(.name) | .eth0.mac`, `"02:00:00:00:00:01"`},
		{`[limit(1; .ips[])] | length`, `1`},
		{`.ips[0].address | ltrimstr("10.") | rtrimstr("/16")`, `"22.0.5"`},
		{`.ips[0].address | @base64 | @base64d`, `"10.22.0.5/16"`},
		{`.ips | group_by(.address | contains(":")) | length`, `2`},
		{`.ips as [$a, $b] | $b.address`, `"fd01::5/64"`},
		{`[.ips[] as {address: $a} | $a]`, `["10.22.0.5/16","fd01::5/64"]`},
		{`reduce .ips[] as $x (0; . + 1)`, `2`},
		{`[foreach .ips[] as $x (0; . + 1)] | last`, `2`},
		{`.missing // "default"`, `"default"`},
		{`getpath(["ips", 0, "address"])`, `"10.22.0.5/16"`},
		{`.ips | any(.address | startswith("fd"))`, `true`},
		{`[.ips[0].address | splits("[./]")]`, `["10","22","0","5","16"]`},
		{`"2024-01-01T00:00:00Z" | fromdate`, `1704067200`},
		{`.ips[1].address | ascii_downcase | explode | implode`, `"fd01::5/64"`},
		{`[.ips[].address | split("/") | {prefix: .[0], metric: (.[1] | tonumber)}] | map(.metric) | add`, `80`},
		{`[.ips[].address | if test(":") then "six" elif test("^10") then "ten" else "four" end]`, `["ten","six"]`},
		{`. as $in | [paths(type == "string")] | length`, `7`},
		{`[.ips[] | .address] | join(",")`, `"10.22.0.5/16,fd01::5/64"`},
		{`"\(.rt.z) and \(.rt.a)"`, `"1 and 2"`},
		{`[.ips[] | .address | ascii_upcase] | unique | index("FD01::5/64")`, `1`},
		{`.ips[0].address[0:2] | tonumber`, `10`},
		{`def bare: split("/")[0]; [.ips[] | .address | bare]`, `["10.22.0.5","fd01::5"]`},
		{`[range(0; .ips | length)] | map(. * 10)`, `[0,10]`},
		{`.ips | map(select(.address | endswith("/16"))) | min_by(.address) | .address`, `"10.22.0.5/16"`},
		{`try error("x") catch .`, `"x"`},
	} {
		if got, err := evaluate(tt.source, input); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; jq 1.6 says %s", tt.source, got, err, tt.want)
		}
	}
}

// What jq 1.6 has and gojq has not, as the page's migration table says, is an error,
// and the one thing that is not has other keys first.
func TestNotAsJq16(t *testing.T) {
	t.Parallel()
	for source, says := range map[string]string{
		`keys_unsorted`:                  "function not defined: keys_unsorted/0",
		`input_line_number`:              "function not defined: input_line_number/0",
		`input_filename`:                 "function not defined: input_filename/0",
		`$__loc__`:                       "variable not defined: $__loc__",
		`"10.22" | test("^10(?=.22)")`:   "invalid regular expression",
		`"10.10" | test("([0-9]+).\\1")`: "invalid regular expression",
	} {
		if got, err := evaluate(source, `{}`); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %s, %v; want %q", source, got, err, says)
		}
	}
	if got, err := evaluate(`to_entries[0].key`, `{"z": 1, "a": 2}`); err != nil || got != `"a"` {
		t.Errorf("the first key is %s, %v", got, err)
	}
}

// What fails says so in one line, and alike in the process and in a child.
func TestFailures(t *testing.T) {
	t.Parallel()
	const failed = "the expression failed: "
	for _, tt := range []struct{ source, input, want string }{
		{`empty`, `null`, failed + `it yields no value, where it must yield one`},
		{`1, 2`, `null`, failed + `it yields 2 values, where it must yield one`},
		{`.[]`, `[1,2,3]`, failed + `it yields 3 values, where it must yield one`},
		{`range(5)`, `null`, failed + `it yields 5 values, where it must yield one`},
		{`range(1e9)`, `null`, failed + `it yields more than 1000 values, where it must yield one`},
		{`.a.b`, `{"a":1}`, failed + `expected an object but got: number (1)`},
		{`error("no\nroute")`, `null`, failed + `error: no route`},
		{`1, error("late")`, `null`, failed + `error: late`},
		{`error(null)`, `null`, failed + `error: null`},
		{`halt`, `null`, failed + `it halted`},
		{`"bye\n" | halt_error`, `null`, failed + `it halted: "bye\n"`},
		{`try halt_error catch 1`, `{"a":1}`, failed + `it halted: {"a":1}`},
		{`"a.jq" | modulemeta`, `null`, failed + `cannot load module: "a.jq"`},
		{`"x" * 5000000`, `null`, failed + `its value is longer than 4 MiB`},
		{`"x" * 1e9`, `null`, failed + `it needs more than 64 MiB of memory`},
		{`"x" * 3e9`, `null`, failed + `repeat string result too large: "x" * 3000000000`},
		{`def f: f; f`, `null`, `the expression took too long: more than 1s of processor time`},
	} {
		_, err := evaluate(tt.source, tt.input)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s of %s: %v; want %s", tt.source, tt.input, err, tt.want)
		}
		if is := errors.Is(err, ErrFailed); is != strings.HasPrefix(tt.want, failed) || is == errors.Is(err, ErrTimeout) {
			t.Errorf("%s: %#v", tt.source, err)
		}
	}
	long := `error("` + strings.Repeat("very ", 1000) + `long")`
	if _, err := evaluate(long, `null`); err == nil || len(err.Error()) > 400 {
		t.Errorf("a long message: %v", err)
	}
}

func TestInputThatIsNone(t *testing.T) {
	t.Parallel()
	for _, source := range []string{`.`, `map_values(.)`} {
		for _, input := range []string{``, `{`, `1 2`} {
			if got, err := evaluate(source, input); err == nil || errors.Is(err, ErrFailed) || errors.Is(err, ErrTimeout) {
				t.Errorf("%s of %q: %s, %v", source, input, got, err)
			}
		}
	}
	e, err := Compile(`.`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.Evaluate(context.Background(), []byte(`1`), func() {}); err == nil {
		t.Errorf("a $cni that is no JSON: %s", got)
	}
}

// The caller's context ends an evaluation wherever it runs.
func TestCancel(t *testing.T) {
	t.Parallel()
	reason := errors.New("a signal")
	for _, source := range []string{`1`, endless} {
		ctx, cancel := context.WithCancelCause(context.Background())
		if source == `1` {
			cancel(reason)
		} else {
			time.AfterFunc(20*time.Millisecond, func() { cancel(reason) })
		}
		if got, err := within(ctx, limits{time.Hour, time.Hour}, source, `null`); !errors.Is(err, reason) {
			t.Errorf("%s: %s, %v", source, got, err)
		}
	}
}

// Each limit of time ends what the other would let go on.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limits limits
		want   string
	}{
		{limits{50 * time.Millisecond, time.Hour}, "the expression took too long: more than 50ms of processor time"},
		{limits{time.Hour, 50 * time.Millisecond}, "the expression took too long: there is no answer after 50ms"},
	} {
		got, err := within(context.Background(), tt.limits, endless, `null`)
		if !errors.Is(err, ErrTimeout) || err.Error() != tt.want {
			t.Errorf("%s, %v; want %s", got, err, tt.want)
		}
	}
}

// The environment of the parent is none of the child's.
func TestEnvironment(t *testing.T) {
	t.Setenv("GODEBUG", "gctrace=1")
	t.Setenv("GOMEMLIMIT", "1")
	t.Setenv("JQEXPR_SECRET", "x")
	if got, err := evaluate(`[env, $ENV] | map_values(has("JQEXPR_SECRET"))`, `null`); err != nil || got != `[false,false]` {
		t.Errorf("%s, %v", got, err)
	}
	if len(os.Getenv("JQEXPR_SECRET")) == 0 {
		t.Error("the variable is not set")
	}
}

func BenchmarkHere(b *testing.B) {
	cni := encode(b, arguments)
	for b.Loop() {
		e, err := Compile(worked["pod addresses to a bridge"].source, environ)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.evaluateHere([]byte(network), cni); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChild(b *testing.B) {
	for b.Loop() {
		if _, err := evaluate(`[] | map_values(1)`, network); err != nil {
			b.Fatal(err)
		}
	}
}
