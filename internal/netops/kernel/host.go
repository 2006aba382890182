package kernel

import (
	"context"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

// On the host routes are others' as well: those of the node's administrator,
// of routing daemons, a million of them. So nothing is listed before there is
// a reason to. A route is added exclusively, and is ours if that works; what is
// deleted carries our protocol, so that it can hit no stranger's.

// Here opens the network namespace that the process runs in.
func Here() (*Netns, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	return &Netns{path: "the host", handle: -1, conn: c, names: map[int]string{}, indexes: map[string]uint32{}}, nil
}

// AddEach adds routes exclusively, each by itself: one that fails keeps no
// other from being added. It tells which were added, or may have been.
func (n *Netns) AddEach(ctx context.Context, routes []netops.Route) (added []netops.Route, failed netops.Failures) {
	n.forget()
	var done []netops.Operation
	failed = n.run(ctx, netops.Additions(pointers(routes)), &done, true)
	return changed(done).Add.Routes, failed
}

// DeleteEach deletes routes of our protocol, each by itself. To delete what is
// gone already is no failure.
func (n *Netns) DeleteEach(ctx context.Context, routes []netops.Route) netops.Failures {
	ops := netops.OperationsOn(netops.Delete, pointers(routes))
	for i := range ops {
		ops[i].Tagged = true
	}
	return n.run(ctx, ops, nil, true)
}

// Find lists what has the places of some routes: of each at least the one that
// holds it, if there is one. With onlyOurs those of other protocols are left
// out.
func (n *Netns) Find(ctx context.Context, routes []netops.Route, onlyOurs bool) ([]netops.Route, error) {
	n.forget()
	left := pointers(routes)
	var found []netops.Route
	if !onlyOurs || len(routes) <= fewRoutes {
		var err error
		if found, left, err = n.matchEach(left, onlyOurs); err != nil {
			return nil, err
		}
	}
	// Our own are few, and the kernel filters.
	query := aboutRoutes(left)
	query.Protocol = netops.Protocol
	ours, err := n.Snapshot(ctx, query)
	if err != nil || onlyOurs {
		return append(found, ours.Routes...), err
	}
	ix, rest := netops.IndexRoutes(ours.Routes), []*netops.Route(nil)
	for _, r := range left {
		if have := ix.Find(r, (*netops.Route).SatisfiedBy); have != nil {
			found = append(found, *have)
		} else {
			rest = append(rest, r)
		}
	}
	all, err := n.around(ctx, rest) // to list a whole table is the last resort
	return append(found, all...), err
}

// matchEach asks the kernel for each route by itself. Those left may be there
// all the same, or something else in their places.
func (n *Netns) matchEach(routes []*netops.Route, onlyOurs bool) (found []netops.Route, left []*netops.Route, err error) {
	for _, r := range routes {
		have, err := n.match(r)
		if err != nil {
			return nil, nil, err
		}
		if have != nil && r.SatisfiedBy(have) && (!onlyOurs || have.Protocol == netops.Protocol) {
			found = append(found, *have)
		} else {
			left = append(left, r)
		}
	}
	return found, left, nil
}

// fewRoutes are asked for one by one, about 10 µs each, where a dump has the
// kernel walk all of a table.
const fewRoutes = 128

// match asks the kernel by which route it reaches the destination of r.
func (n *Netns) match(r *netops.Route) (found *netops.Route, err error) {
	if r.Default() || r.Type.Rejects() {
		return nil, nil // the kernel answers with an error
	}
	found, err = n.lookup(r.Dst.Addr())
	if errors.As(err, new(*netops.KernelError)) {
		return nil, nil // by none, or by one that rejects
	}
	return found, err
}

// lookup asks the kernel by which route it reaches an address. The answer
// proves that this route is there, and nothing about others: a rule, or a more
// specific route, may answer in the place of another. Where it is reached by
// none, or by one that rejects, the error is the kernel's.
func (n *Netns) lookup(ip netip.Addr) (found *netops.Route, err error) {
	flags := uint32(unix.RTM_F_FIB_MATCH)
	if ip.Is4() { // or the answer would be said to be of table main
		flags |= unix.RTM_F_LOOKUP_TABLE
	}
	_, err = n.conn.ask(routeTo(ip, flags), func(answer reply) error {
		route, err := netops.DecodeRoute(nil, answer.body, n.name)
		found = &route
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// routeTo asks for the route to an address.
func routeTo(ip netip.Addr, flags uint32) *nl.NetlinkRequest {
	m := unix.RtMsg{Family: uint8(rtattr.Family(ip)), Dst_len: uint8(ip.BitLen()), Flags: flags}
	return request(unix.RTM_GETROUTE, 0, &nl.RtMsg{RtMsg: m}, nl.NewRtAttr(unix.RTA_DST, ip.AsSlice()))
}

// AddObjects adds what a state has beside routes exclusively, and sets its values,
// each by itself. It tells which were added or set, or may have been.
func (n *Netns) AddObjects(ctx context.Context, s netops.State) (added netops.State, failed netops.Failures) {
	n.forget()
	var done []netops.Operation
	c := netops.Change{Add: s}
	for _, at := range c.Order() {
		failed = append(failed, n.makeAt(ctx, &c, at, &done)...)
	}
	return changed(done).Add, failed
}

// DeleteObjects deletes what a state has beside routes and values, where it is
// there as the state says, each by itself. Of rules those go that are of these
// plugins' protocol.
func (n *Netns) DeleteObjects(ctx context.Context, s netops.State) (failed netops.Failures) {
	s.Rules, _ = netops.Partition(s.Rules, func(r netops.Rule) bool { return r.Protocol == netops.Protocol })
	c := netops.Change{Del: s}
	for _, at := range c.UndoOrder() {
		failed = append(failed, n.makeAt(ctx, &c, at, nil)...)
	}
	return failed
}
