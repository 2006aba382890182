package record

import (
	"context"
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

// TryLock takes a lock without waiting. The error is ErrLocked where another
// process holds it; the lock is nil where it has no file.
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
		// The process that held it may have removed the file: then it locks nothing.
		if l.current() {
			return l, nil
		}
		_ = unix.Close(l.fd)
	}
}

// hostLock is a folder, so that there is no file to leave behind. Other users may
// not open it, or they could lock it.
const hostLock = "host"

// LockHost waits for the lock under which attachments decide what of the host
// they share, or until ctx ends. It is one for all plugins that keep their records
// here, and is held for moments only, after the lock of a namespace and never
// before it. It is nil where no record has anything of the host.
func (s Store) LockHost(ctx context.Context) (*HostLock, error) {
	path := filepath.Join(s.root, hostLock)
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if cannotExist(err) {
			return nil, nil
		} else if err != nil {
			return nil, &fs.PathError{Op: "open lock", Path: path, Err: err}
		}
		if err := flockUntil(ctx, fd); err != nil {
			return nil, fmt.Errorf("lock the host: %w", err)
		}
		if l := (&Lock{fd, path}); l.current() {
			return &HostLock{fd}, nil
		}
		_ = unix.Close(fd) // another process has removed the folder
	}
}

// HostLock is the lock of what is on the host.
type HostLock struct{ fd int }

// Unlock gives the lock back.
func (l *HostLock) Unlock() {
	if l != nil {
		_ = unix.Close(l.fd)
	}
}

// flockUntil waits for a lock, or until ctx ends. Polling would cost processor
// time; so when ctx ends, the wait goes on in its goroutine, which gives the lock
// back when it has it. After an error the file is not the caller's any more.
func flockUntil(ctx context.Context, fd int) error {
	err := flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		ended := make(chan struct{})
		go func() { err = flock(fd, unix.LOCK_EX); close(ended) }()
		select {
		case <-ended:
		case <-ctx.Done():
			go func() {
				<-ended
				_ = unix.Close(fd)
			}()
			return context.Cause(ctx)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
	}
	return err
}

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
