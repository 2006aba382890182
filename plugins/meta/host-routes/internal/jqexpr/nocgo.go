//go:build !cgo

package jqexpr

// threadStacks is nothing: Go's own threads have their stacks in its heap.
const threadStacks = 0
