package jqexpr

import "github.com/itchyny/gojq"

// sorting is how often a value is compared while as many are sorted as can be
// small.
const sorting = 32

// function is the cost of calling one of gojq's functions, or of a variable.
func (e *estimator) function(f *gojq.Func, in size) cost {
	if e.steps--; e.steps < 0 {
		return unbounded()
	}
	switch len(f.Args) {
	case 0:
		if f.Name[0] == '$' {
			return e.variable(f.Name)
		}
		return plain(f.Name, in)
	case 1:
		if c, ok := e.filter(f.Name, f.Args[0], in); ok {
			return c
		}
		return binary(f.Name, in, e.query(f.Args[0], in))
	}
	return unbounded()
}

func (e *estimator) variable(name string) cost {
	if s, ok := e.variables[name]; ok {
		return one(s)
	}
	return unbounded()
}

// plain is the cost of a function without arguments.
func plain(name string, in size) cost {
	in = in.part()
	switch name {
	case "empty", "error":
		return cost{work: in.memory() + valueWork}
	case "not", "utf8bytelength", "type", "any", "all":
		return one(in).scalars(0)
	case "values", "nulls", "booleans", "numbers", "strings", "arrays", "objects", "iterables", "scalars",
		"first", "last", "keys", "length", "floor", "abs", "add", "flatten", "reverse", "min", "max",
		"ascii_downcase", "ascii_upcase", "trim", "ltrim", "rtrim":
		return one(in)
	case "sort", "unique":
		return one(in).as(in, in.memory()*sorting)
	case "to_entries", "from_entries":
		return one(entries(in))
	case "tostring", "tojson":
		return one(in.text())
	case "tonumber": // takes the square of its digits
		return one(in).as(in, in.bytes*in.bytes/16)
	}
	return unbounded()
}

// entries is the size of an object as a list of objects, each with a key and a
// value, and the other way round.
func entries(in size) size {
	const names = 8 // key, value
	return in.plus(size{nodes: in.nodes * (objectNodes + 4), bytes: in.nodes * names}).plus(size{nodes: 1, bytes: 0})
}

// filter is the cost of a function whose argument is evaluated for other
// inputs than its own, or whose values go nowhere.
func (e *estimator) filter(name string, arg *gojq.Query, in size) (cost, bool) {
	elements := func(s size) cost { return one(s).iterate().pipe(e.on(arg)) }
	switch name {
	case "map":
		return elements(in).collect(), true
	case "with_entries":
		return one(entries(in)).pipe(elements).collect().pipe(func(s size) cost { return one(entries(s)) }), true
	case "any", "all":
		c := elements(in)
		return cost{1, size{nodes: 1, bytes: 0}, c.work + c.values*valueWork}, true
	case "select":
		c := e.query(arg, in)
		kept := one(in).times(c.values)
		kept.work += c.work
		return kept, true
	case "first":
		c := e.query(arg, in)
		return cost{1, c.size, c.work}, true
	case "isempty":
		return cost{1, size{nodes: 1, bytes: 0}, e.query(arg, in).work + valueWork}, true
	case "sort_by", "group_by", "unique_by", "min_by", "max_by":
		keys := elements(in)
		made := cost{1, in.plus(size{nodes: in.nodes + 1, bytes: 0}), 0}
		made.work = keys.work + (in.memory()+keys.size.memory()+keys.values*valueWork)*sorting
		return made, true
	}
	return cost{}, false
}

// binary is the cost of a function of its input and of one value.
func binary(name string, in size, arg cost) cost {
	c := one(in).each(arg)
	scan := in.comparing(arg.size) + (in.bytes+arg.size.bytes)*nodeMemory*(1+arg.values)
	switch name {
	case "has", "in", "startswith", "endswith":
		return c.scalars(0)
	case "contains", "inside", "index", "rindex":
		return c.scalars(scan)
	case "ltrimstr", "rtrimstr", "trimstr", "flatten":
		return c.as(in.times(arg.values), 0)
	case "split":
		return c.as(in.pieces().times(arg.values), 0)
	case "join": // a separator after each element
		whole := in.text().times(arg.values).plus(size{nodes: 0, bytes: arg.size.bytes * in.nodes})
		return c.as(whole, 0)
	case "error":
		return cost{work: c.work}
	}
	return unbounded()
}
