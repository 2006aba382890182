package machine

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// Table is what tests have shown, a row each, below its head.
type Table struct {
	head string
	rows []string
}

// NewTable makes a table with these columns.
func NewTable(columns ...string) *Table { return &Table{head: strings.Join(columns, "\t")} }

// Shown adds a row, if the test ends well.
func (s *Table) Shown(t *testing.T, columns ...string) {
	t.Cleanup(func() {
		if !t.Failed() {
			s.rows = append(s.rows, strings.Join(columns, "\t"))
		}
	})
}

// Print writes the rows in order.
func (s *Table) Print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, s.head)
	for _, row := range slices.Sorted(slices.Values(s.rows)) {
		_, _ = fmt.Fprintln(w, row)
	}
	_ = w.Flush()
}
