package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

// maxTries bounds how often what others interfere with is tried.
const maxTries = 10

// Snapshot looks at the namespace. The error is ErrInterrupted where others
// changed it so fast that no whole view could be had.
func (n *Netns) Snapshot(ctx context.Context, q netops.Query) (netops.Snapshot, error) {
	n.forget()
	var s netops.Snapshot
	if err := n.addLinks(q, &s); err != nil {
		return netops.Snapshot{}, err
	}
	if q.Addrs {
		if err := n.repeat(ctx, "addresses", func() (err error) { s.Addrs, err = n.addrs(); return err }); err != nil {
			return netops.Snapshot{}, err
		}
	}
	for _, all := range q.Defaults {
		routes, err := n.defaultRoutes(ctx, all)
		if err != nil {
			return netops.Snapshot{}, err
		}
		s.Routes = append(s.Routes, routes...)
	}
	tables := distinct(q.Tables)
	if slices.Contains(tables, netops.EveryTable) {
		tables = []uint32{netops.EveryTable}
	}
	for _, table := range tables {
		for _, family := range families(q) {
			routes, err := n.routes(ctx, routeQuery{family, table, q.Protocol, q.To, q.OnLink})
			if err != nil {
				return netops.Snapshot{}, err
			}
			s.Routes = append(s.Routes, routes...)
		}
	}
	return s, n.lookAtOthers(ctx, q, &s)
}

// families are those of which a query may have routes.
func families(q netops.Query) []uint8 {
	both := []uint8{unix.AF_INET, unix.AF_INET6}
	if q.To == nil || q.OnLink {
		return both
	}
	return slices.DeleteFunc(both, func(family uint8) bool {
		for dst := range q.To {
			if rtattr.Family(dst.Addr()) == uint16(family) {
				return false
			}
		}
		return true
	})
}

// addLinks finds interfaces.
func (n *Netns) addLinks(q netops.Query, s *netops.Snapshot) error {
	for _, name := range q.Links {
		index, err := n.index(name)
		if errors.Is(err, netops.ErrNoLink) {
			continue
		} else if err != nil {
			return err
		}
		if !q.HardwareAddrs {
			s.Links = append(s.Links, name)
			continue
		}
		l, err := n.link(index)
		if err != nil {
			return err
		}
		addLink(s, l.Link)
	}
	return nil
}

func addLink(s *netops.Snapshot, l netops.Link) {
	if s.HardwareAddrs == nil {
		s.HardwareAddrs, s.Indexes = map[string]string{}, map[string]uint32{}
	}
	mac := l.HardwareAddr.String()
	s.Links = append(s.Links, l.Name)
	s.HardwareAddrs[l.Name], s.Indexes[l.Name] = mac, l.Index
	s.State.Links = append(s.State.Links, netops.LinkAddr{Dev: l.Name, HardwareAddr: mac})
}

// lookAtOthers finds what a snapshot has beside links by name, addresses and
// routes.
func (n *Netns) lookAtOthers(ctx context.Context, q netops.Query, s *netops.Snapshot) error {
	if q.EveryLink { // which is not slower than to ask for two
		links, err := n.Links(ctx)
		if err != nil {
			return err
		}
		for _, l := range links {
			addLink(s, l)
		}
	}
	if q.Rules {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			rules, err := settled(ctx, n, "rules", slices.Equal, func() ([]netops.Rule, bool, error) { return n.dumpRules(family) })
			if err != nil {
				return err
			}
			s.Rules = append(s.Rules, rules...)
		}
	}
	if err := n.neighs(ctx, q, s); err != nil {
		return err
	}
	keys := slices.Clone(q.Sysctls)
	for _, pattern := range q.LinkSysctls {
		for _, name := range s.Links {
			keys = append(keys, strings.Replace(pattern, "*", name, 1))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return n.readSysctls(distinct(keys), &s.State)
}

func (n *Netns) neighs(ctx context.Context, q netops.Query, s *netops.Snapshot) error {
	for _, dev := range distinct(q.Neighs) {
		index, err := n.index(dev)
		if errors.Is(err, netops.ErrNoLink) {
			continue
		} else if err != nil {
			return err
		}
		list, err := settled(ctx, n, "neighbours", slices.Equal, func() ([]netops.Neigh, bool, error) { return n.dumpNeighs(index) })
		if err != nil {
			return err
		}
		s.Neighs = append(s.Neighs, list...)
	}
	return nil
}

func distinct[T cmp.Ordered](list []T) []T {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// around lists what is there now to the destinations of some routes, in their
// tables.
func (n *Netns) around(ctx context.Context, routes []*netops.Route) ([]netops.Route, error) {
	s, err := n.Snapshot(ctx, aboutRoutes(routes))
	return s.Routes, err
}

// aboutRoutes asks for what is in the tables of some routes to their
// destinations.
func aboutRoutes(routes []*netops.Route) netops.Query {
	q := netops.Query{To: make(map[netip.Prefix]bool, len(routes))}
	for _, r := range routes {
		r.Cover(&q)
	}
	return q
}

// errFirstView says that one view of a list proves nothing yet.
var errFirstView = fmt.Errorf("one view: %w", netops.ErrInterrupted)

// settled is what a dump lists. One that is not certainly whole can have missed what
// stays while other processes changed the list, and the kernel does not always say so: it
// counts once two in a row agree.
func settled[T any](ctx context.Context, n *Netns, what string, agree func(a, b []T) bool, dump func() (list []T, whole bool, err error)) (list []T, err error) {
	first := true
	err = n.repeat(ctx, what, func() error {
		before := list
		var whole bool
		if list, whole, err = dump(); err != nil || whole {
			return err
		}
		switch {
		case first:
			first = false
			return errFirstView
		case !agree(before, list):
			return netops.ErrInterrupted
		}
		return nil
	})
	return list, err
}

// repeat looks until the kernel says that nothing changed meanwhile. It tells
// each time that something did.
func (n *Netns) repeat(ctx context.Context, what string, look func() error) error {
	var err error
	for range maxTries {
		began := time.Now()
		if err = look(); !errors.Is(err, netops.ErrInterrupted) || ctx.Err() != nil {
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
func (n *Netns) addrs() ([]netops.Addr, error) {
	found, whole, err := n.dumpAddrs()
	if err != nil || whole {
		return found, err
	}
	again, _, err := n.dumpAddrs()
	return united(again, found), err
}

// united are the addresses of a list, and then those that only an older one has,
// whatever became of them.
func united(list, older []netops.Addr) []netops.Addr {
	key := func(a netops.Addr) netops.Addr { return netops.Addr{Dev: a.Dev, Prefix: a.Prefix, Subnet: a.Subnet} }
	known := make(map[netops.Addr]bool, len(list))
	for _, a := range list {
		known[key(a)] = true
	}
	for _, a := range older {
		if !known[key(a)] {
			list = append(list, a)
		}
	}
	return list
}

func (n *Netns) dumpAddrs() (found []netops.Addr, whole bool, err error) {
	whole, err = n.conn.ask(request(unix.RTM_GETADDR, unix.NLM_F_DUMP, &nl.IfAddrmsg{}), func(r reply) error {
		a, err := decodeAddr(r.body, n.name)
		if err == nil && a.Prefix.IsValid() {
			found = append(found, a)
		}
		return err
	})
	return found, whole, err
}

// decodeAddr reads an RTM_NEWADDR message, without its header.
func decodeAddr(body []byte, name func(int) (string, error)) (netops.Addr, error) {
	if len(body) < unix.SizeofIfAddrmsg {
		return netops.Addr{}, rtattr.ErrMalformed
	}
	var local, address netip.Addr
	m := nl.DeserializeIfAddrmsg(body)
	found := netops.Addr{Scope: netops.WireScope(m.Scope), Flags: uint32(m.Flags)}
	for a, err := range rtattr.All(body[unix.SizeofIfAddrmsg:]) {
		if err != nil {
			return netops.Addr{}, err
		}
		switch a.Type {
		case unix.IFA_LOCAL:
			local = a.Addr()
		case unix.IFA_ADDRESS:
			address = a.Addr() // of the peer, where there is a local one
		case unix.IFA_FLAGS:
			found.Flags = a.Uint32()
		}
	}
	if !local.IsValid() {
		local = address
	}
	bits := int(m.Prefixlen)
	found.Prefix, found.Subnet = netip.PrefixFrom(local, bits), netip.PrefixFrom(address, bits).Masked()
	var err error
	found.Dev, err = name(int(m.Index))
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

// routes lists a table. The kernel never marks a dump of routes as interrupted, but one of
// IPv4 misses none.
func (n *Netns) routes(ctx context.Context, q routeQuery) ([]netops.Route, error) {
	agree := func(a, b []netops.Route) bool {
		return slices.EqualFunc(a, b, func(a, b netops.Route) bool { return a.Identical(&b) })
	}
	return settled(ctx, n, "routes", agree, func() ([]netops.Route, bool, error) {
		routes, whole, err := n.dumpRoutes(q)
		if whole = whole || q.family == unix.AF_INET; !whole {
			routes = unrepeated(routes)
		}
		return routes, whole, err
	})
}

const roomSize = 8 << 10

func (n *Netns) dumpRoutes(q routeQuery) (routes []netops.Route, whole bool, err error) {
	var room []byte // one allocation for the messages of many routes
	whole, err = n.conn.ask(q.request(), func(r reply) error {
		if !q.wants(r.body) {
			return nil
		}
		if cap(room)-len(room) < len(r.body) {
			room = make([]byte, 0, max(roomSize, len(r.body)))
		}
		route, err := netops.DecodeRoute(room[len(room):len(room):len(room)+len(r.body)], r.body, n.name)
		room = room[:len(room)+len(route.Raw)]
		if err != nil || route.Table != q.table && (q.table != netops.EveryTable || route.Table == unix.RT_TABLE_LOCAL) {
			return err
		}
		if len(routes) == cap(routes) {
			routes = slices.Grow(routes, max(64, len(routes))) // append would copy more often
		}
		routes = append(routes, route)
		return nil
	})
	if noTable(err) {
		return nil, true, nil
	}
	return routes, whole, err
}

func (q routeQuery) request() *nl.NetlinkRequest {
	m := &nl.RtMsg{RtMsg: unix.RtMsg{Family: q.family, Protocol: q.protocol}}
	ask := request(unix.RTM_GETROUTE, unix.NLM_F_DUMP, m)
	if q.table != netops.EveryTable {
		ask.AddData(&nl.Uint32Attribute{Type: unix.RTA_TABLE, Value: q.table})
	}
	return ask
}

// noTable reports whether there is nothing to list: a table is made with its
// first route, and without IPv6 there are none.
func noTable(err error) bool {
	return errors.Is(err, unix.ENOENT) || noFamily(err)
}

// wants reports whether a message is an answer to the query. A kernel without
// IPv6 answers with its IPv4 routes, and one without strict checking with those
// of all tables.
func (q routeQuery) wants(body []byte) bool {
	if len(body) < unix.SizeofRtMsg {
		return false
	}
	m := nl.DeserializeRtMsg(body)
	if m.Family != q.family || q.protocol != 0 && m.Protocol != q.protocol {
		return false
	}
	return q.to == nil || q.to[netops.Destination(body)] || q.onLink && !hasGateway(body)
}

// hasGateway reports whether a route's message names one, of the route itself.
func hasGateway(body []byte) bool {
	for a, err := range rtattr.All(body[unix.SizeofRtMsg:]) {
		if err != nil || a.Type == unix.RTA_GATEWAY || a.Type == unix.RTA_VIA {
			return true
		}
	}
	return false
}

// unrepeated drops routes that are listed again: a dump that goes on after a
// change may begin with its last ones once more.
func unrepeated(routes []netops.Route) []netops.Route {
	ix := netops.IndexRoutes(routes)
	kept := routes[:0:0]
	for i := range routes {
		if ix.Find(&routes[i], (*netops.Route).Identical) == &routes[i] {
			kept = append(kept, routes[i])
		}
	}
	return kept
}
