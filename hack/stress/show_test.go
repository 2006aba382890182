package stress

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
	"github.com/cni-netops/plugins/internal/show"
)

// watchShow asks plugins, time and again and in every way, what is on the node
// while attachments come and go and processes are killed: none says that
// something differs, that a record cannot be read, or that a pod is gone.
func (l *load) watchShow(until <-chan struct{}) {
	ways := [][]string{{"show"}, {"show", "--all", "--json"}, {"show", "--all"}, {"show", "--wrong", "--all", "--json"}, {"show", "--wrong"}}
	for i := 0; ; i++ {
		select {
		case <-until:
			return
		default:
		}
		l.show(subjects[i%len(subjects)].plugin, ways[i%len(ways)], false)
	}
}

// allIsShown fails the test if show says that anything is wrong while nothing comes
// or goes.
func (l *load) allIsShown() {
	l.show("router", []string{"show", "--all", "--json"}, true)
}

// show calls a plugin's sub-command, and judges what it says.
func (l *load) show(plugin string, args []string, quiet bool) {
	cmd := exec.Command(plugin, args...)
	var said, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &problems
	began := time.Now()
	err := cmd.Run()
	l.count("calls of show", 1)
	l.count("milliseconds of show", int(time.Since(began).Milliseconds()))
	if err != nil || problems.Len() > 0 {
		l.t.Errorf("%s %v: %v: %s", plugin, args, err, problems.String())
		return
	}
	if !slices.Contains(args, "--json") {
		for line := range strings.Lines(said.String()) {
			if strings.Contains(line, "now: ") || strings.Contains(line, "is gone") || strings.Contains(line, "unreadable") {
				l.t.Errorf("%s %v: %s\n%s", plugin, args, line, said.String())
				return
			}
		}
		return
	}
	var list []show.Record
	if err := json.Unmarshal(said.Bytes(), &list); err != nil {
		l.t.Errorf("%s %v: %v: %s", plugin, args, err, said.String())
	}
	for i := range list {
		l.count("records shown", 1)
		if r := &list[i]; r.Differing() > 0 || r.Error != "" || r.Leftover() || r.State == show.Newer || quiet && r.Wrong() {
			l.t.Errorf("%s %v: %+v", plugin, args, *r)
		}
	}
}

// tamperedNode is a node with fifty pods, ten of each plugin, named default/web-10
// and so on, three of which another program has tampered with.
func tamperedNode(t *testing.T) (calls []plugintest.Call) {
	t.Helper()
	newNode(t)
	const first, pods = 10, 50
	for i := range pods {
		s := subjects[i%len(subjects)]
		pod := s.newPod(t, fmt.Sprintf("pod%d", first+i))
		c := s.call(t, pod).With(map[string]string{"CNI_ARGS": fmt.Sprintf("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-%d", first+i)})
		if s.plugin == "host-routes" {
			c = c.Edit(func(conf map[string]any) {
				conf["routing"] = fmt.Sprintf(`[{prefix: "10.8.%d.0/24", device: "cni0"}, {prefix: "fd09::/64", device: "cni0"}]`, first+i)
			})
		}
		c.OK("ADD")
		calls = append(calls, c)
		switch i {
		case 15: // of route-override
			pod.IP("route change 172.16.0.0/16 via 10.1.0.9")
		case 16: // of host-routes
			netopstest.Host(t).IP("route del 10.8.26.0/24")
		case 17: // of seamless
			pod.IP("route del 172.16.0.0/12")
		}
	}
	return calls
}

// A stranger on a node with fifty pods asks any of the plugins what is wrong, who
// made a route, and what the DEL of a pod will do.
func TestShowOnANode(t *testing.T) {
	calls := tamperedNode(t)
	asks := func(plugin string, what ...string) (lines []string) {
		t.Helper()
		out, err := exec.Command(plugin, append([]string{"show"}, what...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s show %v: %v: %s", plugin, what, err, out)
		}
		for line := range strings.Lines(string(out)) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		return lines
	}
	last := func(lines []string) string { return lines[len(lines)-1] }
	if got, want := last(asks("flannel", "--all")), "50 records of 50 pods, 3 with differences"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	var wrong []string
	for _, line := range asks("seamless", "--all", "--wrong") {
		if pod, _, isPod := strings.Cut(line, ", container"); isPod || strings.HasPrefix(line, "now: ") {
			wrong = append(wrong, pod)
		}
	}
	if diff := cmp.Diff([]string{"pod default/web-25", "now: found 172.16.0.0/16 via 10.1.0.9 dev net1 instead",
		"pod default/web-26", "now: missing", "pod default/web-27", "now: missing"}, wrong); diff != "" {
		t.Errorf("what is wrong (-want +got):\n%s", diff)
	}
	made := asks("router", "--all", "10.8.31.7")
	if len(made) != 5 || !strings.HasPrefix(made[0], "pod default/web-31, ") || !strings.HasPrefix(made[1], "host-routes eth0 in network net") || made[3] != "ip route add 10.8.31.0/24 dev cni0" {
		t.Errorf("who made it: %q", made)
	}

	host := netopstest.Host(t)
	will := asks("host-routes", "default/web-31")
	if shared := "ip -6 route add fd09::/64 dev cni0  # shared with 9 other records"; len(will) != 6 || will[4] != shared {
		t.Errorf("what DEL will do: %q", will)
	}
	const ofWeb31 = 31 - 10
	calls[ofWeb31].OK("DEL")
	if own, shared := host.IP("route show 10.8.31.0/24"), host.IP("-6 route show fd09::/64"); own != "" || shared == "" {
		t.Errorf("after DEL: %q, %q", own, shared)
	}
	for _, c := range calls {
		c.OK("DEL")
	}
	if got := last(asks("router", "--all")); got != "0 records of 0 pods" {
		t.Error(got)
	}
}
