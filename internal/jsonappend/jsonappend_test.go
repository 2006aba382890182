package jsonappend

import (
	"encoding/json"
	"math"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// every has a member of each kind, as encoding/json would write them.
type every struct {
	Text   string          `json:"text,omitzero"`
	Number uint32          `json:"number,omitzero"`
	Big    uint64          `json:"big,omitzero"`
	Flag   bool            `json:"flag,omitzero"`
	Addr   netip.Addr      `json:"addr,omitzero"`
	Prefix netip.Prefix    `json:"prefix,omitzero"`
	Bytes  []byte          `json:"bytes,omitempty"`
	Raw    json.RawMessage `json:"raw,omitempty"`
}

func (e every) append(b []byte) []byte {
	o := Open(b)
	o.Text("text", e.Text)
	o.Number("number", e.Number)
	o.Number64("big", e.Big)
	o.Flag("flag", e.Flag)
	o.Addr("addr", e.Addr)
	o.Prefix("prefix", e.Prefix)
	o.Bytes("bytes", e.Bytes)
	if e.Raw != nil {
		o.Raw("raw", e.Raw)
	}
	return o.Close()
}

func TestAsEncodingJSON(t *testing.T) {
	for _, e := range []every{
		{},
		{Text: "a", Number: math.MaxUint32, Big: math.MaxUint64, Flag: true, Addr: netip.MustParseAddr("10.0.0.1"),
			Prefix: netip.MustParsePrefix("fd00::/64"), Bytes: []byte{0, 255, 7}, Raw: json.RawMessage(`{"a":[1,null]}`)},
		{Addr: netip.MustParseAddr("::ffff:10.0.0.1"), Prefix: netip.MustParsePrefix("::ffff:10.0.0.0/104"), Bytes: []byte{}},
		{Addr: netip.MustParseAddr("fe80::1%eth0"), Flag: true},
		{Addr: netip.MustParseAddr("0.0.0.0"), Prefix: netip.MustParsePrefix("0.0.0.0/0")},
		{Big: 1},
		{Raw: json.RawMessage("null")},
	} {
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(e.append(nil))); diff != "" {
			t.Errorf("(-encoding/json +got):\n%s", diff)
		}
	}
}

// A zone may hold any letter (RFC 4007 leaves it to the system), in a record
// that was tampered with.
func TestAZoneThatIsNoPlainText(t *testing.T) {
	want := every{Addr: netip.MustParseAddr("fe80::1").WithZone("a\"b\\\n")}
	var got every
	if err := json.Unmarshal(want.append(nil), &got); err != nil {
		t.Fatalf("%s: %v", want.append(nil), err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestItAppends(t *testing.T) {
	o := Open([]byte("before "))
	o.Key("inner")
	o.B = every{Number: 1}.append(o.B)
	o.Flag("flag", true)
	if got, want := string(o.Close()), `before {"inner":{"number":1},"flag":true}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestKeysAreStrings(t *testing.T) {
	o := Open(nil)
	o.Raw("a\"\n", []byte("1"))
	if got, want := string(o.Close()), `{"a\"\u000a":1}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// FuzzString: what is written is one JSON string, and says what it was given.
func FuzzString(f *testing.F) {
	for _, s := range []string{"", `a"b\c/`, "\x00\x1f\x7f\n\t", "é日\u2028\U0001f600", "\xff", "</script>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		written := String([]byte("x"), s)
		var back string
		if err := json.Unmarshal(written[1:], &back); err != nil || written[0] != 'x' {
			t.Fatalf("%q: %v", written, err)
		}
		if utf8.ValidString(s) && back != s {
			t.Errorf("%q came back as %q", s, back)
		}
		if strings.ContainsAny(string(written), "\n\r") {
			t.Errorf("%q is more than a line", written)
		}
	})
}

func BenchmarkObject(b *testing.B) {
	e := every{Text: "eth0", Number: 254, Flag: true, Addr: netip.MustParseAddr("10.0.0.1"), Prefix: netip.MustParsePrefix("10.9.0.0/16")}
	buffer := e.append(nil)
	b.ReportAllocs()
	for b.Loop() {
		buffer = e.append(buffer[:0])
	}
}

func TestList(t *testing.T) {
	for want, list := range map[string][]string{`x[]`: nil, `x["a"]`: {"a"}, `x["a","b"]`: {"a", "b"}} {
		if got := string(List([]byte("x"), list, func(s *string, b []byte) []byte { return String(b, *s) })); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
