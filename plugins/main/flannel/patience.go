//go:build faults

package main

import "time"

// A test does not wait as long for a delegate that does not end.
func init() { patience = time.Second }
