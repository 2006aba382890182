package jqexpr

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/itchyny/gojq"
)

// gojq asks the meter before each instruction, but one instruction may be a
// function that makes much of little: "x" * 1e9. So the syntax tree is changed
// before it is compiled: what goes into a function, an operator or a string is
// shown to the meter first. The functions below are those of which that is
// enough; an expression with any other, or with one that changes parts of a
// value (.[1e9] = 1), is not metered, and left to a child.
const (
	// These only say what is evaluated when, by instructions of which each is
	// counted (builtin.jq of gojq).
	control = " all/0 all/1 all/2 any/0 any/1 any/2 arrays/0 booleans/0 empty/0 env/0 first/0 first/1 isempty/1 " +
		"iterables/0 last/0 last/1 limit/2 map/1 not/0 nth/1 nth/2 nulls/0 numbers/0 objects/0 range/1 range/2 range/3 " +
		"recurse/0 recurse/1 recurse/2 repeat/1 scalars/0 select/1 skip/2 strings/0 until/2 values/0 while/2 "

	// The time that these take, and what they make, grows with their input
	// times each value of an argument.
	measured = " IN/1 IN/2 abs/0 add/0 add/1 ascii_downcase/0 ascii_upcase/0 ceil/0 contains/1 endswith/1 error/0 error/1 " +
		"explode/0 fabs/0 flatten/0 flatten/1 floor/0 from_entries/0 fromjson/0 getpath/1 group_by/1 has/1 implode/0 in/1 " +
		"index/1 indices/1 inside/1 join/1 keys/0 length/0 ltrim/0 ltrimstr/1 max/0 max_by/1 min/0 min_by/1 reverse/0 " +
		"rindex/1 round/0 rtrim/0 rtrimstr/1 sort/0 sort_by/1 split/1 startswith/1 to_entries/0 toboolean/0 tojson/0 " +
		"tonumber/0 tostring/0 trim/0 trimstr/1 trunc/0 type/0 unique/0 unique_by/1 utf8bytelength/0 with_entries/1 "

	// The first argument of these is a regular expression.
	matching = " capture/1 capture/2 gsub/2 gsub/3 match/1 match/2 scan/1 scan/2 split/2 splits/1 splits/2 " +
		"sub/2 sub/3 test/1 test/2 "
)

// metering changes the syntax tree of an expression.
type metering struct {
	defined []string // the expression's own functions, as name/arity
	refused bool
}

// metered changes an expression, and reports whether the meter bounds it.
func metered(q *gojq.Query) bool {
	var m metering
	m.walk(reflect.ValueOf(q))
	return !m.refused
}

// walk changes all nodes of a tree, the inner ones first.
func (m *metering) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			m.walk(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			m.walk(v.Field(i))
		}
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if f, ok := v.Interface().(*gojq.FuncDef); ok {
			m.define(f)
		}
		m.walk(v.Elem())
		m.change(v.Interface())
	}
}

// define notes the names of a function and of its parameters, which are
// functions as well. One of gojq's may not be among them: a call of it from
// elsewhere would be taken for one of theirs.
func (m *metering) define(f *gojq.FuncDef) {
	names := []string{signature(f.Name, len(f.Args))}
	for _, parameter := range f.Args {
		names = append(names, signature(strings.TrimPrefix(parameter, "$"), 0))
	}
	m.defined = append(m.defined, names...)
	m.refused = m.refused || gojqHas(f.Name, len(f.Args)) ||
		slices.ContainsFunc(f.Args, func(name string) bool { return gojqHas(strings.TrimPrefix(name, "$"), 0) })
}

func signature(name string, arity int) string { return name + "/" + strconv.Itoa(arity) }

// gojqHas reports whether gojq has a function.
func gojqHas(name string, arity int) bool {
	identity := &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeIdentity}}
	_, err := gojq.Compile(call(name, slices.Repeat([]*gojq.Query{identity}, arity)...))
	return err == nil
}

// change has the meter see what a node of the tree works on. The names of the
// meter's functions are none that can be written.
func (m *metering) change(node any) {
	switch node := node.(type) {
	case *gojq.Query:
		m.operator(node)
	case *gojq.Term:
		m.term(node)
	case *gojq.String:
		for i, part := range node.Queries {
			if part.Term == nil || part.Term.Str == nil {
				node.Queries[i] = &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeQuery, Query: pipe(part, call(meterInput))}}
			}
		}
	case *gojq.Index:
		if node.Start != nil && !node.IsSlice && !scalar(node.Start) {
			node.Start = call(meterKey, node.Start)
		}
	case *gojq.PatternObject:
		if node.KeyQuery != nil {
			node.KeyQuery = call(meterKey, node.KeyQuery)
		}
	}
}

// scalar reports whether a query, by its form, can yield nothing but strings or
// numbers.
func scalar(q *gojq.Query) bool {
	return q.Term != nil && len(q.Term.SuffixList) == 0 &&
		slices.Contains([]gojq.TermType{gojq.TermTypeNumber, gojq.TermTypeString, gojq.TermTypeUnary}, q.Term.Type)
}

// operator makes "l + r" of what the meter lets through: "operands(l; r) |
// .[0] + .[1]".
func (m *metering) operator(q *gojq.Query) {
	see := meterOperands
	switch q.Op {
	case 0, gojq.OpPipe, gojq.OpComma, gojq.OpAlt, gojq.OpAnd, gojq.OpOr:
		return
	case gojq.OpMul:
		see = meterFactors
	case gojq.OpAdd, gojq.OpSub, gojq.OpDiv, gojq.OpMod, gojq.OpEq, gojq.OpNe, gojq.OpGt, gojq.OpLt, gojq.OpGe, gojq.OpLe:
	default:
		m.refused = true
	}
	q.Left, q.Right = call(see, q.Left, q.Right), &gojq.Query{Left: element("0"), Op: q.Op, Right: element("1")}
	q.Op = gojq.OpPipe
}

// term makes of a term what the meter lets through.
func (m *metering) term(t *gojq.Term) {
	switch t.Type {
	case gojq.TermTypeFunc:
		m.function(t)
	case gojq.TermTypeFormat:
		*t = after(meterInput, *t)
	case gojq.TermTypeIndex:
		if t.Index.IsSlice {
			*t = after(meterLength, *t)
		}
	}
	*t = suffixes(*t)
}

// function makes "f(a)" of what the meter lets through: "input | f(argument(a))".
func (m *metering) function(t *gojq.Term) {
	name := signature(t.Func.Name, len(t.Func.Args))
	isIn := func(names string) bool { return strings.Contains(names, " "+name+" ") }
	first := meterArgument
	switch {
	case name[0] == '$', slices.Contains(m.defined, name):
		return
	case isIn(control):
		*t = after(meterLength, *t)
		return
	case isIn(matching):
		first = meterPattern
	case !isIn(measured):
		m.refused = true
	}
	for i, arg := range t.Func.Args {
		t.Func.Args[i] = call(first, arg)
		first = meterArgument
	}
	*t = after(meterInput, *t)
}

// after is a term without its suffixes after a function of the meter's, and
// then the suffixes.
func after(function string, t gojq.Term) gojq.Term {
	inner := t
	inner.SuffixList = nil
	return gojq.Term{Type: gojq.TermTypeQuery, Query: pipe(call(function), &gojq.Query{Term: &inner}), SuffixList: t.SuffixList}
}

// suffixes has the meter see what is taken apart, by "[]" or "[1:]".
func suffixes(t gojq.Term) gojq.Term {
	for i, s := range slices.Backward(t.SuffixList) {
		if s.Iter || s.Index != nil && s.Index.IsSlice {
			before := t
			before.SuffixList = t.SuffixList[:i]
			before = suffixes(before)
			return gojq.Term{Type: gojq.TermTypeQuery, SuffixList: t.SuffixList[i:],
				Query: pipe(&gojq.Query{Term: &before}, call(meterLength))}
		}
	}
	return t
}

// The meter's functions. None of the names can be written in an expression.
const (
	meterLength   = "length of"
	meterInput    = "input of"
	meterArgument = "argument of"
	meterPattern  = "pattern of"
	meterOperands = "operands of"
	meterFactors  = "factors of"
	meterKey      = "key of"
)

// functions are the meter's, for gojq.
func (m *meter) functions() []gojq.CompilerOption {
	return []gojq.CompilerOption{
		gojq.WithFunction(meterLength, 0, 0, m.length),
		gojq.WithFunction(meterInput, 0, 0, m.input),
		gojq.WithFunction(meterArgument, 1, 1, m.argument),
		gojq.WithFunction(meterPattern, 1, 1, m.pattern),
		gojq.WithFunction(meterOperands, 2, 2, m.operands),
		gojq.WithFunction(meterFactors, 2, 2, m.factors),
		gojq.WithFunction(meterKey, 1, 1, m.key),
	}
}

func call(name string, args ...*gojq.Query) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: name, Args: args}}}
}

func pipe(left, right *gojq.Query) *gojq.Query {
	return &gojq.Query{Left: left, Op: gojq.OpPipe, Right: right}
}

// element is .[n].
func element(n string) *gojq.Query {
	number := &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeNumber, Number: n}}
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeIndex, Index: &gojq.Index{Start: number}}}
}
