package record

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/jsonappend"
	"github.com/cni-netops/plugins/internal/netops"
)

// What several attachments want goes with the last of them. Which others there
// are, only their records tell, of whichever plugin and network. The index says
// which of them to read.

// Recorded is how many records there are of the namespace with that lock: each
// has a link to it.
func (s Store) Recorded(lock string) int {
	var st unix.Stat_t
	if !isLock(lock) || unix.Lstat(filepath.Join(s.root, lock), &st) != nil {
		return 0
	}
	return int(st.Nlink) - 1
}

// InNamespace lists the records of all plugins and networks of the namespace
// with that lock, however far they are. It looks into one after the other until
// it has found all of them; whole says that it could, so that no other one wants
// anything.
func (s Store) InNamespace(lock string) (found []*Entry, whole bool, err error) {
	all, seen := s.Recorded(lock), map[string]bool{}
	whole = true
	see := func(e *Entry) (enough bool) {
		whole = whole && e.Err == nil
		if e.Err == nil && e.Netns.Lock == lock && !seen[e.indexFile()] {
			found = append(found, e)
		}
		seen[e.indexFile()] = true
		return len(found) == all
	}
	err = s.nominated(lock, func(file string) (enough bool, err error) {
		e, err := s.indexed(file)
		return e != nil && see(e), err
	})
	if err == nil && len(found) < all {
		err = s.readForNamespace(lock, see)
	}
	slices.SortFunc(found, func(a, b *Entry) int { return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.seq, b.seq)) })
	return found, whole || len(found) == all, err
}

// readForNamespace visits the records of a namespace among all that there are, and
// those of which that cannot be told, until visit has had enough.
func (s Store) readForNamespace(lock string, visit func(*Entry) (enough bool)) error {
	ours := jsonappend.String(nil, lock)
	matters := func(text []byte) bool { return bytes.Contains(text, ours) || newer(text) || !json.Valid(text) }
	all, err := s.allAttachments()
	if err != nil {
		return err
	}
	for _, a := range all {
		if entries, err := a.entries(a.Key, matters); err != nil || slices.ContainsFunc(entries, visit) {
			return err
		}
	}
	return nil
}

// Naming visits the records of all plugins and networks that name something of
// this state: a destination, a rule, a sysctl or a neighbour's address. Those of
// later versions that are not indexed, of which that cannot be told, are among
// them. What is being taken back wants nothing any more, and is left out, as are
// those given. visit may take away from the state what it has seen enough of:
// where hundreds want the same, few are read.
//
// Under the host's lock what had to be read for want of an entry is indexed.
func (s Store) Naming(lock *HostLock, of *netops.State, but []*Entry, visit func(*Entry)) error {
	if of.IsZero() {
		return nil
	}
	rest, err := s.unmarked()
	if err != nil {
		return err
	}
	q := &search{of: of, names: named(*of), size: of.Len(), visit: visit, seen: map[string]bool{}}
	for _, e := range but {
		q.seen[e.indexFile()] = true
	}
	for subject := range q.names.subjects {
		if err := q.nominated(s, subject); err != nil {
			return err
		}
	}
	for _, a := range rest {
		if q.size == 0 {
			break
		}
		entries, err := a.entries(a.Key, func(text []byte) bool { return q.names.in(text) || newer(text) })
		if err != nil {
			return err
		}
		for _, e := range entries {
			q.see(e)
		}
		if lock != nil {
			_ = a.adopt() // or it is read again
		}
	}
	return nil
}

// search is for the records that name something of a state.
type search struct {
	of    *netops.State // less what enough was seen of
	names names         // of that
	size  int
	visit func(*Entry)
	seen  map[string]bool // records, by their names in the index
}

// nominated sees the records that the index has for a subject.
func (q *search) nominated(s Store, subject string) error {
	if !q.names.subjects[subject] {
		return nil // enough was seen of it
	}
	return s.nominated(subject, func(file string) (enough bool, err error) {
		if q.seen[file] {
			return false, nil
		}
		e, err := s.indexed(file)
		if e != nil {
			q.see(e)
		}
		return !q.names.subjects[subject], err
	})
}

func (q *search) see(e *Entry) {
	file := e.indexFile()
	if q.seen[file] || e.Progress == Undoing {
		return
	}
	q.seen[file] = true
	q.visit(e)
	if n := q.of.Len(); n != q.size {
		q.names, q.size = named(*q.of), n
	}
}

// names are what the objects of a state are named by: subjects of the index, and
// what stands for them in a record: the values of members that have one, by
// member, and whole rules.
type names struct {
	subjects map[string]bool
	members  map[string]map[string]bool
	rules    [][]byte
}

func named(of netops.State) names {
	n := names{subjects: map[string]bool{}, members: map[string]map[string]bool{}}
	note := func(member, value string) {
		if n.members[member] == nil {
			n.members[member] = map[string]bool{}
		}
		n.members[member][value] = true
		n.subjects[member+" "+value] = true
	}
	for i := range of.Routes {
		note("dst", of.Routes[i].Dst.String())
	}
	for i := range of.Sysctls {
		note("key", of.Sysctls[i].Key)
	}
	for i := range of.Neighs {
		note("ip", of.Neighs[i].IP.String())
	}
	for i := range of.Rules {
		n.rules = append(n.rules, of.Rules[i].AppendJSON(nil))
		n.subjects[of.Rules[i].Command(netops.Add)] = true
	}
	return n
}

// in reports whether a record has one of the names in it.
func (n names) in(text []byte) bool {
	for member, values := range n.members {
		member, rest := []byte(`"`+member+`":"`), text
		for found := true; found; {
			var value []byte
			if _, rest, found = bytes.Cut(rest, member); found {
				value, _, _ = bytes.Cut(rest, []byte{'"'})
			}
			if values[string(value)] {
				return true
			}
		}
	}
	return slices.ContainsFunc(n.rules, func(rule []byte) bool { return bytes.Contains(text, rule) })
}

// newer reports whether a later version wrote a record.
func newer(text []byte) bool {
	if bytes.HasPrefix(text, fmt.Appendf(nil, `{"format":%d,`, Format)) {
		return false
	}
	return formatOf(text) > Format
}

// allAttachments lists those of all plugins and networks that have folders, this
// plugin's first.
func (s Store) allAttachments() (all []attachment, err error) {
	folders, err := s.list(s.root)
	if err != nil {
		return nil, err
	}
	plugins := []string{s.plugin}
	for _, f := range folders {
		if name := f.Name(); name != s.plugin && name != hostLock && !isLock(name) {
			plugins = append(plugins, name)
		}
	}
	for _, plugin := range plugins {
		of := Store{root: s.root, plugin: plugin}
		networks, err := of.Networks()
		if err != nil {
			return nil, err
		}
		for _, network := range networks {
			keys, err := of.Attachments(network)
			if err != nil {
				return nil, err
			}
			for _, k := range keys {
				all = append(all, attachment{of, k})
			}
		}
	}
	return all, nil
}
