package record

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultRoot is where records are kept unless the configuration says
// otherwise: in /run/cni, for whoever is not root in $XDG_RUNTIME_DIR/cni.
func DefaultRoot() (string, error) {
	if os.Getuid() == 0 {
		return "/run/cni", nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
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
func NewStore(root, plugin string) Store { return Store{root: root, plugin: plugin} }

// Progress is how far an ADD or DEL has come with a record.
type Progress string

// A planned or undoing record that nobody's lock covers is unfinished: its
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

	dir string
	seq int
}

func (e *Entry) file(p Progress) string {
	return filepath.Join(e.dir, strconv.Itoa(e.seq)+"."+string(p))
}

// Path is the file of the record.
func (e *Entry) Path() string { return e.file(e.Progress) }

func (s Store) dir(k Key) (string, error) {
	for _, part := range []string{k.Network, k.ContainerID, k.IfName} {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "/:\x00") {
			return "", fmt.Errorf("%q cannot be part of a record's name", part)
		}
	}
	return filepath.Join(s.root, s.plugin, k.Network, k.ContainerID+":"+k.IfName), nil
}

// Entries lists the records of an attachment, oldest first.
func (s Store) Entries(k Key) ([]*Entry, error) {
	dir, err := s.dir(k)
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var found []*Entry
	for _, f := range files {
		seq, progress, ok := parse(f.Name())
		if !ok {
			continue
		}
		e := &Entry{Progress: progress, dir: dir, seq: seq}
		data, err := read(e.Path())
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // its owner was faster
		case err == nil:
			e.Record, e.Err = decode(data, s.plugin, k)
		case errors.Is(err, ErrDamaged):
			e.Err = err
		default:
			return nil, err
		}
		found = append(found, e)
	}
	slices.SortFunc(found, func(a, b *Entry) int { return cmp.Compare(a.seq, b.seq) })
	return found, nil
}

// Create saves a record as planned, after the entries that the attachment has.
func (s Store) Create(lock *Lock, r Record, beside []*Entry) (*Entry, error) {
	r.Format, r.Plugin = Format, s.plugin
	data := r.encode()
	e := &Entry{Record: r, Progress: Planned, seq: 1}
	var err error
	if e.dir, err = s.dir(r.Key); err != nil {
		return nil, err
	}
	for _, b := range beside {
		e.seq = max(e.seq, b.seq+1)
	}
	// The DEL of another namespace of this attachment may take the folder
	// away between any two of these steps.
	for range 10 {
		if err = makeDirs(s.root, e.dir[len(s.root):]); err != nil {
			break
		}
		if err = lock.linkInto(e.dir); err == nil || errors.Is(err, fs.ErrExist) {
			err = write(e.dir, e.Path(), data)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("save record: %w", err)
	}
	return e, nil
}

// Finish marks the record's change as made.
func (e *Entry) Finish() error { return e.become(Finished) }

// BeginUndo marks the record's change as being taken back.
func (e *Entry) BeginUndo() error { return e.become(Undoing) }

func (e *Entry) become(p Progress) error {
	if e.Progress == p {
		return nil
	}
	if err := os.Rename(e.file(e.Progress), e.file(p)); err != nil {
		return fmt.Errorf("mark record as %s: %w", p, err)
	}
	e.Progress = p
	return nil
}

// Rewrite replaces what the record says was done and found.
func (e *Entry) Rewrite() error {
	if err := write(e.dir, e.Path(), e.encode()); err != nil {
		return fmt.Errorf("save record: %w", err)
	}
	return nil
}

// SetAside keeps a file that is no record out of the way.
func (e *Entry) SetAside() error {
	if err := os.Rename(e.Path(), e.Path()+".damaged"); err != nil {
		return fmt.Errorf("set damaged record aside: %w", err)
	}
	return nil
}

// Remove deletes the record, and the attachment's folder with its last one.
func (e *Entry) Remove() error {
	if err := os.Remove(e.Path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record: %w", err)
	}
	tidy(e.dir)
	return nil
}

// tidy removes what an attachment's folder has no use for once its last record
// is gone: the lock's link, and itself, the network's folder likewise.
func tidy(dir string) {
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if _, _, ok := parse(f.Name()); ok {
			return
		}
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), lockPrefix) {
			_ = os.Remove(filepath.Join(dir, f.Name()))
		}
	}
	_ = os.Remove(dir)
	_ = os.Remove(filepath.Dir(dir))
}

// parse takes the name of a record's file apart.
func parse(name string) (seq int, p Progress, ok bool) {
	number, progress, _ := strings.Cut(name, ".")
	seq, err := strconv.Atoi(number)
	p = Progress(progress)
	return seq, p, err == nil && (p == Planned || p == Finished || p == Undoing)
}

// Attachments lists those of a network that have records.
func (s Store) Attachments(network string) ([]Key, error) {
	dir, err := s.dir(Key{Network: network, ContainerID: "x", IfName: "x"})
	if err != nil {
		return nil, err
	}
	folders, err := os.ReadDir(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var keys []Key
	for _, f := range folders {
		if id, ifname, ok := strings.Cut(f.Name(), ":"); ok && f.IsDir() {
			keys = append(keys, Key{Network: network, ContainerID: id, IfName: ifname})
		}
	}
	return keys, nil
}

// Sweep removes what a killed process has left of an attachment beside its
// records: half-written files older than a minute, and the empty folder.
func (s Store) Sweep(k Key) {
	dir, err := s.dir(k)
	if err != nil {
		return
	}
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		info, err := f.Info()
		if err == nil && strings.HasPrefix(f.Name(), temporary) && time.Since(info.ModTime()) > time.Minute {
			_ = os.Remove(filepath.Join(dir, f.Name()))
		}
	}
	tidy(dir)
}

// Writable reports why no record could be saved.
func (s Store) Writable() error {
	dir := filepath.Join(s.root, s.plugin)
	if err := makeDirs(s.root, "/"+s.plugin); err != nil {
		return err
	}
	probe := filepath.Join(dir, temporary+strconv.Itoa(os.Getpid()))
	if err := write(dir, probe, []byte("probe")); err != nil {
		return err
	}
	return os.Remove(probe)
}

// makeDirs makes root, and the folders below it one by one, none of which may
// be a symbolic link: what is written there decides what is undone.
func makeDirs(root, below string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	dir := root
	for _, part := range strings.Split(strings.Trim(below, "/"), "/") {
		if part == "" {
			continue
		}
		dir = filepath.Join(dir, part)
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if st, err := os.Lstat(dir); err != nil {
			return err
		} else if !st.IsDir() {
			return fmt.Errorf("%s is no folder", dir)
		}
	}
	return nil
}

// temporary begins the name of a file that is being written. Nobody removes
// that of another process while it may still be written.
const temporary = ".new-"

// write puts a file into place whole, by rename. It is not synced: records
// die with the kernel state that they describe. The system calls are made
// directly, as os.OpenFile would set up a poller for this one file.
func write(dir, path string, data []byte) error {
	temp := filepath.Join(dir, temporary+strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	fd, err := unix.Open(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: temp, Err: err}
	}
	for len(data) > 0 && err == nil {
		var n int
		if n, err = unix.Write(fd, data); err == unix.EINTR {
			err = nil
		}
		data = data[max(n, 0):]
	}
	if closing := unix.Close(fd); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temp, path)
	} else {
		err = &fs.PathError{Op: "write", Path: temp, Err: err}
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return err
}

// read reads a regular file, never through a symbolic link.
func read(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %s is a symbolic link", ErrDamaged, path)
	} else if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no regular file", ErrDamaged, path)
	}
	return io.ReadAll(f)
}

// Boot is the ID of the running boot. It is read by plain system calls, as
// records are written.
func Boot() (string, error) {
	const path, length = "/proc/sys/kernel/random/boot_id", 36
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	id := make([]byte, length)
	n, err := unix.Read(fd, id)
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return string(id[:n]), nil
}
