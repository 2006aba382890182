//go:build linux

package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/record"
	"github.com/cni-netops/plugins/internal/show"
)

// Show lists the records that are asked for, with what differs now. It locks
// nothing: where something seems wrong, it looks again, as the record may have
// changed between reading it and looking at the kernel.
func Show(ctx context.Context, q show.Query) ([]show.Record, error) {
	root, err := record.Root(q.StateDir)
	if err != nil {
		return nil, err
	}
	list, err := settled(ctx, record.NewStore(root, q.Plugin), func(r *show.Record) bool { return (q.All || r.Plugin == q.Plugin) && q.Names(r) })
	if err == nil && q.All {
		var kept []show.Record
		kept, err = show.ListKept(q.DataDir)
		list = append(list, kept...)
	}
	return list, err
}

// looks bounds how often is looked at what seems wrong. Pods that come and go all
// the time have it differ each time.
const looks = 5

// settled looks at records until it is certain what is wrong with them.
func settled(ctx context.Context, store record.Store, which func(*show.Record) bool) ([]show.Record, error) {
	list, err := view(ctx, store, which)
	if err != nil {
		return nil, err
	}
	seen := show.First(list)
	for i := 1; i < looks && !seen.Settled(); i++ {
		if list, err = view(ctx, store, seen.Pending); err != nil {
			return nil, err
		}
		seen.Again(list)
	}
	return seen.List(), nil
}

// shown is a record that is asked for, and how it is shown.
type shown struct {
	*record.Entry
	show.Record
	pod []*record.Entry // all readable ones of its pod, see byPod
}

// judged reports whether CHECK would look at it now: it waits while another
// process works in the pod.
func (s *shown) judged() bool {
	return s.Err == nil && s.Progress == record.Finished && s.Netns.Life == show.Lives && !s.SkipCheck && s.Process == nil
}

// view is one look at the node, at those records that which names.
func view(ctx context.Context, store record.Store, which func(*show.Record) bool) ([]show.Record, error) {
	entries, err := store.All()
	if err != nil {
		return nil, err
	}
	boot, err := record.Boot()
	if err != nil {
		return nil, err
	}
	holders, err := store.Holders()
	if err != nil {
		return nil, err
	}
	sharing, pods := countSharers(entries, boot), byPod(entries, boot)
	var chosen []*shown
	for _, e := range entries {
		s := &shown{e, recordShown(e, sharing), pods[e.Netns.Lock]}
		if pid := holders[e.Netns.Lock]; pid > 0 {
			s.Process = &show.Process{PID: pid, Name: processName(pid)}
		}
		if which(&s.Record) {
			chosen = append(chosen, s)
		}
	}
	lookIntoPods(ctx, chosen, boot)
	if err := lookAtNode(ctx, chosen); err != nil {
		return nil, err
	}
	list := make([]show.Record, len(chosen))
	for i, s := range chosen {
		list[i] = s.Record
	}
	return list, nil
}

// processName is what ps(1) calls a process; empty where it has ended.
func processName(pid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(name))
}

// lookAtNode finds what differs on the node, in one go.
func lookAtNode(ctx context.Context, chosen []*shown) error {
	var wanted netops.State
	for _, s := range chosen {
		if s.judged() {
			wanted.Append(s.Done.Host)
		}
	}
	if wanted.IsZero() {
		return nil
	}
	host, err := kernel.Here()
	if err != nil {
		return err
	}
	defer host.Close()
	have, err := lookOn(ctx, host, wanted)
	if err != nil {
		return err
	}
	problems := map[string]string{}
	for _, d := range (netops.Change{Add: wanted}).Drift(have) {
		problems[d.Command()] = d.Problem()
	}
	for _, s := range chosen {
		for i := range s.Node {
			if s.judged() {
				s.Node[i].Differs = problems[s.Node[i].Command]
			}
		}
	}
	return nil
}

// lookIntoPods finds out which pods live, and what differs in them.
func lookIntoPods(ctx context.Context, chosen []*shown, boot string) {
	pods := map[string][]*shown{}
	for _, s := range chosen {
		switch {
		case s.Err != nil:
		case s.Boot != boot:
			s.Netns.Life = show.Gone
		default:
			s.Beside = versionOf(s.pod)
			pods[s.Entry.Netns.Path] = append(pods[s.Entry.Netns.Path], s)
		}
	}
	for path, records := range pods {
		lookIntoPod(ctx, path, records, boot)
	}
}

// lookIntoPod looks at what is at the path of some records' namespaces.
func lookIntoPod(ctx context.Context, path string, records []*shown, boot string) {
	fail := func(life show.Life, err error) {
		for _, s := range records {
			s.Netns.Life = life
			if err != nil {
				s.Error = err.Error()
			}
		}
	}
	ns, err := kernel.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		fail(show.Gone, nil)
		return
	} else if err != nil {
		fail(show.Unknown, err)
		return
	}
	defer ns.Close()
	q := netops.Query{To: map[netip.Prefix]bool{}}
	if slices.ContainsFunc(records, func(s *shown) bool { return s.Default != nil }) {
		q = mainDefaults()
	}
	wants := make([]netops.Change, len(records))
	for i, s := range records {
		s.Netns.Life = lifeOf(ns, s.Entry, boot)
		if s.judged() {
			wants[i] = wantedStill(s.Entry, s.pod)
			q.Cover(wants[i])
		}
	}
	have, err := ns.Snapshot(ctx, q)
	if err != nil {
		fail(show.Unknown, err)
		return
	}
	for i, s := range records {
		s.InPod = differing(s.InPod, wants[i].Drift(have.State))
		if s.judged() {
			overruled, stray := judgeDefaults(s.Entry, s.pod, have)
			s.Differs, s.InPod = overruled, differing(s.InPod, stray)
		}
	}
}
