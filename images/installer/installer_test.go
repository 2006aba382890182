package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// What the tests run: the installer as it is built, and two releases of a
// plugin, each of which prints its number. Its "gc" leaves a file behind.
var installerPath, release1, release2 string

func TestMain(m *testing.M) { os.Exit(netopstest.Main(built{m}).Run()) }

type built struct{ *testing.M }

func (m built) Run() int {
	dir, err := os.MkdirTemp("", "installer-test-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.M.Run()
}

const pluginSource = `package main

import (
	"os"
	"time"
)

var release string

func main() {
	os.Stdout.WriteString(release)
	if len(os.Args) > 1 && os.Args[1] == "gc" {
		if err := os.WriteFile("/collected", nil, 0o600); err != nil {
			panic(err)
		}
	} else if len(os.Args) > 1 {
		time.Sleep(time.Minute)
	}
}
`

func build(dir string) error {
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(pluginSource), 0o600); err != nil {
		return err
	}
	installerPath, release1, release2 = filepath.Join(dir, "bin", "installer"), filepath.Join(dir, "1", "route-override"), filepath.Join(dir, "2", "route-override")
	for _, args := range [][]string{{"-o", installerPath, "."},
		{"-ldflags", "-X main.release=1", "-o", release1, source}, {"-ldflags", "-X main.release=2", "-o", release2, source}} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath"}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %q: %w: %s", args, err, out)
		}
	}
	return nil
}

// node is a node with a folder for plugins, and an image beside it.
type node struct {
	*testing.T
	source, bin string
	status      string // file
}

// newNode is a node with an empty folder, and an image of three plugins in
// their first release.
func newNode(t *testing.T) node {
	n := node{t, t.TempDir(), filepath.Join(t.TempDir(), "opt", "cni", "bin"), filepath.Join(t.TempDir(), "run", "status")}
	for _, name := range []string{"flannel", "host-routes", "route-override"} {
		n.provide(name, release1)
	}
	return n
}

// provide puts a plugin into the image.
func (n node) provide(name, path string) {
	n.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		_ = os.Remove(filepath.Join(n.source, name))
		err = os.WriteFile(filepath.Join(n.source, name), content, 0o755)
	}
	if err != nil {
		n.Fatal(err)
	}
}

func (n node) path(name string) string { return filepath.Join(n.bin, name) }

// lock locks the folder, as another installer does.
func (n node) lock(how int) (unlock func()) {
	n.Helper()
	dir, err := os.Open(n.bin)
	if err == nil {
		err = unix.Flock(int(dir.Fd()), how)
	}
	if err != nil {
		n.Fatal(err)
	}
	return func() { _ = dir.Close() }
}

// command is the installer with these arguments.
func (n node) command(args ...string) *exec.Cmd {
	return exec.Command(installerPath, append([]string{"--source", n.source, "--target", n.bin, "--status", n.status}, args...)...)
}

// powerless is a command by the same user without any capability, as in a
// container that drops them all.
func powerless(cmd *exec.Cmd) *exec.Cmd {
	return exec.Command("setpriv", append([]string{"--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", cmd.Path}, cmd.Args[1:]...)...)
}

// once installs, and says what was said.
func (n node) once(args ...string) string {
	n.Helper()
	out, err := n.command(append(args, "--once")...).CombinedOutput()
	if err != nil {
		n.Fatalf("%v: %s", err, out)
	}
	return strings.ReplaceAll(string(out), n.bin+"/", "")
}

// refused fails the test unless a command fails with these words.
func (n node) refused(cmd *exec.Cmd, says ...string) string {
	n.Helper()
	out, err := cmd.CombinedOutput()
	if failed := new(exec.ExitError); !errors.As(err, &failed) || failed.ExitCode() != 1 {
		n.Errorf("%v: %s", err, out)
	}
	for _, text := range says {
		if !strings.Contains(string(out), text) {
			n.Errorf("it does not say %q: %s", text, out)
		}
	}
	return string(out)
}

// holds fails the test unless the folder holds just that: release by plugin.
func (n node) holds(want map[string]string) {
	n.Helper()
	if got := n.there(); fmt.Sprint(got) != fmt.Sprint(want) {
		n.Errorf("the folder holds %v, want %v", got, want)
	}
}

// there is what lies in the folder: the release of each plugin, "?" for what
// is none.
func (n node) there() map[string]string {
	n.Helper()
	releases := map[string]string{}
	files, _ := os.ReadDir(n.bin)
	for _, f := range files {
		releases[f.Name()] = "?"
		st, err := os.Lstat(n.path(f.Name()))
		if err != nil || st.Mode() != 0o755 {
			continue
		}
		if out, err := exec.Command(n.path(f.Name())).Output(); err == nil {
			releases[f.Name()] = string(out)
		}
	}
	return releases
}

var all1 = map[string]string{"flannel": "1", "host-routes": "1", "route-override": "1"}

// running is an installer at work.
type running struct {
	node
	*exec.Cmd
	mu  sync.Mutex
	out bytes.Buffer
}

func (r *running) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(b)
}

func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.ReplaceAll(r.out.String(), r.bin+"/", "")
}

// start starts a command, which ends with the test.
func (n node) start(cmd *exec.Cmd) *running {
	n.Helper()
	r := &running{node: n, Cmd: cmd}
	cmd.Stdout, cmd.Stderr = r, r
	if err := cmd.Start(); err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return r
}

// until waits for something to become true.
func (r *running) until(what string, reached func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); !reached(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("%s: not in time; it holds %v, and said:\n%s", what, r.there(), r.said())
		}
	}
}

func (r *running) untilSaid(line string) {
	r.Helper()
	r.until(line, func() bool { return strings.Contains(r.said(), line+"\n") })
}

// watches reports whether it has begun to watch the folder. It looks at it next.
func (r *running) watches() bool {
	open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", r.Process.Pid))
	return slices.ContainsFunc(open, func(path string) bool {
		what, _ := os.Readlink(path)
		return what == "anon_inode:inotify"
	})
}

// end sends a signal, and waits for a good end, for less than the thirty seconds
// that the kubelet gives.
func (r *running) end(signal syscall.Signal) {
	r.Helper()
	began := time.Now()
	_ = r.Process.Signal(signal)
	if err := r.Wait(); err != nil {
		r.Errorf("%s: %v: %s", signal, err, r.said())
	}
	if took := time.Since(began); took > 20*time.Second {
		r.Errorf("it took %s to end", took)
	}
}

// A first install, and a second that changes nothing.
func TestInstall(t *testing.T) {
	n := newNode(t)
	if got, want := n.once(), "flannel: installed\nhost-routes: installed\nroute-override: installed\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	n.holds(all1)
	before := inodes(n)
	if got, want := n.once(), "flannel: up to date\nhost-routes: up to date\nroute-override: up to date\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if after := inodes(n); after != before {
		t.Errorf("%s became %s", before, after)
	}
}

// inodes tells the identity and the last change of each file.
func inodes(n node) string {
	n.Helper()
	out, err := exec.Command("sh", "-c", `stat -c "%n %i %Z %z" "$1"/*`, "sh", n.bin).Output()
	if err != nil {
		n.Fatal(err)
	}
	return string(out)
}

// What is there already and is not the same gives way, whatever it is; what is
// not ours stays.
func TestInstallOverOthers(t *testing.T) {
	n := newNode(t)
	n.once()
	foreign := filepath.Join(t.TempDir(), "multi-call")
	for path, content := range map[string]string{n.path("bridge"): "x", foreign: "foreign"} {
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Remove(n.path("flannel"))
	if err := errors.Join(os.Symlink(foreign, n.path("flannel")), unix.Chmod(n.path("host-routes"), 0o4755),
		os.WriteFile(n.path(".cni-netops-seamless-123.tmp"), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	n.provide("route-override", release2)
	want := ".cni-netops-seamless-123.tmp: unfinished, removed\nflannel: installed over another one\n" +
		"host-routes: installed over another one\nroute-override: installed over another one\n"
	if got := n.once(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	n.holds(map[string]string{"flannel": "1", "host-routes": "1", "route-override": "2", "bridge": "?"})
	if b, _ := os.ReadFile(foreign); string(b) != "foreign" {
		t.Errorf("it wrote through a link: %q", b)
	}
	// A folder is no plugin: it is told, and the others are installed.
	_, _ = os.Remove(n.path("flannel")), os.Mkdir(n.path("flannel"), 0o755)
	n.provide("host-routes", release2)
	n.refused(n.command("--once"), "installer: cannot install into "+n.bin+": flannel: there is a folder in its place\n", "host-routes: installed over another one\n")
}

// Whoever runs a plugin while it is upgraded never fails, and gets the old
// release or the new one. One that runs goes on.
func TestUpgradeUnderLoad(t *testing.T) {
	const upgrades, runners = 30, 3
	n := newNode(t)
	n.once()
	long := exec.Command(n.path("route-override"), "wait")
	if err := long.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = long.Process.Kill(); _ = long.Wait() }()
	var stop atomic.Bool
	var runs [3]atomic.Int64
	var done sync.WaitGroup
	for range runners {
		done.Go(func() {
			for !stop.Load() {
				out, err := exec.Command(n.path("route-override")).Output()
				if err != nil || string(out) != "1" && string(out) != "2" {
					t.Errorf("%v: %q", err, out)
					return
				}
				runs[out[0]-'0'].Add(1)
			}
		})
	}
	for i := range upgrades {
		n.provide("route-override", []string{release2, release1}[i%2])
		if got := n.once(); !strings.Contains(got, "route-override: installed over another one\n") {
			t.Errorf("%s", got)
		}
	}
	stop.Store(true)
	done.Wait()
	if runs[1].Load() == 0 || runs[2].Load() == 0 {
		t.Errorf("nothing was run meanwhile: %d, %d", runs[1].Load(), runs[2].Load())
	}
	if err := long.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("what ran since before has ended: %v", err)
	}
}

func (n node) has(name string) bool {
	_, err := os.Lstat(n.path(name))
	return err == nil
}

// writes reports whether a file is being written.
func (n node) writes() bool {
	files, _ := filepath.Glob(n.path(unfinishedBefore + "*"))
	return len(files) > 0
}

// An installer that is killed at any moment leaves no half of a plugin under
// its name, and the next one clears up.
func TestKilled(t *testing.T) {
	n := newNode(t)
	big, err := os.ReadFile(release1)
	if err != nil {
		t.Fatal(err)
	}
	big = append(big, make([]byte, 16<<20)...)
	if err := os.WriteFile(filepath.Join(n.source, "host-routes"), big, 0o755); err != nil {
		t.Fatal(err)
	}
	unfinished := 0
	for i := range 20 {
		r := n.start(n.command("--once"))
		if i%2 == 0 { // at any moment
			time.Sleep(time.Duration(i) * 2 * time.Millisecond)
		} else { // at work
			r.until("a file is written, or was", func() bool { return n.writes() || n.has("host-routes") })
		}
		_ = r.Process.Kill()
		_ = r.Wait()
		for name, release := range n.there() {
			if strings.HasPrefix(name, unfinishedBefore) {
				unfinished++
			} else if release != "1" {
				t.Fatalf("%s is %q", name, release)
			}
		}
		if st, err := os.Stat(n.path("host-routes")); err == nil && st.Size() != int64(len(big)) {
			t.Fatalf("%d bytes of %d", st.Size(), len(big))
		}
		_ = os.Remove(n.path("host-routes"))
	}
	if unfinished == 0 {
		t.Error("it was never killed at work")
	}
	n.once()
	n.holds(all1)
}

// What is removed or changed later is put right again.
func TestRepair(t *testing.T) {
	n := newNode(t)
	r := n.start(powerless(n.command()))
	r.untilSaid("route-override: installed")
	for _, tt := range []struct {
		what, says string
		damage     func(path string) error
	}{
		{"removed", "was removed, installed again", os.Remove},
		{"overwritten", "was changed, installed again", func(path string) error { // at once, or it is removed first
			return errors.Join(os.WriteFile(path+".new", []byte("#!/bin/false\n"), 0o755), os.Rename(path+".new", path))
		}},
		{"written to", "was changed, installed again", func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("x")
			return errors.Join(err, f.Close())
		}},
		{"not executable", "was changed, installed again", func(path string) error { return os.Chmod(path, 0o644) }},
		{"replaced", "was changed, installed again", func(path string) error {
			content, err := os.ReadFile(release2)
			if err == nil {
				err = os.WriteFile(path+".new", content, 0o755)
			}
			return errors.Join(err, os.Rename(path+".new", path))
		}},
		{"renamed", "was removed, installed again", func(path string) error { return os.Rename(path, filepath.Join(t.TempDir(), "x")) }},
	} {
		lines := strings.Count(r.said(), "\n")
		if err := tt.damage(n.path("flannel")); err != nil {
			t.Fatal(err)
		}
		r.until(tt.what, func() bool { return strings.Count(r.said(), "\n") > lines })
		if got := strings.SplitAfter(r.said(), "\n")[lines:]; got[0] != "flannel: "+tt.says+"\n" {
			t.Errorf("%s: it says %q", tt.what, got)
		}
		n.holds(all1)
	}
	// The folder itself may go, and come again.
	if err := os.RemoveAll(n.bin); err != nil {
		t.Fatal(err)
	}
	r.until("the folder", func() bool { return fmt.Sprint(n.there()) == fmt.Sprint(all1) })
	_ = os.Remove(n.path("flannel"))
	r.until("in the new folder", func() bool { return fmt.Sprint(n.there()) == fmt.Sprint(all1) })
	r.end(syscall.SIGTERM)
	n.holds(all1)
}

// What a watch does not see, a look now and then does.
func TestRepairWithoutWatch(t *testing.T) {
	n := newNode(t)
	cmd := n.command("--interval", "50ms")
	// A user without inotify instances, in namespaces of its own.
	const script = `echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"`
	cmd = exec.Command("unshare", append([]string{"--user", "--map-root-user", "sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)...)
	r := n.start(cmd)
	r.untilSaid("route-override: installed")
	if !strings.Contains(r.said(), "cannot be watched: too many open files\n") {
		t.Errorf("it says %s", r.said())
	}
	_ = os.Remove(n.path("flannel"))
	r.untilSaid("flannel: was removed, installed again")
	r.end(syscall.SIGTERM)
}

// Two releases that are both meant to be there wear neither out the disk nor
// each other's patience.
func TestTwoInstallers(t *testing.T) {
	n, other := newNode(t), newNode(t)
	other.bin = n.bin
	other.provide("route-override", release2)
	one, two := n.start(n.command()), n.start(other.command())
	one.untilSaid("route-override: was changed, installed again")
	two.until("two", func() bool { return strings.Contains(two.said(), "route-override: ") })
	time.Sleep(3 * time.Second)
	if fights := strings.Count(one.said()+two.said(), "route-override: was changed"); fights > 24 {
		t.Errorf("%d times in three seconds", fights)
	}
	one.end(syscall.SIGTERM)
	two.until("the one that is left wins", func() bool { return n.there()["route-override"] == "2" })
	two.end(syscall.SIGTERM)
	if strings.Contains(one.said()+two.said(), "cannot") {
		t.Errorf("%s%s", one.said(), two.said())
	}
	n.holds(map[string]string{"flannel": "1", "host-routes": "1", "route-override": "2"})
}

func TestSubset(t *testing.T) {
	n := newNode(t)
	if got, want := n.once("--plugins", "route-override, flannel,flannel"), "route-override: installed\nflannel: installed\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	n.holds(map[string]string{"flannel": "1", "route-override": "1"})
	n.refused(n.command("--once", "--plugins", "rout-override,,flannel"),
		`installer: --plugins: there is no "rout-override", only flannel, host-routes, route-override`+"\n", `installer: --plugins: there is no ""`)
}

// At its end it removes what it installed, and nothing else.
func TestUninstall(t *testing.T) {
	n := newNode(t)
	n.once("--plugins", "flannel")
	r := n.start(n.command("--uninstall-on-exit"))
	r.untilSaid("route-override: installed")
	n.holds(all1)
	defer n.lock(unix.LOCK_EX)() // it sees the change, and cannot undo it any more
	content, err := os.ReadFile(release2)
	if err == nil {
		err = os.WriteFile(n.path("host-routes"), content, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.end(syscall.SIGTERM)
	n.holds(map[string]string{"flannel": "1", "host-routes": "2"})
	for _, line := range []string{"flannel: left: it was there before", "host-routes: left: it is not what was installed", "route-override: removed"} {
		if !strings.Contains(r.said(), line+"\n") {
			t.Errorf("it does not say %q:\n%s", line, r.said())
		}
	}
}

// With a file it still knows after a restart what it installed.
func TestUninstallAfterRestart(t *testing.T) {
	n := newNode(t)
	n.once("--plugins", "flannel")
	state := filepath.Join(t.TempDir(), "state")
	args := []string{"--uninstall-on-exit", "--state", state}
	killed := n.start(n.command(args...))
	killed.untilSaid("route-override: installed")
	killed.until("state", func() bool { b, _ := os.ReadFile(state); return strings.Contains(string(b), "route-override") })
	_ = killed.Process.Kill()
	_ = killed.Wait()
	r := n.start(n.command(args...))
	r.untilSaid("route-override: up to date")
	r.end(syscall.SIGTERM)
	n.holds(map[string]string{"flannel": "1"})
	if _, err := os.Stat(state); err == nil {
		t.Error("the file is left")
	}
}

// A file that tells nothing, or of something else, is no reason not to install.
// Less is removed then.
func TestUnusableState(t *testing.T) {
	for text, said := range map[string]string{
		"nonsense": "is damaged, begun anew: ",
		"null":     "is about \"\", begun anew\n",
		`{"target": "/elsewhere", "plugins": ["flannel"]}`: "is about \"/elsewhere\", begun anew\n",
	} {
		n := newNode(t)
		n.once("--plugins", "flannel")
		state := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(state, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := n.start(n.command("--uninstall-on-exit", "--state", state))
		r.untilSaid("route-override: installed")
		r.end(syscall.SIGTERM)
		n.holds(map[string]string{"flannel": "1"})
		if !strings.Contains(r.said(), "--state "+state+" "+said) {
			t.Errorf("%s: %s", text, r.said())
		}
	}
	n := newNode(t)
	n.refused(n.command("--once", "--state", filepath.Join(t.TempDir(), "none", "state")), "installer: lock --state: ", "no such file or directory")
	n.holds(nil)
	n.once()
	n.refused(n.command("--once", "--state", n.path("state")), "--state "+n.path("state")+" is in the folder of the plugins")
	n.refused(n.command("--status", n.path("status")), "--status "+n.path("status")+" is in the folder of the plugins")
}

// What was installed before the choice became a smaller one is removed, too.
func TestUninstallAll(t *testing.T) {
	n := newNode(t)
	state := filepath.Join(t.TempDir(), "state")
	n.once("--state", state)
	r := n.start(n.command("--uninstall-on-exit", "--state", state, "--plugins", "flannel"))
	r.untilSaid("flannel: up to date")
	r.end(syscall.SIGTERM)
	n.holds(nil)
}

// Whatever has come into a plugin's place does not hold up the end. The folder is
// locked meanwhile, so that the installer cannot put its own there again first.
func TestUninstallOthers(t *testing.T) {
	n := newNode(t)
	r := n.start(n.command("--uninstall-on-exit"))
	r.untilSaid("route-override: installed")
	defer n.lock(unix.LOCK_EX)()
	err := errors.Join(os.Remove(n.path("flannel")), unix.Mkfifo(n.path("flannel"), 0o755),
		os.Rename(n.path("host-routes"), n.path("mine")), os.Symlink("mine", n.path("host-routes")))
	if err != nil {
		t.Fatal(err)
	}
	r.end(syscall.SIGTERM)
	for _, line := range []string{"flannel: left: it is not what was installed", "host-routes: left: it is not what was installed", "route-override: removed"} {
		if !strings.Contains(r.said(), line+"\n") {
			t.Errorf("it does not say %q:\n%s", line, r.said())
		}
	}
}

// What is being written to, or is empty, is not installed.
func TestIncompleteSource(t *testing.T) {
	n := newNode(t)
	if err := os.Truncate(filepath.Join(n.source, "flannel"), 0); err != nil {
		t.Fatal(err)
	}
	n.refused(n.command("--once"), "flannel is not complete")
	n.holds(map[string]string{"host-routes": "1", "route-override": "1"})
}

// Told to end, it ends, also while another one holds the folder.
func TestSignals(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		n := newNode(t)
		r := n.start(n.command())
		r.untilSaid("route-override: installed")
		r.end(signal)
		n.holds(all1)
	}
	n := newNode(t)
	n.once()
	unlock := n.lock(unix.LOCK_EX)
	r := n.start(n.command())
	r.until("it watches the folder", r.watches)
	r.end(syscall.SIGTERM)
	if r.said() != "" {
		t.Errorf("it went on while the folder was locked: %s", r.said())
	}
	unlock()
}

// Whoever may read the folder can lock it. That delays, and hinders nothing.
func TestLockedForEver(t *testing.T) {
	n := newNode(t)
	if err := os.MkdirAll(n.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	defer n.lock(unix.LOCK_SH)()
	r := n.start(n.command("--uninstall-on-exit"))
	r.untilSaid("another process has it locked: going on without")
	r.untilSaid("route-override: installed")
	r.end(syscall.SIGTERM)
	n.holds(nil)
}

// What cannot be written is told, with what to do about it, and left as it was.
func TestUnwritable(t *testing.T) {
	t.Run("read-only", func(t *testing.T) {
		n := newNode(t)
		n.once("--plugins", "flannel")
		if err := errors.Join(unix.Mount(n.bin, n.bin, "", unix.MS_BIND, ""), unix.Mount("", n.bin, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Unmount(n.bin, unix.MNT_DETACH) }()
		n.once("--plugins", "flannel") // there is nothing to write
		out := n.refused(n.command("--once"), "installer: cannot install into "+n.bin+": host-routes: ", "read-only file system: it is read-only: mount it writable")
		if strings.Count(out, "cannot install") != 1 {
			t.Errorf("it says so more than once: %s", out)
		}
		n.holds(map[string]string{"flannel": "1"})
	})
	t.Run("not allowed", func(t *testing.T) {
		n := newNode(t)
		n.once("--plugins", "flannel")
		if err := os.Chmod(n.bin, 0o555); err != nil {
			t.Fatal(err)
		}
		n.refused(powerless(n.command("--once")), "permission denied: the installer has to be uid 0 and the folder root's; where SELinux")
		n.holds(map[string]string{"flannel": "1"})
	})
	t.Run("full", func(t *testing.T) {
		n := newNode(t)
		if err := errors.Join(os.MkdirAll(n.bin, 0o755), unix.Mount("tmpfs", n.bin, "tmpfs", 0, "size=3m")); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Unmount(n.bin, unix.MNT_DETACH) }()
		n.once("--plugins", "flannel")
		n.provide("flannel", release2)
		n.refused(n.command("--once"), "no space left on device: the disk is full")
		n.holds(map[string]string{"flannel": "1"})
	})
	t.Run("a file", func(t *testing.T) {
		n := newNode(t)
		n.bin = release1
		n.refused(n.command("--once"), "installer: cannot install into "+n.bin+": mkdir "+n.bin+": not a directory")
	})
}

// Neither the installer nor its source lies where runtimes run every file.
func TestStandsAside(t *testing.T) {
	n := newNode(t)
	n.bin = n.source
	n.refused(n.command("--once"), n.source+" holds what is to be installed")
	n = newNode(t)
	n.bin = filepath.Dir(installerPath)
	n.refused(n.command("--once"), n.bin+" holds what is to be installed, or the installer")
	n.source = t.TempDir()
	n.refused(n.command("--once"), "installer: there are no plugins in "+n.source)
}

// probe asks as a kubelet does. What it is told is "" for yes.
func (n node) probe(what string) string {
	n.Helper()
	out, err := exec.Command(installerPath, "probe", "--status", n.status, what).CombinedOutput()
	if (err == nil) != (len(out) == 0) {
		n.Errorf("probe %s: %v: %q", what, err, out)
	}
	return string(out)
}

// The probes of a kubelet are processes beside the installer's.
func TestProbes(t *testing.T) {
	n := newNode(t)
	if got := n.probe("ready"); got != "installer: no installer has written "+n.status+" yet\n" {
		t.Errorf("before it runs: %q", got)
	}
	r := n.start(n.command("--interval", "100ms"))
	r.until("ready", func() bool { return n.probe("ready") == "" })
	n.holds(all1)
	if got := n.probe("live"); got != "" {
		t.Errorf("%q", got)
	}
	_, _ = os.Remove(n.path("flannel")), os.Mkdir(n.path("flannel"), 0o755)
	r.until("not ready", func() bool {
		return strings.Contains(n.probe("ready"), "installer: cannot install into "+n.bin+": flannel: there is a folder in its place\n")
	})
	if got := n.probe("live"); got != "" {
		t.Errorf("a look that fails is no reason to be restarted: %q", got)
	}
	_ = os.Remove(n.path("flannel"))
	r.until("ready again", func() bool { return n.probe("ready") == "" })
	r.end(syscall.SIGTERM)
	n.refused(exec.Command(installerPath, "probe", "--status", n.status, "started"), `unknown probe "started", only "live" and "ready"`)
	n.refused(exec.Command(installerPath, "probe", "--status", n.status), `"installer probe live" or "installer probe ready", not []`)
	if err := os.WriteFile(n.status, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.refused(exec.Command(installerPath, "probe", "--status", n.status, "ready"), "read --status: ")
}

// That none succeeds for long is a reason to be restarted.
func TestLive(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run", "status")
	r := newReporter(file, time.Minute, t.Output())
	if now := sinceBoot(); r.live(now) != nil || r.live(now+r.patience+time.Minute) == nil || r.ready() == nil {
		t.Errorf("at first: %+v at %s", r.status, now)
	}
	r.note(nil)
	good := r.AliveUntil
	r.note(errors.New("broken"))
	if err := r.live(good + time.Second); err == nil || !strings.Contains(err.Error(), "broken") || r.AliveUntil != good {
		t.Errorf("after long: %v", err)
	}
	if err := probe("ready", file); err == nil || err.Error() != "broken" {
		t.Errorf("ready: %v", err)
	}
	if err := probe("live", file); err != nil {
		t.Errorf("live: %v", err)
	}
	r.AliveUntil = sinceBoot() - time.Second
	r.write()
	if err := probe("live", file); err == nil {
		t.Error("it lives beyond its time")
	}
}

// A status that cannot be written is told once, and hinders nothing else.
func TestUnwritableStatus(t *testing.T) {
	n := newNode(t)
	n.status = filepath.Join(release1, "status")
	r := n.start(n.command("--interval", "50ms"))
	r.untilSaid("route-override: installed")
	for _, name := range []string{"flannel", "host-routes"} {
		_ = os.Remove(n.path(name))
		r.untilSaid(name + ": was removed, installed again")
	}
	if got := strings.Count(r.said(), "write --status, without which probes fail: "); got != 1 {
		t.Errorf("%d times in\n%s", got, r.said())
	}
	r.end(syscall.SIGTERM)
}

// A first look that fails is tried again, as every other one is. What is wrong is
// told once.
func TestFirstLookFails(t *testing.T) {
	n := newNode(t)
	opt := filepath.Dir(filepath.Dir(n.bin))
	if err := os.WriteFile(opt, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := n.start(n.command("--uninstall-on-exit"))
	r.until("several looks", func() bool {
		return strings.Contains(n.probe("ready"), opt+": not a directory") && strings.Count(r.said(), "\n") > 0
	})
	if got := n.probe("live"); got != "" {
		t.Errorf("%q", got)
	}
	if err := os.Remove(opt); err != nil {
		t.Fatal(err)
	}
	r.untilSaid("route-override: installed")
	n.holds(all1)
	if got := strings.Count(r.said(), "cannot install"); got != 1 {
		t.Errorf("%d times in\n%s", got, r.said())
	}
	r.end(syscall.SIGTERM)
	n.holds(nil)
	// One that never succeeded has nothing to remove.
	n.bin = filepath.Join(release1, "opt", "cni", "bin")
	r = n.start(n.command("--uninstall-on-exit"))
	r.until("told", func() bool { return strings.Contains(r.said(), "not a directory") })
	r.end(syscall.SIGTERM)
}

// A path that comes to lead to another folder is seen long before the interval
// is over.
func TestLedElsewhere(t *testing.T) {
	n := newNode(t)
	folders := t.TempDir()
	for _, name := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(folders, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(os.MkdirAll(filepath.Dir(n.bin), 0o755), os.Symlink(filepath.Join(folders, "1"), n.bin))
	if err != nil {
		t.Fatal(err)
	}
	r := n.start(n.command("--interval", "1h"))
	r.until("in the first", func() bool { return fmt.Sprint(n.there()) == fmt.Sprint(all1) })
	if err := errors.Join(os.Symlink(filepath.Join(folders, "2"), n.bin+".new"), os.Rename(n.bin+".new", n.bin)); err != nil {
		t.Fatal(err)
	}
	r.until("in the second", func() bool { return fmt.Sprint(n.there()) == fmt.Sprint(all1) })
	_ = os.Remove(n.path("flannel"))
	r.until("the second is watched", func() bool { return fmt.Sprint(n.there()) == fmt.Sprint(all1) })
	r.end(syscall.SIGTERM)
}

// Two installers with one --state would each forget what the other has placed.
func TestStateOfAnother(t *testing.T) {
	n := newNode(t)
	state := filepath.Join(t.TempDir(), "state")
	r := n.start(n.command("--uninstall-on-exit", "--state", state))
	r.untilSaid("route-override: installed")
	n.refused(n.command("--once", "--state", state), "lock --state: another installer uses "+state+": give each one of its own")
	r.end(syscall.SIGTERM)
	n.once("--state", state)
}

// collect starts an installer that calls the plugins' gc on this node.
func (n node) collect(args ...string) *running {
	n.Helper()
	// The folder's path on the node is not that in the container.
	root, bin := filepath.Dir(filepath.Dir(filepath.Dir(n.bin))), "/opt/cni/bin"
	return n.start(exec.Command(installerPath, append([]string{"gc", "--source", n.source, "--root", root, "--bin", bin, "--interval", "20ms"}, args...)...))
}

// Each plugin is called in the node's file system, now and then. One that is not
// there, or fails, keeps no other from being called.
func TestGC(t *testing.T) {
	n := newNode(t)
	collected := filepath.Join(n.bin, "../../..", "collected")
	n.once("--plugins", "host-routes")
	r := n.collect()
	for range 2 {
		r.until("host-routes has been called", func() bool { return os.Remove(collected) == nil })
	}
	r.until("route-override's absence is told", func() bool {
		return strings.Contains(r.said(), "route-override gc: fork/exec /opt/cni/bin/route-override: no such file or directory\n")
	})
	if strings.Contains(r.said(), "flannel") {
		t.Errorf("flannel is called, which has no gc: %s", r.said())
	}
	if !strings.Contains(r.said(), "1") {
		t.Errorf("what the plugin prints is not passed on: %q", r.said())
	}
	r.end(syscall.SIGTERM)

	r = n.collect("--plugins", "route-override")
	r.until("only what is named", func() bool { return strings.Contains(r.said(), "route-override gc: ") })
	if strings.Contains(r.said(), "host-routes") || os.Remove(collected) == nil {
		t.Errorf("others are called: %s", r.said())
	}
	r.end(syscall.SIGTERM)
	n.refused(exec.Command(installerPath, "gc", "--source", n.source, "--interval=0s"), "--interval 0s is not above 0s")
	n.refused(exec.Command(installerPath, "gc", "--source", n.source, "flannel"), `unknown arguments ["flannel"]`)
	n.refused(exec.Command(installerPath, "gc", "--source", n.source, "--plugins=x"), `--plugins: there is no "x"`)
}

// Told to end while a plugin works, it has the plugin end.
func TestGCEnds(t *testing.T) {
	n := newNode(t)
	n.once()
	r := n.collect("--plugins", "host-routes")
	r.until("called", func() bool { return strings.Contains(r.said(), "1") })
	r.end(syscall.SIGTERM)
}

func TestCommandLine(t *testing.T) {
	if out, err := exec.Command(installerPath, "--version").CombinedOutput(); err != nil || string(out) != "cni-netops installer version unknown\n" {
		t.Errorf("%v: %s", err, out)
	}
	out, err := exec.Command(installerPath, "--help").CombinedOutput()
	if err != nil {
		t.Error(err)
	}
	for _, flag := range []string{"-source", "-target", "-plugins", "-once", "-uninstall-on-exit", "-state", "-status", "-interval", "-version"} {
		if !slices.ContainsFunc(strings.Split(string(out), "\n"), func(l string) bool { return strings.HasPrefix(l, "  "+flag) }) {
			t.Errorf("no %s in %s", flag, out)
		}
	}
	n := newNode(t)
	n.refused(n.command("--onec"), "flag provided but not defined: -onec")
	n.refused(n.command("flannel"), `unknown arguments ["flannel"]`)
	n.refused(n.command("--interval=0s"), "--interval 0s is not between 0s and 24h0m0s")
	n.refused(n.command("--once", "--uninstall-on-exit"), "--uninstall-on-exit would leave nothing")
	if _, err := os.Stat(n.bin); err == nil {
		t.Error("it has made the folder")
	}
}
