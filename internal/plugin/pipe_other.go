//go:build !linux

package plugin

import "os"

// Pipe makes a pipe.
func Pipe() (from, to *os.File, err error) { return os.Pipe() }
