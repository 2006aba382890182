package jqexpr

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/itchyny/gojq"
	"golang.org/x/sys/unix"
)

// childArgument makes the program a child that evaluates one expression.
const childArgument = "evaluate-one-jq-expression"

// request is what a child reads from its standard input.
type request struct {
	Source      []byte // in base64: it need not be UTF-8
	Environ     []string
	OnlyCompile bool
	Input, CNI  json.RawMessage `json:",omitempty"`
	Processor   time.Duration   // that the child may use
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
	if err := limitProcessor(r.Processor); err != nil {
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
	query, err := gojq.Parse(string(r.Source))
	if err != nil {
		return nil, compileError(string(r.Source), err)
	}
	code, err := compile(query, r.Environ)
	if err != nil {
		return nil, compileError(string(r.Source), err)
	}
	if r.OnlyCompile {
		return nil, nil
	}
	input, err := decode(r.Input)
	if err != nil {
		return nil, err
	}
	cni, err := decode(r.CNI)
	if err != nil {
		return nil, err
	}
	return run(context.Background(), code, input, cni)
}

// limitProcessor has the kernel kill this process once it has used so much time
// of processors, all threads and the start of the process included. RLIMIT_CPU
// would do, but for tests: it knows whole seconds only.
func limitProcessor(limit time.Duration) error {
	// timer_create(2), sigevent(3type): a union, of which a pointer is the
	// longest; the signal, how it is told; padding to 64 bytes.
	type sigevent struct {
		value          uintptr
		signal, notify int32
		_              [64]byte
	}
	event := sigevent{signal: int32(unix.SIGKILL)} // notify: SIGEV_SIGNAL, 0
	var timer int32
	if _, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_PROCESS_CPUTIME_ID,
		uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&timer))); errno != 0 {
		return os.NewSyscallError("timer_create", errno)
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(limit))}
	if _, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(timer), unix.TIMER_ABSTIME,
		uintptr(unsafe.Pointer(&spec)), 0, 0, 0); errno != 0 {
		return os.NewSyscallError("timer_settime", errno)
	}
	return nil
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

// evaluateInChild has a child process answer the request within the limits.
func evaluateInChild(ctx context.Context, l limits, r request) ([]byte, error) {
	r.Processor = l.processor
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the input of the expression: %w", err)
	}
	ctx, stop := context.WithTimeoutCause(ctx, l.clock, timeout("there is no answer after %s", l.clock))
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Pdeathsig follows the thread that started the child, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	said := &stream{enough: answerLimit + 2, stop: func() { cancel(tooLong()) }}
	child := exec.CommandContext(ctx, "/proc/self/exe")
	child.Args = []string{os.Args[0], childArgument}
	child.Env = childEnvironment()
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	child.Stdin, child.Stdout = bytes.NewReader(text), said
	// Go says why it ends a process, and may then hang for good.
	child.Stderr = &stream{stop: func() { cancel(errDying) }}
	err = child.Run()
	if err == nil && context.Cause(ctx) == nil {
		return parseAnswer(said.Bytes())
	}
	if used := child.ProcessState; used != nil && used.UserTime()+used.SystemTime() >= l.processor {
		return nil, timeout("more than %s of processor time", l.processor)
	}
	return nil, whyNoAnswer(context.Cause(ctx), err, said.Len() > 0)
}

// stream keeps so much of what is written to it, and stops who writes more.
type stream struct {
	bytes.Buffer
	enough int
	stop   func()
}

// Write implements [io.Writer].
func (s *stream) Write(p []byte) (int, error) {
	if s.Len()+len(p) > s.enough {
		s.stop()
		return 0, io.ErrShortBuffer
	}
	return s.Buffer.Write(p)
}

func timeout(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTimeout, fmt.Sprintf(format, args...))
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
