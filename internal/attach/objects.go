//go:build linux

package attach

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// On the host there are other objects than routes as well. A rule is shared by
// whoever wants it. A neighbour is one attachment's, as its address is, which is
// noted, because two attachments with one address would not meet otherwise. A
// sysctl is set by the last who wants it, and what it was before the first of
// them is noted.

// objects deals with them. Programs that make routes only have none, and are
// smaller for it, as those of package netops are.
var objects interface {
	claim(context.Context, *claim) error
	release(ctx context.Context, r *request, lock *record.HostLock, host *netops.Netns, s netops.State, d demand, of []*record.Entry) netops.Failures
	demand(d *demand, left *netops.State, e *record.Entry)
	look(ctx context.Context, host *netops.Netns, wanted netops.State) (netops.State, error)
	refused(r *request, want, have netops.State) (netops.Failures, error)
	sweep(context.Context, *request) error
	before(have netops.State, earlier []*record.Entry) netops.State
	earlier(*request, *netops.Netns) ([]*record.Entry, error)
}

// EveryKind lets the program make objects of every kind. It is called first.
func EveryKind() {
	netops.EveryKind()
	objects = everyKind{}
}

// everyKind deals with objects of every kind.
type everyKind struct{}

const (
	addressNote = "address/" // and the address: the record of who has it
	sysctlNote  = "sysctl/"  // and the key: the boot, its interface's index, and what it was
)

// claim makes what an attachment wants on the host beside routes. It is
// done under the lock: whoever wants to take some of it away will see that it is
// wanted here.
func (everyKind) claim(ctx context.Context, c *claim) error {
	want := c.of.Done.Host
	want.Routes = nil
	if want.IsZero() {
		return nil
	}
	lock, err := c.store().LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	for i := range want.Neighs {
		if err := c.takeAddress(ctx, lock, &want.Neighs[i]); err != nil {
			return err
		}
	}
	if failed := c.makeObjects(ctx, want); len(failed) > 0 {
		return inOrder(failed)
	}
	for i := range want.Sysctls {
		if err := c.set(ctx, lock, &want.Sysctls[i]); err != nil {
			return err
		}
	}
	return nil
}

// look finds what there is of objects.
func (everyKind) look(ctx context.Context, host *netops.Netns, wanted netops.State) (netops.State, error) {
	var q netops.Query
	wanted.Routes = nil
	q.Cover(netops.Change{Add: wanted})
	have, err := host.Snapshot(ctx, q)
	return have.State, err
}

// takeAddress notes that the attachment has the address of a neighbour. What is
// left of one whose pod is gone goes.
func (c *claim) takeAddress(ctx context.Context, lock *record.HostLock, e *netops.Neigh) error {
	owner, err := c.holder(e)
	switch {
	case err != nil:
		return err
	case owner == nil:
	case owner.Key == c.of.Key && owner.Netns.Identity == c.of.Netns.Identity:
		return nil // an earlier entry of this chain
	case !c.certainlyGone(owner):
		return taken(e, owner)
	default:
		c.Warn("taking over the address of an attachment whose pod is gone", "address", e.IP, "record", owner.Path())
		if failed := c.releaseNeighs(ctx, c.host, owner.Done.Host.Neighs); failed != nil {
			return failed
		}
	}
	return lock.SetNote(addressNote+e.IP.String(), c.of.Name())
}

// holder is the record of who has the address of a neighbour. It may have it where
// a later version wrote it.
func (r *request) holder(e *netops.Neigh) (*record.Entry, error) {
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
		return nil, failureOf(netops.State{Neighs: []netops.Neigh{*e}}, e.AddCommand(), may)
	}
	// One that is damaged wants nothing.
	if slices.ContainsFunc(owner.Done.Host.Neighs, func(o netops.Neigh) bool { return o.IP == e.IP }) {
		return owner, nil
	}
	return nil, nil
}

func taken(e *netops.Neigh, owner *record.Entry) *netops.OpError {
	return failureOf(netops.State{Neighs: []netops.Neigh{*e}}, e.AddCommand(), cni.Errorf(cni.CodeOwned, "%s is the address of %s", e.IP, owner.Key))
}

// makeObjects makes rules and neighbours. A rule that is there is as it is
// wanted, or it would be another one.
func (c *claim) makeObjects(ctx context.Context, want netops.State) (left netops.Failures) {
	_, failed := c.host.AddObjects(ctx, netops.State{Rules: want.Rules, Neighs: want.Neighs})
	for _, f := range failed {
		if f.Exists() {
			f.Err = c.rival(ctx, f.About)
		}
		if f.Err != nil {
			left = append(left, f)
		}
	}
	return left
}

// rival is why a neighbour that is there is not as it is wanted; nil where it is.
func (c *claim) rival(ctx context.Context, wanted netops.State) error {
	have, err := everyKind{}.look(ctx, c.host, wanted)
	if err != nil {
		return err
	}
	for i := range wanted.Neighs {
		if rival := have.ConflictingNeigh(&wanted.Neighs[i]); rival != nil {
			return notOurs(rival)
		}
	}
	return nil
}

func notOurs(rival *netops.Neigh) error {
	return cni.Errorf(cni.CodeOwned, "there is %q already, which is not ours", rival)
}

// refused is what of objects a claim would be refused.
func (everyKind) refused(r *request, want, have netops.State) (failed netops.Failures, err error) {
	for i := range want.Neighs {
		e := &want.Neighs[i]
		owner, err := r.holder(e)
		if err != nil {
			return nil, err
		}
		if owner != nil && owner.Key != r.key() && !r.certainlyGone(owner) {
			failed = append(failed, taken(e, owner))
		}
		if rival := have.ConflictingNeigh(e); rival != nil {
			failed = append(failed, failureOf(netops.State{Neighs: want.Neighs[i : i+1]}, e.AddCommand(), notOurs(rival)))
		}
	}
	return failed, nil
}

// set sets a sysctl of the host, and notes what it was, unless that is noted.
func (c *claim) set(ctx context.Context, lock *record.HostLock, s *netops.Sysctl) error {
	now, index, err := sysctlOn(ctx, c.host, s)
	if err != nil || now != "" && s.SatisfiedBy(now) {
		return err
	}
	note := sysctlNote + s.Key
	text, err := c.store().Note(note)
	if err != nil {
		return err
	}
	of := sysctlOf(c.of.Boot, index)
	if strings.HasPrefix(text, of) {
		c.Warn("another network may want another value of a sysctl of the host", "sysctl", s.Key, "value", now, "becomes", s.Value)
	} else if err := lock.SetNote(note, of+now); err != nil {
		return err
	}
	return setOn(ctx, c.host, *s)
}

func setOn(ctx context.Context, host *netops.Netns, s netops.Sysctl) error {
	if _, failed := host.AddObjects(ctx, netops.State{Sysctls: []netops.Sysctl{s}}); failed != nil {
		return failed
	}
	return nil
}

// sysctlOn is the value of a sysctl, empty where there is none, and the index of
// the interface that it is of: another one may come under that name.
func sysctlOn(ctx context.Context, host *netops.Netns, s *netops.Sysctl) (value string, index uint32, err error) {
	have, err := host.Snapshot(ctx, netops.Query{Sysctls: []string{s.Key}})
	if err != nil || len(have.Sysctls) == 0 {
		return "", 0, err
	}
	if dev := s.Dev(); dev != "" {
		index, err = host.LinkIndex(dev)
	}
	if errors.Is(err, netops.ErrNoLink) {
		return "", 0, nil
	}
	return have.Sysctls[0].Value, index, err
}

// sysctlOf begins the note of a sysctl: it is of one boot, and of one interface.
func sysctlOf(boot string, index uint32) string {
	return boot + " " + strconv.Itoa(int(index)) + " "
}

// release takes away what is ours of objects on the host, and what no other
// record wants.
func (everyKind) release(ctx context.Context, r *request, lock *record.HostLock, host *netops.Netns, s netops.State, d demand, of []*record.Entry) netops.Failures {
	failed := r.releaseNeighs(ctx, host, slices.DeleteFunc(slices.Clone(s.Neighs), func(e netops.Neigh) bool {
		return d.want(netops.State{Neighs: []netops.Neigh{e}}) // an earlier entry of the chain
	}))
	for i := range s.Neighs {
		if err := r.dropAddress(lock, &s.Neighs[i], of); err != nil {
			failed = append(failed, failureOf(netops.State{Neighs: s.Neighs[i : i+1]}, s.Neighs[i].AddCommand(), err))
		}
	}
	failed = append(failed, host.DeleteObjects(ctx, netops.State{Rules: d.unwanted})...)
	for i := range s.Sysctls {
		if err := r.reset(ctx, lock, host, &s.Sysctls[i], d); err != nil {
			failed = append(failed, failureOf(netops.State{Sysctls: s.Sysctls[i : i+1]}, s.Sysctls[i].Key, err))
		}
	}
	return failed
}

// demand takes from what is left to be asked for the rules and sysctls that a
// record wants.
func (everyKind) demand(d *demand, left *netops.State, e *record.Entry) {
	left.Rules = slices.DeleteFunc(left.Rules, func(rule netops.Rule) bool {
		return e.Err != nil || e.Done.Host.Wants(netops.State{Rules: []netops.Rule{rule}})
	})
	for _, wish := range e.Done.Host.Sysctls {
		if d.wishes == nil {
			d.wishes = map[string]netops.Sysctl{}
		}
		d.wishes[wish.Key] = wish
		left.Sysctls = slices.DeleteFunc(left.Sysctls, func(s netops.Sysctl) bool { return s.Key == wish.Key })
	}
}

// releaseNeighs deletes those neighbours that are as we have made them.
func (r *request) releaseNeighs(ctx context.Context, host *netops.Netns, list []netops.Neigh) netops.Failures {
	if len(list) == 0 {
		return nil
	}
	have, err := everyKind{}.look(ctx, host, netops.State{Neighs: list})
	if err != nil {
		return netops.Failures{failureOf(netops.State{Neighs: list}, list[0].AddCommand(), err)}
	}
	ours := slices.DeleteFunc(have.Neighs, func(h netops.Neigh) bool {
		return h.Protocol != netops.Protocol || !slices.ContainsFunc(list, func(e netops.Neigh) bool {
			return e.Dev == h.Dev && e.IP == h.IP && e.HardwareAddr == h.HardwareAddr
		})
	})
	return host.DeleteObjects(ctx, netops.State{Neighs: ours})
}

// dropAddress takes the note of an address away, unless it is another's.
func (r *request) dropAddress(lock *record.HostLock, e *netops.Neigh, of []*record.Entry) error {
	note := addressNote + e.IP.String()
	name, err := r.store().Note(note)
	if err == nil && slices.ContainsFunc(of, func(o *record.Entry) bool { return o.Name() == name }) {
		err = lock.DropNote(note)
	}
	return err
}

// reset gives a sysctl the value that somebody else wants, or else the one that
// it had before us, as long as it has ours.
func (r *request) reset(ctx context.Context, lock *record.HostLock, host *netops.Netns, s *netops.Sysctl, d demand) error {
	now, index, err := sysctlOn(ctx, host, s)
	if err != nil {
		return err
	}
	if wish, wanted := d.wishes[s.Key]; wanted {
		if now == "" || !s.SatisfiedBy(now) || wish.SatisfiedBy(now) {
			return nil
		}
		return setOn(ctx, host, wish)
	}
	note := sysctlNote + s.Key
	text, err := r.store().Note(note)
	if err != nil || text == "" {
		return err
	}
	boot, err := record.Boot()
	if err != nil {
		return err
	}
	if was, ok := strings.CutPrefix(text, sysctlOf(boot, index)); ok && now != "" && s.SatisfiedBy(now) {
		err := setOn(ctx, host, netops.Sysctl{Key: s.Key, Value: was})
		if errors.Is(err, unix.EINVAL) { // it would be in the way of every DEL
			r.Warn("what a sysctl of the host was is not known: its note is damaged", "sysctl", s.Key, "note", was)
		} else if err != nil {
			return err
		}
	}
	return lock.DropNote(note)
}

// want reports whether one of them wants objects that are there, or may.
func (all owners) want(objects netops.State) bool {
	return slices.ContainsFunc(all, func(o owner) bool { return o.Err != nil || o.Done.Host.Wants(objects) })
}

// failureOf is the failure of what is done about objects.
func failureOf(objects netops.State, command string, err error) *netops.OpError {
	return &netops.OpError{Op: command, Err: err, About: objects, Adds: true}
}

// before is the pod as it was before the earlier entries of a chain, the newest
// of which stands first. A second ADD of an attachment plans as if there had been
// none: what the first one took away tells what is wanted.
func (everyKind) before(have netops.State, earlier []*record.Entry) netops.State {
	for _, e := range earlier {
		if e.Progress == record.Finished {
			have = have.Before(e.Done.Pod)
		}
	}
	return have
}

// earlier are the earlier entries of a chain for a preview, which locks nothing.
func (everyKind) earlier(r *request, ns *netops.Netns) ([]*record.Entry, error) {
	boot, identity, err := r.identify(ns)
	if err != nil {
		return nil, err
	}
	entries, err := r.store().Entries(r.key())
	slices.Reverse(entries) // the newest first
	return ofSandbox(entries, boot, identity), err
}

// sweep takes away the notes of records that were lost.
func (everyKind) sweep(ctx context.Context, r *request) error {
	lock, err := r.store().LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	r.store().SweepNotes(lock, addressNote)
	return nil
}
