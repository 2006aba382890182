package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock is held on a namespace from the snapshot to the last state of a record,
// so that two networks of one pod that are added in parallel do not take back
// each other's changes. It is one for all plugins.
type Lock struct {
	fd   int
	path string
}

// isLock reports whether that is the name of a lock. It comes from a record,
// and names a file.
func isLock(name string) bool {
	rest, ok := strings.CutPrefix(name, "netns-")
	return ok && rest != "" && !strings.ContainsAny(rest, "/.\x00")
}

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// Lock waits for the lock of that name.
func (s Store) Lock(name string) (*Lock, error) {
	if err := makeDirs(s.root); err != nil {
		return nil, err
	}
	return s.lock(name, unix.O_CREAT, unix.LOCK_EX)
}

// TryLock takes a lock that nobody holds; it is ErrLocked if somebody does,
// and nil where there is none to take.
func (s Store) TryLock(name string) (*Lock, error) {
	l, err := s.lock(name, 0, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return l, err
}

func (s Store) lock(name string, create, how int) (*Lock, error) {
	if !isLock(name) {
		return nil, fmt.Errorf("%q is no name of a lock", name)
	}
	return lock(filepath.Join(s.root, name), create, how)
}

func lock(path string, create, how int) (*Lock, error) {
	l := &Lock{path: path}
	for {
		var err error
		l.fd, err = unix.Open(l.path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW|create, 0o600)
		if err != nil {
			return nil, &fs.PathError{Op: "open lock", Path: l.path, Err: err}
		}
		if err := flock(l.fd, how); err != nil {
			_ = unix.Close(l.fd)
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, ErrLocked
			}
			return nil, &fs.PathError{Op: "lock", Path: l.path, Err: err}
		}
		// Whoever held it may have removed the file: then it locks nothing.
		if l.current() {
			return l, nil
		}
		_ = unix.Close(l.fd)
	}
}

// LockHost waits for the lock under which it is decided who else wants what is
// on the host. It is one for all plugins that keep their records here: their
// common folder, so that there is nothing to leave behind.
func (s Store) LockHost() (*HostLock, error) {
	if err := makeDirs(s.root); err != nil {
		return nil, err
	}
	fd, err := unix.Open(s.root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open lock", Path: s.root, Err: err}
	}
	if err := flock(fd, unix.LOCK_EX); err != nil {
		_ = unix.Close(fd)
		return nil, &fs.PathError{Op: "lock", Path: s.root, Err: err}
	}
	return &HostLock{fd}, nil
}

// HostLock is held for moments only, after the lock of a namespace and never
// before it.
type HostLock struct{ fd int }

// Unlock gives the lock back.
func (l *HostLock) Unlock() { _ = unix.Close(l.fd) }

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); err != unix.EINTR {
			return err
		}
	}
}

func (l *Lock) current() bool {
	var held, there unix.Stat_t
	return unix.Fstat(l.fd, &held) == nil && unix.Lstat(l.path, &there) == nil && held.Ino == there.Ino && held.Dev == there.Dev
}

func (l *Lock) name() string { return filepath.Base(l.path) }

// Unlock gives the lock back. A lock without any record goes.
func (l *Lock) Unlock() {
	if l == nil {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(l.fd, &st) == nil && st.Nlink == 1 {
		_ = os.Remove(l.path)
	}
	_ = unix.Close(l.fd)
}

// link keeps the lock file for as long as that link to it is there.
func (l *Lock) link(path string) error {
	if err := os.Link(l.path, path); err != nil {
		return fmt.Errorf("keep lock: %w", err)
	}
	return nil
}
