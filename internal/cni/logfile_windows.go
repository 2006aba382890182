package cni

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// setAside moves the full file away. That needs no lock: Windows moves no file
// that a process has open, so ours is closed first. As long as another process
// has it open, it goes on in it.
func (f *logFile) setAside(full os.FileInfo, now time.Time) error {
	_ = f.file.Close()
	err := f.moveAway(full, now)
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		return nil
	}
	return err
}
