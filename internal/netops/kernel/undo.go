package kernel

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

// Undo takes back what was done, as far as it is still there: what is gone
// already is fine, and so is an interface that is gone with its routes. It
// goes on after a failure; the error joins an OpError for each.
func (n *Netns) Undo(ctx context.Context, done netops.Change) error {
	if done.IsZero() {
		return nil
	}
	q := netops.Query{To: map[netip.Prefix]bool{}}
	q.Cover(done)
	have, err := n.Snapshot(ctx, q)
	if err != nil {
		return err
	}
	todo, _ := done.Reverse().Needed(have.State)
	todo.StandBeside(have.Routes)
	back := todo.WayBack(have.Routes, n.possible)
	var failed []*netops.OpError
	for _, at := range todo.UndoOrder() {
		switch at {
		case netops.DropRoutes:
			failed = append(failed, n.run(ctx, netops.OperationsOn(netops.Delete, back.Del), nil, true)...)
		case netops.AddRoutes:
			failed = append(failed, n.restore(ctx, back)...)
		case netops.ExchangeRoutes: // restored with the others
		default: // what an interface that is gone had went with it
			failed = append(failed, slices.DeleteFunc(n.makeAt(ctx, &todo, at, nil), (*netops.OpError).Missing)...)
		}
	}
	return join(failed)
}

// restore puts back routes that had to go, those first by which gateways are
// reached.
func (n *Netns) restore(ctx context.Context, back netops.WayBack) []*netops.OpError {
	direct, byGateway := netops.Partition(back.Add, func(r *netops.Route) bool { return len(r.Hops) == 0 && !r.Gw.IsValid() })
	failed := n.run(ctx, netops.Additions(direct), nil, true)
	failed = append(failed, n.makeArranged(ctx, back.Arranged, nil, true)...)
	failed = append(failed, n.run(ctx, netops.Additions(byGateway), nil, true)...)
	return append(failed, n.run(ctx, netops.OperationsOn(netops.Append, back.Merged), nil, true)...)
}

// Rescue tries once more what an Undo could not put back because its gateway
// was out of reach: others that came back since may lead there, and if not, it
// goes back as an on-link route by the same way. It returns what is left of
// the error.
func (n *Netns) Rescue(ctx context.Context, err error) error {
	var failures netops.Failures
	if !errors.As(err, &failures) {
		return err
	}
	var left []*netops.OpError
	for _, f := range failures {
		r, ok := f.Object.(*netops.Route)
		if !ok || !f.Adds() || !unreachable(f.Err) || !n.rescued(ctx, r) {
			left = append(left, f)
		}
	}
	return join(left)
}

// rescued puts a route back after others, in the end as an on-link one. What a
// multipath route has of others is not made so.
func (n *Netns) rescued(ctx context.Context, r *netops.Route) bool {
	if n.putBack(ctx, r) {
		return true
	}
	onLink := r.AsOnLink()
	return len(r.Hops) == 0 && n.putBack(ctx, &onLink)
}

func (n *Netns) putBack(ctx context.Context, r *netops.Route) bool {
	have, err := n.around(ctx, []*netops.Route{r})
	if err != nil {
		return false
	}
	todo := netops.Change{Add: netops.StateOf(r)}
	return len(n.restore(ctx, todo.WayBack(have, n.possible))) == 0
}

// unreachable reports whether the kernel refused a gateway.
func unreachable(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH)
}

// possible reports whether the interfaces of a route are there.
func (n *Netns) possible(r *netops.Route) bool {
	_, err := deviceIndexes(r, n.index)
	return !errors.Is(err, netops.ErrNoLink)
}
