package kernel

import (
	"context"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

// documentation is an address that no network has (RFC 3849).
var documentation = netip.MustParseAddr("2001:db8::1")

// defaultRoutes are those of a family in table main that lead anywhere now. A node
// may have a million other routes.
//
// The kernel lists IPv4 routes by their destination, default routes first
// (fib_table_dump in net/ipv4/fib_trie.c): the head of the list is enough. IPv6
// default routes come last; there it is asked for the way to an address that
// no network has, which is by the one that it uses. Where a rule or a more specific
// route answers, all of the table is looked through.
func (n *Netns) defaultRoutes(ctx context.Context, all netip.Prefix) ([]netops.Route, error) {
	if all.Addr().Is4() {
		return n.headOfMain()
	}
	r, err := n.lookup(documentation)
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return nil, nil
	case err != nil && !errors.As(err, new(*netops.KernelError)):
		return nil, err
	case r != nil && r.Default() && r.Table == netops.TableMain && !r.From.IsValid():
		return []netops.Route{*r}, nil
	}
	return n.routes(ctx, routeQuery{family: unix.AF_INET6, table: netops.TableMain, to: map[netip.Prefix]bool{all: true}})
}

// errEnough ends a list of which the rest is of no interest.
var errEnough = errors.New("enough")

// headOfMain lists the IPv4 default routes of table main. The rest of the list
// goes with the socket that it was asked for by.
func (n *Netns) headOfMain() (found []netops.Route, err error) {
	c, err := n.dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	q := routeQuery{family: unix.AF_INET, table: netops.TableMain}
	_, err = c.ask(q.request(), func(r reply) error {
		if !q.wants(r.body) {
			return nil
		}
		route, err := netops.DecodeRoute(nil, r.body, n.name)
		switch {
		case err != nil:
			return err
		case route.Dst.Addr() != netops.IPv4Default.Addr():
			return errEnough
		case route.Default() && route.Table == netops.TableMain:
			if alive, ok := route.Alive(r.body); ok {
				found = append(found, alive)
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) || noTable(err) {
		err = nil
	}
	return found, err
}
