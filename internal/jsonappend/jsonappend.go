// Package jsonappend writes JSON by appending to a buffer, for what every ADD
// writes: setting up reflection over a few types takes a short-lived process
// longer than the kernel needs for its routes.
package jsonappend

import (
	"encoding/base64"
	"net/netip"
	"strconv"
)

// Object is a JSON object that is being appended to B. Members that are zero
// are left out, as by encoding/json's omitzero.
type Object struct {
	B    []byte
	next bool
}

// Open begins an object at the end of b.
func Open(b []byte) Object { return Object{B: append(b, '{')} }

// Close ends the object and returns the buffer.
func (o *Object) Close() []byte { return append(o.B, '}') }

// Key begins a member, whose value the caller appends to B.
func (o *Object) Key(name string) {
	if o.next {
		o.B = append(o.B, ',')
	}
	o.next = true
	o.B = append(String(o.B, name), ':')
}

// Raw is a member whose value is JSON already.
func (o *Object) Raw(name string, value []byte) {
	o.Key(name)
	o.B = append(o.B, value...)
}

// Number is a member of that value.
func (o *Object) Number(name string, n uint32) { o.Number64(name, uint64(n)) }

// Number64 is a member of that value.
func (o *Object) Number64(name string, n uint64) {
	if n != 0 {
		o.Key(name)
		o.B = strconv.AppendUint(o.B, n, 10)
	}
}

// Flag is a member that is true.
func (o *Object) Flag(name string, set bool) {
	if set {
		o.Key(name)
		o.B = append(o.B, "true"...)
	}
}

// Text is a member of that value.
func (o *Object) Text(name, s string) {
	if s != "" {
		o.Key(name)
		o.B = String(o.B, s)
	}
}

// Addr is a member with an address.
func (o *Object) Addr(name string, ip netip.Addr) {
	if ip.Zone() != "" { // may hold any letter
		o.Text(name, ip.String())
	} else if ip.IsValid() {
		o.Key(name)
		o.B = append(ip.AppendTo(append(o.B, '"')), '"')
	}
}

// Prefix is a member with a subnet.
func (o *Object) Prefix(name string, p netip.Prefix) {
	if p.IsValid() {
		o.Key(name)
		o.B = append(p.AppendTo(append(o.B, '"')), '"')
	}
}

// Bytes is a member in base64, as encoding/json has it.
func (o *Object) Bytes(name string, data []byte) {
	if len(data) > 0 {
		o.Key(name)
		o.B = append(base64.StdEncoding.AppendEncode(append(o.B, '"'), data), '"')
	}
}

// List appends a JSON array whose elements element appends.
func List[T any](b []byte, list []T, element func(*T, []byte) []byte) []byte {
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = element(&list[i], b)
	}
	return append(b, ']')
}

// String appends a JSON string. The text is to be UTF-8.
func String(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
