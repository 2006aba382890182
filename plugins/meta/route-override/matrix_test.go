package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// The plugins that make the interface, and those that give addresses.
var (
	mainPlugins = map[string]string{
		"macvlan": `"type": "macvlan", "master": "eth1", "mode": "bridge"`,
		"bridge":  `"type": "bridge", "bridge": "cni0", "isGateway": true`,
		"ptp":     `"type": "ptp"`,
	}
	ipamPlugins = map[string]string{
		"host-local": `"type": "host-local", "dataDir": "/run/ipam", "ranges": [[{"subnet": "10.22.0.0/24", "rangeStart": "10.22.0.100"}], [{"subnet": "fd22::/64"}]]`,
		"static":     `"type": "static", "addresses": [{"address": "10.22.0.9/24", "gateway": "10.22.0.1"}, {"address": "fd22::9/64", "gateway": "fd22::1"}]`,
	}
)

// chainOf is a chain with these entries of route-override.
func chainOf(main, ipam string, entries ...string) string {
	const routes = `"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "192.168.0.0/24"}, {"dst": "192.168.1.0/24", "gw": "10.22.0.1"}]`
	chain := fmt.Sprintf(`{%s, "ipam": {%s, %s}}`, mainPlugins[main], ipamPlugins[ipam], routes)
	for _, e := range entries {
		chain += `, {"type": "route-override", ` + e + `}`
	}
	return `{"cniVersion": "1.1.0", "name": "matrix", "plugins": [` + chain + `]}`
}

// CHECK of the whole chain, that is of the reference plugins, passes with every
// setting, as it does without. What these cannot judge stands in the page's Limits.
func TestSweepMatrix(t *testing.T) {
	lan(t)
	t.Cleanup(func() {
		_, _ = os.RemoveAll(stateDir), os.RemoveAll("/run/ipam")
		netopstest.Host(t).IP("link del cni0")
	})
	const all = `"addroutes": [{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16", "gw": "10.22.0.1", "mtu": 1400, "advmss": 1300, "priority": 5},
		{"dst": "172.18.0.0/16", "gw": "0.0.0.0"}, {"dst": "172.19.0.0/16", "scope": 253}, {"dst": "172.20.0.0/16", "gw": "10.99.0.1", "onlink": true},
		{"dst": "172.21.0.0/16", "gws": ["10.22.0.1", "10.22.0.7"], "onlink": true}, {"dst": "172.22.0.0/16", "gws": ["10.22.0.1"], "gw": "10.22.0.7", "onlink": true},
		{"dst": "172.23.0.0/16", "type": "blackhole"}, {"dst": "172.24.0.1", "dev": "eth0"}, {"dst": "172.16.0.0/16", "metric": 9},
		{"dst": "fd30::/64"}, {"dst": "fd31::/64", "gw": "fd22::1"}, {"dst": "fd32::/64", "gw": "::"}, {"dst": "fd33::/64", "gws": ["fd22::1", "fe80::1"]}]`
	settings := []struct {
		name    string
		entries []string
		refused map[string]string // what CHECK of a main plugin says that cannot judge
	}{
		{"flushroutes", []string{`"flushroutes": true`}, map[string]string{"ptp": "Failed to find Gateway"}},
		{"flushgateway", []string{`"flushgateway": true`}, nil},
		{"delroutes", []string{`"delroutes": [{"dst": "192.168.0.0/24"}, {"dst": "192.168.1.0/24", "gw": "10.22.0.1"}, {"dst": "::/0", "dev": "eth0"}]`}, nil},
		{"addroutes", []string{all}, nil},
		{"another default route", []string{`"delroutes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}], "addroutes": [{"dst": "0.0.0.0/0", "mtu": 1400}, {"dst": "::/0", "gw": "fe80::1", "dev": "eth0"}]`}, nil},
		{"several default routes", []string{`"flushgateway": true, "addroutes": [{"dst": "0.0.0.0/0", "gws": ["10.22.0.1", "10.22.0.7"], "onlink": true}, {"dst": "::/0", "gws": ["fd22::1", "fe80::1"]}]`}, nil},
		{"two entries, errors ignored, families skipped", []string{`"flushgateway": true, "ignoreErrors": true, "addroutes": [{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16", "gw": "10.98.0.1"}]`,
			`"skipMissingFamilies": true, "delroutes": [{"dst": "172.16.0.0/16"}], "addroutes": [{"dst": "0.0.0.0/0"}, {"dst": "fd30::/64"}]`}, nil},
		{"rules", []string{`"addrules": [{"from": "10.22.0.0/24", "table": 100}, {"to": "fd30::/64", "table": 100, "priority": 9}]`}, nil},
		{"skipcheck", []string{`"skipcheck": true, "flushgateway": true, "addroutes": [{"dst": "172.16.0.0/16"}]`}, nil},
		{"args", []string{`"flushroutes": true, "args": {"cni": {"flushroutes": false, "flushgateway": true, "delroutes": [{"dst": "192.168.0.0/24"}], "addroutes": [{"dst": "172.16.0.0/16"}]}}`}, nil},
		{"table", []string{`"addroutes": [{"dst": "172.16.0.0/16", "table": 100}]`},
			map[string]string{"macvlan": "not found in routing table", "bridge": "not found in routing table", "ptp": "not found in routing table"}},
		{"the subnet itself", []string{`"delroutes": [{"dst": "10.22.0.0/24"}]`},
			map[string]string{"macvlan": "Failed to find Gateway", "bridge": "Failed to find Gateway", "ptp": "Failed to find Gateway"}},
	}
	seen := 0 // of all settings
	for _, main := range slices.Sorted(maps.Keys(mainPlugins)) {
		for _, ipam := range slices.Sorted(maps.Keys(ipamPlugins)) {
			checked(t, main+" "+ipam, chainOf(main, ipam), "")
			for _, s := range settings {
				if seen++; seen%netopstest.Sample(t, 7) != 0 {
					continue
				}
				checked(t, main+" "+ipam+" "+s.name, chainOf(main, ipam, s.entries...), s.refused[main])
			}
		}
	}
}

// checked adds a container by a chain, and has it checked and deleted.
func checked(t *testing.T, name, conf, refused string) {
	t.Run(name, func(t *testing.T) {
		pod := netopstest.Namespace(t, "pod")
		defer pod.Remove()
		pod.Sysctl("net/ipv6/conf/default/accept_dad", "0")
		r := plugintest.NewRuntime(t, pod, "eth0", conf)
		defer r.Del()
		r.Add()
		err := r.Check()
		switch {
		case refused == "" && err != nil:
			t.Errorf("CHECK: %v\n%s", err, mains(pod))
		case refused != "" && (err == nil || !strings.Contains(err.Error(), refused)):
			t.Errorf("CHECK: %v, and the page says %q", err, refused)
		}
	})
}
