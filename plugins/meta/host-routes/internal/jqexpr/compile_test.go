package jqexpr

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		source string
		want   []string
	}{
		{`.a | foo`, []string{
			`function not defined: foo/0 (line 1, column 6)`,
			`.a | foo`,
			`     ^`}},
		{`.foo | "foo" | {foo: foo(1)} | foo # foo`, []string{
			`function not defined: foo/1 (line 1, column 22)`,
			`.foo | "foo" | {foo: foo(1)} | foo # foo`,
			`                     ^`}},
		{`def foo(f): f; foo`, []string{
			`function not defined: foo/0 (line 1, column 16)`,
			`def foo(f): f; foo`,
			`               ^`}},
		{`foo_bar(1) + bar(1; 2)`, []string{
			`function not defined: bar/2 (line 1, column 14)`,
			`foo_bar(1) + bar(1; 2)`,
			`             ^`}},
		{`.a + $gw + "$gw" + $gw`, []string{
			`variable not defined: $gw (line 1, column 6)`,
			`.a + $gw + "$gw" + $gw`,
			`     ^`}},
		{`"$gw \(.a) \($gw)"`, []string{
			`variable not defined: $gw (line 1, column 14)`,
			`"$gw \(.a) \($gw)"`,
			`             ^`}},
		{`{$gw}`, []string{
			`variable not defined: $gw (line 1, column 2)`,
			`{$gw}`,
			` ^`}},
		{`(1 as $gw | $gw) | $gw`, []string{
			`variable not defined: $gw (line 1, column 13)`, // gojq does not say which
			`(1 as $gw | $gw) | $gw`,
			`            ^`}},
		{`$cni | $cnix`, []string{
			`variable not defined: $cnix (line 1, column 8)`,
			`$cni | $cnix`,
			`       ^`}},
		{`.a | break $out`, []string{
			`label not defined: $out (line 1, column 12)`,
			`.a | break $out`,
			`           ^`}},
		{"[.ips[]\n\t| {prefix: .address,\n\t   device: brigde}\n]", []string{
			`function not defined: brigde/0 (line 3, column 13)`,
			"\t   device: brigde}",
			"\t           ^"}},
		{`"äöü€𝄞" | foo`, []string{
			`function not defined: foo/0 (line 1, column 11)`,
			`"äöü€𝄞" | foo`,
			`          ^`}},
		{"\"e\u0301\" | foo", []string{ // an accent of its own
			`function not defined: foo/0 (line 1, column 8)`,
			"\"e\u0301\" | foo",
			`      ^`}},
		{`[.a, ]`, []string{
			`unexpected token "]" (line 1, column 6)`,
			`[.a, ]`,
			`     ^`}},
		{".a\r\n| |\r\n.b", []string{
			`unexpected token "|" (line 2, column 3)`,
			`| |`,
			`  ^`}},
		{"\t\"ä\"\t]", []string{
			`unexpected token "]" (line 1, column 6)`,
			"\t\"ä\"\t]",
			"\t   \t^"}},
		{`.a |= = 1`, []string{
			`unexpected token "=" (line 1, column 7)`,
			`.a |= = 1`,
			`      ^`}},
		{`.a "text" .b`, []string{
			`unexpected token "\"text\"" (line 1, column 4)`,
			`.a "text" .b`,
			`   ^`}},
		{`.a | ä`, []string{
			`unexpected token "ä" (line 1, column 6)`,
			`.a | ä`,
			`     ^`}},
		{`"a\qb"`, []string{
			`invalid escape sequence "\q" in string literal (line 1, column 3)`,
			`"a\qb"`,
			`  ^`}},
		{`1x + 2`, []string{
			`invalid token "1x" (line 1, column 1)`,
			`1x + 2`,
			`^`}},
		{`["a", "b`, []string{
			`unterminated string literal (line 1, column 7)`,
			`["a", "b`,
			`      ^`}},
		{"\"a \\(\"b\") c\n", []string{
			`unterminated string literal (line 1, column 10)`,
			`"a \("b") c`,
			`         ^`}},
		{"[.a,\n", []string{
			`unexpected EOF (line 1, column 5)`,
			`[.a,`,
			`    ^`}},
		{``, []string{
			`missing query (try ".") (line 1, column 1)`,
			``,
			`^`}},
		{"  # nothing\n", []string{
			`missing query (try ".") (line 1, column 12)`,
			`  # nothing`,
			`           ^`}},
		{`def f: 1;`, []string{
			`missing query (try ".") (line 1, column 10)`,
			`def f: 1;`,
			`         ^`}},
		{`[inputs]`, []string{
			`input(s)/0 is not allowed (line 1, column 2)`,
			`[inputs]`,
			` ^`}},
		{`.input | "input" | input`, []string{
			`input(s)/0 is not allowed (line 1, column 20)`,
			`.input | "input" | input`,
			`                   ^`}},
		{`. | debug`, []string{
			`function not defined: debug/0 (line 1, column 5)`,
			`. | debug`,
			`    ^`}},
		{`debug("x")`, []string{
			`function not defined: debug/1 (line 1, column 1)`,
			`debug("x")`,
			`^`}},
		{`stderr`, []string{
			`function not defined: stderr/0 (line 1, column 1)`,
			`stderr`,
			`^`}},
		{`1 | input_filename`, []string{
			`function not defined: input_filename/0 (line 1, column 5)`,
			`1 | input_filename`,
			`    ^`}},
		{`get_search_list`, []string{
			`function not defined: get_search_list/0 (line 1, column 1)`,
			`get_search_list`,
			`^`}},
		{`$__loc__`, []string{
			`variable not defined: $__loc__ (line 1, column 1)`,
			`$__loc__`,
			`^`}},
		{`import "a/b" as x; x::f`, []string{
			`cannot load module: "a/b" (line 1, column 8)`,
			`import "a/b" as x; x::f`,
			`       ^`}},
		{`include "a"; 1`, []string{
			`cannot load module: "a" (line 1, column 9)`,
			`include "a"; 1`,
			`        ^`}},
		{`import "data" as $d; $d`, []string{
			`cannot load module: "data" (line 1, column 8)`,
			`import "data" as $d; $d`,
			`       ^`}},
		{"\x1b[1m", []string{
			`unexpected token "\u001b" (line 1, column 1)`,
			"\uFFFD[1m",
			`^`}},
		{strings.Repeat("x", 70) + `|` + strings.Repeat("y", 70), []string{
			`function not defined: ` + strings.Repeat("x", 70) + `/0 (line 1, column 1)`,
			strings.Repeat("x", 60) + "…",
			`^`}},
		{`.a + ` + strings.Repeat("1 + ", 20) + `foo` + strings.Repeat(" + 1", 20), []string{
			`function not defined: foo/0 (line 1, column 86)`,
			"…" + strings.Repeat("1 + ", 15) + `foo` + strings.Repeat(" + 1", 14) + " …",
			strings.Repeat(" ", 61) + `^`}},
		{strings.Repeat("# long\n", 1000) + "\tfoo", []string{ // compiled in a child
			`function not defined: foo/0 (line 1001, column 2)`,
			"\tfoo",
			"\t^"}},
	} {
		_, err := Compile(tt.source, nil)
		var wrong *CompileError
		if !errors.As(err, &wrong) {
			t.Errorf("%q: %v", tt.source, err)
			continue
		}
		want := slices.Insert(tt.want, 1, "")
		if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.source, diff)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, source := range []string{
		"", ".", "foo", "$x", `"`, "\"\\(", "\xff", "ä", ".a\n\t| $b", "def f(g): g; f(1)", "[..]", "@x", "import \"a\" as a; 1", "input", `"a" "b`, "1e", "\x00\r\n\t]",
	} {
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		if len(source) > shortSource { // nothing else is compiled in the process
			source = source[:shortSource]
		}
		_, err := Compile(source, nil)
		if err == nil {
			return
		}
		var wrong *CompileError
		if !errors.As(err, &wrong) {
			t.Fatalf("%q: %v", source, err)
		}
		lines := strings.Split(wrong.Error(), "\n")
		if len(lines) != 4 || strings.Trim(lines[3], " \t") != "^" || wrong.Message == "" {
			t.Errorf("%q: %q", source, lines)
		}
	})
}
