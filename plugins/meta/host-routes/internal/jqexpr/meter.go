package jqexpr

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"regexp/syntax"
)

// A meter bounds an evaluation in the process, by counting: a clock would send
// small expressions to a child where the processor is scarce. What it counts
// are steps: an instruction of gojq is one, and so is each value that a function
// of gojq's looks at. Before it does: see metering.
type meter struct {
	context.Context
	left int64 // steps
}

// allowance is how many steps an evaluation in the process has. Most of them
// take some 50 ns; the worst, with all that they allocate, 3 µs and 600 bytes
// (TestMeterHolds).
const allowance = 100_000

// errNotSmall leaves an evaluation to a child.
var errNotSmall = errors.New("not small")

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done implements [context.Context]. gojq asks before every instruction, and
// no try of the expression catches what it finds.
func (m *meter) Done() <-chan struct{} {
	if m.left--; m.left < 0 {
		return closed
	}
	return nil
}

// Err implements [context.Context].
func (m *meter) Err() error {
	if m.left < 0 {
		return errNotSmall
	}
	return nil
}

func (m *meter) spend(steps int64) { m.left -= steps }

// refuse ends the evaluation at the next instruction.
func (m *meter) refuse() { m.left = -1 }

// step, in bytes, is how much text is looked at in one step.
const step = 4

// weight is how many steps it takes to look at a value and all within it, with
// four bytes of text as one: values share their parts in memory, and whoever
// prints or compares them goes over each as often as it is there. It is no more
// than is left by much.
func (m *meter) weight(values ...any) int64 {
	var sum int64
	for _, v := range values {
		weigh(v, m.left, &sum)
	}
	return sum
}

// weigh adds the weight of a value until the sum is more than enough.
func weigh(v any, enough int64, sum *int64) {
	*sum++
	switch v := v.(type) {
	case string:
		*sum += int64(len(v)) / step
	case json.Number:
		*sum += int64(len(v)) / step
	case *big.Int:
		*sum += int64(v.BitLen()) / (step * 8)
	case []any:
		for _, element := range v {
			if *sum > enough {
				return
			}
			weigh(element, enough, sum)
		}
	case map[string]any:
		for key, element := range v {
			if *sum > enough {
				return
			}
			*sum += int64(len(key)) / step
			weigh(element, enough, sum)
		}
	}
}

// length charges for taking a value apart, once.
func (m *meter) length(v any, _ []any) any {
	switch v := v.(type) {
	case string:
		m.spend(int64(len(v)) / step)
	case []any:
		m.spend(int64(len(v)))
	case map[string]any:
		m.spend(int64(len(v)))
	}
	return v
}

// input charges for the input of a function.
func (m *meter) input(v any, _ []any) any {
	m.spend(m.weight(v))
	return v
}

// argument charges for an argument of a function, which may be held against
// every part of the function's input.
func (m *meter) argument(v any, args []any) any {
	m.spend(m.weight(v) * m.weight(args[0]))
	return args[0]
}

// operands charges for those of an operator.
func (m *meter) operands(_ any, args []any) any {
	m.spend(m.weight(args[0]) * m.weight(args[1]))
	return []any{args[0], args[1]}
}

// factors charges for those of a product: a string may be repeated any number
// of times.
func (m *meter) factors(v any, args []any) any {
	for _, arg := range args {
		if _, is := arg.(string); is {
			m.refuse()
		}
	}
	return m.operands(v, args)
}

// key lets no list be a key, which is looked for in the whole value.
func (m *meter) key(_ any, args []any) any {
	if _, is := args[0].([]any); is {
		m.refuse()
	}
	return args[0]
}

// pattern charges for a regular expression: for compiling it, for trying each
// part of it at every character, and for gojq, which counts the characters
// before each match and each group.
func (m *meter) pattern(v any, args []any) any {
	const compile, match = 16, 4
	subject, text := m.weight(v), m.weight(args[0])
	m.spend(subject*subject*text + compile*text)
	if m.left < 0 {
		return args[0]
	}
	parts := m.parts(args[0])
	m.spend((subject*match + compile) * parts)
	return args[0]
}

// parts is how many parts the regular expressions in a value have.
func (m *meter) parts(v any) int64 {
	var sum int64
	switch v := v.(type) {
	case []any: // an expression, and flags
		for _, element := range v {
			sum += m.parts(element)
		}
	case string:
		if re, err := syntax.Parse(v, syntax.Perl); err == nil {
			sum = repeated(re)
		}
	}
	return sum
}

// repeated is how many parts a regular expression has once what it repeats is
// written out.
func repeated(re *syntax.Regexp) int64 {
	sum := int64(1 + len(re.Rune))
	for _, sub := range re.Sub {
		sum += repeated(sub)
	}
	if re.Op == syntax.OpRepeat {
		sum *= int64(max(re.Min, re.Max, 1))
	}
	return sum
}
