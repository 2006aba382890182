package kubernetes

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden file of events")

// lan is the first plugin of the i-th network. All of them are one LAN, of which
// each has addresses of its own.
func lan(i int) string {
	return fmt.Sprintf(`{ "type": "macvlan", "master": "eth1", "ipam": { "type": "host-local",
		"subnet": "10.10.0.0/24", "rangeStart": "10.10.0.%d", "rangeEnd": "10.10.0.%d" } }`, 10+20*i, 29+20*i)
}

// mistakes are plugins as users write them, and as they are meant.
var mistakes = []struct{ name, wrong, right string }{
	{"gateway", `{ "type": "route-override", "addroutes": [ { "dst": "10.20.0.0/16", "gw": "10.99.0.1" } ] }`,
		`{ "type": "route-override", "addroutes": [ { "dst": "10.20.0.0/16", "gw": "10.10.0.1" } ] }`},
	{"misspelt", `{ "type": "route-override", "addroute": [ { "dst": "10.20.0.0/16" } ] }`,
		`{ "type": "route-override", "addroutes": [ { "dst": "10.20.0.0/16", "gw": "10.10.0.1" } ] }`},
	{"expression", `{ "type": "host-routes", "routing": "[.prevResult.ips[] | {prefix: .address, device: \"eth1\"}" }`,
		`{ "type": "host-routes", "routing": "[.prevResult.ips[] | {prefix: .address | split(\"/\")[0], device: \"eth1\"}]" }`},
	{"device", `{ "type": "host-routes", "routing": "[{prefix: \"10.77.0.0/16\", device: \"absent0\"}]" }`,
		`{ "type": "host-routes", "routing": "[{prefix: \"10.77.0.0/16\", device: \"eth1\"}]" }`},
	{"address", `{ "type": "seamless", "hostIPs": [ "192.0.2" ] }`, `{ "type": "seamless", "interface": "eth0" }`},
	{"subnet", `{ "type": "router", "overlay_hijack_subnet": [ "10.244.0.0" ], "service_hijack_subnet": [ "10.96.0.0/33" ] }`,
		`{ "type": "router", "overlay_hijack_subnet": [ "10.244.0.0/16" ], "service_hijack_subnet": [ "10.96.0.0/12" ] }`},
	{"overlay", `{ "type": "router", "overlay_interface": "eth7", "overlay_hijack_subnet": [ "10.244.0.0/16" ], "service_hijack_subnet": [ "10.96.0.0/12" ] }`,
		`{ "type": "router", "overlay_interface": "eth0", "overlay_hijack_subnet": [ "10.244.0.0/16" ], "service_hijack_subnet": [ "10.96.0.0/12" ] }`},
}

// Whoever has made a mistake reads in the pod's events what is wrong, and the pod
// starts when it is corrected.
func TestMistakes(t *testing.T) {
	const golden = "testdata/mistakes.golden"
	leavesNothing(t, func(t *testing.T) {
		var pods, wrong, right []object
		for i, m := range mistakes {
			pods = append(pods, pod(m.name, m.name))
			wrong = append(wrong, network(m.name, lan(i), m.wrong))
			right = append(right, network(m.name, lan(i), m.right))
		}
		apply(t, wrong...)
		apply(t, pods...)
		var told strings.Builder
		for _, m := range mistakes {
			message, err := eventOf(m.name, "failed (add)")
			ok(t, err)
			// Before it, kubelet, containerd and Multus name themselves.
			_, said, _ := strings.Cut(message, plugin(m.wrong)+": ")
			fmt.Fprintf(&told, "%s\n%s: %s\n\n", m.wrong, plugin(m.wrong), strings.TrimSpace(said))
		}
		if *update {
			ok(t, os.WriteFile(golden, []byte(told.String()), 0o600))
		}
		want, err := os.ReadFile(golden)
		ok(t, err)
		if told.String() != string(want) {
			t.Errorf("the events tell\n%s\nand should tell\n%s", told.String(), want)
		}
		apply(t, right...)
		ready(t, pods...)
		shown(t, way{"all", "", "", "wrong configurations: the pod's events tell what is wrong, and it starts when that is corrected"})
	})
}

// plugin is the one that a configuration is for.
func plugin(config string) string { return strings.Split(config, `"`)[3] }
