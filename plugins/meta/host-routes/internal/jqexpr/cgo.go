//go:build cgo

package jqexpr

// threadStacks is what the C library reserves for the stacks of the threads
// that Go may start in a child, 8 MiB for each, and maps as data. Releases are
// built without cgo.
const threadStacks = 16 * (8 << 20)
