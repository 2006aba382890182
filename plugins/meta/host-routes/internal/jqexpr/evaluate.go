package jqexpr

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/itchyny/gojq"
)

// What an expression may use.
const (
	timeLimit   = time.Second           // from the start of compiling to the answer
	hereLimit   = 10 * time.Millisecond // in the process
	memoryLimit = 64 << 20              // bytes beyond what a child has at its start
	answerLimit = 4 << 20               // bytes of JSON
	countLimit  = 1000                  // values that are counted, where one is wanted
)

// ErrTimeout says that there was no answer in time.
var ErrTimeout = errors.New("the expression took longer than 1 s")

// ErrFailed says that an expression has no answer: it failed or halted, needs
// too much memory, or does not yield exactly one value. The text of an error
// that wraps it says which.
var ErrFailed = errors.New("the expression failed")

// Evaluate is the JSON of the one value that the expression yields for an input
// in JSON, with $cni being the value that cni is in JSON. Its error is
// [ErrTimeout], [ErrFailed], the context's, or says that no child process could
// be had.
func (e *Expression) Evaluate(ctx context.Context, input []byte, cni any) ([]byte, error) {
	began := time.Now()
	value, err := json.Marshal(cni)
	if err != nil {
		return nil, fmt.Errorf("encode "+variable+": %w", err)
	}
	if e.mayBeSmall() {
		answer, err := e.evaluateHere(ctx, input, value)
		if !errors.Is(err, errNotSmall) {
			return answer, err
		}
	}
	if !json.Valid(input) {
		return nil, errors.New("the input of the expression is not JSON")
	}
	left := timeLimit - e.spent - time.Since(began)
	return evaluateInChild(ctx, left, request{Source: []byte(e.source), Input: input, CNI: value})
}

// mayBeSmall reports whether the expression is small at least for no input.
func (e *Expression) mayBeSmall() bool { return e.code != nil && small(e.query, size{}, size{}) }

// errNotSmall leaves an evaluation to a child.
var errNotSmall = errors.New("not small")

// evaluateHere evaluates what is small in the process.
func (e *Expression) evaluateHere(ctx context.Context, input, cni []byte) ([]byte, error) {
	in, err := decode(input)
	if err != nil {
		return nil, err
	}
	value, err := decode(cni)
	if err != nil {
		return nil, err
	}
	if !small(e.query, weigh(in), weigh(value)) {
		return nil, errNotSmall
	}
	return run(&budget{Context: ctx, until: time.Now().Add(hereLimit)}, e.code, in, value)
}

// decode keeps numbers as they are written.
func decode(data []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("decode the input of the expression: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decode the input of the expression: more than one JSON value")
	}
	return v, nil
}

// run evaluates compiled code.
func run(ctx context.Context, code *gojq.Code, input, cni any) (answer []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, failed("gojq gave up: %v", p)
		}
	}()
	values, count := code.RunWithContext(ctx, input, cni), 0
	var value any
	for ; count <= countLimit; count++ {
		v, ok := values.Next()
		if !ok {
			break
		}
		if err, is := v.(error); is {
			return nil, evaluationError(ctx, err)
		}
		value = v
	}
	switch {
	case count == 0:
		return nil, failed("it yields no value, where it must yield one")
	case count > countLimit:
		return nil, failed("it yields more than %d values, where it must yield one", countLimit)
	case count > 1:
		return nil, failed("it yields %d values, where it must yield one", count)
	}
	answer, err = gojq.Marshal(value)
	if len(answer) > answerLimit {
		return nil, tooLong()
	}
	return answer, err
}

func evaluationError(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return fmt.Errorf("evaluate the expression: %w", err)
	}
	var halt *gojq.HaltError
	if !errors.As(err, &halt) {
		return failed("%v", err)
	}
	if halt.Value() == nil {
		return failed("it halted")
	}
	return failed("it halted: %s", gojq.Preview(halt.Value()))
}

func tooLong() error { return failed("its value is longer than %d MiB", answerLimit>>20) }

// failed says why an expression failed, in one line.
func failed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFailed, oneLine(fmt.Sprintf(format, args...)))
}

// budget is a context that ends after some time of evaluation. gojq asks for
// Done before every instruction, in the one goroutine that evaluates: that is
// the clock. A timer would need a thread, and would come late on a busy node.
type budget struct {
	context.Context
	until time.Time
	asked uint
	err   error
}

// Done implements [context.Context].
func (b *budget) Done() <-chan struct{} {
	const seldom = 64 // instructions, each some 50 ns, as looking at the clock is
	if b.asked++; b.asked%seldom == 1 {
		if b.err = context.Cause(b.Context); b.err == nil && time.Now().After(b.until) {
			b.err = errNotSmall
		}
	}
	if b.err == nil {
		return nil
	}
	ended := make(chan struct{})
	close(ended)
	return ended
}

// Err implements [context.Context].
func (b *budget) Err() error { return b.err }
