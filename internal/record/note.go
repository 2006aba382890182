package record

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What no object of the kernel can tell is noted beside the lock of the host, and
// changed only under it: which attachment uses an address, what a
// sysctl was before the first one set it. A note is a dangling symbolic
// link that is read but never followed: it is made, with its text, in one system
// call, or not at all.

// Note is the text of a note; empty where there is none.
func (s Store) Note(name string) (string, error) {
	text := make([]byte, unix.PathMax)
	n, err := unix.Readlink(filepath.Join(s.root, hostLock, noteFile(name)), text)
	if cannotExist(err) {
		return "", nil
	} else if err != nil {
		return "", &fs.PathError{Op: "read note", Path: name, Err: err}
	}
	return string(text[:n]), nil
}

// SetNote makes a note, in the place of the one that there was.
func (l *HostLock) SetNote(name, text string) error {
	if l == nil { // another process has removed the folder
		return &fs.PathError{Op: "make note", Path: name, Err: unix.ENOENT}
	}
	file := noteFile(name)
	err := unix.Symlinkat(text, l.fd, file)
	if errors.Is(err, unix.EEXIST) {
		if err = l.DropNote(name); err == nil {
			err = unix.Symlinkat(text, l.fd, file)
		}
	}
	if err != nil {
		return &fs.PathError{Op: "make note", Path: name, Err: err}
	}
	return nil
}

// DropNote removes a note.
func (l *HostLock) DropNote(name string) error {
	if l == nil {
		return nil
	}
	if err := unix.Unlinkat(l.fd, noteFile(name), 0); err != nil && !cannotExist(err) {
		return &fs.PathError{Op: "remove note", Path: name, Err: err}
	}
	return nil
}

// noteFile is the name of a note's file. No interface and no address has a colon
// where its name has a slash.
func noteFile(name string) string { return strings.ReplaceAll(name, "/", ":") }

// Name names an entry within the records' root, as a note does.
func (e *Entry) Name() string {
	return strings.TrimPrefix(e.dir, e.of.root+"/") + "/" + strconv.Itoa(e.seq)
}

// Named is the entry of that name, of whichever plugin; nil where there is none
// or it is being taken back.
func (s Store) Named(name string) (*Entry, error) {
	e, err := s.indexed(strings.ReplaceAll(name, "/", ":"))
	if e == nil || e.Progress == Undoing {
		return nil, err
	}
	return e, err
}

// SweepNotes removes notes of attachments whose records are gone: a record that
// was damaged could not take its own away.
func (s Store) SweepNotes(l *HostLock, prefix string) {
	if l == nil {
		return
	}
	files, _ := s.list(filepath.Join(s.root, hostLock))
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), noteFile(prefix)) || f.Type()&os.ModeSymlink == 0 {
			continue
		}
		name, err := s.Note(f.Name())
		if err != nil {
			continue
		}
		if e, err := s.Named(name); err == nil && e == nil {
			_ = l.DropNote(f.Name())
		}
	}
}
