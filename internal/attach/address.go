//go:build linux

package attach

import (
	"context"
	"errors"
	"slices"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// addressNote and the address name the note of which record has an address.
const addressNote = "address/"

// takeAddress notes that the attachment has the address of a neighbour. What is
// left of an owner whose pod is gone is removed.
func (c *hostChange) takeAddress(ctx context.Context, lock *record.HostLock, e *netops.Neigh) error {
	owner, err := c.addressOwner(e)
	switch {
	case err != nil:
		return err
	case owner == nil:
	case owner.Key == c.entry.Key && owner.Netns.Identity == c.entry.Netns.Identity:
		return nil // an earlier entry of this chain
	case !c.certainlyGone(owner):
		return addressTaken(e, owner)
	default:
		c.Warn("taking over the address of an attachment whose pod is gone", "address", e.IP, "record", owner.Path())
		if err := c.releaseNeighs(ctx, owner.Done.Host.Neighs).Err(); err != nil {
			return err
		}
	}
	return lock.SetNote(addressNote+e.IP.String(), c.entry.Name())
}

// addressOwner is the record that has the address of a neighbour, nil where none
// has. A record of a later version may have it.
func (r *request) addressOwner(e *netops.Neigh) (*record.Entry, error) {
	name, err := r.store().Note(addressNote + e.IP.String())
	if err != nil {
		return nil, err
	}
	owner, err := r.store().Named(name)
	switch {
	case owner == nil || err != nil:
		return nil, err
	case errors.Is(owner.Err, record.ErrNewer):
		may := cni.Errorf(cni.CodeOwned, "%s may be an address of the record %s: %w", e.IP, owner.Path(), owner.Err)
		return nil, failure(e, may)
	}
	// A damaged record wants nothing.
	if slices.ContainsFunc(owner.Done.Host.Neighs, func(o netops.Neigh) bool { return o.IP == e.IP }) {
		return owner, nil
	}
	return nil, nil
}

func addressTaken(e *netops.Neigh, owner *record.Entry) *netops.OpError {
	return failure(e, cni.Errorf(cni.CodeOwned, "%s is the address of %s", e.IP, owner.Key))
}

// giveWay has what exists in the place of a wanted neighbour give way to it, if it is
// ours and no living attachment's. It is no failure if what exists is as it is wanted.
func (c *hostChange) giveWay(ctx context.Context, lock *record.HostLock, want *netops.Neigh) error {
	wanted := netops.State{Neighs: []netops.Neigh{*want}}
	have, err := lookBesideRoutes(ctx, c.host, wanted)
	if err != nil {
		return err
	}
	stale, err := c.staleNeigh(want, have, c.otherOwners(lock, wanted, c.entry))
	if stale == nil || err != nil {
		return err
	}
	c.Warn("a neighbour of ours that no attachment wants any more gives way", "neighbour", stale.String())
	old := netops.State{Neighs: []netops.Neigh{*stale}}
	if err := c.host.DeleteObjects(ctx, old).Err(); err != nil {
		return err
	}
	c.replaced.Neighs = append(c.replaced.Neighs, *stale)
	_, failed := c.host.AddObjects(ctx, wanted)
	return failed.Err()
}

// staleNeigh is the neighbour that keeps one from being added and gives way to it,
// nil where there is none. One that does not give way is an error.
func (r *request) staleNeigh(want *netops.Neigh, have netops.State, others func() (owners, error)) (*netops.Neigh, error) {
	other := have.ConflictingNeigh(want)
	switch {
	case other == nil:
		return nil, nil
	case other.Protocol != netops.Protocol:
		return nil, notOurs(other)
	}
	all, err := others()
	if err != nil {
		return nil, err
	}
	return other, r.refuseOwned(all, other)
}

// staleNeighs are the neighbours that an ADD would have give way, and the failures
// that it would meet.
func (r *request) staleNeighs(want, have netops.State) (stale []netops.Neigh, failed netops.Failures, err error) {
	others := r.otherOwners(nil, netops.State{Neighs: want.Neighs})
	for i := range want.Neighs {
		e := &want.Neighs[i]
		owner, err := r.addressOwner(e)
		if err != nil {
			return nil, nil, err
		}
		if owner != nil && owner.Key != r.key() && !r.certainlyGone(owner) {
			failed = append(failed, addressTaken(e, owner))
			continue
		}
		switch old, err := r.staleNeigh(e, have, others); {
		case err != nil:
			failed = append(failed, failure(e, err))
		case old != nil:
			stale = append(stale, *old)
		}
	}
	return stale, failed, nil
}

// releaseAddresses removes the neighbours and address notes of attachments that
// go, unless another entry of the chain wants them.
func (r *request) releaseAddresses(ctx context.Context, lock *record.HostLock, list []netops.Neigh, w wants, of []*record.Entry) netops.Failures {
	failed := r.releaseNeighs(ctx, slices.DeleteFunc(slices.Clone(list), func(e netops.Neigh) bool {
		return w.want(&e)
	}))
	names := namesOf(of)
	for i := range list {
		if err := r.dropAddress(lock, &list[i], names); err != nil {
			failed = append(failed, failure(&list[i], err))
		}
	}
	return failed
}

// releaseNeighs deletes those neighbours that are as we have made them.
func (r *request) releaseNeighs(ctx context.Context, list []netops.Neigh) netops.Failures {
	if len(list) == 0 {
		return nil
	}
	have, err := lookBesideRoutes(ctx, r.host, netops.State{Neighs: list})
	if err != nil {
		return netops.Failures{failure(&list[0], err)}
	}
	made := map[netops.Neigh]bool{}
	asMade := func(e netops.Neigh) netops.Neigh {
		return netops.Neigh{Dev: e.Dev, IP: e.IP, HardwareAddr: e.HardwareAddr, Protocol: netops.Protocol}
	}
	for _, e := range list {
		made[asMade(e)] = true
	}
	ours := slices.DeleteFunc(have.Neighs, func(h netops.Neigh) bool {
		return h.Protocol != netops.Protocol || !made[asMade(h)]
	})
	return r.host.DeleteObjects(ctx, netops.State{Neighs: ours})
}

// namesOf are the names of records.
func namesOf(records []*record.Entry) map[string]bool {
	names := make(map[string]bool, len(records))
	for _, e := range records {
		names[e.Name()] = true
	}
	return names
}

// dropAddress removes the note of an address that one of these records has.
func (r *request) dropAddress(lock *record.HostLock, e *netops.Neigh, of map[string]bool) error {
	note := addressNote + e.IP.String()
	name, err := r.store().Note(note)
	if err == nil && of[name] {
		err = lock.DropNote(note)
	}
	return err
}
