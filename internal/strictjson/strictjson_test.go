package strictjson

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// open is the object of a document that is one.
func open(t testing.TB, doc string) (Object, *Problems) {
	t.Helper()
	p := &Problems{}
	o, ok := NewValue([]byte(doc), "", p).Object()
	if !ok {
		t.Fatalf("%s: %v", doc, p.List)
	}
	return o, p
}

// told is all that was noted, a problem of a key marked.
func told(p *Problems) []string {
	var lines []string
	for _, problem := range p.List {
		line := problem.String()
		if problem.Unsupported {
			line += " (key)"
		}
		lines = append(lines, line)
	}
	for _, w := range p.Warnings {
		lines = append(lines, "warning: "+w)
	}
	return lines
}

func wantTold(t *testing.T, when string, p *Problems, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, told(p)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func TestValues(t *testing.T) {
	text := func(v Value) (any, bool) { return v.Text() }
	boolean := func(v Value) (any, bool) { return v.Bool() }
	number := func(v Value) (any, bool) { return v.Uint32(2, 4294967295) }
	narrow := func(v Value) (any, bool) { return v.Uint32(1, 256) }
	for _, tt := range []struct {
		raw  string
		read func(Value) (any, bool)
		want any
		says string // empty: it is taken
	}{
		{`"a"`, text, "a", ""},
		{`""`, text, "", ""},
		{`"\u0041\n"`, text, "A\n", ""},
		{`5`, text, "", `5 is not a string`},
		{`null`, text, "", `null is not a string`},
		{`{"a":[1]}`, text, "", `{"a":[1]} is not a string`},
		{"{\n  \"a\": [\n    1\n  ]\n}", text, "", `{"a":[1]} is not a string`},
		{`["` + strings.Repeat("é", 50) + `"]`, text, "", `["` + strings.Repeat("é", 29) + `… is not a string`},

		{`true`, boolean, true, ""},
		{`false`, boolean, false, ""},
		{`"true"`, boolean, false, `"true" is not true or false`},
		{`1`, boolean, false, `1 is not true or false`},
		{`null`, boolean, false, `null is not true or false`},

		{`2`, number, uint32(2), ""},
		{`4294967295`, number, uint32(4294967295), ""},
		{`4294967296`, number, uint32(0), `4294967296 is not a whole number from 2 to 4294967295`},
		{`99999999999999999999999999`, number, uint32(0), `99999999999999999999999999 is not a whole number from 2 to 4294967295`},
		{`1`, number, uint32(0), `1 is not a whole number from 2 to 4294967295`},
		{`-1`, number, uint32(0), `-1 is not a whole number from 2 to 4294967295`},
		{`-0`, number, uint32(0), `-0 is not a whole number from 2 to 4294967295`},
		{`3.0`, number, uint32(0), `3.0 is not a whole number from 2 to 4294967295`},
		{`3.5`, number, uint32(0), `3.5 is not a whole number from 2 to 4294967295`},
		{`1e3`, number, uint32(0), `1e3 is not a whole number from 2 to 4294967295`},
		{`"5"`, number, uint32(0), `"5" is not a whole number from 2 to 4294967295`},
		{`null`, number, uint32(0), `null is not a whole number from 2 to 4294967295`},
		{`[5]`, number, uint32(0), `[5] is not a whole number from 2 to 4294967295`},
		{`257`, narrow, uint32(0), `257 is not a whole number from 1 to 256`},
		{`0`, narrow, uint32(0), `0 is not a whole number from 1 to 256`},
		{`256`, narrow, uint32(256), ""},
	} {
		p := &Problems{}
		got, ok := tt.read(NewValue([]byte(tt.raw), "a.b[1]", p))
		if got != tt.want || ok != (tt.says == "") {
			t.Errorf("%s: %v, %v; want %v", tt.raw, got, ok, tt.want)
		}
		var want []string
		if tt.says != "" {
			want = []string{"a.b[1]: " + tt.says}
		}
		wantTold(t, tt.raw, p, want...)
	}
}

func TestListsAndObjects(t *testing.T) {
	for _, raw := range []string{`5`, `"a"`, `true`, `null`, "\n null ", `{}`, ``, `[`, `[] []`} {
		p := &Problems{}
		if got := NewValue([]byte(raw), "x", p).List(); got != nil {
			t.Errorf("%q is a list: %v", raw, got)
		}
		wantTold(t, raw, p, "x: "+strings.TrimSpace(raw)+" is not a list")
	}
	for _, raw := range []string{`5`, `"a"`, `true`, `null`, "\n null ", `[]`, ``, `{`, `{} {}`} {
		p := &Problems{}
		if _, ok := NewValue([]byte(raw), "x", p).Object(); ok {
			t.Errorf("%q is an object", raw)
		}
		wantTold(t, raw, p, "x: "+strings.TrimSpace(raw)+" is not an object")
	}
	p := &Problems{}
	if got := NewValue([]byte(" [ ] "), "x", p).List(); got == nil || len(got) != 0 {
		t.Errorf("an empty list: %v", got)
	}
	for i, v := range NewValue([]byte(`[1, "a", null, [2]]`), "x", p).List() {
		if v.Path != []string{"x[0]", "x[1]", "x[2]", "x[3]"}[i] {
			t.Errorf("element %d is at %s", i, v.Path)
		}
	}
	wantTold(t, "good lists", p)
}

// Everything that is wrong is told, at once, where it stands.
func TestAllProblemsWithTheirPaths(t *testing.T) {
	o, p := open(t, `{"a": 5, "b": "no", "n": -1, "inner": {"list": [true, {"x": "y", "odd key": 1}, "z"], "b": null}, "none": null, "wrong": []}`)
	text, flag, number := "before", true, uint32(7)
	o.Text("a", &text)
	o.Bool("b", &flag)
	o.Uint32("n", &number, 1, 9)
	o.Text("none", &text)
	o.Text("absent", &text)
	if inner, ok := o.Object("inner"); !ok {
		t.Error("inner is missing")
	} else {
		inner.Bool("b", &flag)
		list, _ := inner.Get("list")
		for _, v := range list.List() {
			if item, ok := v.Object(); ok {
				item.Uint32("x", &number, 1, 9)
				item.RejectUnknown("x")
			}
		}
	}
	if _, ok := o.Object("wrong"); ok {
		t.Error("a list is an object")
	}
	if _, ok := o.Object("none"); ok {
		t.Error("null is an object")
	}
	if _, ok := o.Object("absent"); ok {
		t.Error("what is absent is an object")
	}
	wantTold(t, "all", p,
		`a: 5 is not a string`,
		`b: "no" is not true or false`,
		`n: -1 is not a whole number from 1 to 9`,
		`inner.list[0]: true is not an object`,
		`inner.list[1].x: "y" is not a whole number from 1 to 9`,
		`inner.list[1]."odd key": unknown key; there are x (key)`,
		`inner.list[2]: "z" is not an object`,
		`wrong: [] is not an object`)
	if text != "before" || !flag || number != 7 {
		t.Errorf("a bad value was taken: %q, %v, %d", text, flag, number)
	}
}

func TestAbsentAndNull(t *testing.T) {
	o, p := open(t, `{"null": null, "spaced": null , "zero": 0, "empty": ""}`)
	for key, want := range map[string]bool{"null": false, "spaced": false, "absent": false, "zero": true, "empty": true, "": false} {
		if got := o.Has(key); got != want {
			t.Errorf("has %q: %v", key, got)
		}
	}
	wantTold(t, "looking", p)
}

func TestPathsInOneLine(t *testing.T) {
	for key, want := range map[string]string{
		"a": "x.a", "cni.dev/valid-attachments": "x.cni.dev/valid-attachments", "größe": "x.größe",
		"": `x.""`, "a b": `x."a b"`, "a\nb": `x."a\nb"`, "a\u2028b": `x."a\u2028b"`, "a\x00": `x."a\x00"`,
	} {
		if got := (Object{path: "x"}).At(key); got != want {
			t.Errorf("%q is at %s, want %s", key, got, want)
		}
	}
	if got := (Problem{Text: "text"}).String(); got != "text" {
		t.Errorf("without a path: %q", got)
	}
}

// The rule of the common page: a slip is refused, upper and lower case is
// folded with a warning, what is foreign passes.
func TestKeysThatAreNearOurs(t *testing.T) {
	ours := []string{"flushroutes", "delroutes", "addroutes", "ignoreErrors", "table", "stateDir", "servce"}
	foreign := []string{"deviceID", "able"}
	for key, want := range map[string]string{
		"addroutes":      "",
		"addRoutes":      `warning: addRoutes: taken for "addroutes"`,
		"ADDROUTES":      `warning: ADDROUTES: taken for "addroutes"`,
		"ignoreerrors":   `warning: ignoreerrors: taken for "ignoreErrors"`,
		"addroute":       `addroute: unknown key; did you mean "addroutes"? (key)`,
		"delRoute":       `delRoute: unknown key; did you mean "delroutes"? (key)`,
		"adroute":        `adroute: unknown key; did you mean "addroutes"? (key)`,
		"addroutes2x":    `addroutes2x: unknown key; did you mean "addroutes"? (key)`,
		"addrouets":      `addrouets: unknown key; did you mean "addroutes"? (key)`, // two replacements
		"dellroutés":     `dellroutés: unknown key; did you mean "delroutes"? (key)`,
		"aroute":         "", // three edits
		"addroutes2xy":   "",
		"service":        `service: unknown key; did you mean "servce"? (key)`,
		"servicee":       `servicee: unknown key; did you mean "servce"? (key)`, // six letters: two edits
		"tables":         `tables: unknown key; did you mean "table"? (key)`,
		"tabel":          "", // five letters: one edit
		"tab":            "",
		"able":           "", // of somebody else, though near
		"DeviceID":       "",
		"deviceID":       "",
		"statedirectory": "",
		"x":              "",
		"":               "",
	} {
		o, p := open(t, `{`+string(mustJSON(key))+`: [1]}`)
		o.FoldCase(ours)
		o.RejectMisspelled(ours, foreign)
		if want == "" {
			wantTold(t, key, p)
		} else {
			wantTold(t, key, p, want)
		}
		taken := slices.ContainsFunc(ours, func(k string) bool { return strings.EqualFold(k, key) })
		if got := slices.ContainsFunc(ours, o.Has); got != taken {
			t.Errorf("%q is taken for one of ours: %v", key, got)
		}
	}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// Of several near keys the nearest is named, whatever their order.
func TestTheNearestKey(t *testing.T) {
	known := []string{"log_max_size", "log_max_age", "log_max_count", "gw", "gws"}
	backward := slices.Clone(known)
	slices.Reverse(backward)
	for key, want := range map[string]string{"log_max_aze": "log_max_age", "log_max_sise": "log_max_size", "gwss": "gws", "GWS": "gws", "log": ""} {
		for _, list := range [][]string{known, backward} {
			if got, ok := nearest(key, list); got != want || ok != (want != "") {
				t.Errorf("%s of %v: %q, %v; want %q", key, list, got, ok, want)
			}
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int // 3: more than 2
	}{
		{"", "", 0}, {"", "ab", 2}, {"a", "", 1}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ac", 1}, {"abc", "xabc", 1},
		{"abc", "acb", 2}, {"kitten", "sitting", 3}, {"abcdef", "badcfe", 3}, {"a", "abcd", 3}, {"é", "e", 1}, {"日本", "日", 1},
	} {
		for _, pair := range [][2]string{{tt.a, tt.b}, {tt.b, tt.a}} {
			if got := min(distance(letters(pair[0]), letters(pair[1]), 2), 3); got != tt.want {
				t.Errorf("%q: %d, want %d", pair, got, tt.want)
			}
		}
	}
}

func TestFoldCase(t *testing.T) {
	for _, tt := range []struct {
		doc, want string // what there is as "table"
		told      []string
	}{
		{`{"Table": 1}`, `1`, []string{`warning: Table: taken for "table"`}},
		{`{"table": 1}`, `1`, nil},
		{`{"Table": 1, "table": 2}`, `2`, []string{`Table: given beside "table" (key)`}},
		{`{"TABLE": 1, "Table": 2}`, `1`, []string{`Table: given beside "table" (key)`, `warning: TABLE: taken for "table"`}},
		{`{"Table": 1, "table": null}`, `1`, []string{`warning: Table: taken for "table"`}},
		{`{"Table": null, "table": 2}`, `2`, nil},
		{`{"Table": null}`, ``, nil},
	} {
		o, p := open(t, tt.doc)
		o.FoldCase([]string{"table"})
		wantTold(t, tt.doc, p, tt.told...)
		v, _ := o.Get("table")
		if string(v.Raw) != tt.want && (tt.want != "" || !null(v.Raw) && v.Raw != nil) {
			t.Errorf("%s: %s, want %s", tt.doc, v.Raw, tt.want)
		}
		o.RejectMisspelled([]string{"table"}, nil)
		wantTold(t, tt.doc+" is told once", p, tt.told...)
	}
}

func TestRejectUnknown(t *testing.T) {
	o, p := open(t, `{"gw": 1, "wg": 2, "deviceID": 3, "Gw": null, "gv": null}`)
	o.RejectUnknown("gw", "dev", "weight")
	wantTold(t, "ours", p,
		`Gw: unknown key; did you mean "gw"? (key)`,
		`deviceID: unknown key; there are gw, dev, weight (key)`,
		`gv: unknown key; did you mean "gw"? (key)`,
		`wg: unknown key; there are gw, dev, weight (key)`)
}

func TestOverridden(t *testing.T) {
	o, p := open(t, `{"a": 1, "b": 2, "c": 3, "args": {"cni": {"a": "x", "b": null, "d": "y", "z": 1}}, "more": {"c": "w"}}`)
	args, _ := o.Object("args")
	cni, _ := args.Object("cni")
	more, _ := o.Object("more")
	merged := o.Overridden(cni, []string{"a", "b", "c", "d", "e"}).Overridden(more, []string{"c"})
	var n uint32
	for _, key := range []string{"a", "b", "c", "d", "e", "z"} {
		merged.Uint32(key, &n, 9, 9)
	}
	wantTold(t, "each value at its place", p,
		`args.cni.a: "x" is not a whole number from 9 to 9`,
		`b: 2 is not a whole number from 9 to 9`,
		`more.c: "w" is not a whole number from 9 to 9`,
		`args.cni.d: "y" is not a whole number from 9 to 9`)
	if v, _ := o.Get("a"); string(v.Raw) != "1" || v.Path != "a" || o.Has("d") {
		t.Errorf("the object itself was changed: %s at %s", v.Raw, v.Path)
	}
	if nothing := (Object{}).Overridden(cni, []string{"a"}); !nothing.Has("a") {
		t.Error("over nothing: a is missing")
	}
	list, _ := open(t, `{"l": [1]}`)
	over := o.Overridden(list, []string{"l"})
	l, _ := over.Get("l")
	if got := l.List()[0].Path; got != "l[0]" {
		t.Errorf("an element is at %s", got)
	}
}

func TestProblemsOfAValue(t *testing.T) {
	p := &Problems{}
	v := NewValue([]byte(`1`), "x", p)
	v.Invalid("%q is bad", "y")
	v.Problems().Unsupported("z", "unknown %s", "key")
	wantTold(t, "noted", p, `x: "y" is bad`, `z: unknown key (key)`)
}

// FuzzWalk looks at everything in a document in every way: no panic, each
// value is of one kind or is told not to be, and messages are one line.
func FuzzWalk(f *testing.F) {
	for _, doc := range []string{`{}`, `[]`, `null`, "", `{"a": {"B": [1, null, "x", {"gw\n": 1e9}]}, "Table": 1, "table": null}`, "{\"\xff\": \"\xff\"}", `{"a":1}{}`} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		p := &Problems{}
		walk(t, NewValue(doc, "", p))
		for _, line := range told(p) {
			if strings.ContainsAny(line, "\n\r") {
				t.Errorf("%q is more than a line", line)
			}
		}
	})
}

func walk(t *testing.T, v Value) {
	kinds, before := 0, len(v.p.List)
	count := func(is bool) {
		if is {
			kinds++
		}
	}
	_, ok := v.Text()
	count(ok)
	_, ok = v.Bool()
	count(ok)
	_, ok = v.Uint32(0, 1<<32-1)
	count(ok)
	list := v.List()
	count(list != nil)
	o, ok := v.Object()
	count(ok)
	if told := len(v.p.List) - before; kinds > 1 || told != 5-kinds {
		t.Errorf("%s at %s is of %d kinds, %d problems", v.Raw, v.Path, kinds, told)
	}
	for _, element := range list {
		walk(t, element)
	}
	if !ok {
		return
	}
	ours := []string{"table", "addroutes", "gw", "B"}
	o.FoldCase(ours)
	o.RejectUnknown(ours...)
	o.RejectMisspelled(ours, []string{"gv"})
	merged := o.Overridden(o, ours)
	for key := range merged.fields {
		if member, ok := merged.Get(key); ok {
			walk(t, member)
		}
	}
}
