package main

import (
	"context"

	"github.com/cni-netops/plugins/internal/show"
)

// showKept lists the configurations that are kept, with the leases of their
// attachments; all of them, the records of the other plugins too.
func showKept(ctx context.Context, q show.Query) ([]show.Record, error) {
	if q.All {
		return showAll(ctx, q)
	}
	return show.ListKept(q.DataDir)
}
