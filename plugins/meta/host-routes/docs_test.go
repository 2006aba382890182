package main

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// Every example of the README is carried out: ADD, CHECK, DEL, after which
// everything is as before. The session that follows an example is typed in, and
// prints what is written.
func TestReadme(t *testing.T) { plugintest.Readme(t, carryOut) }

// documented is what the README says of the container.
const documented = `{"interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod"}],
	"ips": [{"address": "10.22.0.5/16", "interface": 0}, {"address": "203.0.113.5/24", "interface": 0}, {"address": "2001:db8:22::5/64", "interface": 0}]}`

func carryOut(t *testing.T, e plugintest.Example) {
	h := newHost(t, "addr add 192.0.2.2/24 dev cni0")
	entry := e.Entry("containers")
	entry["prevResult"] = json.RawMessage(documented)
	if _, ok := entry["capabilities"]; ok {
		entry["runtimeConfig"] = map[string]string{"gateway": "192.0.2.1"}
	}
	stdin, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	c := plugintest.New(t, hostRoutes.Name, newPod(t), string(stdin)).With(map[string]string{"CNI_IFNAME": "eth0"})
	plan := func(args string) func() string {
		return func() string { return c.With(map[string]string{"CNI_ARGS": args}).OK("plan").Stdout }
	}
	show := func(added plugintest.Answer) string { return hostRoutesOf(t, added) + "\n" }
	e.CarryOut(t, c, "CNI_COMMAND=ADD host-routes < conf.json | jq -c '.hostRoutes[]'", show, map[string]func() string{
		"host-routes plan < conf.json":                                   plan(""),
		"CNI_ARGS='K8S_POD_NAMESPACE=prod' host-routes plan < conf.json": plan("K8S_POD_NAMESPACE=prod"),
		"CNI_ARGS='K8S_POD_NAMESPACE=test' host-routes plan < conf.json": plan("K8S_POD_NAMESPACE=test"),
		"ip route show proto 77":                                         func() string { return plugintest.TrimLines(h.IP("route show proto 77")) },
		"ip -6 route show proto 77":                                      func() string { return plugintest.TrimLines(h.IP("-6 route show proto 77")) },
	})
	h.restored()
	_ = os.RemoveAll(stateDir)
}
