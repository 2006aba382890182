package cniroute

import (
	"bytes"
	"math"
)

// scanList reads a list of plain routes: objects of known keys, whose values
// are strings without escapes, whole numbers and truth values. That is what
// lists of thousands are made of, and reading them so takes a tenth of what
// encoding/json takes. Everything else, however valid, it leaves to the way
// that can also tell what is wrong.
func (s Schema) scanList(raw []byte) ([]fields, bool) {
	in := scanner{names: s, b: raw}
	if !in.take('[') {
		return nil, false
	}
	// As many as there may be: a brace may also stand in a string.
	list := make([]fields, 0, min(bytes.Count(raw, []byte{'{'}), len(raw)/len(`{"dst":"::"}`)+1))
	for first := true; !in.take(']'); first = false {
		if !first && !in.take(',') {
			return nil, false
		}
		f, ok := in.route()
		if !ok {
			return nil, false
		}
		list = append(list, f)
	}
	return list, in.end()
}

type scanner struct {
	names Schema
	b     []byte
	i     int
}

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\t' || s.b[s.i] == '\n' || s.b[s.i] == '\r') {
		s.i++
	}
}

// take goes past c, if it comes next.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scanner) end() bool {
	s.space()
	return s.i == len(s.b)
}

func (s *scanner) route() (f fields, ok bool) {
	if !s.take('{') {
		return f, false
	}
	for first := true; !s.take('}'); first = false {
		if !first && !s.take(',') {
			return f, false
		}
		key, ok := s.text()
		if !ok || !s.take(':') || !s.value(&f, key) {
			return f, false
		}
	}
	return f, true
}

func (s *scanner) value(f *fields, key string) bool {
	text := func(into *Optional[string]) bool {
		v, ok := s.text()
		*into = Some(v)
		return ok
	}
	number := func(into *Optional[uint32]) bool {
		v, ok := s.number()
		*into = Some(v)
		return ok
	}
	switch key {
	case "":
		return false // which is no name, even where a schema has none
	case s.names.Dst:
		return text(&f.Dst)
	case s.names.Gw:
		return text(&f.Gw)
	case s.names.Dev:
		return text(&f.Dev)
	case s.names.Priority:
		return number(&f.Priority)
	case "src":
		return text(&f.Src)
	case "type":
		return text(&f.Type)
	case "mtu":
		return number(&f.MTU)
	case "advmss":
		return number(&f.AdvMSS)
	case "metric":
		return number(&f.Metric)
	case "table":
		return number(&f.Table)
	case "scope":
		return number(&f.Scope)
	case "onlink":
		v, ok := s.truth()
		f.OnLink = Some(v)
		return ok
	}
	return false
}

// text reads a string of printable ASCII.
func (s *scanner) text() (string, bool) {
	if !s.take('"') {
		return "", false
	}
	for start := s.i; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return string(s.b[start : s.i-1]), true
		case c < ' ' || c > '~' || c == '\\':
			return "", false
		}
	}
	return "", false
}

// number reads a whole number that fits.
func (s *scanner) number() (uint32, bool) {
	s.space()
	start, n := s.i, uint64(0)
	for ; s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9'; s.i++ {
		if n = n*10 + uint64(s.b[s.i]-'0'); n > math.MaxUint32 {
			return 0, false
		}
	}
	digits := s.i - start
	return uint32(n), digits == 1 || digits > 1 && s.b[start] != '0'
}

func (s *scanner) truth() (value, ok bool) {
	s.space()
	for word, value := range map[string]bool{"true": true, "false": false} {
		if len(s.b)-s.i >= len(word) && string(s.b[s.i:s.i+len(word)]) == word {
			s.i += len(word)
			return value, true
		}
	}
	return false, false
}
