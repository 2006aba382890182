package jqexpr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// Expression is a jq expression that compiles. One goroutine may evaluate it
// at a time.
type Expression struct {
	source  string
	environ []string
	limits  limits     // of a child
	code    *gojq.Code // nil where only a child may evaluate it
	meter   *meter     // asked by code
}

// variable is the one that an expression may use beside its own.
const variable = "$cni"

// shortSource, in bytes, is as long as an expression may be to be compiled in
// the process. Memory and time grow with it: definitions with the square of
// their number, nesting by the stack, whose overflow no program survives.
const shortSource = 4 << 10

// Compile compiles an expression, which has the variable $cni, and in env and
// $ENV the environment that is given ("KEY=value"); it has neither files nor
// modules, nor further input. Its error is a [CompileError]; for a very long
// expression also what [Expression.Evaluate] may return.
func Compile(source string, environ []string) (*Expression, error) {
	e := &Expression{source: source, environ: environ, limits: usual}
	if len(source) > shortSource {
		_, err := evaluateInChild(context.Background(), usual, request{Source: []byte(source), OnlyCompile: true})
		return e, err
	}
	query, err := gojq.Parse(source)
	if err != nil {
		return nil, compileError(source, err)
	}
	m := &meter{Context: context.Background()}
	bounded := metered(query)
	code, err := compile(query, environ, m.functions()...)
	if err != nil {
		return nil, compileError(source, err)
	}
	if bounded {
		e.code, e.meter = code, m
	}
	return e, nil
}

// compile compiles a query, which the meter may have changed.
func compile(q *gojq.Query, environ []string, functions ...gojq.CompilerOption) (*gojq.Code, error) {
	return gojq.Compile(q, append(functions,
		gojq.WithVariables([]string{variable}),
		gojq.WithEnvironLoader(func() []string { return environ }))...)
}

// CompileError says what is wrong with an expression, and where.
type CompileError struct {
	Message string
	Line    int    // from 1
	Column  int    // in characters, from 1
	Text    string // the line, or the part of a long one around the column
	Caret   string // white space and a caret, which stands under the column
}

// Error is the message in one line, an empty one, the line of the expression,
// and a caret under the column. CNI prints the first line of an error and the
// rest with "; " between them, which would push the expression out from above
// the caret.
func (e *CompileError) Error() string {
	return fmt.Sprintf("%s (line %d, column %d)\n\n%s\n%s", e.Message, e.Line, e.Column, e.Text, e.Caret)
}

func compileError(source string, err error) *CompileError {
	e := &CompileError{Message: oneLine(err.Error())}
	e.point(source, offender(source, err))
	return e
}

// point shows the place at an offset, in bytes.
func (e *CompileError) point(source string, offset int) {
	before := source[:offset]
	start := strings.LastIndexByte(before, '\n') + 1
	line, _, _ := strings.Cut(source[start:], "\n")
	e.Line = strings.Count(before, "\n") + 1
	e.Column = utf8.RuneCountInString(before[start:]) + 1
	left, right := []rune(before[start:]), []rune(strings.TrimSuffix(line[offset-start:], "\r"))
	const around = 60 // characters
	if skipped := len(left) - around; skipped > 0 {
		left = append([]rune{'…'}, left[skipped:]...)
	}
	if len(right) > around {
		right = append(right[:around:around], '…')
	}
	e.Text = strings.Map(visible, string(left)+string(right))
	e.Caret = strings.Map(blank, string(left)) + "^"
}

// visible keeps the line one line, and as wide as it was.
func visible(r rune) rune {
	if r != '\t' && !unicode.IsPrint(r) && !unicode.Is(unicode.Mn, r) {
		return utf8.RuneError
	}
	return r
}

// blank is white space as wide as the character: a tab reaches equally far in
// both lines, an accent on another character takes no place.
func blank(r rune) rune {
	switch {
	case r == '\t':
		return '\t'
	case unicode.Is(unicode.Mn, r):
		return -1
	}
	return ' '
}

// offender is the offset of what the compiler minds.
func offender(source string, err error) int {
	var syntax *gojq.ParseError
	switch {
	case !errors.As(err, &syntax):
		return undefined(source, err)
	case syntax.Token == "":
		return unfinished(source, err)
	default: // it has been read, and nothing after it
		return min(max(syntax.Offset-len(syntax.Token), 0), len(source))
	}
}

// unfinished is where an expression is that ends too early: at its end, or,
// where it ends in a string, at the quote that opens it, or after the
// interpolation that interrupts it.
func unfinished(source string, err error) int {
	end := len(strings.TrimRightFunc(source, unicode.IsSpace))
	if _, empty := gojq.Parse(`"`); err.Error() != empty.Error() {
		return end
	}
	at := len(source)
	for range many {
		if at = strings.LastIndexAny(source[:at], `")`); at < 0 {
			break
		}
		outside := at
		if source[at] == ')' {
			outside++
		}
		// Within a string what stands before would end in the same way.
		if _, before := gojq.Parse(source[:outside]); before == nil || before.Error() != err.Error() {
			return outside
		}
	}
	return end
}

// many is in how many places the offender is looked for.
const many = 100

// undefined is where a function, a variable, a label or a module is used that
// is not there, of which gojq tells the name alone, as the last word. Of its
// occurrences in the text the first is taken where another unknown name would
// matter once the name itself is defined: it is neither in a string or comment
// nor a key.
func undefined(source string, err error) int {
	names := []string{"input", "inputs"} // the two that are known and not allowed
	if _, name, named := strings.Cut(err.Error(), ": "); named {
		if before, _, function := strings.Cut(name, "/"); function && name[0] != '"' {
			name = before
		}
		names = []string{name}
	}
	for _, name := range names {
		if at, ok := firstUse(source, name); ok {
			return at
		}
	}
	if places := occurrences(source, names[0]); len(names) == 1 && len(places) > 0 {
		return places[0]
	}
	return len(strings.TrimRightFunc(source, unicode.IsSpace)) // there is nothing to evaluate
}

// firstUse is the first place where a name is looked up.
func firstUse(source, name string) (int, bool) {
	known := complaint(source, name)
	for _, at := range occurrences(source, name) {
		if complaint(source[:at]+name+"__"+source[at+len(name):], name) != known {
			return at, true
		}
	}
	return 0, false
}

// complaint is what is wrong with a text where the name is defined.
func complaint(source, name string) string {
	query, err := gojq.Parse(source)
	if err != nil {
		return err.Error()
	}
	options := []gojq.CompilerOption{gojq.WithInputIter(gojq.NewIter[any]())}
	if name[0] == '$' {
		options = append(options, gojq.WithVariables([]string{variable, name}))
	} else {
		const arities = 30 // as many arguments as gojq allows
		define := gojq.WithFunction(name, 0, arities, func(v any, _ []any) any { return v })
		options = append(options, gojq.WithVariables([]string{variable}), define)
	}
	if _, err := gojq.Compile(query, options...); err != nil {
		return err.Error()
	}
	return ""
}

// occurrences are the offsets of a name as a word of its own.
func occurrences(source, name string) []int {
	var places []int
	for from := 0; name != "" && len(places) < many; {
		at := strings.Index(source[from:], name)
		if at < 0 {
			break
		}
		at += from
		from = at + len(name)
		if !strings.HasSuffix(source[:at], ".") && !word(source[:at], utf8.DecodeLastRuneInString) &&
			!word(source[from:], utf8.DecodeRuneInString) {
			places = append(places, at)
		}
	}
	return places
}

// word reports whether a character that may stand in a name is at the end of
// the text that is looked at.
func word(text string, end func(string) (rune, int)) bool {
	r, _ := end(text)
	return r == '_' || r == '$' || r == '@' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// oneLine is a message of gojq's as one line of bearable length: it may hold
// what the expression gave it.
func oneLine(text string) string {
	const enough = 300 // bytes
	if len(text) > enough {
		text = strings.ToValidUTF8(text[:enough], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
