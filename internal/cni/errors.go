package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/strictjson"
)

// Error codes of these plugins, beside those of the CNI specification (CNI
// 1.1, section 5, "Error").
const (
	CodeKernel   uint = 100 // the kernel refused an operation
	CodeOwned    uint = 101 // a route, a rule or a neighbour has another owner
	CodeConflict uint = 102 // another host or pod has an address
	CodeDelegate uint = 105 // a plugin that the work was delegated to failed
	CodeDrift    uint = 106 // CHECK found drift
)

// Errorf is an error with its CNI code. It may wrap another.
func Errorf(code uint, format string, args ...any) error {
	return &CodedError{code, fmt.Errorf(format, args...)}
}

// CodedError is an error with its CNI code.
type CodedError struct {
	code uint
	err  error
}

func (e *CodedError) Error() string { return e.err.Error() }
func (e *CodedError) Unwrap() error { return e.err }

// Code is the CNI code.
func (e *CodedError) Code() uint { return e.code }

// Code is the CNI code of an error.
func Code(err error) uint {
	var coded *CodedError
	if errors.As(err, &coded) {
		return coded.code
	}
	switch {
	case interrupted(err):
		return types.ErrTryAgainLater
	case errors.As(err, new(*fs.PathError)), errors.As(err, new(*os.LinkError)), errors.As(err, new(*os.SyscallError)):
		return types.ErrIOFailure
	}
	return types.ErrInternal
}

// cniError is the error object of a plugin: one line that says what failed,
// and the rest as details.
func cniError(plugin string, err error) *types.Error {
	first, rest, _ := strings.Cut(err.Error(), "\n")
	return types.NewError(Code(err), plugin+": "+first, shortened(rest))
}

// printError prints the error object of CNI 1.1, section 5, "Error", whose
// cniVersion the library's type lacks.
func printError(w io.Writer, version string, e *types.Error) error {
	object, err := json.MarshalIndent(struct {
		CNIVersion string `json:"cniVersion"`
		*types.Error
	}{version, e}, "", "    ")
	if err == nil {
		_, err = w.Write(object)
	}
	return err
}

// shortened is a text cut to a hundred lines: a user reads no more.
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
// What the code is for comes first: values, then keys; and last the keys that
// are missing because they are misspelt.
func Invalid(p *strictjson.Problems) error {
	if len(p.List) == 0 {
		return nil
	}
	meant := map[string]bool{}
	for _, problem := range p.List {
		if problem.Meant != "" {
			meant[problem.Meant] = true
		}
	}
	var values, keys, missing []string
	for _, problem := range p.List {
		switch line := problem.String(); {
		case problem.Unsupported:
			keys = append(keys, line)
		case meant[problem.Path]:
			missing = append(missing, line)
		default:
			values = append(values, line)
		}
	}
	code := types.ErrUnsupportedField
	if len(values) > 0 {
		code = types.ErrInvalidNetworkConfig
	}
	return Several(code, slices.Concat(values, keys, missing))
}

// Several is one error that tells of several: in its first line of the first,
// and how many more there are.
func Several(code uint, lines []string) error {
	if more := len(lines) - 1; more > 0 {
		first, rest, shown := strings.Cut(lines[0], "\n") // as an expression with a caret
		lines[0] = fmt.Sprintf("%s (and %d more)", first, more)
		if shown {
			lines[0] += "\n" + rest
		}
	}
	return Errorf(code, "%s", strings.Join(lines, "\n"))
}
