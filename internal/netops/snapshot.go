package netops

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Query says what a snapshot is to look at.
type Query struct {
	Links     []string // by name; those that do not exist are left out
	EveryLink bool     // all interfaces, with their hardware addresses
	Addrs     bool     // of all interfaces
	// HardwareAddrs asks for those of Links.
	HardwareAddrs bool
	// Defaults asks for the default routes of table main, of these families
	// ([IPv4Default], [IPv6Default]), without a list of all that is in it.
	Defaults []netip.Prefix
	Tables   []uint32 // routing tables, of both families; EveryTable is all but local
	// To, where it is not nil, leaves out routes to other destinations: of a
	// table of thousands few may matter.
	To map[netip.Prefix]bool
	// OnLink has those without a gateway in all the same: by them gateways are
	// reached.
	OnLink bool
	// Protocol, where it is not 0, leaves out routes of others.
	Protocol uint8
	Rules    bool     // policy rules of both families that look up a table
	Neighs   []string // the interfaces whose neighbours to list
	Sysctls  []string // by key; those that do not exist are left out
	// LinkSysctls are sysctls of each interface that was found, with * in the
	// place of its name: net/ipv4/conf/*/rp_filter.
	LinkSysctls []string
}

// objects reports whether the query looks at objects that are no routes.
func (q *Query) objects() bool {
	return q.EveryLink || q.Rules || len(q.Neighs)+len(q.Sysctls)+len(q.LinkSysctls) > 0
}

// Cover makes the query look at everything that a change touches, too.
func (q *Query) Cover(c Change) {
	if kinds != nil {
		kinds.cover(q, &c.Del)
		kinds.cover(q, &c.Add)
	}
	q.Tables = append(q.Tables, c.Tables()...)
	for _, routes := range [][]Route{c.Del.Routes, c.Add.Routes} {
		for i := range routes {
			if q.To != nil {
				q.To[routes[i].Dst] = true
			}
		}
	}
}

// EveryTable stands for all tables but local, which is the kernel's own.
const EveryTable uint32 = unix.RT_TABLE_UNSPEC

// maxTries bounds how often what others interfere with is tried.
const maxTries = 10

// Snapshot looks at the namespace. The error is ErrInterrupted where others
// changed it so fast that no whole view could be had.
func (n *Netns) Snapshot(ctx context.Context, q Query) (Snapshot, error) {
	n.forget()
	var s Snapshot
	if err := n.addLinks(q, &s); err != nil {
		return Snapshot{}, err
	}
	if q.Addrs {
		if err := n.repeat(ctx, "addresses", func() (err error) { s.Addrs, err = n.addrs(); return err }); err != nil {
			return Snapshot{}, err
		}
	}
	for _, all := range q.Defaults {
		routes, err := n.defaultRoutes(ctx, all)
		if err != nil {
			return Snapshot{}, err
		}
		s.Routes = append(s.Routes, routes...)
	}
	tables := slices.Clone(q.Tables)
	slices.Sort(tables)
	if slices.Contains(tables, EveryTable) {
		tables = []uint32{EveryTable}
	}
	for _, table := range slices.Compact(tables) {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			routes, err := n.routes(ctx, routeQuery{family, table, q.Protocol, q.To, q.OnLink})
			if err != nil {
				return Snapshot{}, err
			}
			s.Routes = slices.Grow(s.Routes, len(routes))
			s.Routes = append(s.Routes, routes...)
		}
	}
	return s, n.addObjects(ctx, q, &s)
}

// addLinks finds interfaces.
func (n *Netns) addLinks(q Query, s *Snapshot) error {
	for _, name := range q.Links {
		index, err := n.index(name)
		if errors.Is(err, ErrNoLink) {
			continue
		} else if err != nil {
			return err
		}
		if !q.HardwareAddrs {
			s.Links = append(s.Links, name)
			continue
		}
		mac, err := n.hardwareAddr(index)
		if err != nil {
			return err
		}
		s.addLink(name, mac.String())
	}
	return nil
}

func (s *Snapshot) addLink(name, mac string) {
	if s.HardwareAddrs == nil {
		s.HardwareAddrs = map[string]string{}
	}
	s.Links = append(s.Links, name)
	s.HardwareAddrs[name] = mac
	s.State.Links = append(s.State.Links, LinkAddr{name, mac})
}

func (n *Netns) addObjects(ctx context.Context, q Query, s *Snapshot) error {
	if !q.objects() {
		return nil
	}
	if kinds == nil {
		return errRoutesOnly
	}
	return kinds.look(ctx, n, q, s)
}

// around lists what is there now to the destinations of some routes, in their
// tables.
func (n *Netns) around(ctx context.Context, routes []*Route) ([]Route, error) {
	s, err := n.Snapshot(ctx, about(routes))
	return s.Routes, err
}

func about(routes []*Route) Query {
	return Query{Tables: Change{Add: State{Routes: values(routes)}}.Tables(), To: destinations(routes)}
}

// errFirstView says that one view of a table proves nothing yet.
var errFirstView = fmt.Errorf("one view: %w", ErrInterrupted)

// repeat looks until the kernel says that nothing changed meanwhile. It tells
// each time that something did.
func (n *Netns) repeat(ctx context.Context, what string, look func() error) error {
	var err error
	for range maxTries {
		began := time.Now()
		if err = look(); !errors.Is(err, ErrInterrupted) || ctx.Err() != nil {
			break
		}
		if n.OnSend != nil && !errors.Is(err, errFirstView) {
			n.OnSend("list the "+what, time.Since(began), err)
		}
	}
	if err != nil {
		return fmt.Errorf("list the %s of %s: %w", what, n.path, err)
	}
	return nil
}

// addrs lists the addresses, some perhaps twice. The kernel counts a change a
// moment after the list has it: of several batches, the last may have missed
// what stays, and not be marked as interrupted. So what is in one of two lists is
// there.
func (n *Netns) addrs() ([]Addr, error) {
	found, batches, err := n.dumpAddrs()
	if err != nil || batches <= wholeBatches {
		return found, err
	}
	again, _, err := n.dumpAddrs()
	return united(again, found), err
}

// united are the addresses of a list, and then those that only an older one
// has. Both are in about the same order.
func united(list, older []Addr) []Addr {
	next := 0
	for i := range older {
		at := next
		if at == len(list) || !list[at].sameAddr(&older[i]) {
			for at = 0; at < len(list) && !list[at].sameAddr(&older[i]); at++ {
			}
		}
		if at == len(list) {
			list = append(list, older[i])
			continue
		}
		next = at + 1
	}
	return list
}

// same reports whether they are one, whatever became of it.
func (a *Addr) sameAddr(b *Addr) bool {
	return a.Prefix == b.Prefix && a.Subnet == b.Subnet && a.Dev == b.Dev
}

// wholeBatches are those of a list that cannot have missed anything: all of it,
// and the end.
const wholeBatches = 2

func (n *Netns) dumpAddrs() (found []Addr, batches int, err error) {
	start := n.conn.message(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	n.conn.send = append(n.conn.send, make([]byte, unix.SizeofIfAddrmsg)...)
	n.conn.finish(start)
	batches, err = n.conn.ask(func(r reply) error {
		a, err := decodeAddr(r.body, n.name)
		if err == nil && a.Prefix.IsValid() {
			found = append(found, a)
		}
		return err
	})
	return found, batches, err
}

// decodeAddr reads an RTM_NEWADDR message, without its header.
func decodeAddr(body []byte, name func(int) (string, error)) (Addr, error) {
	const prefixLen, flags, scope, index = 1, 2, 3, 4 // struct ifaddrmsg
	if len(body) < unix.SizeofIfAddrmsg {
		return Addr{}, errMalformed
	}
	var local, address netip.Addr
	found := Addr{Scope: wireScope(body[scope]), Flags: uint32(body[flags])}
	for a, err := range attrs(body[unix.SizeofIfAddrmsg:]) {
		if err != nil {
			return Addr{}, err
		}
		switch a.typ {
		case unix.IFA_LOCAL:
			local = a.addr()
		case unix.IFA_ADDRESS:
			address = a.addr() // of the peer, where there is a local one
		case unix.IFA_FLAGS:
			found.Flags = a.u32()
		}
	}
	if !local.IsValid() {
		local = address
	}
	bits := int(body[prefixLen])
	found.Prefix, found.Subnet = netip.PrefixFrom(local, bits), netip.PrefixFrom(address, bits).Masked()
	var err error
	found.Dev, err = name(int(native.Uint32(body[index:])))
	return found, err
}

// routeQuery is what one dump of routes asks for.
type routeQuery struct {
	family   uint8
	table    uint32
	protocol uint8
	to       map[netip.Prefix]bool
	onLink   bool // without a gateway, wherever they lead
}

// routes lists a table. The kernel never marks a dump of routes as
// interrupted, and one of IPv6 that needs several batches can miss routes
// while others change the table: it counts once two in a row agree.
func (n *Netns) routes(ctx context.Context, q routeQuery) (routes []Route, err error) {
	var before []Route
	err = n.repeat(ctx, "routes", func() error {
		var batches int
		before = routes
		if routes, batches, err = n.dumpRoutes(q); err != nil {
			return err
		}
		if q.family == unix.AF_INET || batches <= wholeBatches {
			return nil
		}
		routes = unrepeated(routes)
		switch {
		case before == nil:
			return errFirstView
		case slices.EqualFunc(before, routes, func(a, b Route) bool { return a.Identical(&b) }):
			return nil
		}
		return ErrInterrupted
	})
	return routes, err
}

const roomSize = 8 << 10

func (n *Netns) dumpRoutes(q routeQuery) (routes []Route, batches int, err error) {
	c := n.conn
	q.ask(c)
	routes = []Route{}
	var room []byte // one allocation for the messages of many routes
	batches, err = c.ask(func(r reply) error {
		if !q.wants(r.body) {
			return nil
		}
		if cap(room)-len(room) < len(r.body) {
			room = make([]byte, 0, max(roomSize, len(r.body)))
		}
		route, err := decodeRouteInto(room[len(room):len(room):len(room)+len(r.body)], r.body, n.name)
		room = room[:len(room)+len(route.Raw)]
		if err != nil || route.Table != q.table && (q.table != EveryTable || route.Table == unix.RT_TABLE_LOCAL) {
			return err
		}
		if len(routes) == cap(routes) {
			routes = slices.Grow(routes, max(64, len(routes))) // append would copy more often
		}
		routes = append(routes, route)
		return nil
	})
	if noTable(err) {
		return nil, batches, nil
	}
	return routes, batches, err
}

// ask writes the query into the send buffer.
func (q routeQuery) ask(c *conn) {
	start := c.message(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	c.send = append(c.send, make([]byte, unix.SizeofRtMsg)...)
	c.send[start+unix.SizeofNlMsghdr+rtFamily] = q.family
	c.send[start+unix.SizeofNlMsghdr+rtProtocol] = q.protocol
	if q.table != EveryTable {
		c.send = appendU32(c.send, unix.RTA_TABLE, q.table)
	}
	c.finish(start)
}

// noTable reports whether there is nothing to list: a table is made with its
// first route, and without IPv6 there are none.
func noTable(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT)
}

// wants reports whether a message is an answer to the query. A kernel without
// IPv6 answers with its IPv4 routes, and one without strict checking with those
// of all tables.
func (q routeQuery) wants(body []byte) bool {
	if len(body) < unix.SizeofRtMsg || body[rtFamily] != q.family || q.protocol != 0 && body[rtProtocol] != q.protocol {
		return false
	}
	return q.to == nil || q.to[destination(body)] || q.onLink && !hasGateway(body)
}

// unrepeated drops routes that are listed again: a dump that goes on after a
// change may begin with its last ones once more.
func unrepeated(routes []Route) []Route {
	ix := newIndex(routes)
	kept := routes[:0:0]
	for i := range routes {
		if ix.find(&routes[i], routes[i].Identical) == i {
			kept = append(kept, routes[i])
		}
	}
	return kept
}
