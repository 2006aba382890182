package netops

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	// ErrInterrupted says that the kernel's lists changed faster than they
	// could be read. Try again later.
	ErrInterrupted = errors.New("the kernel's list changed while it was read")
	// ErrNotNamespace says that a path leads to something else than a network
	// namespace.
	ErrNotNamespace = errors.New("not a network namespace")
	// ErrNotRestored says that a failed change could not be taken back whole.
	// The error is a NotRestoredError.
	ErrNotRestored = errors.New("taking it back failed")
	// ErrStillThere says that the kernel found nothing to delete, and lists it
	// all the same.
	ErrStillThere = errors.New("still present")
	// ErrCannotDelete says that a route is refused because its deletion would
	// hit another one.
	ErrCannotDelete = errors.New("the kernel would delete another route of that destination, table and metric instead")
	// ErrNoLink says that no interface has that name.
	ErrNoLink = errors.New("no such interface")
)

// OpError is an operation that failed, named by its command, of ip(8) or
// sysctl(8).
type OpError struct {
	Operation
	Err error
}

func (e *OpError) Error() string { return fmt.Sprintf("%s: %v", e.Operation, e.Err) }
func (e *OpError) Unwrap() error { return e.Err }

// Exists reports whether the kernel refused an addition because another object
// has its place.
func (e *OpError) Exists() bool { return e.Adds() && errors.Is(e.Err, unix.EEXIST) }

// Missing reports whether an operation failed for an interface that is not
// there.
func (e *OpError) Missing() bool {
	return errors.Is(e.Err, ErrNoLink) || errors.Is(e.Err, unix.ENODEV)
}

// Adds reports whether the operation was to add or to set an object.
func (e *OpError) Adds() bool { return !e.Deletes() }

// KernelError is the kernel's refusal, with the reason it gives for it.
type KernelError struct {
	Errno  unix.Errno
	Reason string // of extended acknowledgements; may be empty
}

func (e *KernelError) Error() string {
	if e.Reason == "" {
		return e.Errno.Error()
	}
	return fmt.Sprintf("%s (%s)", e.Errno.Error(), strings.TrimSuffix(e.Reason, "."))
}

func (e *KernelError) Unwrap() error { return e.Errno }

// Failures are the operations of one change that failed. As an error, it is at
// least one.
type Failures []*OpError

// Err is the error for the failures, nil where there are none.
func (f Failures) Err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

func (f Failures) Error() string {
	lines := make([]string, len(f))
	for i, e := range f {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.Is and errors.As all of them, in order.
func (f Failures) Unwrap() []error {
	all := make([]error, len(f))
	for i, e := range f {
		all[i] = e
	}
	return all
}

// NotRestoredError is a failed change that could not be taken back whole. What
// it wraps is why it failed; why it was not taken back is told only.
type NotRestoredError struct{ Err, Back error }

// Error tells both.
func (e *NotRestoredError) Error() string {
	return fmt.Sprintf("%v; %v: %v", e.Err, ErrNotRestored, e.Back)
}

// Unwrap is why the change failed.
func (e *NotRestoredError) Unwrap() error { return e.Err }

// Is makes it an ErrNotRestored.
func (e *NotRestoredError) Is(target error) bool { return target == ErrNotRestored }

// Passing reports whether an error may go away by itself, so that trying
// again later makes sense.
func Passing(err error) bool {
	passing := []error{ErrInterrupted, unix.EINTR, unix.EAGAIN, unix.EBUSY, unix.ENOBUFS, unix.ENOMEM}
	return slices.ContainsFunc(passing, func(one error) bool { return errors.Is(err, one) })
}
