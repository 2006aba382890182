package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugin/plugintest"
)

// block is a fenced block of the README.
type block struct{ kind, text string }

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// Every example of the README is carried out, alone in a pod that fits: ADD,
// CHECK, DEL, after which everything is as before. The session that follows an
// example is typed in there, and prints what is written.
func TestReadme(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := fence.FindAllSubmatch(page, -1)
	examples := 0
	for i, b := range blocks {
		conf := exampleOf(block{string(b[1]), string(b[2])})
		if conf == nil {
			continue
		}
		session := ""
		if i+1 < len(blocks) && string(blocks[i+1][1]) == "console" {
			session = string(blocks[i+1][2])
		}
		examples++
		t.Run(fmt.Sprint("example ", examples), func(t *testing.T) {
			printed := carryOut(t, conf, session)
			if diff := cmp.Diff(session, printed); diff != "" {
				t.Errorf("the session (-README +real):\n%s", diff)
			}
		})
	}
	if examples == 0 {
		t.Error("no example found")
	}
}

// exampleOf is the configuration in a block: JSON, or that of a
// NetworkAttachmentDefinition.
func exampleOf(b block) map[string]any {
	text := b.text
	if b.kind == "yaml" {
		_, text, _ = strings.Cut(text, "config: |\n")
	} else if b.kind != "json" {
		return nil
	}
	var conf map[string]any
	if err := json.Unmarshal([]byte(text), &conf); err != nil {
		panic(fmt.Errorf("%w in an example: %s", err, text))
	}
	return conf
}

// carryOut makes a pod as the chain before the plugin would, and types the
// session in.
func carryOut(t *testing.T, conf map[string]any, session string) string {
	entry, ifname := conf, "net1"
	if plugins, ok := conf["plugins"].([]any); ok {
		entry = plugins[len(plugins)-1].(map[string]any)
		entry["name"], entry["cniVersion"] = conf["name"], conf["cniVersion"]
		if plugins[0].(map[string]any)["type"] == "bridge" {
			ifname = "eth0"
		}
	} else {
		entry["name"], entry["cniVersion"] = "lan", "1.1.0"
	}
	pod := netopstest.Namespace(t, "pod")
	entry["prevResult"] = makeDocsPod(pod, ifname)
	stdin, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	c := plugintest.New(t, routeOverride.Name, pod, string(stdin)).With(map[string]string{"CNI_IFNAME": ifname})

	before := pod.Dump()
	var added plugintest.Answer
	printed := typeIn(t, session, map[string]func() string{
		"ip -n pod route":                 func() string { return trimLines(pod.IP("route show")) },
		"route-override plan < conf.json": func() string { return c.OK("plan").Stdout },
		"CNI_COMMAND=ADD route-override < conf.json | jq -c '.routes[]'": func() string {
			added = c.OK("ADD")
			return listed(t, added) + "\n"
		},
	})
	if added.Stdout == "" {
		added = c.OK("ADD")
	}
	if added.Stderr != "" {
		t.Errorf("ADD warns: %s", added.Stderr)
	}
	c.After(added).OK("CHECK")
	c.After(added).OK("DEL")
	if diff := cmp.Diff(before, pod.Dump()); diff != "" {
		t.Errorf("after DEL not as before (-want +got):\n%s", diff)
	}
	return printed
}

// makeDocsPod makes the interface, its address and routes, and returns the
// result that goes with them.
func makeDocsPod(pod *netopstest.NS, ifname string) json.RawMessage {
	if ifname == "eth0" {
		pod.Veth("eth0", "10.22.0.5/16")
		pod.IP("route add default via 10.22.0.1")
		return json.RawMessage(`{"interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod"}],
			"ips": [{"address": "10.22.0.5/16", "gateway": "10.22.0.1", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}]}`)
	}
	pod.Veth("eth0", "10.244.1.5/24")
	pod.Veth("net1", "10.1.0.5/16")
	pod.IP("route add default via 10.244.1.1", "route add 172.30.0.0/16 via 10.1.0.1", "route add 192.168.0.0/24 via 10.1.0.1")
	return json.RawMessage(`{"interfaces": [{"name": "net1", "sandbox": "/run/netns/pod"}],
		"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}],
		"routes": [{"dst": "192.168.0.0/24"}, {"dst": "172.30.0.0/16"}]}`)
}

// typeIn gives the lines of a session with a prompt to the commands of that
// name, and returns the session as it really goes.
func typeIn(t *testing.T, session string, commands map[string]func() string) string {
	var out strings.Builder
	for _, line := range strings.Split(session, "\n") {
		command, typed := strings.CutPrefix(line, "$ ")
		if !typed {
			continue
		}
		run := commands[command]
		if run == nil {
			t.Fatalf("unknown command in a session: %s", command)
		}
		out.WriteString(line + "\n" + run())
	}
	return out.String()
}

func trimLines(s string) string {
	var out strings.Builder
	for _, l := range strings.Split(strings.TrimSpace(s), "\n") {
		out.WriteString(strings.TrimSpace(l) + "\n")
	}
	return out.String()
}
