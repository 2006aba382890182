package main

import (
	"encoding/json"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/cniroute"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// routings is how the routes of this plugin are given.
var routings = cniroute.Schema{Dst: "prefix", Gw: "gateway", Dev: "device", Complete: true}

// take makes the list that the expression yields the routes that are wanted:
// equal ones count once, and two that cannot both be are refused.
func (c *config) take(value []byte) error {
	list, elements, err := decodeRoutings(value)
	if err != nil {
		return err
	}
	taken := make(netops.Claims, len(list))
	for i := range list {
		r := list[i].Wanted()
		r.AnyDev = r.Dev == ""
		fresh, err := taken.Claim(&r)
		if err != nil {
			return cni.Errorf(types.ErrInvalidNetworkConfig, "%s[%d]: %w", routing, i, err)
		}
		if fresh {
			c.routes, c.elements = append(c.routes, r), append(c.elements, elements[i])
		}
	}
	return nil
}

// decodeRoutings reads a list of routings. All that is wrong with them is one
// error: unknown keys, too, are the expression's.
func decodeRoutings(value []byte) (list []cniroute.Route, elements []json.RawMessage, err error) {
	if value[0] != '[' {
		return nil, nil, cni.Errorf(types.ErrInvalidNetworkConfig,
			"%s: it yields %s, where a list of routes is wanted", routing, strictjson.Short(value))
	}
	var p strictjson.Problems
	list = routings.DecodeList(strictjson.NewValue(value, routing, &p))
	for i := range p.List {
		p.List[i].Unsupported = false
	}
	if err := cni.Invalid(&p); err != nil {
		return nil, nil, err
	}
	err = json.Unmarshal(value, &elements)
	return list, elements, err
}

// Query asks for nothing: what is on the host is looked at when a route meets
// it.
func (c config) Query(*cniresult.Result) netops.Query { return netops.Query{} }

// Plan is to have all routes, and to tell of them in the result.
func (c config) Plan(prev *cniresult.Result, _ netops.Snapshot) (*attach.Decision, error) {
	result, err := prev.Extended("hostRoutes", c.elements)
	return &attach.Decision{Want: c.want(), Tries: c.tries, Result: result}, err
}

// Expect is the same routes: a record could tell nothing else.
func (c config) Expect(prev *cniresult.Result, pod netops.Snapshot) (netops.Plan, error) {
	d, err := c.Plan(prev, pod)
	return d.Want, err
}

func (c config) want() netops.Plan { return netops.Plan{Host: netops.State{Routes: c.routes}} }

// SkipCheck says that CHECK judges everything.
func (c config) SkipCheck() bool { return false }
