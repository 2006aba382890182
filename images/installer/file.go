package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const pluginMode fs.FileMode = 0o755 // of a regular file

// Names of files that are not complete yet. They are hidden, and no plugin's.
const (
	unfinishedBefore = ".cni-netops-"
	unfinishedAfter  = ".tmp"
)

// state is what is found in a plugin's place.
type state int

const (
	same state = iota
	missing
	different
)

// compare looks at what is in a plugin's place: its content, its mode, and
// whether another user could write to it.
func compare(from, to string) (state, error) {
	st, err := os.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing, nil
	case err != nil:
		return 0, err
	case st.IsDir():
		return 0, errors.New("there is a folder in its place")
	case st.Mode() != pluginMode || st.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()):
		return different, nil
	}
	equal, err := equalFiles(from, to)
	if err != nil || equal {
		return same, err
	}
	return different, nil
}

func equalFiles(one, other string) (bool, error) {
	a, err := os.Open(one)
	if err != nil {
		return false, err
	}
	defer func() { _ = a.Close() }()
	b, err := os.Open(other)
	if err != nil {
		return false, err
	}
	defer func() { _ = b.Close() }()
	const block = 128 << 10
	blockA, blockB := make([]byte, block), make([]byte, block)
	for {
		n, errA := io.ReadFull(a, blockA)
		m, errB := io.ReadFull(b, blockB)
		if !bytes.Equal(blockA[:n], blockB[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return atEnd(errA) && atEnd(errB), errors.Join(notEnd(errA), notEnd(errB))
		}
	}
}

func atEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func notEnd(err error) error {
	if atEnd(err) {
		return nil
	}
	return err
}

// place puts a copy of a plugin where it has to be, in one step: whoever runs
// it meanwhile gets the old one or the new one, and a power cut leaves no half
// of it.
func place(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	dir := filepath.Dir(to)
	f, err := os.CreateTemp(dir, unfinishedBefore+filepath.Base(to)+"-*"+unfinishedAfter)
	if err != nil {
		return err
	}
	err = copyWhole(f, source)
	if err == nil {
		err = f.Chmod(pluginMode)
	}
	if err == nil {
		err = f.Sync()
	}
	// Closed before it has its name: a file that is open for writing cannot be
	// run (execve(2), ETXTBSY).
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncFolder(dir)
}

// copyWhole copies a file that no process is writing to.
func copyWhole(to io.Writer, from *os.File) error {
	before, err := from.Stat()
	if err != nil {
		return err
	}
	n, err := io.Copy(to, from)
	if err != nil {
		return err
	}
	after, err := from.Stat()
	if err == nil && (n == 0 || n != before.Size() || n != after.Size() || !before.ModTime().Equal(after.ModTime())) {
		err = fmt.Errorf("%s is not complete", from.Name())
	}
	return err
}

// syncFolder makes a rename last, on file systems that know how to.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// removeLeftovers removes what an installer that was killed has not finished.
// The folder is locked, so that no other installer is at work on one.
func (i *installer) removeLeftovers() error {
	files, err := os.ReadDir(i.target)
	if err != nil {
		return err
	}
	for _, f := range files {
		if name := f.Name(); strings.HasPrefix(name, unfinishedBefore) && strings.HasSuffix(name, unfinishedAfter) && f.Type().IsRegular() {
			if err := os.Remove(filepath.Join(i.target, name)); err != nil {
				return unwritable(i.target, err)
			}
			i.say(name, "unfinished, removed")
		}
	}
	return nil
}

// errLocked says that another process has the lock, and keeps it.
var errLocked = errors.New("another process has it locked")

// lockFolder keeps other installers away, of another release say, that is being
// rolled out. The lock is on the folder itself: no file may lie there for it.
// Every process that may read the folder can lock it as well, so none is waited
// for longer than that: the error is errLocked then.
func lockFolder(ctx context.Context, dir string, most time.Duration) (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, most, errLocked)
	defer cancel()
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	for {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = d.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			_ = d.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			_ = d.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// unwritable adds to an error what to do about it.
func unwritable(dir string, err error) error {
	advice := ""
	switch {
	case errors.Is(err, unix.EPERM) && os.Geteuid() == 0:
		advice = ": is it immutable (lsattr)? Where SELinux guards the folder, the container has to be privileged"
	case errors.Is(err, unix.EROFS):
		advice = ": it is read-only: mount it writable, or name the folder that this node's runtime uses"
	case errors.Is(err, fs.ErrPermission):
		advice = ": the installer has to be uid 0 and the folder root's; where SELinux guards it, the container has to be privileged"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		advice = ": the disk is full"
	}
	return fmt.Errorf("cannot install into %s: %w%s", dir, err, advice)
}
