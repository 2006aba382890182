//go:build linux

package attach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
)

// Which code an error of a verb has, however it is wrapped.
func TestWithCode(t *testing.T) {
	kernel := func(errno unix.Errno) error {
		return &netops.OpError{Operation: netops.Operation{Verb: netops.Add, Object: &netops.Route{}}, Err: &netops.KernelError{Errno: errno}}
	}
	for _, tt := range []struct {
		name string
		err  error
		want uint
	}{
		{"its own", cni.Errorf(7, "x"), 7},
		{"no such interface", netops.ErrNoLink, 11},
		{"interrupted dump", netops.ErrInterrupted, 11},
		{"the kernel is busy", kernel(unix.EBUSY), 11},
		{"the kernel has no memory", kernel(unix.ENOMEM), 11},
		{"the kernel has no buffers", kernel(unix.ENOBUFS), 11},
		{"again", kernel(unix.EAGAIN), 11},
		{"a cancelled context", context.Canceled, 11},
		{"another owner's route", kernel(unix.EEXIST), 101},
		{"unreachable", kernel(unix.ENETUNREACH), 100},
		{"not permitted", kernel(unix.EPERM), 100},
		{"no such device", kernel(unix.ENODEV), 11},
		{"several, told about the first", netops.Failures{{Err: kernel(unix.ENETUNREACH)}, {Err: kernel(unix.EEXIST)}}, 100},
		{"what the kernel cannot delete", netops.ErrCannotDelete, 100},
		{"what is still there", netops.ErrStillThere, 100},
		{"a system call", os.NewSyscallError("socket", unix.EMFILE), 5},
		{"anything else", errors.New("x"), 999},
	} {
		for how, err := range map[string]error{
			"":                  tt.err,
			" wrapped":          fmt.Errorf("x: %w", tt.err),
			" joined":           errors.Join(tt.err, errors.New("x")),
			" taken back badly": &netops.NotRestoredError{Err: tt.err, Back: kernel(unix.EBUSY)},
			" before another":   &netops.NotRestoredError{Err: tt.err, Back: kernel(unix.EEXIST)},
		} {
			if got := cni.Code(withCode(err)); got != tt.want {
				t.Errorf("%s%s: %d, want %d", tt.name, how, got, tt.want)
			}
		}
	}
}
