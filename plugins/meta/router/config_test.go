package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
)

const cluster = `"overlay_hijack_subnet": ["10.244.0.0/16"], "service_hijack_subnet": ["10.96.0.0/12"]`

// parse is what ADD for an interface makes of some keys.
func parse(ifname, keys string) (attach.Planner, *cniresult.Result, error) {
	return policy.Parse(router, decode, []byte(`{"cniVersion": "1.1.0", "name": "lan", "type": "router", `+keys+`, "prevResult": {}}`), ifname)
}

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		ifname, keys string
		change       func(*config)
	}{
		{"net1", cluster, func(*config) {}},
		{"net1", cluster + `, "overlay_interface": null, "migrate_route": null, "table": null, "rp_filter": null, "ip_conflict": null, "mac_prefix": null, "exclude_interfaces": null`, func(*config) {}},
		{"net1", `"overlay_hijack_subnet": ["10.240.9.9/12", "fd00::1/96", "10.240.0.0/12"], "service_hijack_subnet": ["10.96.0.0/12", "10.240.1.0/12"], "additional_hijack_subnet": ["10.1.2.3/8", "10.0.0.0/8"]`,
			func(c *config) {
				c.cluster, c.additional = prefixes("10.240.0.0/12", "fd00::/96", "10.96.0.0/12"), prefixes("10.0.0.0/8")
			}},
		{"net2", cluster, func(c *config) { c.table = 102 }},
		{"net150", cluster, func(c *config) { c.table = 250 }},
		{"net151", cluster, func(c *config) { c.table = 0 }},
		{"eth2", cluster, func(c *config) { c.table = 102 }},
		{"storage", cluster, func(c *config) { c.table = 0 }},
		{"net2", cluster + `, "table": 100`, func(c *config) {
			c.table, c.warnings = 102, []string{"table: 100 is the overlay's and is passed over"}
		}},
		{"net1", cluster + `, "default_route_interface": "overlay"`, func(c *config) { c.defaultDev = "eth0" }},
		{"net1", cluster + `, "default_route_interface": "overlay", "overlay_interface": "cilium0"`, func(c *config) { c.overlay, c.defaultDev = "cilium0", "cilium0" }},
		{"net1", cluster + `, "default_route_interface": "net2"`, func(c *config) { c.defaultDev = "net2" }},
		{"net1", cluster + `, "default_route_interface": "net2", "migrate_route": 1`, func(c *config) { c.migrate, c.defaultDev = always, "net2" }},
		{"eth2", cluster + `, "table": 4294967295`, func(c *config) { c.table = 4294967295 }},
		{"storage", cluster + `, "table": 252, "host_rule_table": 256`, func(c *config) { c.table, c.hostTable = 252, 256 }},
		{"net1", cluster + `, "overlay_interface": "cilium0"`, func(c *config) { c.overlay = "cilium0" }},
		{"net1", cluster + `, "migrate_route": 0`, func(c *config) { c.migrate = never }},
		{"net1", cluster + `, "migrate_route": 1`, func(c *config) { c.migrate, c.defaultDev = always, "net1" }},
		{"net1", cluster + `, "migrate_route": -1`, func(*config) {}},
		{"net1", cluster + `, "sriov": true`, func(c *config) { c.sriov = true }},
		{"net1", cluster + `, "rp_filter": {}`, func(*config) {}},
		{"net1", cluster + `, "rp_filter": {"value": 0, "set_host": true}`, func(c *config) { c.rpFilter, c.rpHost = 0, true }},
		{"net1", cluster + `, "RP_Filter": {"Value": 1}`, func(c *config) { c.rpFilter = 1 }},
		{"net1", cluster + `, "ip_conflict": {}`, func(*config) {}},
		{"net1", cluster + `, "ip_conflict": {"enabled": true, "interval": "50ms", "retries": 1}`, func(c *config) { c.probe = probe{true, 50 * time.Millisecond, 1} }},
		{"net1", cluster + `, "mac_prefix": "0A:1b"`, func(c *config) { c.macPrefix = []byte{0x0a, 0x1b} }},
		{"net1", cluster + `, "exclude_interfaces": []`, func(c *config) { c.exclude = []string{} }},
		{"net1", cluster + `, "exclude_interfaces": ["en[ps]*", ""]`, func(c *config) { c.exclude = []string{"en[ps]*", ""} }},
		// What does nothing, or little, needs neither subnets nor a table, and may be of eth0.
		{"eth0", `"skip_call": true`, func(c *config) { c.skip, c.cluster, c.table = true, nil, 0 }},
		{"storage", `"only_op_mac": true, "mac_prefix": "0a:1b"`, func(c *config) {
			c.onlyMAC, c.macPrefix, c.cluster, c.table = true, []byte{0x0a, 0x1b}, nil, 0
		}},
	} {
		want := config{verb: "ADD", ifName: tt.ifname, cluster: prefixes("10.244.0.0/16", "10.96.0.0/12"), overlay: "eth0", migrate: byOrder, hostTable: 500, table: 101,
			rpFilter: 2, probe: probe{false, time.Second, 3}, exclude: defaultExclude}
		tt.change(&want)
		got, _, err := parse(tt.ifname, tt.keys)
		if err != nil {
			t.Errorf("%s: %v", tt.keys, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(config{}, probe{}), cmpopts.EquateComparable(netip.Prefix{}), cmpopts.IgnoreFields(config{}, "node", "others")); diff != "" {
			t.Errorf("%s of %s (-want +got):\n%s", tt.keys, tt.ifname, diff)
		}
	}
}

// What is wrong is told by the key's path, all of it, and nothing else.
func TestProblems(t *testing.T) {
	const numbers = "is not a whole number from 1 to 4294967295"
	for keys, says := range map[string]string{
		`"mac_prefix": null`: "overlay_hijack_subnet: missing: a list of subnets (and 1 more)\nservice_hijack_subnet: missing: a list of subnets",

		cluster + `, "additional_hijack_subnet": "10.0.0.0/8"`:                         `additional_hijack_subnet: "10.0.0.0/8" is not a list`,
		cluster + `, "additional_hijack_subnet": ["10.0.0.0"]`:                         `additional_hijack_subnet[0]: "10.0.0.0" is not a subnet`,
		cluster + `, "additional_hijack_subnet": ["10.0.0.0/8", "10.0.0.0/33"]`:        `additional_hijack_subnet[1]: "10.0.0.0/33" is not a subnet`,
		cluster + `, "additional_hijack_subnet": [5]`:                                  `additional_hijack_subnet[0]: 5 is not a string`,
		cluster + `, "additional_hijack_subnet": [null]`:                               `additional_hijack_subnet[0]: null is not a string`,
		cluster + `, "additional_hijack_subnet": ["::ffff:10.0.0.0/104"]`:              `additional_hijack_subnet[0]: "::ffff:10.0.0.0/104" is not a subnet`,
		cluster + `, "additional_hijack_subnet": ["fe80::%eth0/64"]`:                   `additional_hijack_subnet[0]: "fe80::%eth0/64" is not a subnet`,
		cluster + `, "additional_hijack_subnet": ["0.0.0.0/0"]`:                        `additional_hijack_subnet[0]: "0.0.0.0/0" is everything: no rule is for that`,
		`"overlay_hijack_subnet": [], "service_hijack_subnet": {}`:                     "overlay_hijack_subnet: it names no subnet (and 1 more)\nservice_hijack_subnet: {} is not a list",
		`"overlay_hijack_subnet": ["10.244.0.0/16"]`:                                   `service_hijack_subnet: missing: a list of subnets`,
		`"overlay_hijack_subnet": ["::/0"], "service_hijack_subnet": ["10.96.0.0/12"]`: `overlay_hijack_subnet[0]: "::/0" is everything: no rule is for that`,

		cluster + `, "overlay_interface": ""`:                 `overlay_interface: "" is not the name of an interface`,
		cluster + `, "overlay_interface": "a/b"`:              `overlay_interface: "a/b" is not the name of an interface`,
		cluster + `, "overlay_interface": "0123456789abcdef"`: `overlay_interface: "0123456789abcdef" is not the name of an interface`,
		cluster + `, "overlay_interface": 5`:                  `overlay_interface: 5 is not a string`,
		cluster + `, "overlay_interface": "net1"`:             `overlay_interface: net1 is the interface of this attachment`,

		cluster + `, "migrate_route": 2`:    `migrate_route: 2 is not -1, 0 or 1`,
		cluster + `, "migrate_route": -2`:   `migrate_route: -2 is not -1, 0 or 1`,
		cluster + `, "migrate_route": "1"`:  `migrate_route: "1" is not -1, 0 or 1`,
		cluster + `, "migrate_route": 1.0`:  `migrate_route: 1.0 is not -1, 0 or 1`,
		cluster + `, "migrate_route": true`: `migrate_route: true is not -1, 0 or 1`,

		cluster + `, "default_route_interface": ""`:   `default_route_interface: "" is neither "overlay" nor the name of an interface`,
		cluster + `, "default_route_interface": true`: `default_route_interface: true is not a string`,

		cluster + `, "table": 0`:                           `table: 0 ` + numbers,
		cluster + `, "table": "100"`:                       `table: "100" ` + numbers,
		cluster + `, "table": 4294967296`:                  `table: 4294967296 ` + numbers,
		cluster + `, "table": 253`:                         `table: 253 is one of the kernel's own tables`,
		cluster + `, "table": 254`:                         `table: 254 is one of the kernel's own tables`,
		cluster + `, "host_rule_table": 255`:               `host_rule_table: 255 is one of the kernel's own tables`,
		cluster + `, "host_rule_table": -1`:                `host_rule_table: -1 ` + numbers,
		cluster + `, "table": 255, "host_rule_table": 1.5`: "host_rule_table: 1.5 " + numbers + " (and 1 more)\ntable: 255 is one of the kernel's own tables",

		cluster + `, "skip_call": 1`:         `skip_call: 1 is not true or false`,
		cluster + `, "sriov": "true"`:        `sriov: "true" is not true or false`,
		cluster + `, "only_op_mac": "yes"`:   `only_op_mac: "yes" is not true or false`,
		`"only_op_mac": true`:                `only_op_mac: there is no "mac_prefix"`,
		cluster + `, "mac_prefix": "0a-1b"`:  `mac_prefix: "0a-1b" is not two octets, as "0a:1b" is`,
		cluster + `, "mac_prefix": ""`:       `mac_prefix: "" is not two octets, as "0a:1b" is`,
		cluster + `, "mac_prefix": "0a1b"`:   `mac_prefix: "0a1b" is not two octets, as "0a:1b" is`,
		cluster + `, "mac_prefix": "a:1b"`:   `mac_prefix: "a:1b" is not two octets, as "0a:1b" is`,
		cluster + `, "mac_prefix": "0a:1b:"`: `mac_prefix: "0a:1b:" is not two octets, as "0a:1b" is`,
		cluster + `, "mac_prefix": "0g:1b"`:  `mac_prefix: "0g:1b" is not two octets, as "0a:1b" is`,
		cluster + `, "mac_prefix": "0a:+b"`:  `mac_prefix: "0a:+b" is not two octets, as "0a:1b" is`,
		cluster + `, "mac_prefix": 5`:        `mac_prefix: 5 is not a string`,
		cluster + `, "mac_prefix": "01:1b"`:  `mac_prefix: "01:1b" is the prefix of multicast addresses`,
		cluster + `, "mac_prefix": "ff:ff"`:  `mac_prefix: "ff:ff" is the prefix of multicast addresses`,

		cluster + `, "rp_filter": 2`:                               `rp_filter: 2 is not an object`,
		cluster + `, "rp_filter": {"value": 3}`:                    `rp_filter.value: 3 is not a whole number from 0 to 2`,
		cluster + `, "rp_filter": {"value": -1}`:                   `rp_filter.value: -1 is not a whole number from 0 to 2`,
		cluster + `, "rp_filter": {"value": "1"}`:                  `rp_filter.value: "1" is not a whole number from 0 to 2`,
		cluster + `, "rp_filter": {"set_host": 1}`:                 `rp_filter.set_host: 1 is not true or false`,
		cluster + `, "rp_filter": {"vale": 1}`:                     `rp_filter.vale: unknown key; did you mean "value"?`,
		cluster + `, "rp_filter": {"enabled": true}`:               `rp_filter.enabled: unknown key; there are value, set_host`,
		cluster + `, "ip_conflict": true`:                          `ip_conflict: true is not an object`,
		cluster + `, "ip_conflict": {"enabled": "yes"}`:            `ip_conflict.enabled: "yes" is not true or false`,
		cluster + `, "ip_conflict": {"interval": 1}`:               `ip_conflict.interval: 1 is not a string`,
		cluster + `, "ip_conflict": {"interval": "1"}`:             `ip_conflict.interval: "1" is not a duration above 0, as "500ms" is`,
		cluster + `, "ip_conflict": {"interval": "0s"}`:            `ip_conflict.interval: "0s" is not a duration above 0, as "500ms" is`,
		cluster + `, "ip_conflict": {"interval": "-1s"}`:           `ip_conflict.interval: "-1s" is not a duration above 0, as "500ms" is`,
		cluster + `, "ip_conflict": {"interval": "999999999999h"}`: `ip_conflict.interval: "999999999999h" is not a duration above 0, as "500ms" is`,
		cluster + `, "ip_conflict": {"retries": 0}`:                `ip_conflict.retries: 0 is not a whole number from 1 to 1000`,
		cluster + `, "ip_conflict": {"retries": 1001}`:             `ip_conflict.retries: 1001 is not a whole number from 1 to 1000`,
		cluster + `, "ip_conflict": {"retry": 5}`:                  `ip_conflict.retry: unknown key; there are enabled, interval, retries`,

		cluster + `, "exclude_interfaces": "lo"`:       `exclude_interfaces: "lo" is not a list`,
		cluster + `, "exclude_interfaces": ["lo", 5]`:  `exclude_interfaces[1]: 5 is not a string`,
		cluster + `, "exclude_interfaces": ["veth["]`:  `exclude_interfaces[0]: "veth[" is not a pattern`,
		cluster + `, "exclude_interfaces": ["veth\\"]`: `exclude_interfaces[0]: "veth\\" is not a pattern`,
		cluster + `, "servce_hijack_subnet": []`:       `servce_hijack_subnet: unknown key; did you mean "service_hijack_subnet"?`,
		cluster + `, "overlay_hijack_subnets": []`:     `overlay_hijack_subnets: unknown key; did you mean "overlay_hijack_subnet"?`,
		cluster + `, "host_rule_tabel": 5`:             `host_rule_tabel: unknown key; did you mean "host_rule_table"?`,
		cluster + `, "Migrate_Route": 1, "tabl": 1`:    `tabl: unknown key; did you mean "table"?`,
		cluster + `, "sriov": 5, "TABLE": 0, "rpfilter": 1`: "sriov: 5 is not true or false (and 2 more)\ntable: 0 " + numbers + "\n" +
			`rpfilter: unknown key; did you mean "rp_filter"?`,
	} {
		_, _, err := parse("net1", keys)
		if err == nil || err.Error() != says {
			t.Errorf("%s\ngot  %v\nwant %s", keys, err, says)
			continue
		}
		want := uint(7)
		if strings.Contains(strings.SplitN(says, "\n", 2)[0], "unknown key") {
			want = 2
		}
		if code := cni.Code(err); code != want {
			t.Errorf("%s: code %d, want %d", keys, code, want)
		}
	}
}

// Any name will do: where it has no number, a table is looked for that is free.
func TestNamesWithoutNumber(t *testing.T) {
	for _, ifname := range []string{"storage", "net", "net0", "net151", "net01", "net+1", "net-1", "net1a", "eth", "eth1.7", "ens1", "net4294967297"} {
		for _, keys := range []string{cluster, cluster + `, "table": 7`} {
			if _, _, err := parse(ifname, keys); err != nil {
				t.Errorf("%s: %v", ifname, err)
			}
		}
	}
	if _, _, err := parse("eth0", cluster); err == nil || err.Error() != "overlay_interface: eth0 is the interface of this attachment" {
		t.Errorf("eth0: %v", err)
	}
}

func TestExcluded(t *testing.T) {
	c := config{exclude: defaultExclude}
	for dev, want := range map[string]bool{"lo": true, "lo1": false, "docker0": true, "veth1a2b": true, "cali123": true, "flannel.1": true, "kube-ipvs0": true,
		"cni0": true, "cilium_host": true, "lxc_health": true, "eth0": false, "bond0": false, "br-lan": false, "vx-submariner": true, "vx-submariner1": false} {
		if c.excluded(dev) != want {
			t.Errorf("%s: %v", dev, !want)
		}
	}
}

// FuzzConfig: no configuration and no prevResult makes a panic; what is taken
// makes plans that a record may hold, whatever is in the pod.
func FuzzConfig(f *testing.F) {
	for _, keys := range []string{cluster, cluster + `, "migrate_route": 1, "sriov": true, "mac_prefix": "0a:1b"`,
		`"overlay_hijack_subnet": ["::/0", "10.0.0.0/0"], "service_hijack_subnet": ["fe80::/10"], "additional_hijack_subnet": ["224.0.0.0/4"]`,
		cluster + `, "ip_conflict": {"enabled": true, "interval": "1ns", "retries": 1000}, "rp_filter": {"value": 0, "set_host": true}`,
		`"skip_call": true`, `"only_op_mac": true, "mac_prefix": "00:00"`, cluster + `, "exclude_interfaces": ["[", "*"]`, cluster + `, "table": 5`} {
		f.Add(keys, "net1", "192.0.2.50/24")
		f.Add(keys, "storage", "2001:db8::50/64")
	}
	routes := func(dev string) (list []netops.Route) {
		for dst, gw := range map[string]string{"0.0.0.0/0": "169.254.1.1", "::/0": "fe80::1", "10.9.0.0/16": "", "fd09::/64": ""} {
			r := netops.Route{Dst: netip.MustParsePrefix(dst), Dev: dev}
			if gw != "" {
				r.Gw = netip.MustParseAddr(gw)
			}
			list = append(list, r.Normalize())
		}
		return list
	}
	pod := netops.Snapshot{Links: []string{"eth0", "net1", "net2", "storage"}, HardwareAddrs: map[string]string{"eth0": "02:00:00:00:00:0a", "net1": "02:00:00:00:00:11"},
		Addrs: []netops.Addr{addrOf("eth0", "10.244.1.5/32"), addrOf("eth0", "fd00:10:244::5/128"), addrOf("net1", "192.0.2.50/24"), addrOf("net2", "2001:db8::50/64")},
		State: netops.State{Routes: append(routes("eth0"), routes("net1")...)}}
	f.Fuzz(func(t *testing.T, keys, ifname, address string) {
		stdin := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "lan", "type": "router", %s, "prevResult": {"ips": [{"address": %q}]}}`, keys, address)
		planner, prev, err := policy.Parse(router, decode, []byte(stdin), ifname)
		if err != nil {
			return
		}
		c := planner.(config)
		c.node = node{Peer: netops.Peer{Name: "cali1", HardwareAddr: "ee:ee:ee:ee:ee:ee"}, addrs: []netops.Addr{addrOf("up0", "192.0.2.10/24"), addrOf("up0", "2001:db8::10/64")}}
		c.Query(prev)
		d, err := c.Plan(prev, pod)
		if err != nil {
			return
		}
		if err := d.Want.Validate(); err != nil {
			t.Fatal(err)
		}
		_ = d.Want.Pod.Commands()
		if err := d.Print(io.Discard); err != nil {
			t.Fatal(err)
		}
	})
}
