package record

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The index tells which records to read, so that those of other pods are not read
// for nothing. It has a folder for every object of the host that a record wants,
// and for every namespace, with the names of the records in it:
//
//	<root>/host/index/ip_rule_add_pref_1000_lookup_500/router:net:container:net1:1
//	<root>/host/index/netns-4711/router:net:container:net1:1
//
// Like notes they are dangling symbolic links: one system call makes each of them,
// whole. The index nominates, the text of a record decides, so an entry too many
// costs a look. None may be missing that counts: a record is indexed before its ADD
// counts on anything, and as long as it is not being taken back.

const indexFolder = "index"

// folders are those of the subjects that a record is found by: of what it wants of
// the host, and of its namespace.
func (r *Record) folders() []string {
	folders := []string{subjectFolder(r.Netns.Lock)}
	for subject := range named(r.Done.Host).subjects {
		folders = append(folders, subjectFolder(subject))
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// subjectFolder is the name of a subject's folder. Long subjects may share one.
func subjectFolder(subject string) string {
	name := strings.ReplaceAll(strings.ReplaceAll(subject, "/", ":"), " ", "_")
	return name[:min(len(name), unix.NAME_MAX)]
}

// indexFile is the name of a record in the index. None of its parts has a colon.
func (e *Entry) indexFile() string {
	return strings.Join([]string{e.of.plugin, e.of.Network, e.of.ContainerID, e.of.IfName, strconv.Itoa(e.seq)}, ":")
}

// parseIndexFile takes the name of a record in the index apart.
func (s Store) parseIndexFile(file string) (a attachment, seq int, ok bool) {
	parts := strings.Split(file, ":")
	const plugin, network, container, ifName, number, all = 0, 1, 2, 3, 4, 5
	if len(parts) != all {
		return attachment{}, 0, false
	}
	a.Store = Store{root: s.root, plugin: parts[plugin]}
	a.Key = Key{Network: parts[network], ContainerID: parts[container], IfName: parts[ifName]}
	seq, rest, ok := parse(parts[number])
	return a, seq, ok && rest == "" && a.unusable(a.Key) == ""
}

// indexed reads the record of that name in the index; nil where there is none.
func (s Store) indexed(file string) (*Entry, error) {
	a, seq, ok := s.parseIndexFile(file)
	if !ok {
		return nil, nil
	}
	entries, err := a.Entries(a.Key)
	for _, e := range entries {
		if e.seq == seq {
			return e, err
		}
	}
	return nil, err
}

func (s Store) indexPath(folder, file string) string {
	return filepath.Join(s.root, hostLock, indexFolder, folder, file)
}

// index puts a record into the index. It reports false where that does not have
// the record for certain: its name is too long, or there is an entry already, of a
// record that was lost, which may be about to be swept.
func (e *Entry) index() (whole bool, err error) {
	file := e.indexFile()
	if len(file) > unix.NAME_MAX {
		return false, nil
	}
	for _, folder := range e.folders() {
		if err := e.of.enter(folder, file); errors.Is(err, fs.ErrExist) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// unindex takes a record out of the index that is about to be removed.
func (e *Entry) unindex() error {
	for _, folder := range e.folders() {
		if err := e.of.leave(folder, e.indexFile()); err != nil {
			return err
		}
	}
	return nil
}

// enter makes an entry of the index. Another process may remove its folder, when
// that is empty, between any two steps.
func (s Store) enter(folder, file string) (err error) {
	path := s.indexPath(folder, file)
	for range attempts {
		if err = unix.Symlink(file, path); !errors.Is(err, unix.ENOENT) {
			break
		}
		if err = unix.Mkdir(filepath.Dir(path), 0o700); errors.Is(err, unix.ENOENT) {
			err = makeDirs(s.root, hostLock, indexFolder, folder)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return &fs.PathError{Op: "index", Path: path, Err: err}
	}
	return nil
}

// leave removes an entry of the index, and its folder with the last one.
func (s Store) leave(folder, file string) error {
	path := s.indexPath(folder, file)
	if err := unix.Unlink(path); err != nil && !cannotExist(err) {
		return &fs.PathError{Op: "index", Path: path, Err: err}
	}
	_ = unix.Rmdir(filepath.Dir(path))
	return nil
}

// nominated visits the names of a subject's records, until visit has had enough.
// They come in parts: where hundreds want the same, the first few tell.
func (s Store) nominated(subject string, visit func(file string) (enough bool, err error)) error {
	dir, err := openDir(s.indexPath(subjectFolder(subject), ""), false)
	if dir == nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	for {
		const part = 16
		files, err := dir.Readdirnames(part)
		for _, file := range files {
			if enough, err := visit(file); enough || err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// SweepIndex removes the entries of records that were lost.
func (s Store) SweepIndex(l *HostLock) {
	if l == nil {
		return
	}
	there := map[string]bool{}
	folders, _ := s.list(s.indexPath("", ""))
	for _, folder := range folders {
		files, _ := s.list(s.indexPath(folder.Name(), ""))
		for _, f := range files {
			file := f.Name()
			a, seq, ok := s.parseIndexFile(file)
			if !ok || there[file] {
				continue
			}
			records, err := s.list(a.dir(a.Key))
			if there[file] = err != nil || recorded(records, seq); there[file] {
				continue
			}
			_ = s.leave(folder.Name(), file)
			_ = a.unmark() // an ADD that has taken the number since then counts on the entry
		}
	}
}
