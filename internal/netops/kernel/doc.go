// Package kernel brings a network namespace to the state that a plan of package
// netops wants, and takes it back. It is the only one that talks rtnetlink
// (rtnetlink(7)), and the only one that enters namespaces.
//
//	n, err := kernel.Open("/run/netns/pod")     // by handle, never by switching the process over
//	have, err := n.Snapshot(ctx, query)         // filtered, repeated until whole
//	want := decide(config, have)                // pure
//	done, held := want.Needed(have.State)       // what already exists is not ours to undo
//	                                            // (written down, before anything is changed)
//	err = n.Apply(ctx, done)                    // all of it, or nothing
//	err = n.Undo(ctx, done)                     // what is gone already is fine
//
// rtnetlink has no transactions. Apply sends a change in order, reads every
// answer, and when one is a refusal converges back to what was there. What the
// kernel does on its own account, and what other processes change meanwhile, is
// left alone.
package kernel
