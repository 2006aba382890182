package jqexpr

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childArgument makes the program a child that evaluates one expression.
const childArgument = "evaluate-one-jq-expression"

// request is what a child reads from its standard input.
type request struct {
	Source      []byte // in base64: it need not be UTF-8
	OnlyCompile bool
	Input, CNI  json.RawMessage `json:",omitempty"`
}

// A child writes ready once its limits hold, and then an answer: its kind, and
// a JSON value, a text, or a CompileError in JSON.
const (
	ready       = 'r'
	kindValue   = 'v'
	kindFailed  = 'f'
	kindCompile = 'c'
)

// Child evaluates an expression if this process was started for that. A program
// that evaluates expressions calls it before anything else, and ends with the
// exit code where is is true.
func Child() (exit int, is bool) {
	if len(os.Args) != 2 || os.Args[1] != childArgument {
		return 0, false
	}
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}

// serve answers one request within limits.
func serve(in io.Reader, out io.Writer) error {
	ballast, err := limitMemory()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(ballast)
	if _, err := out.Write([]byte{ready}); err != nil {
		return err
	}
	var r request
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return err
	}
	_, err = out.Write(answer(r))
	return err
}

// answer is the answer to a request.
func answer(r request) []byte {
	value, err := r.evaluate()
	var wrong *CompileError
	switch {
	case errors.As(err, &wrong):
		text, _ := json.Marshal(wrong)
		return append([]byte{kindCompile}, text...)
	case err != nil:
		// The parent puts it before the text again.
		return append([]byte{kindFailed}, strings.TrimPrefix(err.Error(), ErrFailed.Error()+": ")...)
	}
	return append([]byte{kindValue}, value...)
}

func (r request) evaluate() ([]byte, error) {
	_, code, err := compile(string(r.Source))
	if err != nil || r.OnlyCompile {
		return nil, err
	}
	input, err := decode(r.Input)
	if err != nil {
		return nil, err
	}
	cni, err := decode(r.CNI)
	if err != nil {
		return nil, err
	}
	// The parent minds the time.
	return run(context.Background(), code, input, cni)
}

// limitMemory holds this process to memoryLimit beyond what it has. At the
// limit the kernel gives no more, and Go ends the process. Some MiB below, Go
// collects garbage for all it is worth, so that only what is in use counts; the
// rest is for gaps between that.
//
// RLIMIT_DATA alone would not do: since Linux 6.12 or so it is not asked where
// a mapping replaces a reserved one, as all of Go's heap does, before the limit
// is exceeded already; one allocation of a gigabyte gets it. So no more than
// the limit may be reserved either. Go reserves its heap by the arena, of 64
// MiB; what is left of the first one is up to chance, and goes into a ballast
// that nobody touches and that must be kept alive.
func limitMemory() (ballast [][]byte, err error) {
	const chunk, gaps, administration = 4 << 20, 8 << 20, 8<<20 + threadStacks
	debug.SetGCPercent(-1) // garbage is collected at the limit, and none before
	before, err := memorySize()
	if err != nil {
		return nil, err
	}
	now := before
	for now.space < before.space+chunk {
		ballast = append(ballast, make([]byte, chunk))
		if now, err = memorySize(); err != nil {
			return nil, err
		}
	}
	ballast = ballast[:len(ballast)-1] // the last is of another arena
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	debug.SetMemoryLimit(int64(m.Sys-m.HeapReleased) - chunk + memoryLimit - gaps)
	if err := lower(unix.RLIMIT_AS, before.space+memoryLimit+administration); err != nil {
		return nil, err
	}
	return ballast, lower(unix.RLIMIT_DATA, now.data-chunk+memoryLimit+threadStacks)
}

// lower sets a limit of this process, unless it is lower.
func lower(resource int, bytes uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(resource, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	limit.Max = min(limit.Max, bytes)
	limit.Cur = min(limit.Cur, bytes)
	return os.NewSyscallError("setrlimit", unix.Setrlimit(resource, &limit))
}

// memory is what the kernel counts for RLIMIT_AS and RLIMIT_DATA, in bytes.
type memory struct{ space, data uint64 }

// memorySize is that of this process (proc(5), statm: size, the first number,
// and data, the sixth, which has the stack in it as well).
func memorySize() (memory, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return memory{}, err
	}
	fields := strings.Fields(string(text))
	const size, data = 0, 5
	if len(fields) <= data {
		return memory{}, fmt.Errorf("/proc/self/statm: %q", text)
	}
	var m memory
	for at, into := range map[int]*uint64{size: &m.space, data: &m.data} {
		if *into, err = strconv.ParseUint(fields[at], 10, 64); err != nil {
			return memory{}, fmt.Errorf("/proc/self/statm: %w", err)
		}
	}
	page := uint64(os.Getpagesize())
	return memory{m.space * page, m.data * page}, nil
}

// errDying ends a child that has begun to write its last words.
var errDying = errors.New("the child is dying")

// evaluateInChild has a child process answer the request within the time.
func evaluateInChild(ctx context.Context, limit time.Duration, r request) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the input of the expression: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, stop := context.WithTimeoutCause(ctx, limit, ErrTimeout)
	defer stop()
	// Pdeathsig follows the thread that started the child, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := startChild()
	if err != nil {
		return nil, fmt.Errorf("evaluate the expression in a child process: %w", err)
	}
	killed := make(chan struct{})
	spare := context.AfterFunc(ctx, func() {
		_ = unix.Kill(c.pid, unix.SIGKILL)
		close(killed)
	})
	go func() {
		_, _ = c.stdin.Write(text)
		_ = c.stdin.Close()
	}()
	go func() {
		// Go says why it ends a process, and may then hang for good.
		if n, _ := c.stderr.Read(make([]byte, 1)); n > 0 {
			cancel(errDying)
		}
	}()
	said, err := io.ReadAll(io.LimitReader(c.stdout, answerLimit+3))
	if len(said) > answerLimit+2 {
		cancel(tooLong())
	}
	// Until it has been waited for, its number is no other's.
	c.ended()
	if !spare() {
		<-killed
	}
	err = cmp.Or(c.wait(), err)
	if err == nil && context.Cause(ctx) == nil {
		return parseAnswer(said)
	}
	return nil, whyNoAnswer(context.Cause(ctx), err, len(said) > 0)
}

// child is a process that evaluates, and the other ends of its streams.
type child struct {
	pid                   int
	stdin, stdout, stderr *os.File
}

// startChild starts this program once more, by system calls rather than by
// package os/exec, which is 150 KB of program.
func startChild() (c child, err error) {
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			_ = f.Close()
		}
		if err != nil {
			c.close()
		}
	}()
	for i, ours := range []**os.File{&c.stdin, &c.stdout, &c.stderr} {
		read, write, err := os.Pipe()
		if err != nil {
			return c, err
		}
		if i == 0 {
			read, write = write, read
		}
		*ours, theirs = read, append(theirs, write)
	}
	var files []uintptr
	for _, f := range theirs {
		files = append(files, f.Fd())
	}
	c.pid, err = syscall.ForkExec("/proc/self/exe", []string{os.Args[0], childArgument}, &syscall.ProcAttr{
		Env: childEnvironment(), Files: files, Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}})
	return c, err
}

func (c child) close() {
	for _, f := range []*os.File{c.stdin, c.stdout, c.stderr} {
		_ = f.Close() // nil is an error as well
	}
}

// ended waits for the end of the child, and leaves it to be waited for.
func (c child) ended() {
	var info unix.Siginfo
	for unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// wait is how the child has ended: nil is well.
func (c child) wait() error {
	defer c.close()
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(c.pid, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("wait4", err)
		case status.Signaled():
			return fmt.Errorf("killed by %s", status.Signal())
		case status.ExitStatus() != 0:
			return fmt.Errorf("exit status %d", status.ExitStatus())
		default:
			return nil
		}
	}
}

// whyNoAnswer is the error for a child that did not end by itself, or not well.
func whyNoAnswer(cause, err error, wasReady bool) error {
	switch {
	case errors.Is(cause, errDying) && wasReady, cause == nil && wasReady:
		return failed("it needs more than %d MiB of memory", memoryLimit>>20)
	case errors.Is(cause, ErrTimeout), errors.Is(cause, ErrFailed):
		return cause
	case cause != nil && !errors.Is(cause, errDying):
		return fmt.Errorf("evaluate the expression: %w", cause)
	}
	return fmt.Errorf("evaluate the expression in a child process: %w", err)
}

// childEnvironment has nothing of the parent's that could change how the child
// works. A short crash is a quick one, and two threads of Go's are enough to
// collect garbage beside the evaluation.
func childEnvironment() []string {
	env := []string{"GOTRACEBACK=none", "GOMAXPROCS=2", "MALLOC_ARENA_MAX=1"}
	if dir, ok := os.LookupEnv("GOCOVERDIR"); ok {
		env = append(env, "GOCOVERDIR="+dir)
	}
	return env
}

// parseAnswer is the answer of a child that has ended well.
func parseAnswer(said []byte) ([]byte, error) {
	if len(said) < 2 || said[0] != ready {
		return nil, errors.New("evaluate the expression in a child process: it is not one of this package's")
	}
	text := said[2:]
	switch said[1] {
	case kindValue:
		return text, nil
	case kindCompile:
		wrong := &CompileError{}
		if err := json.Unmarshal(text, wrong); err != nil {
			return nil, fmt.Errorf("decode the answer of the child process: %w", err)
		}
		return nil, wrong
	}
	return nil, failed("%s", text)
}
