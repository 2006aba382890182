package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

func TestMain(m *testing.M) { plugintest.Main(m, plugintest.Upstream) }

const stateDir = "/run/cni"

// host is the namespace that the tests run in, and the plugin with them.
type host struct {
	*netopstest.NS
	t      testing.TB
	before string
}

// newHost gives the host a bridge, and takes its routing down, for restored.
func newHost(t testing.TB, lines ...string) *host {
	t.Helper()
	h := &host{NS: netopstest.Host(t), t: t}
	// Without a link-local address nothing changes by itself later.
	h.IP("link add cni0 type bridge", "link set cni0 addrgenmode none", "addr add 10.1.0.1/16 dev cni0", "addr add fd01::1/64 dev cni0 nodad", "link set cni0 up")
	t.Cleanup(func() {
		h.IP("link del cni0")
		_ = os.RemoveAll(stateDir)
	})
	h.IP(lines...)
	// The kernel makes some of its entries a moment later.
	for range 200 {
		if strings.Contains(h.IP("-6 route show table local dev cni0"), "local fd01::1 ") {
			h.before = h.dump()
			return h
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("cni0 has no local route")
	return nil
}

// dump is the host's routing, without whether a bridge has a port that is up.
func (h *host) dump() string { return strings.ReplaceAll(h.Dump(), " linkdown", "") }

// routes are those of the host, of all tables, but for those that the kernel
// made.
func (h *host) routes() string {
	h.t.Helper()
	var kept []string
	for l := range strings.Lines(h.IP("-4 route show table all") + h.IP("-6 route show table all")) {
		if l = strings.TrimSpace(l); !strings.Contains(l, "proto kernel") && !strings.HasPrefix(l, "multicast ") {
			kept = append(kept, strings.ReplaceAll(strings.ReplaceAll(l, " pref medium", ""), "  ", " "))
		}
	}
	return strings.Join(kept, "\n")
}

func (h *host) has(want string) {
	h.t.Helper()
	if diff := cmp.Diff(sortedLines(want), sortedLines(h.routes())); diff != "" {
		h.t.Errorf("the host's routes (-want +got):\n%s", diff)
	}
}

func sortedLines(s string) []string {
	var lines []string
	for l := range strings.Lines(strings.TrimSpace(s)) {
		lines = append(lines, strings.TrimSpace(l))
	}
	slices.Sort(lines)
	return lines
}

// restored fails the test unless the host is as it was, and nothing is left.
func (h *host) restored() {
	h.t.Helper()
	if diff := cmp.Diff(h.before, h.dump()); diff != "" {
		h.t.Errorf("the host is not as before (-want +got):\n%s", diff)
	}
	if left := plugintest.Left(h.t, stateDir); left != nil {
		h.t.Errorf("left: %v", left)
	}
}

// conf is a configuration with this expression, and these keys beside the
// usual ones, in a chain after a plugin that gave the pod two addresses.
func conf(routing string, keys ...string) string {
	all := append([]string{`"cniVersion": "1.1.0", "name": "net", "type": "host-routes"`, fmt.Sprintf(`"routing": %s`, quote(routing))}, keys...)
	return "{" + strings.Join(append(all, `"prevResult": `+prevResult), ", ") + "}"
}

const prevResult = `{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod", "mtu": 1500}],
  "ips": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1", "interface": 0}, {"address": "fd09::5/64", "interface": 0}],
  "routes": [{"dst": "0.0.0.0/0"}], "dns": {"nameservers": ["10.9.0.1"]}, "unknown": {"kept": true}}`

func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// call is a call for a new container in a pod, whose network is configured so.
func call(t testing.TB, pod *netopstest.NS, routing string, keys ...string) plugintest.Call {
	return plugintest.New(t, hostRoutes.Name, pod, conf(routing, keys...))
}

// newPod is a pod, of which only the namespace matters.
func newPod(t testing.TB) *netopstest.NS { return netopstest.Namespace(t, "pod") }

// hostRoutesOf is that list of a result.
func hostRoutesOf(t testing.TB, a plugintest.Answer) string {
	t.Helper()
	var result struct{ HostRoutes []json.RawMessage }
	if err := json.Unmarshal([]byte(a.Stdout), &result); err != nil {
		t.Fatal(err)
	}
	lines := make([]string, len(result.HostRoutes))
	for i, r := range result.HostRoutes {
		lines[i] = string(r)
	}
	return strings.Join(lines, "\n")
}
