package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// Error codes of these plugins, beside those of the CNI specification (CNI
// 1.1, section 2, "Error").
const (
	CodeKernel uint = 100 // the kernel refused an operation
	CodeOwned  uint = 101 // a route is owned by somebody else
	CodeDrift  uint = 106 // CHECK found drift
)

// Errorf is an error with its CNI code. It may wrap another.
func Errorf(code uint, format string, args ...any) error {
	return &codedError{code, fmt.Errorf(format, args...)}
}

type codedError struct {
	code uint
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// code is the CNI code of an error. Of several operations that failed it is the
// first one's, which the message is about.
func code(err error) uint {
	var coded *codedError
	if errors.As(err, &coded) {
		return coded.code
	}
	var op *netops.OpError
	if errors.As(err, &op) {
		err = op
	}
	var k *netops.KernelError
	switch {
	case netops.Passing(err), errors.Is(err, netops.ErrNoLink), errors.Is(err, unix.ENODEV), errors.Is(err, context.Canceled), errors.Is(err, errSignal):
		return types.ErrTryAgainLater
	case errors.As(err, &k) && k.Errno == unix.EEXIST:
		return CodeOwned
	case errors.As(err, &k), errors.Is(err, netops.ErrStillThere), errors.Is(err, netops.ErrCannotDelete):
		return CodeKernel
	case errors.As(err, new(*fs.PathError)), errors.As(err, new(*os.LinkError)), errors.As(err, new(*os.SyscallError)):
		return types.ErrIOFailure
	}
	return types.ErrInternal
}

// cniError is the error object of a plugin: one line that says what failed,
// and the rest as details.
func cniError(plugin string, err error) *types.Error {
	first, rest, _ := strings.Cut(err.Error(), "\n")
	return types.NewError(code(err), plugin+": "+first, shortened(rest))
}

// shortened is a text of so many lines as somebody may read.
func shortened(text string) string {
	const enough = 100
	at := 0
	for range enough {
		next := strings.IndexByte(text[at:], '\n')
		if next < 0 {
			return text
		}
		at += next + 1
	}
	return fmt.Sprintf("%s(and %d more lines)", text[:at], strings.Count(text[at:], "\n")+1)
}

// Invalid is the error for a configuration with problems, nil for one without.
func Invalid(p *strictjson.Problems) error {
	if len(p.List) == 0 {
		return nil
	}
	// What the code is for comes first.
	var values, keys []string
	for _, problem := range p.List {
		if problem.Unsupported {
			keys = append(keys, problem.String())
		} else {
			values = append(values, problem.String())
		}
	}
	code, lines := types.ErrUnsupportedField, slices.Concat(values, keys)
	if len(values) > 0 {
		code = types.ErrInvalidNetworkConfig
	}
	return several(code, lines)
}

// several is one error that tells of several: in its first line of the first,
// and how many more there are.
func several(code uint, lines []string) error {
	if more := len(lines) - 1; more > 0 {
		first, rest, shown := strings.Cut(lines[0], "\n") // as an expression with a caret
		lines[0] = fmt.Sprintf("%s (and %d more)", first, more)
		if shown {
			lines[0] += "\n" + rest
		}
	}
	return Errorf(code, "%s", strings.Join(lines, "\n"))
}
