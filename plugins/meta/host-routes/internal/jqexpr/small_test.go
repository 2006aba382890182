package jqexpr

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
)

// judged reports whether an expression is evaluated in the process.
func judged(t testing.TB, source, input string) bool {
	t.Helper()
	e, err := Compile(source)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	in, err := decode([]byte(input))
	if err != nil {
		t.Fatal(err)
	}
	cni, err := decode(encode(t, arguments))
	if err != nil {
		t.Fatal(err)
	}
	return e.mayBeSmall() && small(e.query, weigh(in), weigh(cni))
}

func TestSmall(t *testing.T) {
	t.Parallel()
	for _, source := range []string{
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
	} {
		if !judged(t, source, network) {
			t.Errorf("%s is left to a child", source)
		}
	}
}

func TestNotSmall(t *testing.T) {
	t.Parallel()
	twice := func(step string, times int) string { return `.name` + strings.Repeat(" | "+step, times) }
	for _, source := range []string{
		`. * 2`, `"x" * 3`, `def f: 1; f`, `reduce .[] as $x (0; . + 1)`, `foreach .[] as $x (0; . + 1)`, `range(3)`, `range(1; 2)`,
		`repeat(1)`, `recurse`, `recurse(.a?)`, `..`, `limit(1; .[])`, `until(true; .)`, `while(false; .)`, `[splits("a")]`, `split("a"; null)`,
		`test("a")`, `match("a")`, `capture("a")`, `scan("a")`, `sub("a"; "b")`, `gsub("a"; "b")`, `implode`, `explode`, `.a = 1`,
		`.a |= 1`, `.a += 1`, `.a //= 1`, `setpath(["a"]; 1)`, `getpath(["a"])`, `delpaths([])`, `del(.a)`, `paths`, `path(.a)`,
		`to_entries | map(.value) | combinations`, `label $out | break $out`, `try .a catch .`, `env`, `$ENV`, `@json`, `@text "\(.)"`, `@base64`,
		`walk(.)`, `map_values(.)`, `fromjson`, `tostream`, `now`, `localtime`, `halt`, `halt_error`, `builtins`,
		`. as [$a] ?// $a | $a`, `. as {(1, 2 | tostring): $a} | $a`, `pow(2; 3)`, `infinite`, `transpose`, `bsearch(1)`, `nth(1)`, `last(.[])`,
		`{a: range(3)}`, `[.[] | range(3)]`, `"\(range(3))"`, `.[range(3)]`, `.[range(3):]`, `if range(3) then 1 end`, `if 1 then range(3) end`,
		`1 // range(3)`, `try range(3)`, `-range(3)`, `{(range(3) | tostring): 1}`, `map(range(3))`, `first(range(3))`, `select(range(3))`,
		`any(range(3))`, `sort_by(range(3))`, `has(range(3))`, `isempty(range(3))`, `error(range(3))`, `with_entries(range(3))`,
		// Nothing here but what is small by itself.
		twice(`. + .`, 30), twice(`[., .]`, 30), twice(`{a: ., b: .}`, 30), twice(`"\(.)\(.)"`, 30), twice(`., .`, 30),
		twice(`[., .]`, 30) + ` | . == .`, twice(`[., .]`, 30) + ` | tojson | length`, twice(`. as $x | $x + $x`, 30),
		twice(`tojson`, 40), twice(`[.] | join(. + .)`, 30), twice(`if ., . then . else . end`, 30), twice(`(., .) and true`, 30),
		`[.. | .]`, `[.prevResult[] as $a | .prevResult[] as $b | .prevResult[] as $c | .prevResult[] as $d | [$a, $b, $c, $d]]`,
		twice(`(.[]?, .)`, 60), twice(`[.[]?]`, 1300),
	} {
		if judged(t, source, network) {
			t.Errorf("%.80s is evaluated in the process", source)
		}
	}
}

// What is small for a usual configuration is not for one of any size.
func TestSizeOfTheInput(t *testing.T) {
	t.Parallel()
	input := `{"prevResult":{"ips":[` + strings.Repeat(`{"address":"10.0.0.1/24"},`, 20000) + `{}]}}`
	if judged(t, worked["pod addresses to a bridge"].source, input) {
		t.Error("20,000 addresses are small")
	}
}

// allocated is what a call allocates, in bytes.
func allocated(call func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	call()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// What is judged to be small is: whatever the expression, its evaluation
// allocates little.
func FuzzSmall(f *testing.F) {
	for _, tt := range worked {
		f.Add(tt.source)
	}
	for _, source := range []string{
		`.name | . + . | [., .] | {a: ., b: .} | "\(.)\(.)" | tojson`, `[.prevResult[] as $a | .prevResult[] as $b | [$a, $b] | . == .]`,
		`.prevResult.ips | sort_by(.address) | group_by(.gateway) | unique_by(.) | min_by(.a) | flatten`, `to_entries | from_entries | with_entries(.)`,
		`[.[] | tostring | split("") | join("abc") | index("a")]`, `. as {name: $n} | {$n, "b": (.tries - 1), (.name): .[.name, "a"]}`,
		`.prevResult.ips | .[.[0:1]] // (.[1:] | .[-1]) | any, all, add, first(.[]), isempty(.)`, `[.[] | length, -(.tries? / 2 % 3)]`,
		`if . and (.a or .b) then keys elif .a then reverse else sort | unique | min | max end`, `[.[] | contains("a")?, ltrimstr("a"), tonumber?]`,
	} {
		f.Add(source)
	}
	in, err := decode([]byte(network))
	if err != nil {
		f.Fatal(err)
	}
	cni, err := decode(encode(f, arguments))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, source string) {
		if len(source) > shortSource {
			source = source[:shortSource]
		}
		query, code, err := compile(source)
		if err != nil || !small(query, weigh(in), weigh(cni)) {
			return
		}
		var answer []byte
		if made := allocated(func() { answer, err = run(context.Background(), code, in, cni) }); made > 4*smallWork {
			t.Errorf("%q allocates %d bytes", source, made)
		}
		if err == nil && (len(answer) > smallWork || !json.Valid(answer)) {
			t.Errorf("%q: %d bytes", source, len(answer))
		}
	})
}
