package netopstest

import (
	"os"
	"strings"
	"testing"
)

// Whole reports whether a sweep over many like cases is to go through all of them,
// as make sweeps does, and not through a sample, so that make test takes minutes: the
// environment has SWEEPS=whole. That make sweeps finds the test, its name has to
// begin with TestSweep.
func Whole(t testing.TB) bool {
	t.Helper()
	if !strings.HasPrefix(t.Name(), "TestSweep") {
		t.Fatal("the name of a sweep begins with TestSweep")
	}
	return os.Getenv("SWEEPS") == "whole"
}

// Sample is the step of a sweep: 1 where it is [Whole], else step. A sample has the
// first case, and is the same each time.
func Sample(t testing.TB, step int) int {
	t.Helper()
	if Whole(t) {
		return 1
	}
	return step
}
