// Package netops brings a network namespace to the state that a plugin wants,
// and takes it back.
//
// It is a model, and pure: a [State] names kernel objects, a [Change] is what to
// delete and what to add, a [Snapshot] is what the kernel had. What is done with
// them is written once for every kind of object. Package kernel, below this one,
// does what a change says.
//
// Links are named, never numbered: an index is looked up when a message is
// sent. Every object prints as the ip(8) or sysctl(8) command that makes it.
package netops
