package main

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cni-netops/plugins/internal/netops"
)

func conf(keys string) string {
	return `{"cniVersion": "1.1.0", "name": "net", "type": "seamless-static-route"` + keys + `}`
}

func TestConfig(t *testing.T) {
	base := config{podInterface: "eth0", families: []family{ipv4}, gateways: map[family]netip.Addr{}, hostTimeout: time.Minute, podTimeout: 10 * time.Second}
	for keys, change := range map[string]func(c *config){
		``: func(*config) {},
		`, "interface": null, "hostIPs": null, "gateway": null, "families": null, "hostTimeout": null, "routes": null`: func(*config) {},
		`, "interface": "net1", "hostInterface": "bond0.7"`:                                                            func(c *config) { c.podInterface, c.hostInterface = "net1", "bond0.7" },
		`, "hostTimeout": "0s", "podTimeout": "1m30s"`:                                                                 func(c *config) { c.hostTimeout, c.podTimeout = 0, 90*time.Second },
		`, "families": ["ipv6", "ipv4", "ipv6"]`:                                                                       func(c *config) { c.families = []family{ipv6, ipv4} },
		`, "gateway": "10.0.0.1"`:                                                                                      func(c *config) { c.gateways[ipv4] = netip.MustParseAddr("10.0.0.1") },
		`, "hostIPs": ["192.0.2.1", "192.0.2.2", "192.0.2.1"]`: func(c *config) {
			c.given, c.hostIPs = true, []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
		},
		`, "families": ["ipv4", "ipv6"], "gateway": ["fe80::1", "10.0.0.1"]`: func(c *config) {
			c.families = []family{ipv4, ipv6}
			c.gateways[ipv4], c.gateways[ipv6] = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1")
		},
	} {
		want := base
		want.gateways = map[family]netip.Addr{}
		change(&want)
		got, _, err := policy.Parse(seamless, decode, []byte(conf(keys)), "eth0")
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		want.waits = true // as ADD does
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(config{}), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", keys, diff)
		}
	}
}

func TestProblems(t *testing.T) {
	for keys, says := range map[string][]string{
		`, "interface": "a/b"`:                                                  {`interface: "a/b" is not the name of an interface`},
		`, "interface": ""`:                                                     {`interface: "" is not the name`},
		`, "interface": 5`:                                                      {`interface: 5 is not a string`},
		`, "hostInterface": "0123456789abcdef"`:                                 {`hostInterface: `},
		`, "hostTimeout": "5"`:                                                  {`hostTimeout: "5" is not a duration`},
		`, "podTimeout": "-1s"`:                                                 {`podTimeout: "-1s" is not a duration`},
		`, "podTimeout": 10`:                                                    {`podTimeout: 10 is not a string`},
		`, "families": []`:                                                      {`families: it names no family`},
		`, "families": ["ipv5"]`:                                                {`families[0]: "ipv5" is not ipv4 or ipv6`},
		`, "families": "ipv4"`:                                                  {`families: "ipv4" is not a list`},
		`, "hostIPs": []`:                                                       {`hostIPs: there is no address of ipv4`},
		`, "hostIPs": "192.0.2.1"`:                                              {`hostIPs: "192.0.2.1" is not a list`},
		`, "hostIPs": ["192.0.2.1/24"]`:                                         {`hostIPs[0]: "192.0.2.1/24" is not an IP address`},
		`, "hostIPs": ["192.0.2.1", "fd00::1", 5]`:                              {`hostIPs[1]: fd00::1 is of a family that families does not name`, `hostIPs[2]: 5 is not a string`},
		`, "hostIPs": ["0.0.0.0"]`:                                              {`hostIPs[0]: "0.0.0.0" is no address of a host`},
		`, "hostIPs": ["127.0.0.1"]`:                                            {`hostIPs[0]: "127.0.0.1" is no address of a host`},
		`, "gateway": "255.255.255.255"`:                                        {`gateway: "255.255.255.255" is no address of a host`},
		`, "families": ["ipv6"], "hostIPs": ["fe80::1"]`:                        {`hostIPs[0]: fe80::1 is reached on one link only`},
		`, "hostIPs": ["224.0.0.1"]`:                                            {`hostIPs[0]: "224.0.0.1" is no address of a host`},
		`, "hostIPs": ["::ffff:192.0.2.1"]`:                                     {`hostIPs[0]: "::ffff:192.0.2.1" is not an IP address`},
		`, "families": ["ipv4", "ipv6"], "hostIPs": ["192.0.2.1"]`:              {`hostIPs: there is no address of ipv6`},
		`, "hostIPs": ["192.0.2.1"], "hostInterface": "up0"`:                    {`hostIPs: given beside "hostInterface"`},
		`, "gateway": "fe80::1"`:                                                {`gateway: fe80::1 is of a family that families does not name`},
		`, "gateway": "x"`:                                                      {`gateway: "x" is not an IP address`},
		`, "gateway": ["10.0.0.1", "10.0.0.2"]`:                                 {`gateway[1]: 10.0.0.2 is a second one of ipv4 beside 10.0.0.1`},
		`, "gateway": {"a": 1}`:                                                 {`gateway: {"a":1} is not a string`},
		`, "routes": [{"dst": "fd00::/64"}]`:                                    {`routes[0]: fd00::/64 is of a family that families does not name, and has no way of its own`},
		`, "routes": [{"dst": "172.16.0.0/12"}, {"dst": "172.16.0.0/33"}]`:      {`routes[1].dst: "172.16.0.0/33"`},
		`, "routes": [{"dst": "172.16.0.0/12", "dev": "eth0", "onlink": true}]`: {`routes[0]: onlink: there is no gateway for 172.16.0.0/12`},
		`, "route": []`:                                                         {`route: unknown key; did you mean "routes"?`},
		`, "hostInterfaces": "x"`:                                               {`hostInterfaces: unknown key; did you mean "hostInterface"?`},
		`, "interface": 5, "gateway": "x", "podTimeout": "y"`:                   {`(and 2 more)`, `interface: 5`, `gateway: "x"`, `podTimeout: "y"`},
	} {
		_, _, err := policy.Parse(seamless, decode, []byte(conf(keys)), "eth0")
		if err == nil {
			t.Errorf("%s: taken", keys)
			continue
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", keys, err, s)
			}
		}
	}
}

// FuzzConfig: no configuration and no prevResult makes a panic; what is taken
// makes plans that a record may hold.
func FuzzConfig(f *testing.F) {
	for _, keys := range []string{``, `, "families": ["ipv4", "ipv6"], "hostIPs": ["192.0.2.1", "2001:db8::1"], "gateway": ["fe80::1"]`,
		`, "routes": [{"dst": "172.16.0.0/12"}, {"dst": "fd00::/64", "gws": ["fe80::1"]}, {"dst": "0.0.0.0/0", "type": "blackhole"}]`,
		`, "prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.5/24", "interface": 7}]}`, `, "hostTimeout": "9999999h"`,
		`, "cniVersion": "0.2.0", "prevResult": {"ip4": {"ip": 5, "routes": {}}}`, `, "gateway": []`, `, "gateway": [[]]`} {
		f.Add(conf(keys))
	}
	prefix := netip.MustParsePrefix
	pods := []netops.Snapshot{{}, {Links: []string{"eth0"}}}
	for _, subnet := range []string{"10.131.0.43/23", "10.131.0.1/24", "10.131.0.43/32", "255.255.255.255/31", "0.0.0.0/0", "fd01::5/64", "fd01::/0", "fd01::5/128"} {
		p := prefix(subnet)
		pods = append(pods, netops.Snapshot{Links: []string{"eth0"}, Addrs: []netops.Addr{{Dev: "eth0", Prefix: p, Subnet: p.Masked(), Scope: netops.ScopeGlobal}},
			State: netops.State{Routes: []netops.Route{netops.Route{Dst: netip.PrefixFrom(p.Addr(), 0), Dev: "eth0", Gw: p.Addr()}.Normalize()}}})
	}
	f.Fuzz(func(t *testing.T, text string) {
		planner, prev, err := policy.Parse(seamless, decode, []byte(text), "eth0")
		if err != nil {
			return
		}
		c := planner.(config)
		for _, pod := range pods {
			c.Query(prev)
			_, _ = c.nodeAddresses(pod)
			for _, f := range c.families {
				if c.hostIPs == nil {
					c.hostIPs = append(c.hostIPs, map[family]netip.Addr{ipv4: netip.MustParseAddr("192.0.2.1"), ipv6: netip.MustParseAddr("2001:db8::1")}[f])
				}
			}
			d, err := c.Plan(prev, pod)
			if err != nil {
				continue
			}
			if err := d.Want.Validate(); err != nil {
				t.Fatal(err)
			}
			_ = d.Want.Pod.Commands()
			if err := d.Print(io.Discard); err != nil {
				t.Fatal(err)
			}
		}
	})
}
