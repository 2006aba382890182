package record

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Root is where records are kept: where the configuration says, or else in
// /run/cni, for another user than root in $XDG_RUNTIME_DIR/cni.
func Root(stateDir string) (string, error) {
	if stateDir != "" {
		return stateDir, nil
	}
	return defaultRoot(os.Getuid(), os.Getenv)
}

func defaultRoot(uid int, getenv func(string) string) (string, error) {
	if uid == 0 {
		return "/run/cni", nil
	}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "cni"), nil
	}
	return "", errors.New("no place for records: stateDir is not set, the user is not root, and XDG_RUNTIME_DIR names no folder")
}

// Store is the records of one plugin.
type Store struct {
	root   string
	plugin string
}

// NewStore names the records of a plugin below root. It touches nothing.
// Without a root there are no records, and none can be made.
func NewStore(root, plugin string) Store {
	if root != "" {
		root = filepath.Clean(root)
	}
	return Store{root: root, plugin: plugin}
}

// Progress is how far an ADD or DEL has come with a record.
type Progress string

// A planned or undoing record whose namespace is not locked is unfinished: its
// process was killed.
const (
	Planned  Progress = "planned"
	Finished Progress = "finished"
	Undoing  Progress = "undoing"
)

// Entry is one record in the store, or a file that cannot be read as one.
type Entry struct {
	Record
	Progress Progress
	// Err is why the file is no record: ErrDamaged or ErrNewer.
	Err error
	// Created is when a record that was read was created.
	Created time.Time

	of  attachment
	dir string // the attachment's
	seq int
}

func (e *Entry) file(suffix string) string {
	return filepath.Join(e.dir, strconv.Itoa(e.seq)+"."+suffix)
}

// Path is the file of the record.
func (e *Entry) Path() string { return e.file(string(e.Progress)) }

// linkSuffix ends the name of an entry's link to its namespace's lock.
const linkSuffix = "lock"

// parse takes the name of an entry's file apart. One that is not written as
// ours are is not one of them.
func parse(name string) (seq int, suffix string, ok bool) {
	number, suffix, _ := strings.Cut(name, ".")
	const bits = 31 // the number after the last one is a number, too
	n, err := strconv.ParseUint(number, 10, bits)
	return int(n), suffix, err == nil && n > 0 && number[0] != '0'
}

// parseRecord takes the name of a record's file apart.
func parseRecord(name string) (seq int, p Progress, ok bool) {
	seq, suffix, ok := parse(name)
	p = Progress(suffix)
	return seq, p, ok && (p == Planned || p == Finished || p == Undoing)
}

// unusable is why nothing can be recorded under a key; it is empty where
// something can.
func (s Store) unusable(k Key) string {
	if s.root == "" {
		return "there is no folder for records"
	}
	for _, part := range []string{k.Network, k.ContainerID, k.IfName} {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "/:\x00") || !utf8.ValidString(part) {
			return strconv.Quote(part) + " cannot be part of a record's name"
		}
	}
	return ""
}

func (s Store) dir(k Key) string {
	return filepath.Join(s.root, s.plugin, k.Network, k.ContainerID+":"+k.IfName)
}

// attempts bounds how often a step is done again that another process has
// come between. Each time that one has got on with its work.
const attempts = 1000

// Entries lists the records of an attachment, oldest first. There are none of
// one under whose key nothing can be recorded: what ADD refused, DEL need not
// look for.
func (s Store) Entries(k Key) ([]*Entry, error) {
	return s.entries(k, func([]byte) bool { return true })
}

// entries lists the records of an attachment whose text matters.
func (s Store) entries(k Key, matters func(text []byte) bool) ([]*Entry, error) {
	if s.unusable(k) != "" {
		return nil, nil
	}
	var found []*Entry
	var err error
	for range attempts {
		var files []fs.DirEntry
		if files, err = s.list(s.dir(k)); err != nil || len(files) == 0 {
			return nil, err
		}
		// A file that is gone since then may only have another name: to miss
		// the record of an ADD that is ending would mean to never undo it.
		if found, err = s.load(files, k, matters); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return found, err
}

// load reads the records among some files of an attachment's folder.
func (s Store) load(files []fs.DirEntry, k Key, matters func([]byte) bool) ([]*Entry, error) {
	var found []*Entry
	for _, f := range files {
		seq, progress, ok := parseRecord(f.Name())
		if !ok {
			continue
		}
		e := &Entry{Progress: progress, of: attachment{s, k}, dir: s.dir(k), seq: seq}
		data, created, err := read(e.Path())
		if err == nil && !matters(data) {
			continue
		}
		if err == nil {
			e.Record, err = decode(data, s.plugin, k)
		}
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
			return nil, err
		}
		e.Created, e.Err = created, err
		found = append(found, e)
	}
	slices.SortFunc(found, func(a, b *Entry) int { return cmp.Compare(a.seq, b.seq) })
	return found, nil
}

// Create saves a record as planned, after the entries that the attachment has:
// beside is what Entries told under the lock, less what was removed since.
func (s Store) Create(lock *Lock, r Record, beside []*Entry) (*Entry, error) {
	if why := s.unusable(r.Key); why != "" {
		return nil, errors.New("save record: " + why)
	}
	// What could not be read again would never be undone.
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("save record: %w", err)
	}
	r.Format, r.Plugin, r.Netns.Lock = Format, s.plugin, lock.name()
	e := &Entry{Record: r, Progress: Planned, of: attachment{s, r.Key}, dir: s.dir(r.Key), seq: 1}
	for _, b := range beside {
		e.seq = max(e.seq, b.seq+1)
	}
	if err := e.place(lock, r.encode()); err != nil {
		if network := filepath.Dir(e.dir); len(beside) == 0 && isFolder(filepath.Dir(network)) && isFolder(network) {
			e.of.removeEmpty()
		}
		return nil, fmt.Errorf("save record: %w", err)
	}
	whole, err := e.index()
	if err == nil && !whole {
		err = e.of.unmark()
	}
	if err != nil {
		_ = e.Remove() // or DEL does
		return nil, fmt.Errorf("save record: %w", err)
	}
	return e, nil
}

// place writes the file of a new entry, under the first number that is free:
// another namespace of this attachment, under its own lock, may take one, or
// its DEL a folder, between any two steps.
func (e *Entry) place(lock *Lock, data []byte) (err error) {
	if !e.Done.Host.IsZero() {
		if err := makeDirs(e.of.root, hostLock); err != nil {
			return err
		}
	}
	for range attempts {
		if err = e.of.makeDir(); err == nil {
			err = lock.link(e.file(linkSuffix))
		}
		switch {
		case err == nil:
			if err = write(e.dir, e.Path(), data); err != nil {
				_ = unix.Unlink(e.file(linkSuffix))
			}
			return err
		case errors.Is(err, fs.ErrExist):
			e.seq++
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return err
}

// makeDir makes the folder of an attachment. One that this version makes is marked
// as indexed from the beginning.
func (a attachment) makeDir() error {
	err := makeDirs(a.root, a.plugin, a.Network)
	if err != nil {
		return err
	}
	made, err := makeDir(a.dir(a.Key))
	if made {
		err = a.mark()
	}
	return err
}

// Finish marks the record's change as made.
func (e *Entry) Finish() error { return e.become(Finished) }

// BeginUndo marks the record's change as being taken back.
func (e *Entry) BeginUndo() error { return e.become(Undoing) }

func (e *Entry) become(p Progress) error {
	if e.Progress == p {
		return nil
	}
	if err := os.Rename(e.Path(), e.file(string(p))); err != nil {
		return fmt.Errorf("mark record as %s: %w", p, err)
	}
	e.Progress = p
	return nil
}

// Rewrite replaces what the record says was done and found. Its file keeps its
// time, which tells the order of a pod's ADDs (see Created).
func (e *Entry) Rewrite() error {
	was, err := os.Lstat(e.Path())
	if err == nil {
		err = write(e.dir, e.Path(), e.encode())
	}
	if err != nil {
		return fmt.Errorf("save record: %w", err)
	}
	_ = os.Chtimes(e.Path(), was.ModTime(), was.ModTime())
	return nil
}

// SetAside keeps a file that is no record out of the way, beside those that
// were kept before.
func (e *Entry) SetAside() error {
	aside := e.Path() + ".damaged"
	for n := 2; there(aside); n++ {
		aside = e.Path() + ".damaged-" + strconv.Itoa(n)
	}
	if err := os.Rename(e.Path(), aside); errors.Is(err, fs.ErrNotExist) {
		return nil // another process was faster
	} else if err != nil {
		return fmt.Errorf("set damaged record aside: %w", err)
	}
	// Which lock it was can no longer be read.
	_ = unix.Unlink(e.file(linkSuffix))
	e.of.SweepRoot()
	return nil
}

// Remove deletes the record, and the attachment's folder with its last one.
// The caller holds the lock of its namespace. The number is given back last.
func (e *Entry) Remove() error {
	if !there(e.Path()) {
		return nil // and its number may be another's
	}
	if err := e.unindex(); err != nil {
		return fmt.Errorf("remove record: %w", err)
	}
	if err := os.Remove(e.Path()); errors.Is(err, fs.ErrNotExist) {
		return nil // and its number may be another's
	} else if err != nil {
		return fmt.Errorf("remove record: %w", err)
	}
	_ = unix.Unlink(e.file(linkSuffix))
	e.of.removeEmpty()
	return nil
}

// Networks lists those that have records.
func (s Store) Networks() ([]string, error) {
	folders, err := s.list(filepath.Join(s.root, s.plugin))
	networks := make([]string, len(folders))
	for i, f := range folders {
		networks[i] = f.Name()
	}
	slices.Sort(networks)
	return networks, err
}

// Attachments lists those of a network that have records.
func (s Store) Attachments(network string) ([]Key, error) {
	if s.unusable(Key{Network: network, ContainerID: "x", IfName: "x"}) != "" {
		return nil, nil
	}
	folders, err := s.list(filepath.Join(s.root, s.plugin, network))
	if err != nil {
		return nil, err
	}
	var keys []Key
	for _, f := range folders {
		id, ifname, _ := strings.Cut(f.Name(), ":")
		if k := (Key{Network: network, ContainerID: id, IfName: ifname}); f.IsDir() && s.unusable(k) == "" {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// Writable reports why no record could be saved.
func (s Store) Writable() error {
	dir := filepath.Join(s.root, s.plugin)
	if err := makeDirs(s.root, s.plugin); err != nil {
		return err
	}
	probe := filepath.Join(dir, temporary+strconv.Itoa(os.Getpid()))
	if err := write(dir, probe, []byte("probe")); err != nil {
		return err
	}
	defer func() { _ = os.Remove(probe) }()
	// A lock is kept by hard links, which not every file system has.
	link := probe + "-link"
	if err := os.Link(probe, link); err != nil {
		return err
	}
	return os.Remove(link)
}
