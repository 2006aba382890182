package cni

import (
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// setAside moves the full file away under a lock on it, that goes when it is
// closed: of several processes one does so.
func (f *logFile) setAside(full os.FileInfo, now time.Time) error {
	if err := unix.Flock(int(f.file.Fd()), unix.LOCK_EX); err != nil {
		return &fs.PathError{Op: "lock", Path: f.path, Err: err}
	}
	return f.moveAway(full, now)
}
