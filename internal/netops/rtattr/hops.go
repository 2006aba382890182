package rtattr

import (
	"iter"

	"golang.org/x/sys/unix"
)

// Hops visits the next hops of an RTA_MULTIPATH attribute, each with its header,
// struct rtnexthop: length, flags, weight - 1, interface index.
func Hops(b []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for len(b) >= unix.SizeofRtNexthop {
			n := int(Native.Uint16(b))
			if n < unix.SizeofRtNexthop || n > len(b) {
				yield(nil, ErrMalformed)
				return
			}
			if !yield(b[:n], nil) {
				return
			}
			b = b[min(Align(n), len(b)):]
		}
	}
}

// WellFormedHops visits next hops up to the first that is malformed.
func WellFormedHops(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for h, err := range Hops(b) {
			if err != nil || !yield(h) {
				return
			}
		}
	}
}
