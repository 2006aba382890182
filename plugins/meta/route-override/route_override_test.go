package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// mains are the routes of table main, of both families, but for those that the
// kernel made.
func mains(pod *netopstest.NS) string {
	var lines []string
	for _, l := range strings.Split(pod.IP("-4 route show")+pod.IP("-6 route show"), "\n") {
		if l = strings.TrimSpace(l); l != "" && !strings.Contains(l, "proto kernel") {
			lines = append(lines, strings.ReplaceAll(strings.ReplaceAll(l, " pref medium", ""), "  ", " "))
		}
	}
	return strings.Join(lines, "\n")
}

func listed(t testing.TB, a plugintest.Answer) string {
	t.Helper()
	var result struct{ Routes []json.RawMessage }
	if err := json.Unmarshal([]byte(a.Stdout), &result); err != nil {
		t.Fatal(err)
	}
	lines := make([]string, len(result.Routes))
	for i, r := range result.Routes {
		lines[i] = strings.ReplaceAll(string(r), `": "`, `":"`)
		lines[i] = strings.ReplaceAll(lines[i], `, "`, `,"`)
		lines[i] = strings.ReplaceAll(lines[i], `": `, `":`)
	}
	return strings.Join(lines, "\n")
}

func lines(s string) string {
	var out []string
	for _, l := range strings.Split(strings.TrimSpace(s), "\n") {
		out = append(out, strings.TrimSpace(l))
	}
	return strings.Join(out, "\n")
}

// What each key does to the kernel and to the result; after each, CHECK is
// content, and DEL leaves what was there before.
func TestKeys(t *testing.T) {
	const untouched = `
		default via 10.244.1.1 dev eth0
		default via 10.1.0.1 dev net1 metric 50
		10.7.0.0/16 dev net1 scope link
		169.254.7.0/24 via 10.1.0.1 dev net1
		192.168.0.0/24 via 10.1.0.1 dev net1
		fd20::/64 via fd01::1 dev net1 metric 1024
		default via fd01::1 dev net1 metric 50
		default via fd00:244::1 dev eth0 metric 1024`
	for _, tt := range []struct{ name, keys, kernel, result string }{
		{"nothing", ``, untouched, `
			{"dst":"0.0.0.0/0"}
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}`},
		{"flushroutes", `"flushroutes": true`, `
			default via 10.244.1.1 dev eth0
			10.7.0.0/16 dev net1 scope link
			169.254.7.0/24 via 10.1.0.1 dev net1
			default via fd00:244::1 dev eth0 metric 1024`, ``},
		{"flushgateway", `"flushgateway": true`, `
			default via 10.244.1.1 dev eth0
			10.7.0.0/16 dev net1 scope link
			169.254.7.0/24 via 10.1.0.1 dev net1
			192.168.0.0/24 via 10.1.0.1 dev net1
			fd20::/64 via fd01::1 dev net1 metric 1024
			default via fd00:244::1 dev eth0 metric 1024`, `
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}`},
		{"delroutes in kernel and result", `"delroutes": [{"dst": "192.168.0.0/24"}, {"dst": "fd20::/64", "gw": "fd01::1"}, {"dst": "10.99.0.0/16"}]`, `
			default via 10.244.1.1 dev eth0
			default via 10.1.0.1 dev net1 metric 50
			10.7.0.0/16 dev net1 scope link
			169.254.7.0/24 via 10.1.0.1 dev net1
			default via fd01::1 dev net1 metric 50
			default via fd00:244::1 dev eth0 metric 1024`, `
			{"dst":"0.0.0.0/0"}`},
		{"delroutes by other fields", `"delroutes": [{"dst": "192.168.0.0/24", "gw": "10.1.0.2"}, {"dst": "192.168.0.0/24", "metric": 7},
			{"dst": "fd20::/64", "mtu": 1300}, {"dst": "0.0.0.0/0", "priority": 51}, {"dst": "10.7.0.0/16", "scope": 0}, {"dst": "10.8.0.0/16"}]`, untouched, `
			{"dst":"0.0.0.0/0"}
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}`},
		{"delroutes: all metrics, this attachment", `"delroutes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "metric": 50}]`, `
			default via 10.244.1.1 dev eth0
			10.7.0.0/16 dev net1 scope link
			169.254.7.0/24 via 10.1.0.1 dev net1
			192.168.0.0/24 via 10.1.0.1 dev net1
			fd20::/64 via fd01::1 dev net1 metric 1024
			default via fd00:244::1 dev eth0 metric 1024`, `
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}`},
		{"addroutes", `"addroutes": [{"dst": "172.16.5.5", "gw": "10.1.254.254"}, {"dst": "172.17.1.2/16", "mtu": 1400, "advmss": 1300, "priority": 5, "src": "10.1.0.5"},
			{"dst": "172.18.0.0/16", "scope": 253}, {"dst": "172.19.0.0/16", "gw": "10.99.0.1", "onlink": true}, {"dst": "172.20.0.0/16", "type": "blackhole"},
			{"dst": "172.21.0.0/16", "gws": ["10.1.0.1", {"gw": "10.1.0.2", "weight": 3}]}, {"dst": "172.22.0.0/16", "dev": "eth0"},
			{"dst": "fd30::1"}, {"dst": "fd31::/64", "gw": "fe80::1"}, {"dst": "172.23.0.0/16", "gw": "10.244.1.1"}]`, `
			default via 10.244.1.1 dev eth0
			default via 10.1.0.1 dev net1 metric 50
			10.7.0.0/16 dev net1 scope link
			169.254.7.0/24 via 10.1.0.1 dev net1
			172.16.5.5 via 10.1.254.254 dev net1 proto 77
			172.17.0.0/16 via 10.1.0.1 dev net1 proto 77 src 10.1.0.5 metric 5 mtu 1400 advmss 1300
			172.18.0.0/16 dev net1 proto 77 scope link
			172.19.0.0/16 via 10.99.0.1 dev net1 proto 77 onlink
			blackhole 172.20.0.0/16 proto 77
			172.21.0.0/16 proto 77
			nexthop via 10.1.0.1 dev net1 weight 1
			nexthop via 10.1.0.2 dev net1 weight 3
			172.22.0.0/16 via 10.244.1.1 dev eth0 proto 77
			172.23.0.0/16 via 10.244.1.1 dev eth0 proto 77
			192.168.0.0/24 via 10.1.0.1 dev net1
			fd20::/64 via fd01::1 dev net1 metric 1024
			fd30::1 via fd01::1 dev net1 proto 77 metric 1024
			fd31::/64 via fe80::1 dev net1 proto 77 metric 1024
			default via fd01::1 dev net1 metric 50
			default via fd00:244::1 dev eth0 metric 1024`, `
			{"dst":"0.0.0.0/0"}
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}
			{"dst":"172.16.5.5/32","gw":"10.1.254.254"}
			{"dst":"172.17.0.0/16","gw":"10.1.0.1","mtu":1400,"advmss":1300,"priority":5}
			{"dst":"172.18.0.0/16","scope":253}
			{"dst":"172.19.0.0/16","gw":"10.99.0.1"}
			{"dst":"172.21.0.0/16","gws":["10.1.0.1","10.1.0.2"]}
			{"dst":"172.22.0.0/16","gw":"10.244.1.1"}
			{"dst":"fd30::1/128","gw":"fd01::1"}
			{"dst":"fd31::/64","gw":"fe80::1"}
			{"dst":"172.23.0.0/16","gw":"10.244.1.1"}`},
		{"by no gateway", `"delroutes": [{"dst": "10.7.0.0/16", "gw": "0.0.0.0"}, {"dst": "192.168.0.0/24", "gw": "0.0.0.0"}, {"dst": "fd20::/64", "gw": "::"}],
			"addroutes": [{"dst": "172.16.5.5/32", "gw": "0.0.0.0"}, {"dst": "fd30::/64", "gw": "::"}, {"dst": "172.17.0.0/16", "gw": ""}, {"dst": "172.18.0.0/16", "gw": null}]`, `
			default via 10.244.1.1 dev eth0
			default via 10.1.0.1 dev net1 metric 50
			169.254.7.0/24 via 10.1.0.1 dev net1
			172.16.5.5 dev net1 proto 77 scope link
			172.17.0.0/16 via 10.1.0.1 dev net1 proto 77
			172.18.0.0/16 via 10.1.0.1 dev net1 proto 77
			192.168.0.0/24 via 10.1.0.1 dev net1
			fd20::/64 via fd01::1 dev net1 metric 1024
			fd30::/64 dev net1 proto 77 metric 1024
			default via fd01::1 dev net1 metric 50
			default via fd00:244::1 dev eth0 metric 1024`, `
			{"dst":"0.0.0.0/0"}
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}
			{"dst":"172.16.5.5/32","scope":253}
			{"dst":"fd30::/64","scope":253}
			{"dst":"172.17.0.0/16","gw":"10.1.0.1"}
			{"dst":"172.18.0.0/16","gw":"10.1.0.1"}`},
		{"gw beside gws is one more next hop, once", `"addroutes": [{"dst": "172.16.0.0/16", "gws": ["10.1.0.1"], "gw": "10.1.0.2"}, {"dst": "172.17.0.0/16", "gws": ["10.1.0.1"], "gw": "10.1.0.1"},
			{"dst": "fd30::/64", "gw": "fd01::2", "gws": ["fd01::3", "fd01::2"]}]`, untouched + `
			172.16.0.0/16 proto 77
			nexthop via 10.1.0.1 dev net1 weight 1
			nexthop via 10.1.0.2 dev net1 weight 1
			172.17.0.0/16 via 10.1.0.1 dev net1 proto 77
			fd30::/64 proto 77 metric 1024
			nexthop via fd01::3 dev net1 weight 1
			nexthop via fd01::2 dev net1 weight 1`, `
			{"dst":"0.0.0.0/0"}
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}
			{"dst":"172.16.0.0/16","gws":["10.1.0.1","10.1.0.2"]}
			{"dst":"172.17.0.0/16","gw":"10.1.0.1"}
			{"dst":"fd30::/64","gws":["fd01::3","fd01::2"]}`},
		{"same prefix, other table or metric", `"addroutes": [{"dst": "172.16.0.0/16", "metric": 1}, {"dst": "172.16.0.0/16", "metric": 2}, {"dst": "172.16.0.0/16", "table": 100}, {"dst": "172.16.0.0/16", "metric": 1}]`, untouched + `
			172.16.0.0/16 via 10.1.0.1 dev net1 proto 77 metric 1
			172.16.0.0/16 via 10.1.0.1 dev net1 proto 77 metric 2`, `
			{"dst":"0.0.0.0/0"}
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}
			{"dst":"172.16.0.0/16","gw":"10.1.0.1","priority":1}
			{"dst":"172.16.0.0/16","gw":"10.1.0.1","priority":2}
			{"dst":"172.16.0.0/16","gw":"10.1.0.1","table":100}`},
		{"there already", `"addroutes": [{"dst": "192.168.0.0/24", "gw": "10.1.0.1"}, {"dst": "0.0.0.0/0", "metric": 50}]`, untouched, `
			{"dst":"0.0.0.0/0"}
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}
			{"dst":"0.0.0.0/0","gw":"10.1.0.1","priority":50}`},
		{"replaced", `"flushroutes": true, "delroutes": [{"dst": "10.7.0.0/16"}], "addroutes": [{"dst": "10.7.0.0/16", "gw": "10.1.0.9"}, {"dst": "192.168.0.0/24"}]`, `
			default via 10.244.1.1 dev eth0
			10.7.0.0/16 via 10.1.0.9 dev net1 proto 77
			169.254.7.0/24 via 10.1.0.1 dev net1
			192.168.0.0/24 via 10.1.0.1 dev net1
			default via fd00:244::1 dev eth0 metric 1024`, `
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"10.7.0.0/16","gw":"10.1.0.9"}`},
		{"flushgateway, then by the gateway that was", `"flushgateway": true, "addroutes": [{"dst": "172.16.0.0/16"}, {"dst": "fd30::/64"}]`, `
			default via 10.244.1.1 dev eth0
			10.7.0.0/16 dev net1 scope link
			169.254.7.0/24 via 10.1.0.1 dev net1
			172.16.0.0/16 via 10.1.0.1 dev net1 proto 77
			192.168.0.0/24 via 10.1.0.1 dev net1
			fd20::/64 via fd01::1 dev net1 metric 1024
			fd30::/64 via fd01::1 dev net1 proto 77 metric 1024
			default via fd00:244::1 dev eth0 metric 1024`, `
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}
			{"dst":"172.16.0.0/16","gw":"10.1.0.1"}
			{"dst":"fd30::/64","gw":"fd01::1"}`},
		{"in another table", `"delroutes": [{"dst": "10.8.0.0/16", "table": 100}], "addroutes": [{"dst": "10.8.0.0/16", "table": 100, "gw": "10.1.0.3"}]`, untouched, `
			{"dst":"0.0.0.0/0"}
			{"dst":"192.168.0.0/24","gw":"10.1.0.1"}
			{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}
			{"dst":"10.8.0.0/16","gw":"10.1.0.3","table":100}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := newPod(t)
			before := pod.Dump()
			c := call(t, pod, tt.keys)
			added := c.OK("ADD")
			if added.Stderr != "" {
				t.Errorf("stderr: %s", added.Stderr)
			}
			want := strings.Split(lines(tt.kernel), "\n")
			got := strings.Split(mains(pod), "\n")
			if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
				t.Errorf("table main (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(lines(tt.result), listed(t, added)); diff != "" {
				t.Errorf("routes of the result (-want +got):\n%s", diff)
			}
			c.After(added).OK("CHECK")
			c.After(added).OK("DEL")
			restored(t, pod, before)
			nothingLeft(t)
		})
	}
}

// The rest of the result goes out as it came in.
func TestResult(t *testing.T) {
	pod := newPod(t)
	var before, after map[string]any
	decode := func(s string, into *map[string]any) {
		if err := json.Unmarshal([]byte(s), into); err != nil {
			t.Fatal(err)
		}
		delete(*into, "routes")
	}
	decode(prevResult, &before)
	decode(call(t, pod, `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16"}]`).OK("ADD").Stdout, &after)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("(-prevResult +result):\n%s", diff)
	}
	decode(call(t, pod, `"flushgateway": true`).OK("ADD").Stdout, &after)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("flushgateway (-prevResult +result):\n%s", diff)
	}
}

// A gateway of ips is a fact of the subnet: it stays, and what relies on it stays
// as it came.
func TestFlushGatewayLeavesTheResultTrue(t *testing.T) {
	pod := newPod(t)
	c := call(t, pod, `"flushgateway": true`).Edit(func(conf map[string]any) {
		conf["prevResult"].(map[string]any)["routes"] = []any{map[string]any{"dst": "0.0.0.0/0"}, map[string]any{"dst": "192.168.0.0/24"}, map[string]any{"dst": "10.7.0.0/16", "scope": 253}}
	})
	added := c.OK("ADD")
	if got, want := listed(t, added), `{"dst":"192.168.0.0/24"}`+"\n"+`{"dst":"10.7.0.0/16","scope":253}`; got != want {
		t.Errorf("routes\n%s\nwant\n%s", got, want)
	}
	var result struct{ IPs []struct{ Gateway string } }
	if err := json.Unmarshal([]byte(added.Stdout), &result); err != nil || len(result.IPs) != 2 || result.IPs[0].Gateway != "10.1.0.1" || result.IPs[1].Gateway != "fd01::1" {
		t.Errorf("ips %+v, %v", result.IPs, err)
	}
}

func TestEveryVersion(t *testing.T) {
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		pod := newPod(t)
		before := pod.Dump()
		c := call(t, pod, `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16", "mtu": 1400, "priority": 5}]`).Edit(func(conf map[string]any) {
			conf["cniVersion"] = version
			conf["prevResult"].(map[string]any)["cniVersion"] = version
		})
		added := c.OK("ADD")
		var result struct{ CNIVersion string }
		if err := json.Unmarshal([]byte(added.Stdout), &result); err != nil || result.CNIVersion != version {
			t.Errorf("result of version %q for %s: %v", result.CNIVersion, version, err)
		}
		if got, want := listed(t, added), `{"dst":"172.16.0.0/16","gw":"10.1.0.1","mtu":1400,"priority":5}`; got != want {
			t.Errorf("%s: routes %s, want %s", version, got, want)
		}
		if version >= "0.4.0" {
			c.After(added).OK("CHECK")
		} else {
			c.After(added).Refused("CHECK", 1)
		}
		if version >= "1.1.0" {
			c.With(map[string]string{"CNI_CONTAINERID": "", "CNI_IFNAME": "", "CNI_NETNS": ""}).OK("STATUS")
		} else {
			c.Refused("STATUS", 1)
			c.Refused("GC", 1)
		}
		c.After(added).OK("DEL")
		if diff := cmp.Diff(before, pod.Dump()); diff != "" {
			t.Errorf("%s: after DEL not as before (-want +got):\n%s", version, diff)
		}
		pod.Remove()
	}
	pod := newPod(t)
	for _, version := range []string{"0.1.0", "0.2.0", "2.0.0"} {
		call(t, pod, "").Edit(func(conf map[string]any) { conf["cniVersion"] = version }).Refused("ADD", 1)
	}
}

// A failing ADD leaves the namespace byte for byte as it was, and no record.
func TestFailingAdd(t *testing.T) {
	for _, tt := range []struct {
		name, keys string
		code       uint
		says       []string
	}{
		{"unreachable gateway", `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16", "gw": "10.9.9.9"}]`, 100,
			[]string{"route-override: ip route add 172.17.0.0/16 via 10.9.9.9 dev net1: network is unreachable: neither a subnet nor a route of the pod", "\"dev\"", "\"onlink\": true"}},
		{"unreachable by the interface that is named", `"flushroutes": true, "addroutes": [{"dst": "172.17.0.0/16", "gw": "10.9.9.9", "dev": "eth0"}]`, 100,
			[]string{"route-override: ip route add 172.17.0.0/16 via 10.9.9.9 dev eth0: network is unreachable (Nexthop has invalid gateway)"}},
		{"owned by somebody else", `"addroutes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]`, 101,
			[]string{"ip route add default via 10.1.0.1 dev net1", "default via 10.244.1.1 dev eth0", `delroutes with "dev": "eth0"`}},
		{"there, but not as asked", `"addroutes": [{"dst": "192.168.0.0/24", "mtu": 1400}]`, 101, []string{"192.168.0.0/24 via 10.1.0.1 dev net1"}},
		{"IPv6, owned", `"addroutes": [{"dst": "fd20::/64", "gw": "fd01::2"}]`, 101, []string{"fd20::/64 via fd01::1 dev net1"}},
		{"an interface that is not there", `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16", "dev": "net9"}]`, 11, []string{`addroutes[0].dev: no such interface: "net9"`}},
		{"delroutes of no such interface", `"flushroutes": true, "delroutes": [{"dst": "172.16.0.0/16", "dev": "net9"}]`, 11, []string{`delroutes[0].dev: no such interface: "net9"`}},
		{"two ways", `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16", "gw": "10.1.0.1"}, {"dst": "172.16.0.0/16", "gw": "10.1.0.2"}]`, 7,
			[]string{`addroutes[1]: "172.16.0.0/16 via 10.1.0.1 dev net1" and "172.16.0.0/16 via 10.1.0.2 dev net1"`}},
		{"src that is not ours", `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16", "src": "10.1.0.77"}]`, 100, []string{"src 10.1.0.77: invalid argument"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := newPod(t)
			before := pod.Dump()
			call(t, pod, tt.keys).Refused("ADD", tt.code, tt.says...)
			restored(t, pod, before)
			nothingLeft(t)
		})
	}
}

// A pod as Calico makes it has an address without a subnet, and a link route to its
// gateway: that is how another attachment reaches it, and by eth0's default route it
// is known without a name.
func TestAnotherAttachmentsGateway(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	t.Cleanup(func() { _ = os.RemoveAll(stateDir) })
	pod.Veth("eth0", "10.42.7.5/32", "fd42::5/128")
	pod.Veth("net1", "10.1.0.5/16", "fd01::5/64")
	pod.Batch("route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1 dev eth0", "route add fd42::1 dev eth0", "route add default via fd42::1 dev eth0")
	before := pod.Dump()
	c := call(t, pod, `"delroutes": [{"dst": "0.0.0.0/0", "dev": "eth0"}, {"dst": "::/0", "dev": "eth0"}], "addroutes": [
		{"dst": "10.43.0.0/16", "gw": "169.254.1.1"}, {"dst": "fd43::/64", "gw": "fd42::1"},
		{"dst": "10.44.0.0/16", "dev": "eth0"}, {"dst": "fd44::/64", "dev": "eth0"},
		{"dst": "10.45.0.0/16", "dev": "eth0", "gw": "0.0.0.0"}, {"dst": "0.0.0.0/0"}]`)
	added := c.OK("ADD")
	want := lines(`default via 10.1.0.1 dev net1 proto 77
		10.43.0.0/16 via 169.254.1.1 dev eth0 proto 77
		10.44.0.0/16 via 169.254.1.1 dev eth0 proto 77
		10.45.0.0/16 dev eth0 proto 77 scope link
		169.254.1.1 dev eth0 scope link
		fd42::1 dev eth0 metric 1024
		fd43::/64 via fd42::1 dev eth0 proto 77 metric 1024
		fd44::/64 via fd42::1 dev eth0 proto 77 metric 1024`)
	if diff := cmp.Diff(want, mains(pod)); diff != "" {
		t.Errorf("table main (-want +got):\n%s", diff)
	}
	c.After(added).OK("CHECK")
	c.OK("ADD") // again, with what it removed gone
	c.After(added).OK("DEL")
	restored(t, pod, before)
	nothingLeft(t)

	added = c.OK("ADD")
	if err := os.RemoveAll(stateDir); err != nil { // nor is there a record of an attachment of before the upgrade
		t.Fatal(err)
	}
	c.After(added).OK("CHECK")
	pod.IP("route change 10.44.0.0/16 via 169.254.1.1 dev net1 onlink")
	c.After(added).Refused("CHECK", 106, "10.44.0.0/16 via 169.254.1.1 dev eth0: found 10.44.0.0/16 via 169.254.1.1 dev net1 onlink instead")
}

func TestIgnoreErrors(t *testing.T) {
	pod := newPod(t)
	before := pod.Dump()
	c := call(t, pod, `"ignoreErrors": true, "delroutes": [{"dst": "192.168.0.0/24"}], "addroutes": [{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16", "gw": "10.9.9.9"},
		{"dst": "0.0.0.0/0"}, {"dst": "172.18.0.0/16"}]`)
	added := c.OK("ADD")
	for _, says := range []string{"172.17.0.0/16 via 10.9.9.9 dev net1: network is unreachable", "default via 10.1.0.1 dev net1: there is", "level=WARN"} {
		if !strings.Contains(added.Stderr, says) {
			t.Errorf("stderr does not say %q:\n%s", says, added.Stderr)
		}
	}
	want := lines(`{"dst":"0.0.0.0/0"}
		{"dst":"fd20::/64","gw":"fd01::1","mtu":1400}
		{"dst":"172.16.0.0/16","gw":"10.1.0.1"}
		{"dst":"172.18.0.0/16","gw":"10.1.0.1"}`)
	if diff := cmp.Diff(want, listed(t, added)); diff != "" {
		t.Errorf("routes of the result (-want +got):\n%s", diff)
	}
	c.After(added).OK("CHECK")
	c.After(added).OK("DEL")
	restored(t, pod, before)
}

// gc is the call of a runtime that names these attachments as valid.
func gc(c plugintest.Call, valid ...plugintest.Call) plugintest.Call {
	list := []any{}
	for _, v := range valid {
		list = append(list, map[string]any{"containerID": v.Env["CNI_CONTAINERID"], "ifname": v.Env["CNI_IFNAME"]})
	}
	return gcWith(c, list)
}

func gcWith(c plugintest.Call, list any) plugintest.Call {
	return c.With(map[string]string{"CNI_CONTAINERID": "", "CNI_IFNAME": "", "CNI_NETNS": ""}).Edit(func(conf map[string]any) {
		delete(conf, "prevResult")
		if list != "absent" {
			conf["cni.dev/valid-attachments"] = list
		}
	})
}

func TestDel(t *testing.T) {
	const keys = `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16"}]`
	without := func(key string) func(plugintest.Call) plugintest.Call {
		return func(c plugintest.Call) plugintest.Call {
			return c.Edit(func(conf map[string]any) { delete(conf, key) })
		}
	}
	for _, tt := range []struct {
		name string
		how  func(plugintest.Call) plugintest.Call
	}{
		{"with prevResult", func(c plugintest.Call) plugintest.Call { return c }},
		{"without prevResult", without("prevResult")},
		{"without CNI_NETNS", func(c plugintest.Call) plugintest.Call { return c.With(map[string]string{"CNI_NETNS": ""}) }},
		{"by another path", func(c plugintest.Call) plugintest.Call {
			return c.With(map[string]string{"CNI_NETNS": "/proc/self/root" + c.Env["CNI_NETNS"]})
		}},
		{"of what ADD refuses", func(c plugintest.Call) plugintest.Call {
			return c.Edit(func(conf map[string]any) {
				conf["addroutes"], conf["flushroute"], conf["prevResult"] = "nonsense", 7, []any{nil}
				conf["log_options"] = map[string]any{"log_level": "loud", "x": 1}
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := newPod(t)
			before := pod.Dump()
			c := call(t, pod, keys)
			tt.how(c).OK("DEL") // without any ADD
			c.OK("ADD")
			if pod.Dump() == before {
				t.Fatal("ADD did nothing")
			}
			for range 3 {
				if a := tt.how(c).OK("DEL"); a.Stdout != "" {
					t.Errorf("DEL prints %q", a.Stdout)
				}
				restored(t, pod, before)
			}
			nothingLeft(t)
		})
	}
}

func TestDelOfAPodThatIsGone(t *testing.T) {
	file := t.TempDir() + "/netns"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "/run/netns/pod", file, "/run"} {
		pod := newPod(t)
		c := call(t, pod, `"flushroutes": true`)
		c.OK("ADD")
		pod.Remove()
		for range 2 {
			c.With(map[string]string{"CNI_NETNS": path}).OK("DEL")
		}
		if left := plugintest.Left(t, stateDir); left != nil {
			t.Errorf("CNI_NETNS %q: left %v", path, left)
		}
	}
}

// A new pod at the same path is not the recorded one.
func TestDelLeavesAnotherPodAtTheSamePath(t *testing.T) {
	pod := newPod(t)
	c := call(t, pod, `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16"}]`)
	c.OK("ADD")
	pod.Remove()
	another := newPod(t)
	another.IP("route add 172.16.0.0/16 via 10.1.0.1 proto 77")
	before := another.Dump()
	c.OK("DEL")
	if diff := cmp.Diff(before, another.Dump()); diff != "" {
		t.Errorf("another pod was changed (-want +got):\n%s", diff)
	}
	nothingLeft(t)
}

// What the kernel refuses for good is a warning; what may pass keeps the
// record.
func TestDelRefused(t *testing.T) {
	pod := newPod(t)
	c := call(t, pod, `"delroutes": [{"dst": "192.168.0.0/24"}]`)
	before := pod.Dump()
	c.OK("ADD")
	c.Failing(plugintest.Fault{At: "before", Deny: unix.EBUSY}).Refused("DEL", 11, "192.168.0.0/24", "busy")
	c.OK("DEL")
	restored(t, pod, before)
	c.OK("ADD")
	pod.IP("route add 192.168.0.0/24 via 10.1.0.77")
	if a := c.OK("DEL"); !strings.Contains(a.Stderr, "192.168.0.0/24 via 10.1.0.1 dev net1") || !strings.Contains(a.Stderr, "level=WARN") {
		t.Errorf("no warning: %s", a.Stderr)
	}
	pod.IP("route del 192.168.0.0/24", "route add 192.168.0.0/24 via 10.1.0.1")
	c.OK("ADD")
	pod.IP("link set net1 down")
	if a := c.OK("DEL"); !strings.Contains(a.Stderr, "level=WARN") {
		t.Errorf("no warning: %s", a.Stderr)
	}
	nothingLeft(t)
}

// Two entries in one chain, the second overriding the first.
func TestTwoEntriesInOneChain(t *testing.T) {
	pod := newPod(t)
	before := pod.Dump()
	first := call(t, pod, `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16"}]`)
	added := first.OK("ADD")
	second := first.Edit(func(conf map[string]any) {
		delete(conf, "flushroutes")
		conf["delroutes"] = []any{map[string]any{"dst": "172.16.0.0/16"}}
		conf["addroutes"] = []any{map[string]any{"dst": "172.16.0.0/16", "gw": "10.1.0.9"}, map[string]any{"dst": "192.168.0.0/24", "gw": "10.1.0.1"}}
	}).After(added)
	added = second.OK("ADD")
	first.After(added).OK("CHECK")
	second.After(added).OK("CHECK")

	pod.IP("route del 172.17.0.0/16") // the first's, seen by both
	first.After(added).Refused("CHECK", 106, "172.17.0.0/16 via 10.1.0.1 dev net1: missing")
	second.After(added).Refused("CHECK", 106, "172.17.0.0/16")

	second.After(added).OK("DEL")
	if diff := cmp.Diff(before, pod.Dump()); diff != "" {
		t.Errorf("after the first DEL not as before (-want +got):\n%s", diff)
	}
	first.After(added).OK("DEL")
	restored(t, pod, before)
	nothingLeft(t)
}

func TestSkipCheck(t *testing.T) {
	pod := newPod(t)
	first := call(t, pod, `"addroutes": [{"dst": "172.16.0.0/16"}]`)
	added := first.OK("ADD")
	second := first.Edit(func(conf map[string]any) {
		conf["skipcheck"] = true
		conf["delroutes"] = []any{map[string]any{"dst": "172.16.0.0/16"}}
		conf["addroutes"] = []any{map[string]any{"dst": "172.17.0.0/16", "gw": "10.1.0.9"}}
	}).After(added)
	added = second.OK("ADD")
	pod.IP("route del 172.17.0.0/16", "route add 172.16.0.0/16 via 10.1.0.4")
	second.After(added).OK("CHECK")
	first.After(added).OK("CHECK")
	second.With(map[string]string{"CNI_NETNS": "/nowhere"}).After(added).OK("CHECK") // without looking
}

func TestGC(t *testing.T) {
	const keys = `"delroutes": [{"dst": "192.168.0.0/24"}]`
	setup := func(t *testing.T) (pod *netopstest.NS, before string, kept, other plugintest.Call) {
		pod = newPod(t)
		before = pod.Dump()
		kept = call(t, pod, `"addroutes": [{"dst": "172.16.0.0/16"}]`)
		other = call(t, pod, keys).With(map[string]string{"CNI_CONTAINERID": "a-b_c.d"})
		kept.OK("ADD")
		other.OK("ADD")
		return pod, before, kept, other
	}
	t.Run("valid", func(t *testing.T) {
		pod, _, kept, other := setup(t)
		gc(kept, kept, other).OK("GC")
		if got := mains(pod); !strings.Contains(got, "172.16.0.0/16") || strings.Contains(got, "192.168.0.0/24") {
			t.Errorf("routes\n%s", got)
		}
		gc(kept, kept).OK("GC")
		if got := mains(pod); !strings.Contains(got, "172.16.0.0/16") || !strings.Contains(got, "192.168.0.0/24") {
			t.Errorf("routes\n%s", got)
		}
	})
	t.Run("empty", func(t *testing.T) {
		pod, before, kept, _ := setup(t)
		gc(kept).OK("GC")
		restored(t, pod, before)
		nothingLeft(t)
	})
	for _, list := range []any{"absent", nil} {
		t.Run(fmt.Sprint(list), func(t *testing.T) {
			pod, _, kept, _ := setup(t)
			during := pod.Dump()
			gcWith(kept, list).OK("GC")
			if diff := cmp.Diff(during, pod.Dump()); diff != "" {
				t.Errorf("a pod that lives was changed (-want +got):\n%s", diff)
			}
			pod.Remove()
			gcWith(kept, list).OK("GC")
			nothingLeft(t)
		})
	}
	t.Run("another network's", func(t *testing.T) {
		pod, _, kept, _ := setup(t)
		during := pod.Dump()
		gc(kept).Edit(func(conf map[string]any) { conf["name"] = "net2" }).OK("GC")
		if diff := cmp.Diff(during, pod.Dump()); diff != "" {
			t.Errorf("another network was changed (-want +got):\n%s", diff)
		}
		gc(kept).OK("GC")
	})
	t.Run("by the older key", func(t *testing.T) {
		pod, before, kept, _ := setup(t)
		gcWith(kept, "absent").Edit(func(conf map[string]any) { conf["cni.dev/attachments"] = []any{} }).OK("GC")
		restored(t, pod, before)
	})
	t.Run("goes on after a failure", func(t *testing.T) {
		pod, before, kept, _ := setup(t)
		gc(kept).Failing(plugintest.Fault{At: "before", Deny: unix.EAGAIN}).Refused("GC", 11, "net1 of container")
		if n := len(plugintest.Left(t, stateDir)); n != 4 { // a record, its link, the lock, an entry of the index
			t.Errorf("left: %v", plugintest.Left(t, stateDir))
		}
		gc(kept).OK("GC")
		restored(t, pod, before)
	})
}

func TestCheckFindsDrift(t *testing.T) {
	const keys = `"delroutes": [{"dst": "192.168.0.0/24"}, {"dst": "0.0.0.0/0"}], "addroutes": [{"dst": "172.16.0.0/16", "mtu": 1400, "advmss": 1300, "metric": 5, "src": "10.1.0.5", "dev": "net1"},
		{"dst": "172.17.0.0/16", "gws": ["10.1.0.1", "10.1.0.2"]}, {"dst": "172.18.0.0/16", "gw": "10.99.0.1", "onlink": true}, {"dst": "172.19.0.0/16", "type": "prohibit"},
		{"dst": "172.20.0.0/16", "table": 100}, {"dst": "172.21.0.0/16", "scope": 253}, {"dst": "fd30::/64"},
		{"dst": "172.22.0.0/16"}, {"dst": "172.23.0.0/16", "gw": "10.1.0.9"}]`
	for _, tt := range []struct {
		name, change string
		says         string // nothing: not drift
	}{
		{"nothing", "", ""},
		{"gone", "route del 172.16.0.0/16", "ip route add 172.16.0.0/16 via 10.1.0.1 dev net1 src 10.1.0.5 metric 5 mtu 1400 advmss 1300: missing"},
		{"mtu", "route change 172.16.0.0/16 via 10.1.0.1 src 10.1.0.5 metric 5 mtu 1300 advmss 1300", "mtu 1400 advmss 1300: found 172.16.0.0/16 via 10.1.0.1 dev net1 src 10.1.0.5 metric 5 mtu 1300"},
		{"advmss", "route change 172.16.0.0/16 via 10.1.0.1 src 10.1.0.5 metric 5 mtu 1400", "found 172.16.0.0/16"},
		{"src", "route change 172.16.0.0/16 via 10.1.0.1 metric 5 mtu 1400 advmss 1300", "found 172.16.0.0/16"},
		{"gateway", "route change 172.16.0.0/16 via 10.1.0.9 src 10.1.0.5 metric 5 mtu 1400 advmss 1300", "found 172.16.0.0/16 via 10.1.0.9"},
		{"not asked for", "route change 172.16.0.0/16 via 10.1.0.1 src 10.1.0.5 metric 5 mtu 1400 advmss 1300 window 7000", ""},
		{"a way less", "route change 172.17.0.0/16 via 10.1.0.1", "found 172.17.0.0/16 via 10.1.0.1 dev net1"},
		{"type", "route change blackhole 172.19.0.0/16", "ip route add prohibit 172.19.0.0/16: found blackhole"},
		{"on-link", "route change 172.18.0.0/16 via 10.1.0.1", "found 172.18.0.0/16 via 10.1.0.1"},
		{"another table", "route del 172.20.0.0/16 table 100", "table 100: missing"},
		{"scope", "route change 172.21.0.0/16 dev net1 scope host", "found 172.21.0.0/16 dev net1 scope host"},
		{"IPv6", "-6 route del fd30::/64", "ip -6 route add fd30::/64 via fd01::1 dev net1: missing"},
		{"another interface", "route change 172.22.0.0/16 via 10.1.0.1 dev eth0 onlink", "ip route add 172.22.0.0/16 via 10.1.0.1 dev net1: found 172.22.0.0/16 via 10.1.0.1 dev eth0 onlink"},
		{"another interface, gw configured", "route change 172.23.0.0/16 via 10.1.0.9 dev eth0 onlink", "ip route add 172.23.0.0/16 via 10.1.0.9 dev net1: found 172.23.0.0/16 via 10.1.0.9 dev eth0 onlink"},
		{"another interface for one of several", "route change 172.17.0.0/16 nexthop via 10.1.0.1 nexthop via 10.1.0.2 dev eth0 onlink", "nexthop via 10.1.0.2 dev eth0"},
		{"IPv6 merged", "-6 route append fd30::/64 via fd00:244::1 dev eth0", ""},
		{"a removed one", "route add 192.168.0.0/24 via 10.1.0.1", "ip route del 192.168.0.0/24 via 10.1.0.1 dev net1: present, should be absent"},
		{"a removed one that the kernel learnt anew", "route add 192.168.0.0/24 via 10.1.0.1 proto redirect", ""},
		{"extra things", "route add 172.30.0.0/16 via 10.1.0.1", ""},
		{"another default route", "route append default via 10.244.1.2", ""},
		{"link down", "link set net1 down", "and "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := newPod(t)
			c := call(t, pod, keys)
			added := c.OK("ADD")
			if tt.change != "" {
				pod.IP(tt.change)
			}
			if tt.says == "" {
				c.After(added).OK("CHECK")
			} else {
				c.After(added).Refused("CHECK", 106, tt.says)
			}
			c.OK("DEL")
		})
	}
}

// CHECK gets the result of the whole chain: what a later plugin took out of it
// or put into it again is its business.
func TestCheckToleratesLaterPlugins(t *testing.T) {
	pod := newPod(t)
	c := call(t, pod, `"delroutes": [{"dst": "192.168.0.0/24"}], "addroutes": [{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16", "type": "blackhole"}]`)
	added := c.OK("ADD")
	later := added
	later.Stdout = strings.Replace(later.Stdout, `{"dst":"172.16.0.0/16","gw":"10.1.0.1"}`, `{"dst":"192.168.0.0/24","gw":"10.1.0.1"}`, 1)
	pod.IP("route del 172.16.0.0/16", "route add 192.168.0.0/24 via 10.1.0.1")
	c.After(later).OK("CHECK")
	c.After(added).Refused("CHECK", 106, "172.16.0.0/16", "192.168.0.0/24")
	// What a result cannot list is always judged.
	pod.IP("route del 172.17.0.0/16")
	c.After(later).Refused("CHECK", 106, "blackhole 172.17.0.0/16")
}

// An attachment of before the upgrade has no record.
func TestCheckWithoutRecord(t *testing.T) {
	pod := newPod(t)
	c := call(t, pod, `"flushroutes": true, "flushgateway": true, "addroutes": [{"dst": "172.16.0.0/16"}, {"dst": "172.17.0.0/16", "gw": "10.1.0.9"}]`)
	added := c.OK("ADD")
	if err := os.RemoveAll(stateDir); err != nil {
		t.Fatal(err)
	}
	c.After(added).OK("CHECK")
	pod.IP("route del 172.16.0.0/16")
	c.After(added).Refused("CHECK", 106, "172.16.0.0/16 via 10.1.0.1 dev net1: missing")
	pod.IP("route add 172.16.0.0/16 via 10.1.0.1", "route add 192.168.0.0/24 via 10.1.0.1")
	c.After(added).Refused("CHECK", 106, "ip route del 192.168.0.0/24 via 10.1.0.1 dev net1: present, should be absent")
}

// Where there was nothing to do, what comes later is none of our business.
func TestCheckWhereThereWasNothingToDo(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	t.Cleanup(func() { _ = os.RemoveAll(stateDir) })
	pod.Veth("net1", "10.1.0.5/16")
	c := call(t, pod, `"flushroutes": true`)
	added := c.OK("ADD")
	pod.IP("route add 10.99.0.0/16 via 10.1.0.1")
	c.After(added).OK("CHECK")
	c.OK("DEL")
	nothingLeft(t)
}

// After a reboot a cookie is another namespace's.
func TestRecordOfAnotherBoot(t *testing.T) {
	for _, progress := range []string{"planned", "finished"} {
		pod := newPod(t)
		c := call(t, pod, `"addroutes": [{"dst": "172.16.0.0/16"}]`)
		c.OK("ADD")
		before := pod.Dump()
		dir := stateDir + "/route-override/net/" + c.Env["CNI_CONTAINERID"] + ":net1/"
		data, err := os.ReadFile(dir + "1.finished")
		if err != nil {
			t.Fatal(err)
		}
		boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			t.Fatal(err)
		}
		data = bytes.ReplaceAll(data, bytes.TrimSpace(boot), []byte("00000000-0000-0000-0000-000000000000"))
		if err := os.Remove(dir + "1.finished"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"1."+progress, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c.OK("CHECK")
		added := c.OK("ADD")
		if diff := cmp.Diff(before, pod.Dump()); diff != "" {
			t.Errorf("%s: the new pod was changed (-want +got):\n%s", progress, diff)
		}
		c.After(added).OK("CHECK")
		c.OK("DEL")
		nothingLeft(t)
		pod.Remove()
	}
}

// A runtime that is gone gets no result, and keeps no change.
func TestResultThatCannotBeTold(t *testing.T) {
	pod := newPod(t)
	before := pod.Dump()
	c := call(t, pod, `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16"}]`)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = reader.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, stdout := range []*os.File{writer, full} {
		cmd := exec.Command(routeOverride.Name)
		cmd.Env = c.Environ("ADD")
		cmd.Stdin, cmd.Stdout = strings.NewReader(c.Conf), stdout
		_ = cmd.Run()
		_ = stdout.Close()
		if got := cmd.ProcessState.ExitCode(); got != 1 {
			t.Errorf("%s: exit %d", stdout.Name(), got)
		}
		restored(t, pod, before)
		nothingLeft(t)
	}
}

// The chain run again without a DEL: one DEL takes all of it back.
func TestChainRunAgain(t *testing.T) {
	pod := newPod(t)
	before := pod.Dump()
	c := call(t, pod, `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16"}]`)
	c.OK("ADD")
	added := c.OK("ADD")
	c.After(added).OK("CHECK")
	c.OK("DEL")
	restored(t, pod, before)
}

func TestPlanChangesNothing(t *testing.T) {
	pod := newPod(t)
	before := pod.Dump()
	c := call(t, pod, `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16"}]`)
	want := lines(`# pod /run/netns/pod
		ip route del default via 10.1.0.1 dev net1 metric 50
		ip route del 192.168.0.0/24 via 10.1.0.1 dev net1
		ip -6 route del default via fd01::1 dev net1 metric 50
		ip -6 route del fd20::/64 via fd01::1 dev net1
		ip route add 172.16.0.0/16 via 10.1.0.1 dev net1`) + "\n"
	got := c.OK("plan").Stdout
	if diff := cmp.Diff(sorted(strings.Split(want, "\n")), sorted(strings.Split(got, "\n"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	restored(t, pod, before)
	nothingLeft(t)
	// It is what it equals.
	for _, l := range strings.Split(strings.TrimSpace(got), "\n")[1:] {
		pod.IP(strings.TrimPrefix(l, "ip "))
	}
	if again := c.OK("plan").Stdout; again != "" {
		t.Errorf("after its own commands plan prints\n%s", again)
	}
	failing := c.Edit(func(conf map[string]any) { conf["addroutes"] = []any{map[string]any{"dst": "0.0.0.0/0"}} })
	a, b := failing.Do("plan"), failing.Refused("ADD", 101)
	if a.Stdout != b.Stdout {
		t.Errorf("plan: %s\nADD: %s", a.Stdout, b.Stdout)
	}
}

func TestMultipathLosesOnlyTheWaysOfThisAttachment(t *testing.T) {
	for _, keys := range []string{`"flushroutes": true`, `"delroutes": [{"dst": "172.16.0.0/16"}, {"dst": "fd40::/64"}]`} {
		pod := newPod(t)
		pod.Batch("route add 172.16.0.0/16 mtu 1400 nexthop via 10.244.1.1 weight 2 nexthop via 10.1.0.1",
			"route add fd40::/64 nexthop via fd00:244::1 nexthop via fd01::1")
		before := pod.Dump()
		c := call(t, pod, keys)
		added := c.OK("ADD")
		for _, want := range []string{"172.16.0.0/16 via 10.244.1.1 dev eth0", "fd40::/64 via fd00:244::1 dev eth0"} {
			if got := mains(pod); !strings.Contains(got, want) {
				t.Errorf("%s: no %s in\n%s", keys, want, got)
			}
		}
		c.After(added).OK("CHECK")
		c.After(added).OK("DEL")
		if diff := cmp.Diff(sortedLines(before), sortedLines(pod.Dump())); diff != "" {
			t.Errorf("%s: after DEL not as before (-want +got):\n%s", keys, diff)
		}
		pod.Remove()
	}
}

// CHECK finds a way that was cut off and has come back; and what is left of a
// route may be what addroutes asks for.
func TestCutMultipath(t *testing.T) {
	for _, keys := range []string{`"flushroutes": true`,
		`"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16", "gw": "10.244.1.1"}]`,
		`"flushroutes": true, "ignoreErrors": true, "addroutes": [{"dst": "172.16.0.0/16", "gw": "10.244.1.1"}]`} {
		pod := newPod(t)
		pod.Batch("route add 172.16.0.0/16 nexthop via 10.244.1.1 nexthop via 10.1.0.1")
		before := pod.Dump()
		c := call(t, pod, keys)
		added := c.OK("ADD")
		if added.Stderr != "" {
			t.Errorf("%s: %s", keys, added.Stderr)
		}
		c.After(added).OK("CHECK")
		pod.IP("route append 172.16.0.0/16 via 10.1.0.1")
		c.After(added).Refused("CHECK", 106, "ip route del 172.16.0.0/16 via 10.1.0.1 dev net1: present, should be absent")
		pod.IP("route del 172.16.0.0/16 via 10.1.0.1")
		c.OK("DEL")
		restored(t, pod, before)
		pod.Remove()
	}
}

// One of several next hops goes by its gateway, in the kernel and in the result,
// which lists a multipath route once.
func TestOneNextHopOfSeveral(t *testing.T) {
	for _, tt := range []struct{ name, keys, kernel, result string }{
		{"one", `"delroutes": [{"dst": "172.16.0.0/16", "gw": "10.1.0.2"}, {"dst": "fd40::/64", "gw": "fd01::2"}]`,
			"172.16.0.0/16 via 10.1.0.3 dev net1\nfd40::/64 via fd01::3 dev net1 metric 1024",
			`{"dst":"172.16.0.0/16","gw":"10.1.0.3"}` + "\n" + `{"dst":"fd40::/64","gw":"fd01::3"}`},
		{"one after the other", `"delroutes": [{"dst": "172.16.0.0/16", "gw": "10.1.0.2"}, {"dst": "172.16.0.0/16", "gw": "10.1.0.3"}]`,
			"fd40::/64 metric 1024\nnexthop via fd01::2 dev net1 weight 1\nnexthop via fd01::3 dev net1 weight 1", `{"dst":"fd40::/64","gws":["fd01::2","fd01::3"]}`},
		{"all by their list", `"delroutes": [{"dst": "172.16.0.0/16", "gws": ["10.1.0.3"], "gw": "10.1.0.2"}, {"dst": "fd40::/64", "gws": ["fd01::2", "fd01::9"]}]`,
			"fd40::/64 metric 1024\nnexthop via fd01::2 dev net1 weight 1\nnexthop via fd01::3 dev net1 weight 1", `{"dst":"fd40::/64","gws":["fd01::2","fd01::3"]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := netopstest.Namespace(t, "pod")
			t.Cleanup(func() { _ = os.RemoveAll(stateDir) })
			pod.Veth("net1", "10.1.0.5/16", "fd01::5/64")
			pod.Batch("route add 172.16.0.0/16 nexthop via 10.1.0.2 nexthop via 10.1.0.3", "route add fd40::/64 nexthop via fd01::2 nexthop via fd01::3")
			before := pod.Dump()
			c := call(t, pod, tt.keys).Edit(func(conf map[string]any) {
				conf["prevResult"].(map[string]any)["routes"] = []any{
					map[string]any{"dst": "172.16.0.0/16", "gws": []string{"10.1.0.2", "10.1.0.3"}},
					map[string]any{"dst": "fd40::/64", "gws": []string{"fd01::2"}, "gw": "fd01::3"},
				}
			})
			added := c.OK("ADD")
			if diff := cmp.Diff(tt.kernel, mains(pod)); diff != "" {
				t.Errorf("table main (-want +got):\n%s", diff)
			}
			got := strings.ReplaceAll(listed(t, added), `"gw":"fd01::3","gws":["fd01::2"]`, `"gws":["fd01::2","fd01::3"]`) // as it came
			if diff := cmp.Diff(tt.result, got); diff != "" {
				t.Errorf("routes of the result (-want +got):\n%s", diff)
			}
			c.After(added).OK("CHECK")
			c.After(added).OK("DEL")
			if diff := cmp.Diff(sortedLines(before), sortedLines(pod.Dump())); diff != "" {
				t.Errorf("after DEL not as before (-want +got):\n%s", diff)
			}
			nothingLeft(t)
		})
	}
}

// As many gateways as are taken can be listed, checked and deleted.
func TestManyGateways(t *testing.T) {
	pod := newPod(t)
	before := pod.Dump()
	gateways := func(n int) plugintest.Call {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("10.1.1.%d", i)
		}
		return call(t, pod, "").Edit(func(conf map[string]any) {
			conf["addroutes"] = []any{map[string]any{"dst": "172.16.0.0/16", "gws": list}}
		})
	}
	c := gateways(128)
	added := c.OK("ADD")
	c.After(added).OK("CHECK")
	c.OK("DEL")
	restored(t, pod, before)
	gateways(129).Refused("ADD", 7, "addroutes[0].gws: 129 gateways, 128 at most")
}

func TestWhichInterfaces(t *testing.T) {
	pod := newPod(t)
	interfaces := func(list ...any) func(map[string]any) {
		return func(conf map[string]any) { conf["prevResult"].(map[string]any)["interfaces"] = list }
	}
	link := func(name, sandbox string) any { return map[string]any{"name": name, "sandbox": sandbox} }
	flush := call(t, pod, `"flushroutes": true`)
	before := pod.Dump()
	flush.Edit(interfaces(link("nte1", "/run/netns/pod"))).Refused("ADD", 11, `no such interface: "nte1"`)
	if diff := cmp.Diff(before, pod.Dump()); diff != "" {
		t.Errorf("a misspelt interface changed (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		name       string
		edit       func(map[string]any)
		eth0, net1 bool // have routes by a gateway left
	}{
		{"in a sandbox by another path", interfaces(link("eth0", ""), link("net1", "/proc/7/ns/net")), true, false},
		{"none in a sandbox", interfaces(link("eth0", "")), true, false},
		{"no interfaces", func(conf map[string]any) { delete(conf["prevResult"].(map[string]any), "interfaces") }, true, false},
		{"several", interfaces(link("eth0", "x"), link("net1", "x"), link("net1", "x")), false, false},
	} {
		c := flush.Edit(tt.edit)
		c.OK("ADD")
		for dev, want := range map[string]bool{"eth0": tt.eth0, "net1": tt.net1} {
			if got := strings.Contains(pod.IP("route show default dev "+dev), "via"); got != want {
				t.Errorf("%s: a default route on %s: %v", tt.name, dev, got)
			}
		}
		c.OK("DEL")
	}
}

func TestIPv6Disabled(t *testing.T) {
	pod := netopstest.Namespace(t, "pod")
	pod.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	pod.IP("link add net1 type veth peer name peer", "addr add 10.1.0.5/16 dev net1", "link set net1 up", "link set peer up", "route add 192.168.0.0/24 via 10.1.0.1")
	before := pod.Dump()
	c := call(t, pod, `"flushroutes": true, "flushgateway": true, "addroutes": [{"dst": "172.16.0.0/16"}]`)
	added := c.OK("ADD")
	c.After(added).OK("CHECK")
	c.After(added).OK("DEL")
	restored(t, pod, before)
	both := c.Edit(func(conf map[string]any) {
		conf["addroutes"] = []any{map[string]any{"dst": "fd30::/64"}, map[string]any{"dst": "172.16.0.0/16"}}
	})
	both.Refused("ADD", 100, "ip -6 route add fd30::/64 via fd01::1 dev net1")
	restored(t, pod, before)

	// One configuration for pods with and without IPv6.
	single := both.Edit(func(conf map[string]any) {
		prev := conf["prevResult"].(map[string]any)
		conf["skipMissingFamilies"], prev["ips"] = true, prev["ips"].([]any)[:1]
	})
	added = single.OK("ADD")
	if !strings.Contains(added.Stderr, "left out, for want of an IPv6 address of the attachment: fd30::/64") || !strings.Contains(mains(pod), "172.16.0.0/16") {
		t.Errorf("%s\n%s", added.Stderr, mains(pod))
	}
	single.After(added).OK("CHECK")
	single.After(added).OK("DEL")
	restored(t, pod, before)
}

func TestArgsOverrideKeys(t *testing.T) {
	pod := newPod(t)
	c := call(t, pod, `"flushroutes": true, "addroutes": [{"dst": "172.16.0.0/16"}], "args": {"cni": {"flushroutes": false, "addroutes": [{"dst": "172.17.0.0/16"}], "ips": ["10.0.0.1"]}}`)
	added := c.OK("ADD")
	got := mains(pod)
	if !strings.Contains(got, "172.17.0.0/16") || strings.Contains(got, "172.16.0.0/16") || !strings.Contains(got, "192.168.0.0/24") {
		t.Errorf("routes\n%s", got)
	}
	c.After(added).OK("DEL")
	for _, args := range []string{`{}`, `null`, `{"cni": {}}`, `{"cni": null}`} {
		call(t, pod, `"args": `+args).OK("ADD")
	}
	call(t, pod, `"args": {"cni": {"addroutes": [{"dst": "x"}], "stateDir": "/x", "log_options": {}}}`).
		Refused("ADD", 7, `args.cni.addroutes[0].dst: "x"`, "args.cni.stateDir", "args.cni.log_options")
}

func sorted(list []string) []string {
	out := append([]string{}, list...)
	for i := range out {
		out[i] = strings.TrimSpace(out[i])
	}
	slices.Sort(out)
	return out
}
