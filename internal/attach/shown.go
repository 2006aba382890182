//go:build linux

package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
	"github.com/cni-netops/plugins/internal/show"
)

// onNode stands for the node, where sharers are counted by namespaces' locks.
const onNode = ""

// sharers is how many records want a thing, by where and by its command.
type sharers map[[2]string]int

// countSharers counts what records want. What is being taken back, and what was
// before the node booted, wants nothing.
func countSharers(entries []*record.Entry, boot string) sharers {
	count := sharers{}
	for _, e := range entries {
		if e.Err != nil || e.Boot != boot || e.Progress == record.Undoing {
			continue
		}
		want := e.Want()
		for o := range e.Done.Host.All() {
			count[[2]string{onNode, o.Command(netops.Add)}]++
		}
		for o := range want.Pod.Add.All() {
			count[[2]string{e.Netns.Lock, o.Command(netops.Add)}]++
		}
	}
	return count
}

// recordShown is how a record is shown, before anything is looked at.
func recordShown(e *record.Entry, sharing sharers) show.Record {
	plugin, k := e.Names()
	r := show.Record{Plugin: plugin, Network: k.Network, ContainerID: k.ContainerID, IfName: k.IfName, Name: e.Name(), File: e.Path(),
		State: stateOf(e), Netns: show.Netns{Life: show.Unknown}}
	if e.Err != nil {
		r.Error = e.Err.Error()
		return r
	}
	r.Pod, r.Unchecked, r.Netns.Path = e.Pod, e.SkipCheck, e.Netns.Path
	r.Node = changesShown(netops.Change{Add: e.Done.Host}, netops.State{}, onNode, sharing)
	r.InPod = changesShown(e.Done.Pod, e.Held.Pod.Add, e.Netns.Lock, sharing)
	return r
}

func stateOf(e *record.Entry) show.State {
	switch {
	case errors.Is(e.Err, record.ErrNewer):
		return show.Newer
	case e.Err != nil:
		return show.Unreadable
	case e.Progress == record.Planned:
		return show.Unfinished
	case e.Progress == record.Undoing:
		return show.Undoing
	}
	return show.Finished
}

// changesShown are the commands of a change, and what was found as it was
// wanted.
func changesShown(done netops.Change, held netops.State, where string, sharing sharers) (list []show.Change) {
	add := func(o netops.Object, verb netops.Verb, found bool) {
		c := show.Change{Command: o.Command(verb), Found: found, Names: namesIn(o)}
		c.SharedWith = max(0, sharing[[2]string{where, c.Command}]-1)
		list = append(list, c)
	}
	for _, op := range done.Operations() {
		add(op.Object, op.Verb, false)
	}
	for o := range held.All() {
		add(o, netops.Add, true)
	}
	return list
}

// namesIn are the addresses and subnets that an object is found by.
func namesIn(o netops.Object) (names []netip.Prefix) {
	add := func(p netip.Prefix) {
		if p.IsValid() {
			names = append(names, p)
		}
	}
	host := func(ip netip.Addr) { add(netip.PrefixFrom(ip, ip.BitLen())) }
	switch o := o.(type) {
	case *netops.Route:
		add(o.Dst)
		for _, hop := range o.NextHops() {
			host(hop.Gw)
		}
	case *netops.Rule:
		add(o.From)
		add(o.To)
	case *netops.Neigh:
		host(o.IP)
	}
	return names
}

// byPod are the readable records of this boot by the locks of their namespaces,
// in the order of their ADDs.
func byPod(all []*record.Entry, boot string) map[string][]*record.Entry {
	pods := map[string][]*record.Entry{}
	for _, e := range all {
		if e.Err == nil && e.Boot == boot {
			pods[e.Netns.Lock] = append(pods[e.Netns.Lock], e)
		}
	}
	for _, records := range pods {
		slices.SortStableFunc(records, func(a, b *record.Entry) int { return a.Created.Compare(b.Created) })
	}
	return pods
}

// versionOf stands for records as they are now.
func versionOf(pod []*record.Entry) string {
	var version strings.Builder
	for _, e := range pod {
		fmt.Fprintln(&version, e.Path(), e.Created.UnixNano())
	}
	return version.String()
}

// wantedStill is what of a record's wishes holds, for CHECK: what a later one of
// the pod's records has changed, or may have, is that one's. Where attachments choose the
// default routes together, what one of them took away may be back.
func wantedStill(e *record.Entry, pod []*record.Entry) netops.Change {
	want := e.Want().Pod.Taken()
	for _, later := range pod[slices.Index(pod, e)+1:] {
		want = want.Overridden(later.Want().Pod)
	}
	if chooseTogether(e, pod) {
		want.Del.Routes = withoutDefaults(want.Del.Routes)
	}
	return want
}

// chooseTogether reports whether attachments of a record's plugin choose the
// default routes of the pod together.
func chooseTogether(e *record.Entry, pod []*record.Entry) bool {
	return slices.ContainsFunc(pod, func(o *record.Entry) bool {
		return o.Plugin == e.Plugin && o.Progress == record.Finished && o.Default != nil
	})
}

// judgeDefaults is what CHECK of a record's attachment says of that choice: why
// its own preference does not count, and which default routes there should not be, or
// are missing. Of an attachment that stands in its chain more than once, the last
// record counts.
func judgeDefaults(e *record.Entry, pod []*record.Entry, have netops.Snapshot) (overruled string, stray []netops.Drift) {
	later := func(o *record.Entry) bool {
		return o.Plugin == e.Plugin && o.Key == e.Key && o.Progress == record.Finished
	}
	if !chooseTogether(e, pod) || slices.ContainsFunc(pod[slices.Index(pod, e)+1:], later) {
		return "", nil
	}
	p, ours := newPod(pod, e.Plugin, e.Key), preference{preferenceOf(e), e.Key}
	return p.overruled(ours), p.strayDefaults(ours, have)
}

// differing notes what drifted beside the commands that made it. What has
// another form by now has a line of its own.
func differing(list []show.Change, drift []netops.Drift) []show.Change {
	for _, d := range drift {
		at := slices.IndexFunc(list, func(c show.Change) bool { return c.Command == d.Command() })
		if at < 0 {
			at = len(list)
			list = append(list, show.Change{Command: d.Command(), Names: namesIn(d.Object)})
		}
		list[at].Differs = d.Problem()
	}
	return list
}
