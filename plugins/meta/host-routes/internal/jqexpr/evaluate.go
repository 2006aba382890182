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
	memoryLimit = 64 << 20 // bytes beyond what a child has at its start
	answerLimit = 4 << 20  // bytes of JSON
	countLimit  = 1000     // values that are counted, where one is wanted
)

// limits are how long a child may take, compiling included.
type limits struct {
	processor time.Duration // time of processors
	clock     time.Duration // and, as a last resort, by the clock
}

// usual is what an expression has. Where eight pods share a tenth of a
// processor, its second takes more than a minute, and half a millisecond, which
// is what expressions take, half a second.
var usual = limits{processor: time.Second, clock: 30 * time.Second}

// ErrTimeout says that an expression took too long. The text of an error that
// wraps it says by which limit.
var ErrTimeout = errors.New("the expression took too long")

// ErrFailed says that an expression has no answer: it failed or halted, needs
// too much memory, or does not yield exactly one value. The text of an error
// that wraps it says which.
var ErrFailed = errors.New("the expression failed")

// Evaluate is the JSON of the one value that the expression yields for an input
// in JSON, with $cni being the value that cni is in JSON. Its error is
// [ErrTimeout], [ErrFailed], the context's, or says that no child process could
// be had.
func (e *Expression) Evaluate(ctx context.Context, input []byte, cni any) ([]byte, error) {
	value, err := json.Marshal(cni)
	if err != nil {
		return nil, fmt.Errorf("encode "+variable+": %w", err)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("evaluate the expression: %w", err)
	}
	if e.code != nil && len(input) < allowance {
		answer, err := e.evaluateHere(input, value)
		if !errors.Is(err, errNotSmall) {
			return answer, err
		}
	}
	if !json.Valid(input) {
		return nil, errors.New("the input of the expression is not JSON")
	}
	return evaluateInChild(ctx, e.limits, request{Source: []byte(e.source), Environ: e.environ, Input: input, CNI: value})
}

// evaluateHere evaluates in the process what the meter lets through.
func (e *Expression) evaluateHere(input, cni []byte) ([]byte, error) {
	in, err := decode(input)
	if err != nil {
		return nil, err
	}
	value, err := decode(cni)
	if err != nil {
		return nil, err
	}
	e.meter.left = allowance
	e.meter.spend(e.meter.weight(in, value))
	return run(e.meter, e.code, in, value)
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
			return nil, evaluationError(err)
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
	if m, is := ctx.(*meter); is {
		if m.spend(m.weight(value)); m.left < 0 {
			return nil, errNotSmall
		}
	}
	answer, err = gojq.Marshal(value)
	if len(answer) > answerLimit {
		return nil, tooLong()
	}
	return answer, err
}

func evaluationError(err error) error {
	if errors.Is(err, errNotSmall) {
		return err
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
