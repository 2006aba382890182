//go:build linux

package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/record"
)

// attachment is one in a pod that lives. All but plan lock the pod's namespace.
type attachment struct {
	*request
	ns    *kernel.Netns
	where record.Namespace
	boot  string
	lock  *record.Lock
}

// attachmentIn is the attachment of a request, with what tells its sandbox from
// every other one.
func (r *request) attachmentIn(ns *kernel.Netns) (*attachment, error) {
	identity, err := ns.Identity(r.Config.IfName)
	if err != nil {
		return nil, err
	}
	boot, err := record.Boot()
	if err != nil {
		return nil, err
	}
	name, err := ns.LockName()
	if err != nil {
		return nil, err
	}
	return &attachment{request: r, ns: ns, boot: boot,
		where: record.Namespace{Path: r.Config.Netns, Folder: folderOf(r.Config.Netns), Identity: identity, Lock: name}}, nil
}

func (r *request) lockAttachment(ns *kernel.Netns) (*attachment, error) {
	a, err := r.attachmentIn(ns)
	if err != nil {
		return nil, err
	}
	if a.lock, err = r.store().Lock(a.where.Lock); err != nil {
		return nil, fmt.Errorf("lock the pod's namespace: %w", err)
	}
	return a, nil
}

// inSandbox are those records that are of the attachment's sandbox.
func (a *attachment) inSandbox(all []*record.Entry) (found []*record.Entry) {
	for _, e := range all {
		if e.Err == nil && e.In(a.boot, a.where.Identity) {
			found = append(found, e)
		}
	}
	return found
}

// before is the pod as it was before the earlier entries of a chain, the newest
// of which stands first.
func before(have netops.State, earlier []*record.Entry) netops.State {
	for _, e := range earlier {
		if e.Progress == record.Finished {
			have = have.Before(e.Done.Pod)
		}
	}
	return have
}

// takeBackUnfinished takes back what killed processes have left of this
// attachment, and what is left of sandboxes that it had before. It returns the
// records that stay, the newest first: the earlier entries of this chain, and
// those of other sandboxes that live.
func (a *attachment) takeBackUnfinished(ctx context.Context) ([]*record.Entry, error) {
	entries, err := a.store().Entries(a.key())
	if err != nil {
		return nil, err
	}
	var stay []*record.Entry
	for _, e := range slices.Backward(entries) {
		if keep, err := a.takeBackUnlessKept(ctx, e); err != nil {
			return nil, fmt.Errorf("take back what an earlier process left: %w", err)
		} else if keep {
			stay = append(stay, e)
		}
	}
	return stay, nil
}

// takeBackUnlessKept takes one earlier record back, unless it is to be kept.
func (a *attachment) takeBackUnlessKept(ctx context.Context, e *record.Entry) (keep bool, err error) {
	switch {
	case !a.usable(e):
		return true, nil
	case e.In(a.boot, a.where.Identity):
		if e.Progress == record.Finished {
			return true, nil
		}
		a.Warn("taking back what an earlier process left unfinished", "record", e.Path())
		return false, a.takeBack(ctx, a.ns, e)
	}
	// Without cookies an earlier sandbox may have had the lock that is held.
	if e.Netns.Lock != a.where.Lock {
		lock, err := a.store().TryLock(e.Netns.Lock)
		if errors.Is(err, record.ErrLocked) {
			return true, nil // another process works in that sandbox
		} else if err != nil {
			return true, err
		}
		defer lock.Unlock()
	}
	ns, err := a.sandbox(e)
	if err != nil {
		return true, err
	}
	if ns != nil {
		defer ns.Close()
		if e.Progress == record.Finished {
			return true, nil // another sandbox of this name lives
		}
	}
	a.Warn("taking back what is left of an earlier sandbox", "record", e.Path())
	return false, a.takeBack(ctx, ns, e)
}

// takeBack takes one record back. ns is its pod, nil where that is gone.
func (a *attachment) takeBack(ctx context.Context, ns *kernel.Netns, e *record.Entry) error {
	all, err := a.undoOnHost(ctx, []*record.Entry{e})
	a.undoInPod(ctx, ns, all)
	return cmp.Or(err, failuresJoined(all))
}
