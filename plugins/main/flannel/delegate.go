package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
)

// program is the plugin that does the work.
type program struct {
	typ, path string
	debug     func(msg string, args ...any)
}

// look finds the plugin that a request is delegated to.
func look(r *cni.Request, typ string) (program, error) {
	path, err := find(typ)
	return program{typ, path, r.Debug}, err
}

// find finds a plugin in the folders of CNI_PATH.
func find(typ string) (string, error) {
	paths := os.Getenv("CNI_PATH")
	for _, dir := range filepath.SplitList(paths) {
		for _, ending := range endings {
			path, err := filepath.Abs(filepath.Join(dir, typ+ending))
			if err != nil {
				continue
			}
			if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
				return path, nil
			}
		}
	}
	return "", cni.Errorf(cni.CodeDelegate, "%s: %w in CNI_PATH, %s", typ, errNotFound, paths)
}

var errNotFound = errors.New("there is no such plugin")

// onPath reports whether find finds it.
func onPath(typ string) bool {
	_, err := find(typ)
	return err == nil
}

// patience is how long a delegate that was told to end may take: within a tenth
// of a processor, one that takes back what it did needs seconds.
var patience = 30 * time.Second

// run calls the delegate, with some of the environment changed, and returns
// what it has printed. When the context ends it is ended too, and waited for.
func (p program) run(ctx context.Context, verb string, conf []byte, env ...string) ([]byte, error) {
	if why := context.Cause(ctx); why != nil {
		return nil, fmt.Errorf("%s: %w", p.typ, why)
	}
	began := time.Now()
	process, stdout, err := p.start(conf, environ(append(env, "CNI_COMMAND="+verb)))
	if err != nil {
		return nil, cni.Errorf(cni.CodeDelegate, "%s: %w: %w", p.typ, errNotStarted, err)
	}
	defer func() { _ = stdout.Close() }()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { process.end(ended) })
	defer stop()
	printed, err := readAll(stdout)
	if err != nil {
		process.kill()
	}
	if exit := process.wait(); err == nil {
		err = exit
	}
	close(ended)
	p.debug("delegated", "to", p.path, "as", verb, "took", time.Since(began))
	switch {
	case err == nil:
		return printed, nil
	case !stop():
		return nil, fmt.Errorf("%s: %w", p.typ, context.Cause(ctx))
	}
	return nil, p.failure(err, printed)
}

// environ is our environment with some variables as given.
func environ(given []string) []string {
	all := slices.DeleteFunc(os.Environ(), func(have string) bool {
		key, _, _ := strings.Cut(have, "=")
		return slices.ContainsFunc(given, func(g string) bool { return strings.HasPrefix(g, key+"=") })
	})
	return append(all, given...)
}

// start starts the delegate with its configuration on stdin, and returns what
// its stdout is read from. A child of its own that keeps that open is waited
// for, as runtimes do.
func (p program) start(conf []byte, env []string) (process, *os.File, error) {
	stdin, err := cni.Feed(conf)
	if err != nil {
		return process{}, nil, err
	}
	defer func() { _ = stdin.Close() }()
	from, to, err := cni.Pipe()
	if err != nil {
		return process{}, nil, err
	}
	defer func() { _ = to.Close() }()
	started, err := startProcess(p.path, env, stdin, to)
	if err != nil {
		_ = from.Close()
		return process{}, nil, err
	}
	return started, from, nil
}

// end tells the process to end, and does not take no for an answer.
func (p process) end(ended <-chan struct{}) {
	select {
	case <-ended:
		return // its number may be another's
	default:
		p.terminate()
	}
	select {
	case <-ended:
	case <-time.After(patience):
		p.kill()
	}
}

// readAll reads the delegate's output. No result is as long as the bound.
func readAll(stdout io.Reader) ([]byte, error) {
	const most = 16 << 20 // bytes
	printed, err := io.ReadAll(io.LimitReader(stdout, most+1))
	if err == nil && len(printed) > most {
		err = errors.New("it prints more than 16 MiB")
	}
	return printed, err
}

// failure is the delegate's own error, or that it told none.
func (p program) failure(err error, stdout []byte) error {
	if e := lastError(stdout); e != nil {
		return cni.Errorf(e.Code, "%s: %w", p.typ, e)
	}
	text := strings.ToValidUTF8(strings.TrimSpace(string(stdout)), "\ufffd")
	const enough = 1000
	if len(text) > enough {
		text = strings.ToValidUTF8(text[:enough], "") + "…"
	}
	if text != "" {
		return cni.Errorf(cni.CodeDelegate, "%s: %w, and no error of CNI's\n%s", p.typ, err, text)
	}
	return cni.Errorf(cni.CodeDelegate, "%s: %w, and no word about it on stdout", p.typ, err)
}

// toldError is an error that the delegate has told.
type toldError types.Error

func (e *toldError) Error() string { return strings.TrimRight(e.Msg+"\n"+e.Details, "\n") }

// lastError is the error object in what a plugin has printed. One that fails
// after its work was done prints its result before.
func lastError(stdout []byte) *toldError {
	var found *toldError
	for d := json.NewDecoder(bytes.NewReader(stdout)); ; {
		var e toldError
		if err := d.Decode(&e); err != nil {
			return found
		}
		if e.Code != 0 {
			found = &e
		}
	}
}

// result is what ADD prints, if it is one.
func (p program) result(stdout []byte) ([]byte, error) {
	if text := bytes.TrimSpace(stdout); len(text) == 0 || text[0] != '{' || !json.Valid(text) {
		return nil, p.failure(errNoResult, stdout)
	}
	return stdout, nil
}

var errNoResult = errors.New("success without a result")

// errNotStarted says that a delegate has done nothing.
var errNotStarted = errors.New("cannot be run")

// knowsNot reports whether a delegate does not know GC or STATUS: it is older
// than these are. It may say so by the container that they do not have.
func knowsNot(err error) bool {
	var told *toldError
	return errors.As(err, &told) && (told.Code == types.ErrInvalidEnvironmentVariables || told.Code == types.ErrUnknownContainer)
}
