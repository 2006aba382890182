package netopstest

import "os"

// Sample is the step of a sweep over many like cases: 1 where the environment has
// SWEEPS=whole, as make check does, else step, so that make test takes minutes. A
// sample has the first case, and is the same each time.
func Sample(step int) int {
	if os.Getenv("SWEEPS") == "whole" {
		return 1
	}
	return step
}
