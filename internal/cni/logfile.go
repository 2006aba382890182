package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// logFile is a log file that is set aside when it has grown too large, and of
// whose old ones a few are kept. Rotation libraries remove old files in the
// background, for which a plugin's process does not live long enough.
type logFile struct {
	path     string
	maxSize  int64         // bytes
	maxAge   time.Duration // of old files; zero is for ever
	maxCount int           // of old files; zero is all

	complain *slog.Logger
	file     *os.File
	failed   bool
}

const defaultMaxSize = 100 << 20 // bytes

// Write writes one line. That it cannot is a warning, once, and no failed pod.
func (f *logFile) Write(line []byte) (int, error) {
	n, err := f.write(line)
	if err != nil {
		f.failing(err)
	}
	return n, err
}

func (f *logFile) failing(err error) {
	if !f.failed {
		f.failed = true
		f.complain.Warn("cannot write the log file", "log_file", f.path, "error", err)
	}
}

func (f *logFile) write(line []byte) (int, error) {
	if f.file == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	st, err := f.file.Stat()
	if err != nil {
		return 0, err
	}
	if st.Mode().IsRegular() && st.Size()+int64(len(line)) > f.maxSize {
		if err := f.rotate(st); err != nil {
			return 0, err
		}
	}
	return f.file.Write(line)
}

// open makes the file, and the folders that it lies in. A pipe is
// refused: without a reader, opening it would wait.
func (f *logFile) open() error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	st, err := os.Stat(f.path)
	if err == nil && !st.Mode().IsRegular() && st.Mode()&os.ModeCharDevice == 0 {
		return &fs.PathError{Op: "write", Path: f.path, Err: errors.New("not a regular file")}
	}
	f.file, err = os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	return err
}

// rotate sets the full file aside, unless another process has done so, begins
// a new one and removes what is old.
func (f *logFile) rotate(full os.FileInfo) error {
	now := time.Now()
	err := f.setAside(full, now)
	_ = f.file.Close()
	f.file = nil
	if err != nil {
		return err
	}
	if err := f.open(); err != nil {
		return err
	}
	return f.prune(now)
}

// moveAway gives the full file its new name, unless another process has done so.
func (f *logFile) moveAway(full os.FileInfo, now time.Time) error {
	there, err := os.Stat(f.path)
	if err != nil || !os.SameFile(there, full) {
		return nil //nolint:nilerr // it is gone already
	}
	before, after := f.oldNames()
	return os.Rename(f.path, before+now.UTC().Format(oldTime)+after)
}

const oldTime = "2006-01-02T15-04-05.000000"

// oldNames are what the names of old files have before and after the time at
// which they were set aside.
func (f *logFile) oldNames() (before, after string) {
	after = filepath.Ext(f.path)
	return strings.TrimSuffix(f.path, after) + "-", after
}

// prune removes old files that are too many or too old.
func (f *logFile) prune(now time.Time) error {
	before, after := f.oldNames()
	files, err := os.ReadDir(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	kept := 0
	for _, file := range slices.Backward(files) { // the newest first: their names are their times
		path := filepath.Join(filepath.Dir(f.path), file.Name())
		middle := strings.TrimSuffix(strings.TrimPrefix(path, before), after)
		at, err := time.Parse(oldTime, middle)
		if err != nil || path != before+middle+after {
			continue
		}
		if (f.maxCount == 0 || kept < f.maxCount) && (f.maxAge == 0 || now.Sub(at) <= f.maxAge) {
			kept++
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old log file: %w", err)
		}
	}
	return nil
}

func (f *logFile) close() {
	if f.file != nil {
		_ = f.file.Close()
	}
}
