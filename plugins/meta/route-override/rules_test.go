package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// rules are the policy rules of both families, but for the kernel's own.
func rules(pod *netopstest.NS) string {
	var found []string
	for _, family := range []string{"-4 ", "-6 "} {
		for _, l := range strings.Split(pod.IP(family+"rule show"), "\n") {
			if l = strings.Join(strings.Fields(l), " "); l != "" && !strings.Contains(l, "proto kernel") && !strings.Contains(l, "lookup local") && !strings.HasSuffix(l, "from all lookup main") && !strings.Contains(l, "lookup default") {
				found = append(found, strings.TrimSpace(family)+" "+l)
			}
		}
	}
	return strings.Join(found, "\n")
}

const byOwnGateway = `"addroutes": [{"dst": "0.0.0.0/0", "table": 100}, {"dst": "::/0", "table": 100}],
	"addrules": [{"from": "10.1.0.0/16", "table": 100}, {"to": "203.0.113.7", "table": 100, "priority": 7}, {"from": "fd01::/64", "to": "fd99::/64", "table": 100}]`

// Traffic of an attachment goes by its own gateway: rules have what routes have.
func TestRules(t *testing.T) {
	pod := newPod(t)
	before := pod.Dump()
	c := call(t, pod, byOwnGateway)
	const commands = `# pod /run/netns/pod
ip -6 route add default via fd01::1 dev net1 table 100
ip route add default via 10.1.0.1 dev net1 table 100
ip rule add pref 30000 from 10.1.0.0/16 lookup 100
ip rule add pref 7 to 203.0.113.7 lookup 100
ip -6 rule add pref 30000 from fd01::/64 to fd99::/64 lookup 100
`
	if diff := cmp.Diff(sortedLines(commands), sortedLines(c.OK("plan").Stdout)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	restored(t, pod, before)

	added := c.OK("ADD")
	want := lines(`-4 7: from all to 203.0.113.7 lookup 100 proto 77
		-4 30000: from 10.1.0.0/16 lookup 100 proto 77
		-6 30000: from fd01::/64 to fd99::/64 lookup 100 proto 77`)
	if diff := cmp.Diff(want, rules(pod)); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	for _, way := range []struct{ of, by string }{
		{"198.51.100.1", "via 10.244.1.1 dev eth0"}, {"198.51.100.1 from 10.1.0.5", "via 10.1.0.1 dev net1"}, {"203.0.113.7", "via 10.1.0.1 dev net1"},
		{"fd99::1 from fd01::5", "via fd01::1 dev net1"}, {"fd98::1 from fd01::5", "via fd01::1 dev net1"},
	} {
		if got := pod.IP("route get " + way.of); !strings.Contains(got, way.by) {
			t.Errorf("%s goes %s, want %s", way.of, got, way.by)
		}
	}
	if again := c.OK("plan").Stdout; again != "" {
		t.Errorf("plan after ADD: %s", again)
	}
	c.After(added).OK("CHECK")
	pod.IP("rule del pref 7")
	c.After(added).Refused("CHECK", 106, "ip rule add pref 7 to 203.0.113.7 lookup 100: missing")
	pod.IP("rule add pref 7 to 203.0.113.7 lookup 100") // by another process
	c.After(added).OK("CHECK")
	pod.IP("rule del pref 7")
	c.After(added).OK("DEL")
	restored(t, pod, before)
	nothingLeft(t)

	// Without a record the configuration tells.
	added = c.OK("ADD")
	c.With(map[string]string{"CNI_CONTAINERID": "before-the-upgrade"}).After(added).OK("CHECK")
	pod.IP("rule del pref 30000")
	c.With(map[string]string{"CNI_CONTAINERID": "before-the-upgrade"}).After(added).Refused("CHECK", 106, "pref 30000 from 10.1.0.0/16 lookup 100")
	c.OK("DEL")
}

// A rule that is there already, whoever made it, is neither doubled nor removed.
func TestRuleThatIsThere(t *testing.T) {
	pod := newPod(t)
	pod.IP("rule add pref 30000 from 10.1.0.0/16 lookup 100", "rule add pref 7 to 203.0.113.7 lookup 100 proto 77", "-6 rule add pref 30000 from fd01::/64 lookup 100")
	before := pod.Dump()
	c := call(t, pod, byOwnGateway)
	if got := c.OK("plan").Stdout; strings.Count(got, "rule add") != 1 {
		t.Errorf("plan: %s", got)
	}
	added := c.OK("ADD")
	if n := strings.Count(rules(pod), "\n") + 1; n != 4 {
		t.Errorf("%d rules:\n%s", n, rules(pod))
	}
	c.After(added).OK("CHECK")
	c.After(added).OK("DEL")
	restored(t, pod, before)
	nothingLeft(t)
}

// Rules come with the routes or not at all.
func TestRulesAllOrNothing(t *testing.T) {
	pod := newPod(t)
	before := pod.Dump()
	c := call(t, pod, byOwnGateway)
	for n := range 5 {
		c.Failing(plugintest.Fault{At: "before", N: n, Deny: unix.EPERM}).Refused("ADD", 100, "operation not permitted")
		restored(t, pod, before)
		c.Failing(plugintest.Fault{At: "after", N: n, Kill: unix.SIGKILL}).Do("ADD")
		c.OK("DEL")
		restored(t, pod, before)
		nothingLeft(t)
	}
	c.Edit(func(conf map[string]any) {
		conf["addroutes"] = []any{map[string]any{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}}
	}).Refused("ADD", 100, "192.0.2.1")
	c.Edit(func(conf map[string]any) {
		conf["addrules"] = []any{map[string]any{"from": "10.1.0.0/16"}, map[string]any{"table": 5}}
	}).
		Refused("ADD", 7, "addrules[0].table: missing", "addrules[1]: neither from nor to")
	restored(t, pod, before)
	nothingLeft(t)
}

// A rule that several attachments of a pod want goes with the last of them.
func TestRuleOfTwoNetworks(t *testing.T) {
	for _, first := range []int{0, 1} {
		pod := newPod(t)
		before := pod.Dump()
		one := call(t, pod, byOwnGateway)
		two := call(t, pod, `"addrules": [{"from": "10.1.0.0/16", "table": 100}, {"to": "203.0.113.8", "table": 100}]`).Edit(func(conf map[string]any) { conf["name"] = "other" })
		networks := []plugintest.Call{one, two}
		added := []plugintest.Answer{one.OK("ADD"), two.OK("ADD")}
		networks[first].OK("DEL")
		networks[1-first].After(added[1-first]).OK("CHECK")
		if !strings.Contains(rules(pod), "30000: from 10.1.0.0/16 lookup 100") {
			t.Errorf("the shared rule went with network %d:\n%s", first, rules(pod))
		}
		networks[1-first].OK("DEL")
		restored(t, pod, before)
		nothingLeft(t)
		pod.Remove()
	}
}

// The rule is the attachment's to ask for, too.
func TestRulesFromArgs(t *testing.T) {
	pod := newPod(t)
	c := call(t, pod, `"addrules": [{"from": "10.1.0.0/16", "table": 100}]`).Edit(func(conf map[string]any) {
		conf["args"] = json.RawMessage(`{"cni": {"addrules": [{"to": "203.0.113.9", "table": 5}]}}`)
	})
	c.OK("ADD")
	if got := rules(pod); got != "-4 30000: from all to 203.0.113.9 lookup 5 proto 77" {
		t.Errorf("rules\n%s", got)
	}
	c.OK("DEL")
}
