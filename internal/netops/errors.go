package netops

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	// ErrInterrupted says that the kernel's lists changed faster than they
	// could be read. Try again later.
	ErrInterrupted = errors.New("dump interrupted by changes of others")
	// ErrNotNamespace says that a path leads to something else than a network
	// namespace.
	ErrNotNamespace = errors.New("not a network namespace")
	// ErrNotRestored says that a failed change could not be taken back whole.
	// The error is a NotRestoredError.
	ErrNotRestored = errors.New("taking it back failed")
	// ErrStillThere says that the kernel found nothing to delete, and lists it
	// all the same.
	ErrStillThere = errors.New("it is still there")
	// ErrCannotDelete says that a route is refused because its deletion would
	// hit another one.
	ErrCannotDelete = errors.New("the kernel would delete another one of that destination, table and metric instead")
	// ErrNoLink says that no interface has that name.
	ErrNoLink = errors.New("no such interface")
)

// OpError is an operation that failed, named by its command, of ip(8) or
// sysctl(8).
type OpError struct {
	Op  string
	Err error
	// Route is what the operation was about. Where it was about another object
	// About has that.
	Route Route
	About State
	Adds  bool // or sets; else it deletes

	object object
	swap   bool // it is one of two that belong together
}

func (e *OpError) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }
func (e *OpError) Unwrap() error { return e.Err }

// Failures are the operations of one change that failed, at least one.
type Failures []*OpError

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
	for _, passing := range []error{ErrInterrupted, unix.EINTR, unix.EAGAIN, unix.EBUSY, unix.ENOBUFS, unix.ENOMEM} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// refused reports whether the kernel answered that it did not do it. Without
// its answer an operation may have happened.
func refused(err error) bool {
	var k *KernelError
	return errors.As(err, &k) || errors.Is(err, ErrNoLink) || errors.Is(err, ErrCannotDelete) || errors.Is(err, errNotTried)
}

// errNotTried marks the operations after the one at which a change was given
// up.
var errNotTried = errors.New("not tried")
