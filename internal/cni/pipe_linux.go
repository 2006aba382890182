package cni

import (
	"os"

	"golang.org/x/sys/unix"
)

// Pipe makes a pipe by a plain system call: os.Pipe would set up a poller.
func Pipe() (from, to *os.File, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	return os.NewFile(uintptr(ends[0]), "pipe"), os.NewFile(uintptr(ends[1]), "pipe"), nil
}
