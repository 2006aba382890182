package main

import (
	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniroute"
	"github.com/cni-netops/plugins/internal/netops"
)

// The keys of the configuration, which args.cni may override.
const (
	flushRoutes  = "flushroutes"
	flushGateway = "flushgateway"
	delRoutes    = "delroutes"
	addRoutes    = "addroutes"
	addRules     = "addrules"
	skipCheck    = "skipcheck"
	ignoreErrors = "ignoreErrors"
	skipMissing  = "skipMissingFamilies"
)

// config is a valid configuration.
type config struct {
	ifName       string // CNI_IFNAME
	flushRoutes  bool
	flushGateway bool
	del          []cniroute.Route
	add          []cniroute.Route
	rules        []netops.Rule
	skipCheck    bool
	ignoreErrors bool
	// skipMissingFamilies leaves out what is added of a family that the pod lacks.
	skipMissingFamilies bool
	// added says that ADD was done, so that prevResult lists what it added.
	added bool
}

func decode(c *cni.Config) attach.Planner {
	conf := config{ifName: c.IfName}
	c.Bool(flushRoutes, &conf.flushRoutes)
	c.Bool(flushGateway, &conf.flushGateway)
	c.Bool(skipCheck, &conf.skipCheck)
	c.Bool(ignoreErrors, &conf.ignoreErrors)
	c.Bool(skipMissing, &conf.skipMissingFamilies)
	if list, ok := c.Get(delRoutes); ok {
		conf.del = cniroute.CNI.DecodeList(list)
	}
	if list, ok := c.Get(addRoutes); ok {
		conf.add = cniroute.CNI.DecodeList(list)
	}
	if list, ok := c.Get(addRules); ok {
		conf.rules = cniroute.DecodeRules(list)
	}
	return conf
}

func (c config) SkipCheck() bool { return c.skipCheck }
