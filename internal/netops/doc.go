// Package netops brings a network namespace to the state that a plugin wants,
// and takes it back.
//
// What decides works on values: a [State] names kernel objects, a [Change] is
// what to delete and what to add, a [Snapshot] is what the kernel had. What
// does is a [Netns], the only thing here that talks to the kernel:
//
//	n, err := netops.Open("/run/netns/pod")     // by handle, never by switching the process over
//	have, err := n.Snapshot(ctx, query)         // filtered, repeated until whole
//	want := decide(config, have)                // pure
//	done, held := want.Needed(have.State)       // what already holds is not ours
//	                                            // (written down, before anything is changed)
//	err = n.Apply(ctx, done)                    // all of it, or nothing
//	err = n.Undo(ctx, done)                     // what is gone already is fine
//
// Links are named, never numbered: an index is looked up when a message is
// sent. Every object prints as the ip(8) or sysctl(8) command that makes it.
// Those that are no routes are dealt with in programs that call [EveryKind].
//
// rtnetlink has no transactions. Apply sends a change in order, deletions
// first unless it says otherwise, reads every answer, and when one is a refusal
// converges back to what was there. What the kernel does on its own account, and what others change
// meanwhile, is left alone.
package netops
