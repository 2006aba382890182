// Package strictjson decodes configuration by hand: every problem is told, at
// once and with its path, instead of the first one that a decoder meets.
package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Path string // addroutes[2].gw
	Text string // "10.0.0.300" is not an IP address
	// Unsupported says that the key is the problem, not its value.
	Unsupported bool
	// Meant is the path of the key that is missing because this one, a slip
	// away from it, is there.
	Meant string
}

func (p Problem) String() string {
	if p.Path == "" {
		return p.Text
	}
	return p.Path + ": " + p.Text
}

// Problems collects what is wrong. Its methods never fail.
type Problems struct {
	List     []Problem
	Warnings []string
}

// Invalid notes a value that cannot be used.
func (p *Problems) Invalid(path, format string, args ...any) {
	p.List = append(p.List, Problem{Path: path, Text: fmt.Sprintf(format, args...)})
}

// Unsupported notes a key that cannot be used.
func (p *Problems) Unsupported(path, format string, args ...any) {
	p.List = append(p.List, Problem{Path: path, Text: fmt.Sprintf(format, args...), Unsupported: true})
}

// Value is a JSON value and where it stands.
type Value struct {
	Raw  json.RawMessage
	Path string
	p    *Problems
}

// NewValue names the root of what is decoded.
func NewValue(raw []byte, path string, p *Problems) Value {
	return Value{bytes.Trim(raw, " \t\r\n"), path, p} // RFC 8259, section 2: white space
}

// Problems is where the value's faults are noted.
func (v Value) Problems() *Problems { return v.p }

// Invalid notes that the value cannot be used.
func (v Value) Invalid(format string, args ...any) { v.p.Invalid(v.Path, format, args...) }

// decode notes a value of the wrong type. Null, which encoding/json takes for
// any, is of none.
func (v Value) decode(into any, what string) bool {
	if null(v.Raw) || json.Unmarshal(v.Raw, into) != nil {
		v.Invalid("%s is not %s", Short(v.Raw), what)
		return false
	}
	return true
}

// Short is a value as messages, which are one line, show it.
func Short(raw json.RawMessage) string {
	var line bytes.Buffer
	if json.Compact(&line, raw) == nil {
		raw = line.Bytes()
	} else {
		raw = bytes.Join(bytes.Fields(raw), []byte(" "))
	}
	const enough = 60
	if len(raw) > enough {
		return strings.ToValidUTF8(string(raw[:enough]), "") + "…"
	}
	return string(raw)
}

// Text is the value as a string.
func (v Value) Text() (s string, ok bool) { ok = v.decode(&s, "a string"); return s, ok }

// Bool is the value as true or false.
func (v Value) Bool() (b, ok bool) { ok = v.decode(&b, "true or false"); return b, ok }

// Uint32 is the value as a whole number from low to high.
func (v Value) Uint32(low, high uint32) (uint32, bool) {
	n, err := strconv.ParseUint(string(v.Raw), 10, 32)
	if err != nil || n < uint64(low) || n > uint64(high) {
		v.Invalid("%s is not a whole number from %d to %d", Short(v.Raw), low, high)
		return 0, false
	}
	return uint32(n), true
}

// List is the elements of an array.
func (v Value) List() []Value {
	var raws []json.RawMessage
	if !v.decode(&raws, "a list") {
		return nil
	}
	list := make([]Value, len(raws))
	for i, raw := range raws {
		list[i] = v.At(i)
		list[i].Raw = raw
	}
	return list
}

// At names an element of an array.
func (v Value) At(i int) Value { return Value{nil, fmt.Sprintf("%s[%d]", v.Path, i), v.p} }

// Object is the value as an object.
func (v Value) Object() (Object, bool) {
	o := Object{path: v.Path, p: v.p}
	ok := v.decode(&o.fields, "an object")
	return o, ok
}

func null(raw json.RawMessage) bool { return string(raw) == "null" }

// Object is a JSON object and where it stands.
type Object struct {
	fields map[string]json.RawMessage
	path   string
	p      *Problems
	origin map[string]string // paths of values that come from elsewhere
}

// At is the path of a key. One that would not be seen in a line is quoted.
func (o Object) At(key string) string {
	if from, ok := o.origin[key]; ok {
		return from
	}
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) {
		key = strconv.Quote(key)
	}
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

// Get is the value of a key; null means absent.
func (o Object) Get(key string) (Value, bool) {
	raw, ok := o.fields[key]
	return Value{raw, o.At(key), o.p}, ok && !null(raw)
}

// Has reports whether the key is there and not null.
func (o Object) Has(key string) bool { _, ok := o.Get(key); return ok }

// Keys are all of the object's, sorted, those that are null too.
func (o Object) Keys() []string { return slices.Sorted(maps.Keys(o.fields)) }

// Raw is the value of a key as it stands there; nil where there is none.
func (o Object) Raw(key string) json.RawMessage { return o.fields[key] }

// Bool sets b where the key is there.
func (o Object) Bool(key string, b *bool) {
	if v, ok := o.Get(key); ok {
		if got, ok := v.Bool(); ok {
			*b = got
		}
	}
}

// GetText is the value of a key, also as the string that it has to be.
func (o Object) GetText(key string) (v Value, text string, ok bool) {
	if v, ok = o.Get(key); ok {
		text, ok = v.Text()
	}
	return v, text, ok
}

// Text sets s where the key is there.
func (o Object) Text(key string, s *string) {
	if _, got, ok := o.GetText(key); ok {
		*s = got
	}
}

// Uint32 sets n where the key is there.
func (o Object) Uint32(key string, n *uint32, low, high uint32) {
	if v, ok := o.Get(key); ok {
		if got, ok := v.Uint32(low, high); ok {
			*n = got
		}
	}
}

// Object is the object under a key.
func (o Object) Object(key string) (Object, bool) {
	v, ok := o.Get(key)
	if !ok {
		return Object{}, false
	}
	return v.Object()
}

// Only takes these keys, in upper or lower case, and rejects every other one, in an
// object that only we read.
func (o Object) Only(keys ...string) {
	o.FoldCase(keys)
	o.RejectUnknown(keys...)
}

// RejectUnknown rejects every key but these, in an object that only we read.
func (o Object) RejectUnknown(known ...string) {
	for _, key := range o.Keys() {
		if slices.Contains(known, key) {
			continue
		}
		if near, ok := nearest(key, known); ok {
			o.slip(key, near)
		} else {
			o.p.Unsupported(o.At(key), "unknown key; there are %s", strings.Join(known, ", "))
		}
	}
}

// FoldCase renames a key that differs from one of ours in upper and lower case
// only, with a warning: Go's own decoders take the one for the other. A key whose
// value is null is dropped instead, as null means absent.
func (o Object) FoldCase(ours []string) {
	for _, key := range o.Keys() {
		at := slices.IndexFunc(ours, func(k string) bool { return strings.EqualFold(k, key) })
		if at < 0 || slices.Contains(ours, key) {
			continue
		}
		if name := ours[at]; null(o.fields[key]) {
			// nothing to take
		} else if o.Has(name) {
			o.p.Unsupported(o.At(key), "given beside %q", name)
		} else {
			o.p.Warnings = append(o.p.Warnings, fmt.Sprintf("%s: taken for %q", o.At(key), name))
			o.fields[name] = o.fields[key]
		}
		delete(o.fields, key)
	}
}

// RejectMisspelled rejects a key that looks like one of ours misspelled, in an
// object that runtimes and other plugins put keys into as well. The keys in
// foreign pass, and all that look like none of ours.
func (o Object) RejectMisspelled(ours, foreign []string) {
	for _, key := range o.Keys() {
		if slices.Contains(ours, key) || slices.Contains(foreign, key) {
			continue
		}
		if near, ok := nearest(key, ours); ok {
			o.slip(key, near)
		}
	}
}

func (o Object) slip(key, near string) {
	o.p.Unsupported(o.At(key), "unknown key; did you mean %q?", near)
	if !o.Has(near) {
		o.p.List[len(o.p.List)-1].Meant = o.At(near)
	}
}

// Overridden is the object with each of these keys taken, whole, from another
// one that has it. Each value keeps its own path.
func (o Object) Overridden(by Object, keys []string) Object {
	merged := Object{fields: map[string]json.RawMessage{}, path: o.path, p: o.p, origin: map[string]string{}}
	maps.Copy(merged.fields, o.fields)
	maps.Copy(merged.origin, o.origin)
	for _, key := range keys {
		if v, ok := by.Get(key); ok {
			merged.fields[key], merged.origin[key] = v.Raw, v.Path
		}
	}
	return merged
}

// nearest finds the known key that a misspelled one is: one edit away, or two for
// names of six letters and more. Upper and lower case are no edits. Of several it
// is the nearest.
func nearest(key string, known []string) (string, bool) {
	best, edits := "", math.MaxInt
	for _, k := range known {
		allowed := 1
		if len(k) >= 6 {
			allowed = 2
		}
		if d := distance(letters(key), letters(k), allowed); d <= allowed && d < edits {
			best, edits = k, d
		}
	}
	return best, edits < math.MaxInt
}

func letters(word string) []rune { return []rune(strings.ToLower(word)) }

// distance is the number of insertions, deletions and replacements between
// two words (Levenshtein); past limit it is only known to be more.
func distance(a, b []rune, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
