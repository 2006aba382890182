package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// holdHost takes the host's lock, as a process that decides about a shared route
// does, until it is given back.
func holdHost(t *testing.T) (giveBack func()) {
	t.Helper()
	f, err := os.Open(filepath.Join(stateDir, "host"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return func() { _ = f.Close() }
}

const shared = `[{prefix: "10.9.0.0/24", device: "cni0"}]`

// Who meets a route of others, and who takes one away, decides under the lock.
func TestLocked(t *testing.T) {
	h := newHost(t)
	pod := newPod(t)
	one, two := call(t, pod, shared), call(t, netopstest.Namespace(t, "other"), shared)
	one.OK("ADD")
	giveBack := holdHost(t)
	adding := two.Begin("ADD")
	adding.Waits()
	giveBack()
	adding.Ends(0)
	giveBack = holdHost(t)
	deleting := one.Begin("DEL")
	deleting.Waits()
	for _, verb := range []string{"CHECK", "plan", "STATUS"} { // only look
		two.OK(verb)
	}
	call(t, netopstest.Namespace(t, "alone"), `[{prefix: "10.9.1.0/24", device: "cni0"}]`).OK("ADD") // meets nobody
	giveBack()
	deleting.Ends(0)
	h.has("10.9.0.0/24 dev cni0 proto 77 scope link\n10.9.1.0/24 dev cni0 proto 77 scope link")
}

// SIGTERM ends an ADD that waits for the lock, and takes it back.
func TestSignalWhileWaiting(t *testing.T) {
	h := newHost(t)
	one := call(t, newPod(t), shared)
	two := call(t, netopstest.Namespace(t, "other"), `[{prefix: "10.9.0.0/24", device: "cni0"}, {prefix: "10.9.1.0/24", device: "cni0"}]`)
	one.OK("ADD")
	giveBack := holdHost(t)
	adding := two.Begin("ADD")
	plugintest.Until(t, func() bool { return strings.Contains(h.routes(), "10.9.1.0/24") })
	adding.Waits()
	adding.Terminate()
	adding.Waits() // to take back it needs the lock as well
	giveBack()
	if said := adding.Ends(1); !strings.Contains(said, "interrupted by a signal") {
		t.Errorf("it says %s", said)
	}
	h.has("10.9.0.0/24 dev cni0 proto 77 scope link")
	one.OK("DEL")
	h.restored()
}

// A DEL and a failing ADD that share a route do not leave it to each other.
func TestFailingAddBesideDel(t *testing.T) {
	for _, first := range []string{"ADD", "DEL"} {
		t.Run(first+" first", func(t *testing.T) {
			h := newHost(t)
			one := call(t, newPod(t), shared)
			two := call(t, netopstest.Namespace(t, "other"), `[{prefix: "10.9.0.0/24", device: "cni0"}, {prefix: "10.9.1.0/24", device: "nope"}]`, `"tries": 2`)
			one.OK("ADD")
			giveBack := holdHost(t)
			begun := map[string]*plugintest.Process{}
			for _, verb := range map[string][]string{"ADD": {"ADD", "DEL"}, "DEL": {"DEL", "ADD"}}[first] {
				begun[verb] = map[string]plugintest.Call{"ADD": two, "DEL": one}[verb].Begin(verb)
				begun[verb].Waits()
			}
			giveBack()
			begun["ADD"].Ends(1)
			begun["DEL"].Ends(0)
			h.restored()
		})
	}
}

// While an ADD that has taken a stale route's place tries something else in
// vain, another comes to want its route: that stays.
func TestFailingReclaimBesideSharer(t *testing.T) {
	h := newHost(t, "route add 10.9.0.0/24 via 10.1.0.8 proto 77")
	t.Cleanup(func() { h.IP("route flush proto 77") })
	failing := call(t, newPod(t), `[{prefix: "10.9.0.0/24", device: "cni0"}, {prefix: "10.9.1.0/24", device: "nope"}]`)
	sharing := call(t, netopstest.Namespace(t, "other"), shared)
	adding := failing.Failing(plugintest.Fault{At: "after", N: 3, Kill: syscall.SIGSTOP}).Begin("ADD")
	adding.Stopped()
	h.has("10.9.0.0/24 dev cni0 proto 77 scope link")
	wanting := sharing.Begin("ADD")
	wanting.Waits()
	adding.Continue()
	wanting.Ends(0)
	adding.Ends(1)
	sharing.OK("CHECK")
	h.has("10.9.0.0/24 dev cni0 proto 77 scope link")
	sharing.OK("DEL")
	h.has("")
}

// What somebody has made of a route of ours in IPv6, where equal ones merge, is
// his: it is not ours to replace, and not to delete.
func TestForeignSibling(t *testing.T) {
	h := newHost(t, "-6 route add fd09::/64 via fd01::8 proto 77", "-6 route append fd09::/64 via fd01::9 proto static")
	t.Cleanup(func() { h.IP("-6 route del fd09::/64 via fd01::8", "-6 route del fd09::/64 via fd01::9") })
	for _, verb := range []string{"ADD", "plan"} {
		call(t, newPod(t), `[{prefix: "fd09::/64", device: "cni0"}]`, `"tries": 1`).Refused(verb, 101, `there is "fd09::/64`, "which is not ours")
		h.IP("netns del pod")
	}
	h.restored()
	for i, tt := range []struct{ routing, foreign string }{
		{`[{prefix: "fd0a::/64", gateway: "fd01::8"}]`, "fd0a::/64 via fd01::9 proto static"},
		{`[{prefix: "fd0a::/64", gateway: "fd01::8", device: "cni0"}]`, "fd0a::/64 dev cni0 proto static"},
		{`[{prefix: "fd0a::/64", device: "cni0"}]`, "fd0a::/64 via fd01::9 proto static"},
	} {
		c := call(t, netopstest.Namespace(t, fmt.Sprint("pod", i)), tt.routing)
		c.OK("ADD")
		h.IP("-6 route append " + tt.foreign)
		c.OK("CHECK")
		c.OK("DEL")
		if got := h.routes(); !strings.Contains(got, tt.foreign[:10]) || strings.Contains(got, "fd01::8 dev cni0 proto 77 metric 1024\nfd0a") {
			t.Errorf("after DEL:\n%s", got)
		}
		h.IP("-6 route del " + tt.foreign) // is there, and is all there is
		h.restored()
	}
}

// A record of an earlier boot keeps no route, and one of a later version keeps
// what it may want, however it calls it.
func TestRecordsOfOtherTimes(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(string) string
		want string
	}{
		"earlier boot": {func(s string) string { i := strings.Index(s, `"boot":"`) + 8; return s[:i] + "00000000" + s[i+8:] }, ""},
		"later version": {func(s string) string {
			return strings.NewReplacer(`"format":1`, `"format":9`, `"dst"`, `"destination"`).Replace(s)
		}, "10.9.0.0/24 dev cni0 proto 77 scope link"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			t.Cleanup(func() { h.IP("route flush proto 77") })
			pod := newPod(t)
			old, fresh := call(t, pod, shared), call(t, pod, shared)
			old.OK("ADD")
			path := filepath.Join(stateDir, "host-routes/net", old.Env["CNI_CONTAINERID"]+":net1", "1.finished")
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.edit(string(text))), 0o600); err != nil {
				t.Fatal(err)
			}
			fresh.OK("ADD")
			fresh.OK("DEL")
			h.has(tt.want)
		})
	}
}

// The state folder may vanish while ADD tries: it takes back what it did all the
// same.
func TestStateFolderGone(t *testing.T) {
	h := newHost(t)
	adding := call(t, newPod(t), `[{prefix: "10.9.0.0/24", device: "cni0"}, {prefix: "10.9.1.0/24", device: "nope"}]`).
		Failing(plugintest.Fault{At: "after", N: 0, Kill: syscall.SIGSTOP}).Begin("ADD")
	adding.Stopped()
	h.has("10.9.0.0/24 dev cni0 proto 77 scope link")
	if err := os.RemoveAll(stateDir); err != nil {
		t.Fatal(err)
	}
	adding.Continue()
	adding.Ends(1)
	h.restored()
}

// A result that nobody can read takes the change back.
func TestResultCannotBePrinted(t *testing.T) {
	h := newHost(t)
	c := call(t, newPod(t), shared)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(c.Plugin)
	cmd.Env, cmd.Stdin, cmd.Stdout = c.Environ("ADD"), strings.NewReader(c.Conf), full
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != 1 {
		t.Errorf("exit %d", got)
	}
	h.restored()
}

// Where the records are may be said by a symbolic link, and may be a place where
// there can be none: what ADD refuses there, DEL has nothing to do about.
func TestStateFolders(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return fmt.Sprintf(`"stateDir": %q`, filepath.Join(dir, name)) }
	pod := newPod(t)
	one, two := call(t, pod, shared, in("link")), call(t, pod, shared, in("link"))
	one.OK("ADD")
	two.OK("ADD")
	call(t, pod, `[{prefix: "10.9.0.0/24", gateway: "10.1.0.9"}]`, in("link"), `"tries": 1`).Refused("ADD", 101, "which host-routes wants for net1 of container")
	one.OK("DEL")
	h.has("10.9.0.0/24 dev cni0 proto 77 scope link")
	two.OK("DEL")
	h.restored()
	for _, name := range []string{"file", "file/x", "dangling/x/y", strings.Repeat("x", 300)} {
		c := call(t, pod, shared, in(name))
		c.Do("ADD")
		c.OK("DEL")
		h.restored()
	}
}

// A list of valid attachments that cannot be read removes nothing.
func TestGCOfABrokenList(t *testing.T) {
	h := newHost(t)
	c := call(t, newPod(t), shared)
	c.OK("ADD")
	for _, list := range []any{"x", []any{nil}, []any{map[string]any{}}, []any{5}, []any{map[string]string{"containerID": "x"}}} {
		c.Edit(func(conf map[string]any) { conf["cni.dev/valid-attachments"] = list }).Refused("GC", 7, "cni.dev/valid-attachments")
	}
	c.OK("CHECK")
	c.OK("DEL")
	h.restored()
}

// Many routes at once, new and shared, more than one send and one look hold.
func TestManyRoutes(t *testing.T) {
	h := newHost(t)
	pod := newPod(t)
	const many = 700
	routing := "[" + strings.Join(elements(many), ", ") + "]"
	one, two := call(t, pod, routing), call(t, pod, routing)
	one.OK("ADD")
	two.OK("ADD")
	if got := strings.Count(h.routes(), "proto 77"); got != many {
		t.Errorf("%d routes, want %d", got, many)
	}
	one.OK("DEL")
	two.OK("CHECK")
	two.OK("DEL")
	h.restored()
	// What is wrong with all of them is told of some.
	a := call(t, pod, `[range(100000) | {}]`).Refused("ADD", 7, "routing[0].prefix: missing", "more lines)")
	if len(a.Stdout) > 64<<10 {
		t.Errorf("an error of %d bytes", len(a.Stdout))
	}
	a = call(t, pod, strings.ReplaceAll(routing, "cni0", "nope"), `"tries": 1`).Refused("ADD", 11, `no such interface: "nope"`, "more lines)")
	if len(a.Stdout) > 64<<10 {
		t.Errorf("an error of %d bytes", len(a.Stdout))
	}
	h.restored()
}
