package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/jsonappend"
	"github.com/cni-netops/plugins/internal/netops"
)

// What several attachments want goes with the last of them. Which others there
// are, only their records tell, of whichever plugin and network.

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
	whole = true
	all := s.Recorded(lock)
	ours := jsonappend.String(nil, lock)
	matters := func(text []byte) bool { return bytes.Contains(text, ours) || newer(text) || !json.Valid(text) }
	err = s.each(matters, func(e *Entry) (enough bool) {
		whole = whole && e.Err == nil
		if e.Err == nil && e.Netns.Lock == lock {
			found = append(found, e)
		}
		return len(found) == all
	})
	return found, whole || len(found) == all, err
}

// Naming visits the records of all plugins and networks that name something of
// this state: a destination, a rule, a sysctl or a neighbour's address. Those of
// later versions, of which that cannot be told, are among them. What is being
// taken back wants nothing any more, and is left out. Of hundreds only those are
// decoded that matter: visit may take away from the state what it has seen enough
// of, and ends when nothing is left.
func (s Store) Naming(of *netops.State, visit func(*Entry)) error {
	if of.IsZero() {
		return nil
	}
	texts, size := named(*of), of.Len()
	matters := func(text []byte) bool { return texts.in(text) || newer(text) }
	return s.each(matters, func(e *Entry) (enough bool) {
		if e.Progress != Undoing {
			visit(e)
		}
		if n := of.Len(); n != size {
			texts, size = named(*of), n
		}
		return size == 0
	})
}

// names are what objects are named by in a record: the values of members that
// have one, by member; and whole rules.
type names struct {
	members map[string]map[string]bool
	rules   [][]byte
}

func named(of netops.State) names {
	n := names{members: map[string]map[string]bool{}}
	note := func(member, value string) {
		if n.members[member] == nil {
			n.members[member] = map[string]bool{}
		}
		n.members[member][value] = true
	}
	for i := range of.Routes {
		note(`"dst":"`, of.Routes[i].Dst.String())
	}
	for i := range of.Sysctls {
		note(`"key":"`, of.Sysctls[i].Key)
	}
	for i := range of.Neighs {
		note(`"ip":"`, of.Neighs[i].IP.String())
	}
	for i := range of.Rules {
		n.rules = append(n.rules, of.Rules[i].AppendJSON(nil))
	}
	return n
}

// in reports whether a record has one of the names in it.
func (n names) in(text []byte) bool {
	for member, values := range n.members {
		rest := text
		for found := true; found; {
			var value []byte
			if _, rest, found = bytes.Cut(rest, []byte(member)); found {
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

// each visits the records of all plugins and networks whose text matters, this
// plugin's first, until visit has had enough.
func (s Store) each(matters func(text []byte) bool, visit func(*Entry) (enough bool)) error {
	plugins, err := s.list(s.root)
	if err != nil {
		return err
	}
	names := []string{s.plugin}
	for _, plugin := range plugins {
		if plugin.Name() != s.plugin {
			names = append(names, plugin.Name())
		}
	}
	for _, name := range names {
		if enough, err := (Store{root: s.root, plugin: name}).eachOwn(matters, visit); err != nil || enough {
			return err
		}
	}
	return nil
}

// eachOwn is each for this plugin.
func (s Store) eachOwn(matters func([]byte) bool, visit func(*Entry) bool) (enough bool, err error) {
	networks, err := s.list(filepath.Join(s.root, s.plugin))
	if err != nil {
		return false, err
	}
	for _, network := range networks {
		keys, err := s.Attachments(network.Name())
		if err != nil {
			return false, err
		}
		for _, k := range keys {
			entries, err := s.entries(k, matters)
			if err != nil {
				return false, err
			}
			if slices.ContainsFunc(entries, visit) {
				return true, nil
			}
		}
	}
	return false, nil
}
