//go:build linux

package attach

import (
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// toUndo is what a record has done that is to be taken back in its pod: without
// what other attachments want there as well, which they own from now on, and
// without putting back routes of ours that no attachment wants any more. complete
// says that others are all there are.
func (r *request) toUndo(e *record.Entry, others []*record.Entry, complete bool) netops.Change {
	done := e.Done.Pod
	for _, newOwner := range others {
		if done.TransferOwnership(&newOwner.Done.Pod, &newOwner.Held.Pod.Add) {
			r.saveOwner(newOwner)
		}
	}
	for _, newOwner := range others { // only of what none wants as it is
		if done.TransferReplaced(&newOwner.Done.Pod) {
			r.saveOwner(newOwner)
		}
	}
	if complete { // a record that cannot be read may want it
		done.Del.Routes = slices.DeleteFunc(slices.Clone(done.Del.Routes), func(route netops.Route) bool {
			return route.Protocol == netops.Protocol && !slices.ContainsFunc(others, func(o *record.Entry) bool { return o.Wants(&route) })
		})
	}
	return done
}

// saveOwner saves what another attachment owns from now on.
func (r *request) saveOwner(newOwner *record.Entry) {
	if err := newOwner.Rewrite(); err != nil {
		r.Warn("could not transfer ownership to "+newOwner.Path()+": DEL of that attachment will not remove it", "error", err)
	}
}
