package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// open opens a file by a plain system call: os.OpenFile would set up a poller
// for it, which takes longer than to read it.
func open(path string, flags int) (*os.File, error) {
	for {
		fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, 0o600)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// readRegular reads a file of reasonable size. Nothing else is opened: to read
// a pipe might take for ever. look is os.Stat, or os.Lstat where a symbolic
// link is not followed.
func readRegular(path string, look func(string) (fs.FileInfo, error)) ([]byte, error) {
	if st, err := look(path); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errNotRegular}
	}
	f, err := open(path, syscall.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, 2*mostBytes))
	if err == nil && len(data) >= 2*mostBytes {
		err = &fs.PathError{Op: "read", Path: path, Err: errTooLarge}
	}
	return data, err
}

var (
	errNotRegular = errors.New("not a regular file")
	errTooLarge   = errors.New("2 MiB or more")
)

// mostBytes is how long a generated configuration may be.
const mostBytes = 1 << 20

// temporary begins the name of a file that is being written. No container ID
// does.
const temporary = ".new-"

// writeFile puts a file into place whole, or not at all, also when the machine
// crashes. The folder is made where it is missing.
func writeFile(path string, data []byte) error {
	f, err := createTemporary(filepath.Dir(path))
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// createTemporary makes a file that no other process writes.
func createTemporary(dir string) (*os.File, error) {
	name := fmt.Sprint(temporary, os.Getpid(), "-", strconv.FormatInt(time.Now().UnixNano(), 36))
	create := func() (*os.File, error) {
		return open(filepath.Join(dir, name), syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL)
	}
	f, err := create()
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		return create()
	}
	return f, err
}

// sweep removes what killed processes have left half written in a folder, long
// enough ago that no process writes it any more.
func sweep(dir string, now time.Time) {
	const long = time.Hour
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), temporary) {
			continue
		}
		if st, err := f.Info(); err == nil && st.Mode().IsRegular() && now.Sub(st.ModTime()) > long {
			_ = os.Remove(filepath.Join(dir, f.Name()))
		}
	}
}
