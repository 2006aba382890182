package netops

import (
	"iter"
	"slices"

	"github.com/cni-netops/plugins/internal/listindex"
)

// Object is one thing that a change makes or removes: a *Route, *Rule, *Neigh,
// *LinkAddr or *Sysctl.
type Object interface {
	// Command is the ip(8) or sysctl(8) command that does that with the object.
	Command(Verb) string
	// Instead describes the object where another one should be.
	Instead() string
	// AddTo adds the object to a state.
	AddTo(*State)
	// Cover makes a query look at what has the object's place.
	Cover(*Query)

	stage(Verb) Stage
	validate() error
}

// A kind is what is done with all objects of one type. It is written once, in
// kindOf, over what the table below says of each.
type kind interface {
	len(*State) int
	visit(s *State, yield func(Object) bool) (all bool)
	appendTo(to, from *State)
	needed(c *Change, have *State, needed *Change, held *State)
	overridden(c, later, left *Change)
	followed(left, later *Change)
	before(have *State, done *Change, before *State)
	transfer(c, to *Change, held *State) (transferred bool)
	transferReplaced(c, to *Change) (transferred bool)
	remember(c, done *Change)
	drift(c *Change, have *State) []Drift
	wanted(*State) func(Object) bool

	sameKey(a, b Object) bool
	meant(o, have Object) bool
}

// kinds are all there are, in the order of a record.
var kinds = []kind{
	&kindOf[Route, RouteKey]{
		list:      func(s *State) *[]Route { return &s.Routes },
		object:    func(r *Route) Object { return r },
		key:       (*Route).Key,
		same:      (*Route).SameRoute,
		closer:    []func(r, have *Route) bool{(*Route).Identical, (*Route).SameAttributes},
		satisfied: (*Route).SatisfiedBy,
		holds:     (*Route).heldBy,
		wants:     (*Route).SameNextHops,
		remains:   func(r, have *Route) bool { return r.SubsetOf(have) && !have.Learnt() },
		adopt:     (*Route).adopt,
		found:     withSiblings,
		part:      mergedPart,
		placed:    inPlace,
		shared:    true,
	},
	&kindOf[LinkAddr, string]{
		list:      func(s *State) *[]LinkAddr { return &s.Links },
		object:    func(l *LinkAddr) Object { return l },
		key:       func(l *LinkAddr) string { return l.Dev },
		satisfied: (*LinkAddr).satisfiedBy,
		value:     true,
	},
	&kindOf[Sysctl, string]{
		list:      func(s *State) *[]Sysctl { return &s.Sysctls },
		object:    func(s *Sysctl) Object { return s },
		key:       func(s *Sysctl) string { return s.Key },
		satisfied: func(s, have *Sysctl) bool { return s.SatisfiedBy(have.Value) },
		value:     true,
	},
	&kindOf[Neigh, neighKey]{
		list:      func(s *State) *[]Neigh { return &s.Neighs },
		object:    func(n *Neigh) Object { return n },
		key:       (*Neigh).key,
		satisfied: (*Neigh).SatisfiedBy,
	},
	&kindOf[Rule, Rule]{
		list:      func(s *State) *[]Rule { return &s.Rules },
		object:    func(r *Rule) Object { return r },
		key:       (*Rule).key,
		same:      (*Rule).SameRule,
		satisfied: (*Rule).SatisfiedBy,
		wants:     (*Rule).SameRule,
		remains:   (*Rule).SameRule,
	},
}

// kindOf is what the package knows of objects of type T, which K names: the
// kernel lets only one object have a key that is added exclusively.
type kindOf[T any, K comparable] struct {
	list   func(*State) *[]T
	object func(*T) Object
	key    func(*T) K
	// value says that the object has a value at any time, as an interface its
	// hardware address: to delete it is to say what it was before.
	value bool
	// shared says that several objects may have one key, as routes appended to
	// others.
	shared bool
	// satisfied reports whether have, which has the key, is as it is asked for.
	satisfied func(want, have *T) bool

	// Where one of these is nil, satisfied stands for it.
	holds   func(want, have *T) bool // have is what is to be added
	same    func(o, have *T) bool    // to remove the one is to remove the other
	wants   func(o, have *T) bool    // have is what o asks for, whatever else it carries
	remains func(o, have *T) bool    // have is, or has in it, what should be absent

	// Where one of these is nil, nothing is done.
	closer []func(o, have *T) bool                  // of several that are the same, which is meant
	adopt  func(own, made *T)                       // takes over what only the kernel knew
	found  func(ix listed[T, K], at int) T          // an object that is there, with its surroundings
	part   func(ix listed[T, K], o *T) (T, bool)    // what of o is a part of another object
	placed func(ix listed[T, K], o *T, gone []bool) // gives o the place of one that goes
}

// listed is a list of objects and an index over it, by key.
type listed[T any, K comparable] struct {
	list  []T
	index listindex.Index[K]
	key   func(*T) K
}

const none = -1

func (k *kindOf[T, K]) index(s *State) listed[T, K] {
	return listOf(*k.list(s), k.key)
}

func listOf[T any, K comparable](list []T, key func(*T) K) listed[T, K] {
	return listed[T, K]{list, listindex.New(len(list), func(i int) K { return key(&list[i]) }), key}
}

// find is the place of the first object with o's key that match accepts; none
// where there is none.
func (ix listed[T, K]) find(o *T, match func(i int) bool) int {
	if len(ix.list) == 0 {
		return none
	}
	if i, ok := ix.index.Find(ix.key(o), match); ok {
		return i
	}
	return none
}

// by is find with a relation of o to what is listed.
func (ix listed[T, K]) by(relation func(o, have *T) bool, o *T) int {
	return ix.find(o, func(i int) bool { return relation(o, &ix.list[i]) })
}

// first is the first object with o's key.
func (ix listed[T, K]) first(o *T) int { return ix.find(o, func(int) bool { return true }) }

// or is the first of two relations that is given.
func or[T any](relation, otherwise func(o, have *T) bool) func(o, have *T) bool {
	if relation != nil {
		return relation
	}
	return otherwise
}

// concerns reports whether o is about have: o removes it, or asks for it.
func (k *kindOf[T, K]) concerns(o, have *T) bool {
	return or(k.same, k.satisfied)(o, have) || k.satisfied(o, have)
}

// pair are two objects of the kind; not ok where one of them is of another.
func (k *kindOf[T, K]) pair(a, b Object) (x, y *T, ok bool) {
	x, first := any(a).(*T)
	y, second := any(b).(*T)
	return x, y, first && second
}

func (k *kindOf[T, K]) sameKey(a, b Object) bool {
	x, y, ok := k.pair(a, b)
	return ok && k.key(x) == k.key(y)
}

func (k *kindOf[T, K]) meant(o, have Object) bool {
	x, y, ok := k.pair(o, have)
	return ok && k.key(x) == k.key(y) && or(k.same, k.satisfied)(x, y)
}

// SameKey reports whether two objects are of one kind and have one key.
func SameKey(a, b Object) bool {
	return slices.ContainsFunc(kinds, func(k kind) bool { return k.sameKey(a, b) })
}

// meant reports whether have is what a deletion of o is meant for.
func meant(o, have Object) bool {
	return slices.ContainsFunc(kinds, func(k kind) bool { return k.meant(o, have) })
}

func (k *kindOf[T, K]) len(s *State) int { return len(*k.list(s)) }

func (k *kindOf[T, K]) visit(s *State, yield func(Object) bool) bool {
	for o := range each(*k.list(s)) {
		if !yield(k.object(o)) {
			return false
		}
	}
	return true
}

func (k *kindOf[T, K]) appendTo(to, from *State) {
	if list := *k.list(from); len(list) > 0 {
		*k.list(to) = append(*k.list(to), list...)
	}
}

// needed is [Change.Needed] for one kind.
func (k *kindOf[T, K]) needed(c *Change, have *State, needed *Change, held *State) {
	leaving, coming := *k.list(&c.Del), *k.list(&c.Add)
	if len(leaving)+len(coming) == 0 {
		return
	}
	ix := k.index(have)
	gone := make([]bool, len(ix.list))
	if !k.value {
		*k.list(&needed.Del) = k.leaving(ix, leaving, gone)
	}
	before, holds := listOf(leaving, k.key), or(k.holds, k.satisfied)
	add := make([]T, 0, len(coming))
	for i := range coming {
		o := &coming[i]
		if ix.find(o, func(i int) bool { return !gone[i] && holds(o, &ix.list[i]) }) != none {
			*k.list(held) = append(*k.list(held), *o)
			continue
		}
		if k.value && !k.set(ix, before, o, needed) {
			continue
		}
		add = append(add, *o)
		if k.placed != nil {
			k.placed(ix, &add[len(add)-1], gone)
		}
	}
	*k.list(&needed.Add) = add
}

// leaving are those of a list that are there, as they are there, and marks them
// as gone.
func (k *kindOf[T, K]) leaving(ix listed[T, K], list []T, gone []bool) []T {
	del := make([]T, 0, len(list))
	for i := range list {
		o := &list[i]
		at := none
		// The very same before one alike: IPv4 has routes that differ in their
		// protocol or mtu only, and each answers for one.
		for _, relation := range append(slices.Clip(k.closer), or(k.same, k.satisfied)) {
			if at == none {
				at = ix.find(o, func(i int) bool { return !gone[i] && relation(o, &ix.list[i]) })
			}
		}
		switch {
		case at != none && k.found != nil:
			gone[at] = true
			del = append(del, k.found(ix, at))
		case at != none:
			gone[at] = true
			del = append(del, ix.list[at])
		case k.part != nil:
			if part, ok := k.part(ix, o); ok {
				del = append(del, part)
			}
		}
	}
	return del
}

// set notes what a value was that is to be set. It is not to be set where the
// change says what it has to be, and another attachment has set it since.
func (k *kindOf[T, K]) set(ix, before listed[T, K], o *T, needed *Change) bool {
	at := ix.first(o)
	if from := before.first(o); from != none && (at == none || !k.satisfied(&before.list[from], &ix.list[at])) {
		return false
	}
	if at != none {
		*k.list(&needed.Del) = append(*k.list(&needed.Del), ix.list[at])
	}
	return true
}

// overridden is [Change.Overridden] for one kind. What a value was before the
// first of several changes is what counts.
func (k *kindOf[T, K]) overridden(c, later, left *Change) {
	deleted, added := k.index(&later.Del), k.index(&later.Add)
	for o := range each(*k.list(&c.Add)) {
		if k.value && added.first(o) == none || !k.value && deleted.by(k.concerns, o) == none {
			*k.list(&left.Add) = append(*k.list(&left.Add), *o)
		}
	}
	for o := range each(*k.list(&c.Del)) {
		back := func(o, added *T) bool { return k.concerns(added, o) }
		if k.value || added.by(back, o) == none {
			*k.list(&left.Del) = append(*k.list(&left.Del), *o)
		}
	}
}

// followed adds what a later change does to what it has left of an earlier one.
func (k *kindOf[T, K]) followed(left, later *Change) {
	before := k.index(&left.Del)
	for o := range each(*k.list(&later.Del)) {
		if !k.value || before.first(o) == none {
			*k.list(&left.Del) = append(*k.list(&left.Del), *o)
		}
	}
	k.appendTo(&left.Add, &later.Add)
}

// before is [State.Before] for one kind.
func (k *kindOf[T, K]) before(have *State, done *Change, before *State) {
	made, was, there := k.index(&done.Add), k.index(&done.Del), k.index(have)
	list := k.list(before)
	if !k.value {
		for o := range each(was.list) {
			if k.shared || there.first(o) == none {
				*list = append(*list, *o)
			}
		}
	}
	for h := range each(there.list) {
		of := func(h, o *T) bool { return or(k.same, k.satisfied)(o, h) }
		switch {
		case made.by(of, h) == none:
			*list = append(*list, *h)
		case k.value:
			if at := was.first(h); at != none {
				*list = append(*list, was.list[at])
			}
		}
	}
}

// transfer is [Change.TransferOwnership] for one kind.
func (k *kindOf[T, K]) transfer(c, to *Change, held *State) (transferred bool) {
	return k.give(c, to, held, func(h *handover[T, K], o *T, before []T) bool {
		return h.giveFound(o, before) || h.givenAlready(o, before)
	})
}

// transferReplaced is [Change.TransferReplaced] for one kind.
func (k *kindOf[T, K]) transferReplaced(c, to *Change) (transferred bool) {
	return k.value && k.give(c, to, &State{}, (*handover[T, K]).giveReplaced)
}

// handover is what one change gives to the one of a new owner.
type handover[T any, K comparable] struct {
	*kindOf[T, K]
	held, own, before listed[T, K] // of the new owner: found, added, deleted
	taken, replaced   []bool       // of held and before, what it has no more
	adds, dels        []T          // what it has besides
}

// give offers the new owner each object that c has made, with what a value was
// before.
func (k *kindOf[T, K]) give(c, to *Change, held *State, offer func(h *handover[T, K], o *T, before []T) bool) (transferred bool) {
	added, before := k.list(&c.Add), k.list(&c.Del)
	if len(*added) == 0 {
		return false
	}
	h := handover[T, K]{kindOf: k, held: k.index(held), own: k.index(&to.Add), before: k.index(&to.Del)}
	h.taken, h.replaced = make([]bool, len(h.held.list)), make([]bool, len(h.before.list))
	was, gone := k.index(&c.Del), make([]bool, len(*before))
	var kept []T
	for o := range each(*added) {
		from := none
		if k.value {
			from = was.first(o)
		}
		var value []T
		if from != none {
			value = was.list[from : from+1]
		}
		if !transferable(k.object(o)) || !offer(&h, o, value) {
			kept = append(kept, *o)
			continue
		}
		transferred = true
		if from != none {
			gone[from] = true
		}
	}
	if transferred {
		*added, *before = kept, without(*before, gone)
		*k.list(held) = without(h.held.list, h.taken)
		*k.list(&to.Add) = slices.Concat(h.own.list, h.adds)
		*k.list(&to.Del) = slices.Concat(without(h.before.list, h.replaced), h.dels)
	}
	return transferred
}

// giveFound gives an object that the new owner found as it asked for it.
func (h *handover[T, K]) giveFound(o *T, before []T) bool {
	at := h.held.find(o, func(i int) bool { return !h.taken[i] && h.concerns(&h.held.list[i], o) })
	if at == none {
		return false
	}
	h.taken[at] = true
	own := *o
	if h.adopt != nil {
		own = h.held.list[at]
		h.adopt(&own, o)
	}
	h.adds, h.dels = append(h.adds, own), append(h.dels, before...)
	return true
}

// givenAlready reports whether the new owner has taken an object over, in a DEL
// that was killed.
func (h *handover[T, K]) givenAlready(o *T, before []T) bool {
	mine := func(o, own *T) bool { return h.concerns(own, o) }
	return h.own.by(mine, o) != none && (len(before) == 0 || h.before.by(h.satisfied, &before[0]) != none)
}

// giveReplaced gives what a value was before one that the new owner has replaced.
func (h *handover[T, K]) giveReplaced(o *T, before []T) bool {
	at := h.before.find(o, func(i int) bool { return !h.replaced[i] && h.satisfied(o, &h.before.list[i]) })
	if at == none {
		return false
	}
	h.replaced[at] = true
	h.dels = append(h.dels, before...)
	return true
}

// without is a list without those elements that are gone.
func without[T any](list []T, gone []bool) []T {
	left := make([]T, 0, len(list))
	for i := range list {
		if !gone[i] {
			left = append(left, list[i])
		}
	}
	return left
}

// remember adds to what was done of a change what values were before.
func (k *kindOf[T, K]) remember(c, done *Change) {
	if !k.value {
		return
	}
	before := k.index(&c.Del)
	for o := range each(*k.list(&done.Add)) {
		if at := before.first(o); at != none {
			*k.list(&done.Del) = append(*k.list(&done.Del), before.list[at])
		}
	}
}

// drift is [Change.Drift] for one kind.
func (k *kindOf[T, K]) drift(c *Change, have *State) (drift []Drift) {
	leaving, coming := *k.list(&c.Del), *k.list(&c.Add)
	if len(leaving)+len(coming) == 0 {
		return nil
	}
	ix := k.index(have)
	for o := range each(leaving) {
		if at := ix.by(or(k.remains, k.satisfied), o); at != none && !k.value {
			drift = append(drift, Drift{Object: k.object(&ix.list[at]), Present: true})
		}
	}
	for o := range each(coming) {
		if ix.by(k.satisfied, o) != none {
			continue
		}
		d := Drift{Object: k.object(o)}
		if at := ix.first(o); at != none {
			d.Instead = k.object(&ix.list[at]).Instead()
		}
		drift = append(drift, d)
	}
	return drift
}

// wanted reports whether an object that is there is what one of a state's asks for,
// whatever else it carries.
func (k *kindOf[T, K]) wanted(s *State) func(Object) bool {
	ix, relation := k.index(s), or(k.wants, k.satisfied)
	return func(o Object) bool {
		have, ok := any(o).(*T)
		return ok && ix.find(have, func(i int) bool { return relation(&ix.list[i], have) }) != none
	}
}

// each visits pointers to the elements of a list.
func each[T any](list []T) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for i := range list {
			if !yield(&list[i]) {
				return
			}
		}
	}
}

// Partition parts a list in two by a predicate.
func Partition[T any](list []T, first func(T) bool) (yes, no []T) {
	for _, x := range list {
		if first(x) {
			yes = append(yes, x)
		} else {
			no = append(no, x)
		}
	}
	return yes, no
}
