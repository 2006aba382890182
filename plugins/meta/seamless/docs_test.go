package main

import (
	"encoding/json"
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// Every example of the README is carried out: ADD, CHECK, DEL, after which
// everything is as before. The session that follows an example is typed in, and
// prints what is written.
func TestReadme(t *testing.T) { plugintest.Readme(t, carryOut) }

func carryOut(t *testing.T, e plugintest.Example) {
	newNode(t, usual...)
	pod := newPod(t, "10.131.0.43/23", "fd01::5/64")
	chained := e.Conf["plugins"] != nil
	entry := e.Entry("node")
	if chained {
		entry["prevResult"] = json.RawMessage(`{"interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod"}],
			"ips": [{"address": "10.131.0.43/23", "interface": 0}, {"address": "fd01::5/64", "interface": 0}]}`)
	}
	stdin, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	before := pod.Dump()
	c := plugintest.New(t, seamless.Name, pod, string(stdin))
	show := func(added plugintest.Answer) string {
		var result struct{ IPs, Routes []json.RawMessage }
		if err := json.Unmarshal([]byte(added.Stdout), &result); err != nil {
			t.Fatal(err)
		}
		out := ""
		for _, element := range append(result.IPs, result.Routes...) {
			out += string(element) + "\n"
		}
		return out
	}
	e.CarryOut(t, c, "CNI_COMMAND=ADD seamless < conf.json | jq -c '.ips[], .routes[]'", show, map[string]func() string{
		"seamless plan < conf.json":     func() string { return c.OK("plan").Stdout },
		"ip -n pod route show proto 77": func() string { return plugintest.TrimLines(pod.IP("route show proto 77")) },
	})
	restored(t, pod, before)
}
