package jqexpr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/itchyny/gojq"
	"golang.org/x/sys/unix"
)

// here evaluates in the process, or says that the expression is left to a child.
func here(t testing.TB, source, input string) (string, error) {
	t.Helper()
	e, err := Compile(source, environ)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	if e.code == nil {
		return "", errNotSmall
	}
	answer, err := e.evaluateHere([]byte(input), encode(t, arguments))
	return string(answer), err
}

// plainly evaluates without a meter.
func plainly(t testing.TB, source, input string) (string, error) {
	t.Helper()
	query, err := gojq.Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	code, err := compile(query, environ)
	if err != nil {
		t.Fatal(err)
	}
	in, err := decode([]byte(input))
	if err != nil {
		t.Fatal(err)
	}
	cni, err := decode(encode(t, arguments))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := run(context.Background(), code, in, cni)
	return string(answer), err
}

// same compares answers and errors.
func same(t *testing.T, source, input string) {
	t.Helper()
	got, err := here(t, source, input)
	if errors.Is(err, errNotSmall) {
		t.Errorf("%.100s is left to a child", source)
		return
	}
	want, failure := plainly(t, source, input)
	if got != want || fmt.Sprint(err) != fmt.Sprint(failure) {
		t.Errorf("%s:\n%s, %v in the process,\n%s, %v without a meter", source, got, err, want, failure)
	}
}

// What users write costs no child, and the meter changes nothing of it.
func TestMetered(t *testing.T) {
	t.Parallel()
	for _, source := range small {
		same(t, source, network)
	}
	for _, tt := range worked {
		same(t, tt.source, network)
	}
}

var small = []string{
	`.`, `[]`, `{}`, `1`, `-1`, `"a"`, `null`, `.a`, `.a?`, `.["a"]`, `."a"`, `.[0]`, `.[1:2]`, `.[-1:]`, `.[]`, `.[]?`,
	`.a // "x"`, `.a and .b or (.c | not)`, `.a == 1`, `.a + 1`, `.a - 1`, `.a % 2`, `.a / 2`,
	`if .a then 1 elif .b then 2 else 3 end`, `if .a then 1 end`, `try .a`, `(.a | .b)`, `. as $x | $x`,
	`. as {name: $n, $type} | [$n, $type]`, `. as [$a, [$b]] | $a`, `{a, "b": 1, (.c | tostring): 2, $cni}`, `{"a"}`,
	`"\(.name)/\(.type)"`, `$cni.args.K8S_POD_NAMESPACE | startswith("kube-")`,
	`[.prevResult.ips[] | select(.address | contains(":"))]`, `.prevResult.ips | map(.address) | join(",")`,
	`[.prevResult.ips[].address | split("/")[0] | split(".")[0:2] | join(".")]`,
	`first(.prevResult.ips[] | .gateway)`, `.prevResult.ips | any(.gateway == "10.1.0.1")`, `.prevResult.ips | length > 1`,
	`.prevResult.ips | sort_by(.address) | unique_by(.gateway) | first`, `.prevResult | has("ips")`, `.prevResult | keys`,
	`.runtimeConfig | to_entries | map(.key)`, `.runtimeConfig | with_entries(.)`, `error("no")`, `.name | ltrimstr("p") | ascii_upcase`,
	`[.prevResult.ips[] | .address] - ["10.1.0.5/24"]`, `.prevResult.ips | add`, `[.prevResult.interfaces[] | select(.sandbox | not).name]`,
	`.tries | tostring | tonumber`, `isempty(.prevResult.ips[])`, `.prevResult.ips as [$a, $b] | [$b, $a]`,
	`[.prevResult.ips[] as $ip | {prefix: $ip.address, device: $cni.ifname}]`,
	`[.prevResult.routes[] | .dst as $d | {prefix: $d, gateway: (.gw // "10.1.0.1")}]`,
	`def f: 1; f`, `def f($x; g): $x + (1 | g); f(2; . + 1)`, `def f: if . > 9 then . else . + 1 | f end; 0 | f`, `def a: .name; def b: a; b`,
	`reduce .prevResult.ips[] as $x (0; . + 1)`, `[foreach .prevResult.ips[] as $x (0; . + 1)]`, `[foreach range(3) as $i (0; . + $i; [$i, .])]`,
	`[range(3)]`, `[range(1; 2)]`, `[range(0; 9; 3)]`, `[limit(1; .prevResult.ips[])]`, `0 | until(. > 3; . + 1)`, `[0 | while(. < 3; . + 1)]`,
	`[.prevResult | recurse | strings]`, `[..]`, `[1 | recurse(if . < 3 then . + 1 else empty end)]`, `[limit(3; repeat(1))]`, `[1, 2] | last`,
	`[.prevResult.ips[].address | test("^10\\.")]`, `[.prevResult.ips[].address | select(test("^10"; "i"))]`, `.name | [match("p").offset]`,
	`[.prevResult.ips[].address | capture("^(?<a>.*)/(?<n>[0-9]+)$")]`, `[.name | scan("[a-z]")]`, `.name | sub("p"; "q")`, `.name | sub("(?<x>p)"; "\(.x)q"; "g")`,
	`[.prevResult.ips[].address | gsub("/.*"; "")]`, `.name | [splits("o")]`, `.name | split("o"; null)`, `.name | test(["P", "i"])`,
	`.name | explode | implode`, `.tries * 2`, `{a: {b: 1}} * {a: {c: 2}}`, `"a,b" / ","`, `try error("x") catch .`, `try error catch .`, `.a.b.c?`,
	`label $out | 1, break $out, 2`, `[label $out | .prevResult.ips[] | if .address == "x" then . else break $out end]`, `env.CNI_COMMAND`, `$ENV.CNI_ARGS`, `env | keys`,
	`@json`, `@text "\(.name)"`, `@base64 "x\(.name)y"`, `.name | @base64 | @base64d`, `.name | @uri`, `["a", 1] | @sh`, `[1, "a"] | @csv, @tsv | length | tostring | [.] | first`,
	`tojson | fromjson`, `. as [$a] ?// $a | $a | type`, `. as {("na" + "me"): $a} | $a`, `. as {"name": $a} | $a`, `.["na" + "me"]`, `."\("name")"`, `.prevResult["ips"][0]`,
	`{"a\(.name)": 1, (.name): 2}`, `.name[1:]`, `.name[:-1]`, `.prevResult.ips[1:] | .[].address`, `.prevResult.ips[.tries - 3].address`, `.prevResult.ips[-1].address`,
	`.prevResult.ips | length`, `.prevResult.ips | map(.address | split("/") | .[1] | tonumber) | add`, `any(.prevResult.ips[]; .gateway == "10.1.0.1")`,
	`all(.prevResult.ips[]; has("address"))`, `.prevResult.ips | any`, `[nth(1; .prevResult.ips[])]`, `[skip(1; .prevResult.ips[])]`, `.tries | IN(1, 2, 3)`, `"name" | in({name: 1})`,
	`.prevResult.ips | group_by(.gateway) | map(length)`, `.prevResult.ips | min_by(.address) | .address`, `[.prevResult.ips[].address] | index("10.1.0.5/24")`,
	`.prevResult.ips | map({(.address): 1}) | add`, `[.prevResult.ips[] | to_entries[] | .key] | unique`, `. | getpath(["prevResult", "ips", 0, "address"])`,
	`1.5 | floor`, `10000000000000000000001 + 1`, `-(.tries)`, `[.tries, -1] | sort`, `add(.prevResult.ips[].address)`, `[] | add`, `"x" | ascii_upcase | ltrimstr("X")`,
	`.prevResult.ips[0].address | contains("/") and (inside("x") | not)`, `[.prevResult.ips[] | .address | ascii_downcase | rtrimstr("/24")]`, `. == .`,
	`. as $dot | .prevResult.ips[0] | .address + $dot.name`, `if . then 1 else 2 end`, `.a //  "x" | .`,
}

// What changes parts of a value in place, or has a function that is not known,
// is left to a child, and so is what takes long.
func TestLeftToChild(t *testing.T) {
	t.Parallel()
	for _, source := range []string{
		`.a = 1`, `.a |= 1`, `.a += 1`, `.a //= 1`, `setpath(["a"]; 1)`, `delpaths([])`, `del(.a)`, `[paths]`, `path(.a)`, `combinations`, `walk(.)`, `map_values(.)`,
		`[tostream]`, `now`, `0 | localtime`, `halt`, `halt_error`, `builtins`, `pow(2; 3)`, `infinite`, `transpose`, `bsearch(1)`, `"a.jq" | modulemeta`,
		`def setpath(a; b): 1; setpath(1; 2)`, `def split(x): 1; split("/")`, `def f(halt): 1; f(2)`, `def f($now): 1; f(2)`, `(def delpaths(x): 1; 1) | delpaths([])`,
		`"x" * 3`, `3 * "x"`, `[1] | .[[1]]`, `. as {([1]): $a} | $a`, `[.prevResult[]] | .[.[0:1]]`,
		`[range(100000)]`, `[limit(100000; repeat(1))] | length`, `def f: f; f`, `try (def f: f; f) catch 1`, `(def f: f; f)?`, `first(def f: f; f) // 1`,
	} {
		if got, err := here(t, source, network); !errors.Is(err, errNotSmall) {
			t.Errorf("%.80s is evaluated in the process: %s, %v", source, got, err)
		}
	}
	long := `{"prevResult":{"ips":[` + strings.Repeat(`{"address":"10.0.0.1/24"},`, 20000) + `{}]}}`
	if got, err := here(t, `.prevResult.ips[0]`, long); !errors.Is(err, errNotSmall) {
		t.Errorf("20,000 addresses: %s, %v", got, err)
	}
}

// costly are expressions that have the meter's weakest places work as much as
// they can.
var costly = []struct{ source, input string }{
	{`[range(5000)] as $a | range(3000) | first($a[])`, `null`},
	{`[range(8000)] as $a | [range(8000) | first($a[])] | length`, `null`},
	{`. as $s | [range(20000) | $s[1:]] | length`, `"` + strings.Repeat("ä", 10000) + `"`},
	{`(.|explode) as $a | [range(3000) | first($a[])] | length`, `"` + strings.Repeat("a", 12000) + `"`},
	{`(.|split("")) as $a | [range(3000) | first($a[])] | length`, `"` + strings.Repeat("a", 12000) + `"`},
	{`.[0:300] as $s | [range(10000)|tostring]|join($s)`, `"` + strings.Repeat("a", 12000) + `"`},
	{`[range(300)] as $a | [range(300)+1000] as $b | $a - $b`, `null`},
	{`reduce range(60) as $i ("x"; . + .)`, `null`},
	{`reduce range(60) as $i (1; [., .])`, `null`},
	{`reduce range(60) as $i (1; [., .]) | tojson`, `null`},
	{`reduce range(60) as $i (1; [., .]) | . == .`, `null`},
	{`reduce range(60) as $i (1; [., .]) | sort_by([., .])`, `null`},
	{`reduce range(60) as $i ("<"; @html)`, `null`},
	{`reduce range(60) as $i ("<"; tojson)`, `null`},
	{`reduce range(60) as $i ("<"; "\(.)\(.)")`, `null`},
	{`reduce range(60) as $i ("<"; @json "\(.)\(.)")`, `null`},
	{`reduce range(60) as $i ("<"; @base64)`, `null`},
	{`reduce range(60) as $i ({a: "x"}; {("\(.)"): ., b: .})`, `null`},
	{`reduce range(60) as $i (7; . * .)`, `null`},
	{`reduce range(60) as $i ("9" ; "\(. | tonumber * 99999999)")`, `null`},
	{`[range(20000) | "9999999999999999999999"] | add`, `null`},
	{`add(range(8000) | "` + strings.Repeat("x", 3000) + `")`, `null`},
	{`[range(300) | "` + strings.Repeat("x", 900) + `"] | add | length`, `null`},
	{`[match("";"g")] | length`, `"` + strings.Repeat("a", 900) + `"`},
	{`[match("()()()()()()()()";"g")] | length`, `"` + strings.Repeat("a", 300) + `"`},
	{`[range(100000) | test("(((a{0,10}){0,10}){0,10}b?)*")] | length`, `"` + strings.Repeat("a", 30) + `"`},
	{`test("((a{0,30}){0,30}b?)*")`, `"` + strings.Repeat("a", 3000) + `"`},
	{`test(".{1000}.{1000}.{1000}.{1000}.{1000}.{1000}")`, `"a"`},
	{`test("` + strings.Repeat(`[^\\\\pL\\\\pN]`, 250) + `")`, `"a"`},
	{`test("(?i)` + strings.Repeat(`\\\\pL`, 500) + `")`, `"a"`},
	{`test("` + strings.Repeat(`(`, 900) + strings.Repeat(`)`, 900) + `")`, `"a"`},
	{`[range(1000) | . as $i | "a" | test("\($i){1000}")] | length`, `null`},
	{`gsub("a"; "` + strings.Repeat("x", 900) + `") | length`, `"` + strings.Repeat("a", 400) + `"`},
	{`gsub("(?<x>a)"; "\(.x)\(.x)")`, `"` + strings.Repeat("a", 400) + `"`},
	{`def f: [f]; f`, `null`},
	{`def f: 1 + f; f`, `null`},
	{`def f: f, f; [f]`, `null`},
	{`def f: f | f; f`, `null`},
	{`def f(x): f(x | x); f(1)`, `null`},
	{`def f(x): x | f(f(x)); f(1)`, `null`},
	{`[limit(1e9; repeat("x"))] | add`, `null`},
	{`[range(1e9)]`, `null`},
	{`[recurse(. + 1)]`, `0`},
	{`[recurse([.])]`, `0`},
	{`last(recurse([.]))|tojson`, `0`},
	{`first(recurse([.])|select(false))`, `0`},
	{`try (def f: f; f) catch .`, `null`},
	{`[.[] as $a | .[] as $b | .[] as $c | .[] as $d | [$a, $b, $c, $d]] | length`, "[" + strings.Repeat("1,", 200) + "1]"},
	{`[range(20)] as $a | [range(20) | [range(20) | $a]] as $b | [range(1000)|$b]|flatten|length`, `null`},
	{`[range(4000)|tostring]|sort_by(.)|unique|group_by(.)|length`, `null`},
	{`[range(400)|{k:tostring,v:.}]|sort_by(.k)|unique_by(.v)|group_by(.k)|map(from_entries?)|length`, `null`},
	{`[range(2000)|{key:tostring,value:.}]|from_entries|with_entries(.)|keys|length`, `null`},
	{`[limit(200; repeat([range(20)]))]|unique|length`, `null`},
	{`"x" * 1e9`, `null`},
	{`[., "` + strings.Repeat("1", 3000) + `"|tonumber]|add`, `null`},
	{`[range(3000)|"` + strings.Repeat("1", 3000) + `"|tonumber]|length`, `null`},
	{`range(0;1e9;"` + strings.Repeat("1", 3000) + `"|tonumber)`, `null`},
	{`fromjson`, `"` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `"`},
	{`[range(1000)|try error([range(10)]) catch .]|length`, `null`},
	{`[range(1000)] as [$a,$b,$c] ?// $a | $a | error("x")`, `null`},
	{`. as {a: $x, ([range(10)]): $y} | $y`, `{}`},
	{`[range(1000)] as $a | $a[$a[0:1]]`, `null`},
	{`[range(10000)|if . % 2 == 0 then . else empty end]|length`, `null`},
	{`[range(1000)|[range(3)]|contains([1])]|length`, `null`},
	{`[$ENV|.[]|explode|implode]|add`, `null`},
	{`def f: (. + .) as $x | $x | f; "x" | f`, `null`},
	{`label $out | foreach range(1e9) as $i (0; . + $i; if . > 1e18 then ., break $out else empty end)`, `null`},
	{`[foreach range(30) as $i ("x"; . + . + .)]`, `null`},
	{`[range(1000) as $i | {a:$i,b:$i,c:$i,d:$i,e:$i,f:$i,g:$i,h:$i,i:$i,j:$i}]|length`, `null`},
	{`[range(1000) | {} | .["a\(.)"]]|length`, `null`},
	{`(` + strings.Repeat(`(., .) | `, 300) + ` .)`, `null`},
	{strings.Repeat(`"\(`, 400) + `1` + strings.Repeat(`)\(2)"`, 400), `null`},
	{`"` + strings.Repeat(`\(.)`, 900) + `"`, `"` + strings.Repeat("\\u0000", 300) + `"`},
	{strings.Repeat(`map(`, 300) + `.` + strings.Repeat(`)`, 300), `null`},
}

// processor is how long this thread has run.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// allocated is what a call allocates, in bytes, what is garbage again included.
func allocated(call func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	call()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Whatever an expression has the process do is far below its limits, counted by
// what the thread runs, and not by the clock. An expression that is left to a
// child all the same has the whole second there.
func TestMeterHolds(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const (
		enough = 500 * time.Millisecond
		much   = 2 * memoryLimit // of which most is garbage
	)
	var took time.Duration
	var made uint64
	for _, tt := range costly {
		before := processor(t)
		made = max(made, allocated(func() { _, _ = here(t, tt.source, tt.input) }))
		used := processor(t) - before
		took = max(took, used)
		if used > enough || made > much {
			t.Errorf("%.100s: %s, %d KiB", tt.source, used, made>>10)
		}
	}
	t.Logf("at most %s and %d KiB", took, made>>10)
}

// The meter changes no answer, whatever the expression, and what it lets
// through allocates little.
func FuzzMeter(f *testing.F) {
	for _, tt := range worked {
		f.Add(tt.source)
	}
	for _, source := range small {
		f.Add(source)
	}
	for _, tt := range costly {
		f.Add(tt.source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		if len(source) > shortSource {
			source = source[:shortSource]
		}
		if _, err := Compile(source, environ); err != nil {
			return
		}
		var got string
		var err error
		if made := allocated(func() { got, err = here(t, source, network) }); made > 4*memoryLimit {
			t.Errorf("%q allocates %d bytes", source, made)
		}
		if errors.Is(err, errNotSmall) {
			return
		}
		if err == nil && !json.Valid([]byte(got)) {
			t.Errorf("%q: %q", source, got)
		}
		if want, failure := plainly(t, source, network); got != want || fmt.Sprint(err) != fmt.Sprint(failure) {
			t.Errorf("%q: %s, %v; without a meter %s, %v", source, got, err, want, failure)
		}
	})
}
