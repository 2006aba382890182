package netops

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Query says what a snapshot is to look at.
type Query struct {
	Links  []string // by name; those that do not exist are left out
	Addrs  bool     // of all interfaces
	Tables []uint32 // routing tables, of both families
}

// maxDumps bounds how often a dump is repeated until it is whole.
const maxDumps = 10

// Snapshot looks at the namespace. The error is ErrInterrupted where others
// changed it so fast that no whole view could be had.
func (n *Netns) Snapshot(ctx context.Context, q Query) (Snapshot, error) {
	n.forget()
	var s Snapshot
	for _, name := range q.Links {
		index, err := n.index(name)
		if errors.Is(err, ErrNoLink) {
			continue
		} else if err != nil {
			return Snapshot{}, err
		}
		s.Links = append(s.Links, Link{Name: name, Index: int(index)})
	}
	if q.Addrs {
		if err := n.repeat(ctx, "addresses", func() (err error) { s.Addrs, err = n.addrs(); return err }); err != nil {
			return Snapshot{}, err
		}
	}
	tables := slices.Clone(q.Tables)
	slices.Sort(tables)
	for _, table := range slices.Compact(tables) {
		routes, err := n.table(ctx, table)
		if err != nil {
			return Snapshot{}, err
		}
		s.Routes = append(s.Routes, routes...)
	}
	return s, nil
}

// repeat looks until the kernel says that nothing changed meanwhile.
func (n *Netns) repeat(ctx context.Context, what string, look func() error) error {
	var err error
	for range maxDumps {
		if err = look(); !errors.Is(err, ErrInterrupted) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("list the %s of %s: %w", what, n.path, err)
	}
	return nil
}

func (n *Netns) addrs() (found []Addr, err error) {
	start := n.conn.message(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	n.conn.send = append(n.conn.send, make([]byte, unix.SizeofIfAddrmsg)...)
	n.conn.finish(start)
	_, err = n.conn.ask(func(r reply) error {
		a, err := decodeAddr(r.body, n.name)
		if err == nil && a.Prefix.IsValid() {
			found = append(found, a)
		}
		return err
	})
	return found, err
}

// decodeAddr reads an RTM_NEWADDR message, without its header.
func decodeAddr(body []byte, name func(int) (string, error)) (Addr, error) {
	const prefixLen, index = 1, 4 // struct ifaddrmsg
	if len(body) < unix.SizeofIfAddrmsg {
		return Addr{}, errMalformed
	}
	var local, address netip.Addr
	for a, err := range attrs(body[unix.SizeofIfAddrmsg:]) {
		if err != nil {
			return Addr{}, err
		}
		switch a.typ {
		case unix.IFA_LOCAL:
			local = a.addr()
		case unix.IFA_ADDRESS:
			address = a.addr() // of the peer, where there is a local one
		}
	}
	if !local.IsValid() {
		local = address
	}
	dev, err := name(int(native.Uint32(body[index:])))
	return Addr{Dev: dev, Prefix: netip.PrefixFrom(local, int(body[prefixLen]))}, err
}

// table lists a routing table, of both families. The kernel never marks a
// dump of routes as interrupted, and one of IPv6 that needs several batches
// can miss routes while others change the table: it counts once two in a row
// agree.
func (n *Netns) table(ctx context.Context, table uint32) ([]Route, error) {
	routes, err := n.family(ctx, unix.AF_INET, table)
	if err != nil {
		return nil, err
	}
	routes6, err := n.family(ctx, unix.AF_INET6, table)
	return slices.Concat(routes, routes6), err
}

func (n *Netns) family(ctx context.Context, family uint8, table uint32) (routes []Route, err error) {
	var before []Route
	err = n.repeat(ctx, "routes", func() error {
		var batches int
		before = routes
		if routes, batches, err = n.dumpRoutes(family, table); err != nil {
			return err
		}
		const data, end = 1, 1 // batches of a dump that cannot have missed anything
		if family == unix.AF_INET || batches <= data+end {
			return nil
		}
		if routes = unrepeated(routes); slices.EqualFunc(before, routes, Route.equal) {
			return nil
		}
		return ErrInterrupted
	})
	return routes, err
}

func (n *Netns) dumpRoutes(family uint8, table uint32) (routes []Route, batches int, err error) {
	c := n.conn
	start := c.message(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	c.send = append(c.send, make([]byte, unix.SizeofRtMsg)...)
	c.send[start+unix.SizeofNlMsghdr+rtFamily] = family
	c.send = appendU32(c.send, unix.RTA_TABLE, table)
	c.finish(start)
	batches, err = c.ask(func(r reply) error {
		// A kernel without IPv6 answers with its IPv4 routes, and one without
		// strict checking with those of all tables.
		if len(r.body) < unix.SizeofRtMsg || r.body[rtFamily] != family {
			return nil
		}
		route, err := decodeRoute(r.body, n.name)
		if err == nil && route.Table == table {
			routes = append(routes, route)
		}
		return err
	})
	// A table is made with its first route. Without IPv6 there are none.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, batches, nil
	}
	return routes, batches, err
}

// unrepeated drops routes that are listed again: a dump that goes on after a
// change may begin with its last ones once more.
func unrepeated(routes []Route) []Route {
	ix := newIndex(routes)
	kept := routes[:0:0]
	for i, r := range routes {
		if ix.find(r, r.equal) == i {
			kept = append(kept, r)
		}
	}
	return kept
}
