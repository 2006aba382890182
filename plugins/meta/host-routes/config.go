package main

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/plugins/meta/host-routes/internal/jqexpr"
)

// The keys of the configuration.
const (
	routing = "routing"
	tries   = "tries"
)

// config is a valid configuration.
type config struct {
	source     string // of the expression
	expression *jqexpr.Expression
	failure    error // of compiling, where it is not the expression that is wrong
	tries      int
	input      []byte // all of the configuration, for the expression
	first      bool   // there is no prevResult
	request    request

	// What Prepare finds.
	routes   []netops.Route
	elements []json.RawMessage // the routes as the expression yields them
}

// request is the variable $cni.
type request struct {
	Command     string            `json:"command"`
	ContainerID string            `json:"containerID"`
	IfName      string            `json:"ifname"`
	Netns       string            `json:"netns"`
	Args        map[string]string `json:"args"`
}

func decode(c *cni.Config) attach.Planner {
	conf := config{tries: triesOf(c), input: c.Text, first: !c.Has("prevResult"),
		request: request{c.Verb, c.ContainerID, c.IfName, c.Netns, c.Args}}
	v, ok := c.Get(routing)
	if !ok {
		c.Invalid(routing, "missing: a jq expression that yields a list of routes, [] for none")
		return conf
	}
	if conf.source, ok = v.Text(); !ok {
		return conf
	}
	switch c.Verb {
	case "CHECK", "DEL": // go by the record, if they can
	case "plan":
		conf.request.Command = "ADD" // which it shows
		fallthrough
	default:
		conf.compile()
	}
	if errors.As(conf.failure, new(*jqexpr.CompileError)) ||
		c.Verb == "STATUS" && (errors.Is(conf.failure, jqexpr.ErrTimeout) || errors.Is(conf.failure, jqexpr.ErrFailed)) {
		v.Invalid("%v", conf.failure)
	}
	return conf
}

// How often an action is tried: what is no number of times is the default.
const (
	defaultTries = 3
	maxTries     = 10
)

func triesOf(c *cni.Config) int {
	v, ok := c.Get(tries)
	if !ok {
		return defaultTries
	}
	n, err := strconv.ParseFloat(string(v.Raw), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || n < 1 || n != math.Trunc(n) {
		return defaultTries
	}
	return int(min(n, maxTries))
}
