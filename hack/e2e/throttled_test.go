package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// expressive has host-routes evaluate what users write: functions of their own
// and regular expressions.
const expressive = `{ "type": "host-routes", "routing": "def plain: split(\"/\")[0]; [.prevResult.ips[].address | select(test(\"^203[.]\")) | ` +
	`capture(\"^(?<ip>[^/]+)/(?<bits>[0-9]{1,3})$\") | {prefix: (.ip | plain), device: \"cni0\", metric: (.bits | tonumber)}]" }`

// throttled are networks with all five plugins in them. The underlay's router
// needs the overlay, which is first.
var throttled = [][]string{{"throttled"}, {"flannel", "underlay"}}

// Thick Multus runs plugins in its own container, to which its manifest gives a
// tenth of a processor and 50 MiB. There, all of them work, for one pod and for
// eight that come at once: a limit by the clock would not be kept, and what took
// much memory would be killed.
func TestThrottled(t *testing.T) {
	g := throttle(t)
	for i := range 8 {
		_, err := run("ip", "netns", "add", podName(i))
		ok(t, err)
		t.Cleanup(func() { _, _ = run("ip", "netns", "del", podName(i)) })
	}
	for _, networks := range throttled {
		for _, pods := range []int{1, 8} {
			for _, verb := range []string{"add", "check", "status", "del"} {
				for _, network := range networks {
					g.atOnce(t, verb, network, pods)
				}
			}
		}
	}
	if kills := g.read(t, "memory", "memory.events", "memory.oom_control"); regexp.MustCompile(`(?m)^oom_kill [^0]`).MatchString(kills) {
		t.Errorf("processes were killed for memory: %s", kills)
	}
	if stat := g.read(t, "cpu", "cpu.stat", "cpu.stat"); !regexp.MustCompile(`(?m)^nr_throttled [^0]`).MatchString(stat) {
		t.Errorf("the group was not throttled: %s", stat)
	}
}

func podName(i int) string { return fmt.Sprint("throttled", i) }

// group is a control group, in the unified hierarchy or in one of each
// controller.
type group struct{ folders map[string]string }

// throttle makes the group.
func throttle(t *testing.T) group {
	const (
		hierarchies      = "/sys/fs/cgroup"
		period, quota    = "100000", "10000" // µs
		memory           = "52428800"
		unifiedProcessor = quota + " " + period
	)
	name := filepath.Join(filepath.Base(dir), "throttled")
	limits := map[string][][2]string{ // by controller
		"cpu":    {{"cpu.cfs_period_us", period}, {"cpu.cfs_quota_us", quota}},
		"memory": {{"memory.limit_in_bytes", memory}},
	}
	g := group{map[string]string{}}
	if _, err := os.Stat(filepath.Join(hierarchies, "cgroup.controllers")); err == nil {
		limits = map[string][][2]string{"": {{"cpu.max", unifiedProcessor}, {"memory.max", memory}}}
		ok(t, os.MkdirAll(filepath.Join(hierarchies, filepath.Dir(name)), 0o755))
		for _, above := range []string{hierarchies, filepath.Join(hierarchies, filepath.Dir(name))} {
			ok(t, os.WriteFile(filepath.Join(above, "cgroup.subtree_control"), []byte("+cpu +memory"), 0o600))
		}
	}
	for controller, files := range limits {
		folder := filepath.Join(hierarchies, controller, name)
		g.folders[controller] = folder
		ok(t, os.MkdirAll(folder, 0o755))
		for _, file := range files {
			ok(t, os.WriteFile(filepath.Join(folder, file[0]), []byte(file[1]), 0o600))
		}
	}
	return g
}

// read is a file of a controller, which has another name in the unified
// hierarchy.
func (g group) read(t *testing.T, controller, unified, own string) string {
	t.Helper()
	path := filepath.Join(g.folders[controller], own)
	if folder, is := g.folders[""]; is {
		path = filepath.Join(folder, unified)
	}
	text, err := os.ReadFile(path)
	ok(t, err)
	return string(text)
}

// run runs a command in the group.
func (g group) run(words ...string) (string, error) {
	var enter strings.Builder
	for _, folder := range g.folders {
		fmt.Fprintf(&enter, "echo $$ > %s && ", filepath.Join(folder, "cgroup.procs"))
	}
	return run(append([]string{"sh", "-c", enter.String() + `exec "$@"`, "sh"}, words...)...)
}

// atOnce calls a verb for so many pods at once.
func (g group) atOnce(t *testing.T, verb, network string, pods int) {
	t.Helper()
	ifName := "eth0"
	if underlays[network] != nil {
		ifName = "net1"
	}
	var all sync.WaitGroup
	for i := range pods {
		all.Go(func() {
			if out, err := g.run("env", "CNI_IFNAME="+ifName, "cnitool", verb, network, "/run/netns/"+podName(i)); err != nil {
				t.Errorf("%s of %s for %s, of %d: %v%s", verb, network, podName(i), pods, err, out)
			}
		})
	}
	all.Wait()
}
