package listindex

import (
	"slices"
	"strings"
	"testing"
)

func TestIndex(t *testing.T) {
	list := strings.Fields("a b a c b a")
	x := New(len(list), func(i int) string { return list[i] })
	check := func(key string, want ...int) {
		t.Helper()
		if got := slices.Collect(x.All(key)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
	check("a", 0, 2, 5)
	check("b", 1, 4)
	check("c", 3)
	check("d")
	x.Append("c")
	x.Append("d")
	x.Append("a")
	check("c", 3, 6)
	check("d", 7)
	check("a", 0, 2, 5, 8)
	if i, ok := x.Find("a", func(i int) bool { return i > 2 }); i != 5 || !ok {
		t.Errorf("found %d, %v", i, ok)
	}
	if i, ok := x.Find("a", func(int) bool { return false }); ok {
		t.Errorf("found %d", i)
	}
	empty := New(0, func(int) string { return "" })
	empty.Append("z")
	if got := slices.Collect(empty.All("z")); !slices.Equal(got, []int{0}) {
		t.Errorf("z: %v", got)
	}
}
