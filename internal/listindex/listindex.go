// Package listindex finds the elements of a list by a key that several may
// share. It costs one map and one slice, however many elements there are: a
// map of slices would cost an allocation for each of thousands of routes.
package listindex

import "iter"

// Index knows where in a list the elements of each key are.
type Index[K comparable] struct {
	first map[K]int32
	next  []int32 // the next element of the same key; 0 is none
}

// New indexes a list of n elements.
func New[K comparable](n int, key func(i int) K) Index[K] {
	x := Index[K]{first: make(map[K]int32, n), next: make([]int32, n)}
	for i := n - 1; i >= 0; i-- {
		k := key(i)
		x.next[i] = x.first[k]
		x.first[k] = int32(i) + 1
	}
	return x
}

// All is the elements of a key, in the list's order.
func (x Index[K]) All(k K) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := x.first[k]; i != 0 && yield(int(i-1)); i = x.next[i-1] {
		}
	}
}

// Find is the first element of a key that match accepts.
func (x Index[K]) Find(k K, match func(i int) bool) (int, bool) {
	for i := range x.All(k) {
		if match(i) {
			return i, true
		}
	}
	return 0, false
}

// Append indexes one more element, at the end of the list.
func (x *Index[K]) Append(k K) {
	x.next = append(x.next, 0)
	at := int32(len(x.next))
	if last := x.last(k); last != 0 {
		x.next[last-1] = at
	} else {
		x.first[k] = at
	}
}

func (x *Index[K]) last(k K) int32 {
	i := x.first[k]
	for i != 0 && x.next[i-1] != 0 {
		i = x.next[i-1]
	}
	return i
}
