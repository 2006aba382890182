//go:build !linux

package cni

import "os"

// Pipe makes a pipe.
func Pipe() (from, to *os.File, err error) { return os.Pipe() }
