package record

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Not every record is in the index: the first release, which may come back any
// time, knows none. So the folder of an attachment holds a mark where all records
// in it are written by releases that do, a hard link to one file for all of them:
//
//	<root>/host/indexed
//	<root>/router/net/container:net1/indexed
//
// The link counts of that file and of the networks' folders say how many
// attachments are marked, and how many there are. If that is the same, there is
// nothing else to read. The mark is made by the process that makes the folder and
// goes with it, so it never stands for a folder that is gone.

// mark is the name of the file, and of its links.
const mark = "indexed"

// markedPlugins are those of the first release that share objects of the host.
// Others always have their records in the index.
var markedPlugins = []string{"host-routes", "router"}

// attachment is one that has a folder for records.
type attachment struct {
	Store
	Key
}

func (s Store) markPath() string { return filepath.Join(s.root, hostLock, mark) }

// mark marks an attachment. Another process may remove its folder, or the file,
// when they are empty. Without a mark its records are read, that is all.
func (a attachment) mark() (err error) {
	if !slices.Contains(markedPlugins, a.plugin) {
		return nil
	}
	dir := a.dir(a.Key)
	for range attempts {
		if err = unix.Link(a.markPath(), filepath.Join(dir, mark)); !errors.Is(err, unix.ENOENT) || !isFolder(dir) {
			break
		}
		if err = a.makeMark(); err != nil && !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	if err == nil || errors.Is(err, unix.EMLINK) {
		return nil
	}
	return &fs.PathError{Op: "mark as indexed", Path: dir, Err: err}
}

// makeMark makes the file that marks are links to.
func (s Store) makeMark() error {
	if err := makeDirs(s.root, hostLock); err != nil {
		return err
	}
	fd, err := unix.Open(s.markPath(), unix.O_CREAT|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func (a attachment) unmark() error {
	dir := a.dir(a.Key)
	if err := unix.Unlink(filepath.Join(dir, mark)); err != nil && !cannotExist(err) {
		return &fs.PathError{Op: "unmark", Path: dir, Err: err}
	}
	return nil
}

// dropMark removes the file that marks are links to, when there is none. Those
// that are made meanwhile count no more, until they are renewed (see adopt).
func (s Store) dropMark() {
	if m, err := s.marks(); err == nil && m.Nlink == 1 {
		_ = unix.Unlink(s.markPath())
	}
}

// marks is the state of that file; zero where there is none.
func (s Store) marks() (st unix.Stat_t, err error) {
	if err = unix.Lstat(s.markPath(), &st); cannotExist(err) {
		return unix.Stat_t{Nlink: 1}, nil
	}
	return st, err
}

// unmarked lists the attachments whose records the index may not have. The others
// are to be looked for there after that.
func (s Store) unmarked() (rest []attachment, err error) {
	before, err := s.marks()
	if err != nil {
		return nil, err
	}
	networks, folders, err := s.markedNetworks()
	if err != nil {
		return nil, err
	}
	after, err := s.marks()
	if err != nil || before == after && folders == int(after.Nlink)-1 {
		return nil, err
	}
	for _, n := range networks {
		keys, err := n.Attachments(n.Network)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			var st unix.Stat_t
			if unix.Lstat(filepath.Join(n.dir(k), mark), &st) != nil || st.Ino != after.Ino {
				rest = append(rest, attachment{n.Store, k})
			}
		}
	}
	return rest, nil
}

// markedNetworks lists the networks whose attachments are marked, and how many
// folders of attachments they have together, where the file system counts them.
func (s Store) markedNetworks() (networks []attachment, folders int, err error) {
	for _, plugin := range markedPlugins {
		of := Store{root: s.root, plugin: plugin}
		names, err := of.Networks()
		if err != nil {
			return nil, 0, err
		}
		for _, network := range names {
			var st unix.Stat_t
			err := unix.Lstat(filepath.Join(of.root, plugin, network), &st)
			if err != nil && !cannotExist(err) {
				return nil, 0, err
			}
			if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
				const itself = 2 // and its own entry for itself
				folders += int(st.Nlink) - itself
				networks = append(networks, attachment{of, Key{Network: network}})
			}
		}
	}
	return networks, folders, nil
}

// adopt indexes the records of an attachment that is not marked, and marks it,
// where all of them are finished and no other process has the lock of their
// namespace. A folder without any goes. The caller holds the host's lock.
func (a attachment) adopt() error {
	entries, err := a.Entries(a.Key)
	if len(entries) == 0 {
		_ = unix.Rmdir(a.dir(a.Key))
		return err
	}
	lock, err := a.TryLock(entries[0].Netns.Lock)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Unlock()
	if entries, err = a.Entries(a.Key); err != nil {
		return err
	}
	for _, e := range entries {
		if e.Err != nil || e.Progress != Finished || e.Netns.Lock != lock.name() {
			return nil
		}
	}
	for _, e := range entries {
		if err := e.unindex(); err != nil { // what a lost record has left
			return err
		}
		if whole, err := e.index(); err != nil || !whole {
			return err
		}
	}
	return cmp.Or(a.unmark(), a.mark())
}
