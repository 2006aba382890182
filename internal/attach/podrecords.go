//go:build linux

package attach

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// pod is what is recorded of the attachments of a pod.
type pod struct {
	own         []*record.Entry // finished records of the attachment in question, the newest first
	others      []*record.Entry // those of all others, of whichever plugin
	preferences []preference    // of others
	withheld    []netops.Route  // default routes
	ordered     uint32          // how many ADDs there were
}

// podOf reads the records of a pod beside those of an attachment. Most pods have
// none: then nothing is read.
func (a *attachment) podOf(planner Planner, own []*record.Entry) (p pod, err error) {
	all := own
	if _, ok := planner.(Sharer); !ok {
		return pod{own: own}, nil
	}
	if a.store().Recorded(a.where.Lock) > len(own) {
		if all, _, err = a.store().InNamespace(a.where.Lock); err != nil {
			return p, err
		}
	}
	p = newPod(all, a.Plugin.Name, a.key())
	p.own = own
	return p, nil
}

// newPod sorts the records of a pod. Of the plugin's own those that are not
// finished withhold what they have taken away, too, but prefer nothing.
func newPod(all []*record.Entry, plugin string, key record.Key) (p pod) {
	for _, e := range all {
		itself := e.Plugin == plugin && e.Key == key
		if e.Plugin == plugin {
			p.withheld = append(p.withheld, defaultsOf(e.Done.Pod.Del.Routes)...)
			p.ordered = max(p.ordered, preferenceOf(e).Order)
		}
		switch {
		case e.Progress != record.Finished:
		case !itself:
			p.others = append(p.others, e)
			if e.Plugin == plugin {
				p.preferences = append(p.preferences, preference{preferenceOf(e), e.Key})
			}
		}
	}
	return p
}

// preferenceOf is the preference that a record has. One of the first release has
// its interface's place.
func preferenceOf(e *record.Entry) record.Default {
	if e.Default != nil {
		return *e.Default
	}
	return record.Default{Dev: e.IfName, Number: trailingNumber(e.IfName)}
}

// trailingNumber is the number at the end of an interface's name; 0 without one.
func trailingNumber(name string) uint32 {
	const most = 5
	digits := name[len(strings.TrimRight(name, "0123456789")):]
	n, _ := strconv.ParseUint(digits[max(0, len(digits)-most):], 10, 32)
	return uint32(n)
}

// wanted is what the other attachments of the pod want there.
func (p pod) wanted() (s netops.State) {
	for _, e := range p.others {
		s.Append(e.Want().Pod.Add)
	}
	return s
}

// order is the number of an ADD. A repeated one, which asks for the same, keeps
// its own.
func (p pod) order(d *record.Default) uint32 {
	for _, e := range p.own {
		if own := e.Default; own != nil && own.Dev == d.Dev && own.Asked == d.Asked {
			return own.Order
		}
	}
	return p.ordered + 1
}

// decides reports whether the pod's default routes are chosen by preferences: records of
// the first release only tell what was taken away.
func (p pod) decides() bool {
	prefers := func(e *record.Entry) bool { return e.Default != nil }
	return slices.ContainsFunc(p.own, prefers) || len(p.own) > 0 && slices.ContainsFunc(p.others, prefers)
}
