//go:build linux

package attach

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// sysctlNote and the key name the note of what a sysctl of the host was: the
// boot, the index of the interface that it is of, and the value.
const sysctlNote = "sysctl/"

// setSysctl sets a sysctl of the host, and notes what it was, unless that is
// noted already.
func (c *hostChange) setSysctl(ctx context.Context, lock *record.HostLock, s *netops.Sysctl) error {
	now, index, err := c.sysctlOn(ctx, s)
	if err != nil || now != "" && s.SatisfiedBy(now) {
		return err
	}
	note := sysctlNote + s.Key
	text, err := c.store().Note(note)
	if err != nil {
		return err
	}
	prefix := sysctlNotePrefix(c.entry.Boot, index)
	if strings.HasPrefix(text, prefix) {
		c.Warn("another network may want another value of a sysctl of the host", "sysctl", s.Key, "value", now, "becomes", s.Value)
	} else if err := lock.SetNote(note, prefix+now); err != nil {
		return err
	}
	return c.writeSysctl(ctx, *s)
}

func (r *request) writeSysctl(ctx context.Context, s netops.Sysctl) error {
	_, failed := r.host.AddObjects(ctx, netops.State{Sysctls: []netops.Sysctl{s}})
	return failed.Err()
}

// sysctlOn is the value of a sysctl, empty where there is none, and the index of
// the interface that it is of: another interface may have the name later.
func (r *request) sysctlOn(ctx context.Context, s *netops.Sysctl) (value string, index uint32, err error) {
	have, err := r.host.Snapshot(ctx, netops.Query{Sysctls: []string{s.Key}})
	if err != nil || len(have.Sysctls) == 0 {
		return "", 0, err
	}
	if dev := s.Dev(); dev != "" {
		index, err = r.host.LinkIndex(dev)
	}
	if errors.Is(err, netops.ErrNoLink) {
		return "", 0, nil
	}
	return have.Sysctls[0].Value, index, err
}

// sysctlNotePrefix begins the note of a sysctl: it is of one boot, and of one
// interface.
func sysctlNotePrefix(boot string, index uint32) string {
	return boot + " " + strconv.Itoa(int(index)) + " "
}

// resetSysctl gives a sysctl the value that another attachment wants, or else the
// one that it had before the first attachment, unless its value is not ours any
// more.
func (r *request) resetSysctl(ctx context.Context, lock *record.HostLock, s *netops.Sysctl, w wants) error {
	now, index, err := r.sysctlOn(ctx, s)
	if err != nil {
		return err
	}
	ours := now != "" && s.SatisfiedBy(now)
	if other, wanted := w.sysctls[s.Key]; wanted {
		if !ours || other.SatisfiedBy(now) {
			return nil
		}
		return r.writeSysctl(ctx, other)
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
	if was, ok := strings.CutPrefix(text, sysctlNotePrefix(boot, index)); ok && ours {
		err := r.writeSysctl(ctx, netops.Sysctl{Key: s.Key, Value: was})
		if errors.Is(err, unix.EINVAL) { // every DEL would fail of it
			r.Warn("the former value of a sysctl of the host is not known: its note is damaged", "sysctl", s.Key, "note", was)
		} else if err != nil {
			return err
		}
	}
	return lock.DropNote(note)
}
