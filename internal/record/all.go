package record

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// All lists the records of all plugins, those that cannot be read among them.
// Nothing is locked: what a record says may be outdated when it is read.
func (s Store) All() (all []*Entry, err error) {
	places, err := s.allAttachments()
	if err != nil {
		return nil, err
	}
	for _, a := range places {
		entries, err := a.Entries(a.Key)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}

// Names are plugin and attachment of an entry, also of one that cannot be read.
func (e *Entry) Names() (plugin string, k Key) { return e.of.plugin, e.of.Key }

// Holders are the processes that hold the locks of namespaces, by the locks'
// names. They are read from the kernel's list (proc_locks(5)): to try a lock
// would be to have it for a moment, and to fail another process that tries it.
func (s Store) Holders() (map[string]int, error) {
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil, err
	}
	held := parseLocks(string(text))
	files, err := s.list(s.root)
	holders := map[string]int{}
	for _, f := range files {
		st, err := os.Lstat(filepath.Join(s.root, f.Name()))
		if err != nil || !isLock(f.Name()) {
			continue
		}
		if pid, ok := held[st.Sys().(*syscall.Stat_t).Ino]; ok {
			holders[f.Name()] = pid
		}
	}
	return holders, err
}

// parseLocks reads which process has which file locked as a whole, by inode:
//
//	1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF
//
// Those that wait have an arrow before the kind. The device is not looked at:
// that of some file systems differs from what stat(2) says.
func parseLocks(text string) map[uint64]int {
	held := map[uint64]int{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 6 || words[1] != "FLOCK" {
			continue
		}
		pid, err := strconv.Atoi(words[4])
		inode, noInode := strconv.ParseUint(words[5][strings.LastIndexByte(words[5], ':')+1:], 10, 64)
		if err == nil && noInode == nil && pid > 0 {
			held[inode] = pid
		}
	}
	return held
}
