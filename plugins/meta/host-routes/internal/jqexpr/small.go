package jqexpr

import (
	"encoding/json"

	"github.com/itchyny/gojq"
)

// An expression is small where a bound of all memory that its evaluation can
// touch is below smallWork. The bound follows the syntax tree; what has none
// here (loops over more than what is there, recursion, definitions, updates,
// regular expressions, whatever makes much of little) is not small.
//
// Values share their parts in memory: [., .] twenty times is small there, but
// a million times as large for whoever prints or compares it. So sizes are
// those of the whole tree.
const smallWork = 4 << 20 // bytes

// size bounds values, of which it is the sum. A part of a value has no larger
// one than the whole.
type size struct {
	nodes float64 // values within values
	bytes float64 // of strings, keys and numbers
	// known is the one value itself, where it is a part of the input that is
	// named without a condition, as .prevResult.ips is.
	known any
}

const (
	nodeMemory  = 64 // bytes, generously: an interface, what it points to, a place in a list
	objectNodes = 6  // an empty map with its first group of eight
	valueWork   = 2 * nodeMemory
)

func (s size) plus(t size) size         { return size{nodes: s.nodes + t.nodes, bytes: s.bytes + t.bytes} }
func (s size) times(n float64) size     { return size{nodes: s.nodes * n, bytes: s.bytes * n} }
func (s size) memory() float64          { return s.nodes*nodeMemory + s.bytes }
func (s size) text() size               { return size{nodes: 1, bytes: s.nodes*24 + s.bytes*6} } // digits of a float64; \u0000
func (s size) comparing(t size) float64 { return s.memory() * t.memory() / nodeMemory }

// part is the size of something no larger, which is not the value itself.
func (s size) part() size { return s.times(1) }

// weigh is the size of a value that was decoded from JSON.
func weigh(v any) size {
	s := measure(v)
	s.known = v
	return s
}

func measure(v any) size {
	switch v := v.(type) {
	case string:
		return size{nodes: 1, bytes: float64(len(v))}
	case json.Number:
		return size{nodes: 1, bytes: float64(len(v))}
	case []any:
		sum := size{nodes: 1, bytes: 0}
		for _, element := range v {
			sum = sum.plus(measure(element))
		}
		return sum
	case map[string]any:
		sum := size{nodes: objectNodes, bytes: 0}
		for key, element := range v {
			sum = sum.plus(measure(element)).plus(size{nodes: 1, bytes: float64(len(key))})
		}
		return sum
	}
	return size{nodes: 1, bytes: 0}
}

// cost bounds the evaluation of a query for one input: how many values it
// yields, their size together, and the memory that it touches.
//
// Each number grows with the size of the input, and the faster the larger that
// is, and must do so: see pipe. Sums, products and the larger of one and such
// a function do.
type cost struct {
	values float64
	size   size
	work   float64
}

// unbounded is the cost of what is not known to be small. Whatever it goes
// into is at least that, or not a number, which is not below smallWork either.
func unbounded() cost {
	const much = 1e300
	return cost{much, size{nodes: much, bytes: much}, much}
}

func one(s size) cost { return cost{1, s, s.memory() + valueWork} }

// both is the cost of one query and then the other on the same input.
func (c cost) both(d cost) cost {
	return cost{c.values + d.values, c.size.plus(d.size), c.work + d.work}
}

// times is the cost of n evaluations.
func (c cost) times(n float64) cost { return cost{c.values * n, c.size.times(n), c.work * n} }

// each is the cost of putting together every value of one query and every one
// of the other, either of which may be evaluated anew for each of the other.
func (c cost) each(d cost) cost {
	made := cost{values: c.values * d.values, size: c.size.times(d.values).plus(d.size.times(c.values))}
	made.work = c.work*max(1, d.values) + d.work*max(1, c.values) + made.size.memory() + made.values*valueWork
	return made
}

// as is the cost where the values become ones of another size, by so much
// more work.
func (c cost) as(s size, work float64) cost { return cost{c.values, s, c.work + s.memory() + work} }

// scalars is the cost where the values become true, false or numbers.
func (c cost) scalars(work float64) cost { return c.as(size{nodes: c.values, bytes: 0}, work) }

// pipe is the cost of a query on all values of another. As it grows ever
// faster, n values cost the most where one of them is as large as all are
// together, and the others are nothing.
func (c cost) pipe(next func(size) cost) cost {
	then := next(c.size)
	if c.values > 1 {
		then = then.both(next(size{}).times(c.values - 1))
	}
	then.work += c.work
	return then
}

// iterate is the cost of taking the values apart.
func (c cost) iterate() cost {
	return cost{c.size.nodes, c.size.part(), c.work + c.size.memory() + c.size.nodes*valueWork}
}

// collect is the cost of making a list of the values.
func (c cost) collect() cost {
	return cost{1, c.size.plus(size{nodes: 1, bytes: 0}), c.work + c.size.memory() + valueWork}
}

// estimator walks the syntax tree.
type estimator struct {
	variables map[string]size
	steps     int // left: a pipe after several values costs twice the steps
}

const manySteps = 2000

// small reports whether an evaluation is small for sure.
func small(q *gojq.Query, input, cni size) bool {
	e := estimator{map[string]size{variable: cni}, manySteps}
	c := e.query(q, input)
	return c.work+c.size.text().bytes < smallWork
}

func (e *estimator) query(q *gojq.Query, in size) cost {
	if e.steps--; e.steps < 0 || q.Meta != nil || len(q.Imports) > 0 || len(q.FuncDefs) > 0 {
		return unbounded()
	}
	switch {
	case q.Term != nil:
		return e.term(q.Term, in)
	case q.Left == nil || q.Right == nil:
		return unbounded()
	case q.Op == gojq.OpPipe && len(q.Patterns) > 0:
		return e.bind(q, in)
	case q.Op == gojq.OpPipe:
		return e.query(q.Left, in).pipe(e.on(q.Right))
	}
	return operation(q.Op, e.query(q.Left, in), e.query(q.Right, in))
}

// on is the query as a function of its input.
func (e *estimator) on(q *gojq.Query) func(size) cost {
	return func(in size) cost { return e.query(q, in) }
}

func operation(op gojq.Operator, l, r cost) cost {
	switch op {
	case gojq.OpComma, gojq.OpAlt:
		return l.both(r)
	case gojq.OpAnd, gojq.OpOr:
		c := l.each(r)
		c.values += l.values // without a look at the other
		return c.scalars(0)
	case gojq.OpAdd, gojq.OpMod:
		return l.each(r)
	case gojq.OpEq, gojq.OpNe, gojq.OpGt, gojq.OpLt, gojq.OpGe, gojq.OpLe:
		return l.each(r).scalars(0)
	case gojq.OpSub: // looks for each element of one list in the other
		c := l.each(r)
		return c.as(c.size, l.size.comparing(r.size))
	case gojq.OpDiv: // splits strings
		c := l.each(r)
		return c.as(c.size.pieces(), 0)
	}
	return unbounded()
}

// pieces is the size of strings that may be split at every byte.
func (s size) pieces() size { return size{nodes: s.nodes + s.bytes + 1, bytes: s.bytes} }

// bind is the cost of "… as $name | …": the variables hold parts of each value
// in turn, of which the sum is known, as in pipe.
func (e *estimator) bind(q *gojq.Query, in size) cost {
	var names []string
	for _, p := range q.Patterns {
		var ok bool
		if names, ok = patternNames(names, p); !ok || len(q.Patterns) > 1 {
			return unbounded()
		}
	}
	return e.query(q.Left, in).pipe(func(value size) cost {
		outer := e.variables
		defer func() { e.variables = outer }()
		e.variables = map[string]size{}
		for name, s := range outer {
			e.variables[name] = s
		}
		for _, name := range names {
			e.variables[name] = value
		}
		return e.query(q.Right, in)
	})
}

// patternNames are the variables of a pattern whose keys are plain.
func patternNames(names []string, p *gojq.Pattern) ([]string, bool) {
	ok := true
	if p.Name != "" {
		names = append(names, p.Name)
	}
	for _, element := range p.Array {
		var plain bool
		names, plain = patternNames(names, element)
		ok = ok && plain
	}
	for _, field := range p.Object {
		if field.KeyQuery != nil || field.KeyString != nil && field.KeyString.Queries != nil {
			return names, false
		}
		if field.Key != "" && field.Key[0] == '$' {
			names = append(names, field.Key)
		}
		if field.Val != nil {
			var plain bool
			names, plain = patternNames(names, field.Val)
			ok = ok && plain
		}
	}
	return names, ok
}

func (e *estimator) term(t *gojq.Term, in size) cost {
	c := e.bare(t, in)
	for _, s := range t.SuffixList {
		switch {
		case s.Iter:
			c = c.iterate()
		case s.Index != nil:
			c = e.index(c, s.Index, in)
		}
	}
	return c
}

// bare is the cost of a term without what follows it.
func (e *estimator) bare(t *gojq.Term, in size) cost {
	switch t.Type {
	case gojq.TermTypeIdentity:
		return one(in)
	case gojq.TermTypeNull, gojq.TermTypeTrue, gojq.TermTypeFalse:
		return one(size{nodes: 1, bytes: 0})
	case gojq.TermTypeNumber:
		return one(size{nodes: 1, bytes: float64(len(t.Number))})
	case gojq.TermTypeIndex:
		return e.index(one(in), t.Index, in)
	case gojq.TermTypeFunc:
		return e.function(t.Func, in)
	case gojq.TermTypeObject:
		return e.object(t.Object, in)
	case gojq.TermTypeArray:
		if t.Array.Query == nil {
			return one(size{nodes: 1, bytes: 0})
		}
		return e.query(t.Array.Query, in).collect()
	case gojq.TermTypeUnary:
		return e.term(t.Unary.Term, in).pipe(one)
	case gojq.TermTypeString:
		return e.text(t.Str, in)
	case gojq.TermTypeIf:
		return e.conditional(t.If.Cond, t.If.Then, t.If.Elif, t.If.Else, in)
	case gojq.TermTypeTry:
		if t.Try.Catch == nil {
			return e.query(t.Try.Body, in)
		}
	case gojq.TermTypeQuery:
		return e.query(t.Query, in)
	}
	return unbounded()
}

// index is the cost of a part of the values, its place computed from the
// input. A list as the place is looked for in the value.
func (e *estimator) index(c cost, x *gojq.Index, in size) cost {
	if object, ok := c.size.known.(map[string]any); ok && x.Name != "" {
		field := one(weigh(object[x.Name]))
		field.work += c.work
		return field
	}
	place := one(size{})
	if x.Str != nil {
		place = e.text(x.Str, in)
	}
	for _, q := range []*gojq.Query{x.Start, x.End} {
		if q != nil {
			place = place.each(e.query(q, in))
		}
	}
	part := c.each(place)
	return part.as(c.size.times(place.values), c.size.comparing(place.size))
}

// text is the cost of a string with interpolations, which may hold anything.
func (e *estimator) text(s *gojq.String, in size) cost {
	whole := one(size{nodes: 1, bytes: float64(len(s.Str))})
	for _, part := range s.Queries {
		c := e.query(part, in)
		whole = whole.each(c.as(size{nodes: c.values, bytes: 0}.plus(c.size.text()), 0))
	}
	return whole
}

// conditional is the cost of an if, of which an elif is one in its else.
func (e *estimator) conditional(cond, then *gojq.Query, elif []*gojq.IfElif, otherwise *gojq.Query, in size) cost {
	branches := e.query(then, in)
	switch {
	case len(elif) > 0:
		branches = branches.both(e.conditional(elif[0].Cond, elif[0].Then, elif[1:], otherwise, in))
	case otherwise != nil:
		branches = branches.both(e.query(otherwise, in))
	default:
		branches = branches.both(one(in))
	}
	asked := e.query(cond, in)
	c := branches.times(asked.values)
	c.work += asked.work
	return c
}

// object is the cost of every combination of keys and values.
func (e *estimator) object(o *gojq.Object, in size) cost {
	whole := one(size{nodes: objectNodes, bytes: 0})
	for _, field := range o.KeyVals {
		key, value := one(size{nodes: 1, bytes: float64(len(field.Key))}), one(in)
		switch {
		case field.KeyString != nil:
			key = e.text(field.KeyString, in)
		case field.KeyQuery != nil:
			key = e.query(field.KeyQuery, in)
		case field.Key[0] == '$':
			value = e.variable(field.Key)
		}
		if field.Val != nil {
			if field.Key != "" && field.Key[0] == '$' {
				key = value
			}
			value = e.query(field.Val, in)
		}
		whole = whole.each(key.each(value))
	}
	return whole
}
