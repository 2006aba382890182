package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// list is what is in a folder of records; nil where there is no folder.
func (s Store) list(dir string) ([]fs.DirEntry, error) {
	f, err := s.openFolder(dir)
	if f == nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	files, err := f.ReadDir(-1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it was removed since it was opened
	}
	return files, err
}

// openFolder opens a folder of records; nil where there is none. One that is
// reached by a symbolic link below the root holds no records: Create makes none
// like that.
func (s Store) openFolder(dir string) (*os.File, error) {
	f, err := openDir(dir, dir == s.root) // the administrator may have chosen a link
	if f == nil {
		return nil, err
	}
	for up := filepath.Dir(dir); len(up) > len(s.root) && err == nil; up = filepath.Dir(up) {
		var st fs.FileInfo
		if st, err = os.Lstat(up); err == nil && !st.IsDir() {
			err = unix.ENOTDIR
		}
	}
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if cannotExist(err) {
		return nil, nil
	}
	// An error is not the same as an empty folder: the records of other
	// attachments tell what must stay.
	return nil, err
}

// openDir opens a folder; nil where there is none.
func openDir(dir string, follow bool) (*os.File, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Open(dir, flags, 0)
	if cannotExist(err) {
		return nil, nil
	} else if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// cannotExist reports whether an error says that nothing can be at a path.
func cannotExist(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.EINVAL)
}

// makeDirs makes root, and the folders below it one by one, none of which may
// be a symbolic link: what is written there decides what is undone.
func makeDirs(root string, below ...string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	dir := root
	for _, part := range below {
		dir = filepath.Join(dir, part)
		if _, err := makeDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// makeDir makes one folder, if it is not there.
func makeDir(dir string) (made bool, err error) {
	if err = os.Mkdir(dir, 0o700); !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	if st, err := os.Lstat(dir); err != nil {
		return false, err
	} else if !st.IsDir() {
		return false, &fs.PathError{Op: "make folder", Path: dir, Err: unix.ENOTDIR}
	}
	return false, nil
}

func isFolder(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.IsDir()
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// temporary begins the name of a file that is being written. No process removes
// that of another one while it may still be written.
const temporary = ".new-"

// write puts a file into place whole, by rename. It is not synced: records
// die with the kernel state that they describe. The system calls are made
// directly, as os.OpenFile would set up a poller for this one file.
func write(dir, path string, data []byte) error {
	temp, fd, err := createTemporary(dir)
	if err != nil {
		return err
	}
	for len(data) > 0 && err == nil {
		var n int
		if n, err = unix.Write(fd, data); errors.Is(err, unix.EINTR) {
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

// createTemporary makes a file that no other process writes.
func createTemporary(dir string) (path string, fd int, err error) {
	for range attempts {
		path = filepath.Join(dir, temporary+strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(time.Now().UnixNano(), 36))
		fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return path, fd, nil
		} else if err != unix.EEXIST {
			break
		}
	}
	return path, fd, &fs.PathError{Op: "create", Path: path, Err: err}
}

// read reads a regular file, never through a symbolic link, and tells when it
// was written. The system calls are made directly, as for write.
func read(path string) (data []byte, written time.Time, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, written, fmt.Errorf("%w: %s is a symbolic link", ErrDamaged, path)
	case errors.Is(err, unix.ENXIO):
		return nil, written, fmt.Errorf("%w: %s is a socket", ErrDamaged, path)
	case err != nil:
		return nil, written, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, written, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, written, fmt.Errorf("%w: %s is no regular file", ErrDamaged, path)
	}
	data, err = readAll(fd, int(st.Size))
	if err != nil {
		return nil, written, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return data, time.Unix(st.Mtim.Unix()), nil
}

// readAll reads an open file to its end, at once if it has that size.
func readAll(fd, size int) ([]byte, error) {
	const least = 512
	data := make([]byte, 0, size+least)
	for {
		n, err := unix.Read(fd, data[len(data):cap(data)])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || n == 0:
			return data, err
		}
		data = slices.Grow(data[:len(data)+max(n, 0)], least)
	}
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
