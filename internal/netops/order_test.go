package netops

import (
	"slices"
	"testing"
)

// Every stage has its turn, once: when a change is made, and when it is taken
// back.
func TestEveryStageIsMadeAndUndone(t *testing.T) {
	var all []Stage
	for at := Never + 1; at < stages; at++ {
		all = append(all, at)
	}
	for _, addFirst := range []bool{false, true} {
		c := &Change{AddFirst: addFirst}
		for name, order := range map[string][]Stage{"Order": c.Order(), "UndoOrder": c.UndoOrder()} {
			if slices.Sort(order); !slices.Equal(order, all) {
				t.Errorf("%s, AddFirst %t: stages %d, not each of %d once", name, addFirst, order, all)
			}
		}
	}
}
