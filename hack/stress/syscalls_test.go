//go:build strace

package stress

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// calls are the system calls by which a plugin changes something, or learns
// what it decides by, and the error that each is made to fail with: of what
// leads to the kernel's network, the files of sysctls among it, one that passes,
// as a lasting one may cost what it hits. To end the process where it only looks is as good as a call later.
var calls = []struct {
	name, errno string
	looks       bool
}{
	{"mkdirat", "ENOSPC", false}, {"openat", "ENOMEM", false}, {"read", "EINTR", true}, {"write", "ENOMEM", false}, {"fsync", "EIO", true},
	{"newfstatat", "EIO", true}, {"fstat", "EIO", true}, {"linkat", "ENOSPC", false}, {"renameat", "ENOSPC", false}, {"unlinkat", "EIO", false},
	{"unlink", "EIO", false}, {"rmdir", "EIO", false}, {"getdents64", "EIO", true}, {"flock", "ENOLCK", false}, {"setns", "ENOMEM", true},
	{"socket", "ENOBUFS", true}, {"getsockopt", "ENOMEM", true}, {"ioctl", "ENOMEM", true}, {"sendto", "ENOBUFS", false}, {"recvmsg", "ENOBUFS", false},
	{"pipe2", "EMFILE", true}, {"clone", "EAGAIN", false}, {"symlinkat", "ENOSPC", false}, {"readlinkat", "EIO", true}, {"bind", "ENOMEM", true}, {"setsockopt", "ENOMEM", true}, {"waitid", "EINTR", false}, {"wait4", "EINTR", false},
}

// Every system call of a released plugin that matters, in turn, fails, or the
// process is ended there; then comes the DEL of a runtime, and the kernel holds
// what it held before. What is left then of files tells nothing, and goes with
// the next GC. A process has more threads than one, and strace counts in each by
// itself: what several of them do is reached in the first.
func TestSweepSystemCalls(t *testing.T) {
	for _, s := range subjects {
		t.Run(s.plugin, func(t *testing.T) {
			// What a process leaves behind that is killed becomes a child of this one.
			if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
				t.Fatal(err)
			}
			w := &traced{sweep: newSweep(t, s), log: filepath.Join(t.TempDir(), "trace")}
			for _, verb := range []string{"ADD", "DEL", "GC"} {
				for _, call := range calls {
					what := []string{"error=" + call.errno}
					if !call.looks {
						what = append(what, "signal=SIGKILL")
					}
					if verb == "ADD" && !call.looks { // the other verbs do not mind the difference
						what = append(what, "signal=SIGTERM")
					}
					for turn, what := range what {
						w.inject(verb, call.name, what, turn)
					}
				}
			}
			w.told("failed", "ended")
		})
	}
}

// traced is a sweep over system calls.
type traced struct {
	*sweep
	log string
}

// strace is the command that does something at a system call. What a plugin
// delegates to is left alone.
func (w *traced) strace(call, what string, n int) []string {
	return []string{"strace", "-f", "--detach-on=execve", "-qq", "-o", w.log, "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:%s:when=%d", call, what, n)}
}

// inject does something at each system call of a name that a verb makes. Where
// there are dozens, the later ones are much like each other, and one of some is
// taken, another one for each of what is done.
func (w *traced) inject(verb, call, what string, turn int) {
	w.t.Helper()
	const each, oneOf = 2, 9
	for n := 1; ; n++ {
		if n > each && (n+turn)%oneOf != 0 {
			continue
		}
		c := w.begun(verb)
		at := c
		at.Under = w.strace(call, what, n)
		if verb == "GC" {
			at = w.gc(at)
		}
		if verb == "GC" && w.alone {
			w.pod.Remove() // what it delegates to does not come into a pod at GC
		}
		a := run(at, verb)
		if verb == "GC" && w.alone {
			w.renewAs()
		}
		if !w.reached(what, a) {
			if a.Exit != 0 {
				w.t.Errorf("%s: %s%s", verb, a.Stdout, a.Stderr)
			}
			c.OK("DEL")
			return
		}
		if strings.HasPrefix(what, "error=") {
			w.count(verb, "failed")
		} else {
			w.count(verb, "ended")
		}
		w.orphans()
		c.OK("DEL")
		w.cleanedUp(c, fmt.Sprintf("%s, %s at %s %d", verb, what, call, n), a)
	}
}

// run makes a call of which the answer may get lost.
func run(c plugintest.Call, verb string) plugintest.Answer {
	c.TB.Helper()
	cmd := exec.Command(c.Under[0], append(c.Under[1:], c.Plugin)...)
	cmd.Env, cmd.Stdin = c.Environ(verb), strings.NewReader(c.Conf)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		c.TB.Fatal(err)
	}
	return plugintest.Answer{Stdout: stdout.String(), Stderr: stderr.String(), Exit: cmd.ProcessState.ExitCode()}
}

// cleanedUp fails the test unless DEL has restored what the kernel holds, and GC
// clears away what else was left.
func (w *traced) cleanedUp(c plugintest.Call, after string, a plugintest.Answer) {
	w.t.Helper()
	if diff := eventually(w.kernelBefore, func() string { return w.kernel(w.pod) }); diff != "" {
		w.t.Fatalf("after %s the kernel has not what it had before:\n%s\nit exited %d: %s%s", after, diff, a.Exit, a.Stdout, a.Stderr)
	}
	left := w.files()
	if slices.Equal(left, w.filesBefore) {
		return
	}
	// Nobody may be writing a file any more that is half-written for so long.
	long := time.Now().Add(-2 * time.Hour)
	for _, path := range left {
		if strings.HasPrefix(filepath.Base(path), ".new-") {
			if err := os.Chtimes(path, long, long); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.gc(c).OK("GC")
	if left = w.files(); !slices.Equal(left, w.filesBefore) {
		w.t.Fatalf("after %s, and GC: %v, before: %v\nit exited %d: %s%s", after, left, w.filesBefore, a.Exit, a.Stdout, a.Stderr)
	}
}

// reached reports whether strace came to do what it was asked for.
func (w *traced) reached(what string, a plugintest.Answer) bool {
	w.t.Helper()
	text, err := os.ReadFile(w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	signal, isSignal := strings.CutPrefix(what, "signal=")
	return isSignal && (a.Exit < 0 || bytes.Contains(text, []byte("--- "+signal))) || bytes.Contains(text, []byte("(INJECTED)"))
}

// orphans waits until what a killed process had started has ended, which it does
// a moment later.
func (w *traced) orphans() {
	w.t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		left := children(w.t)
		if left == nil {
			return
		}
		for _, pid := range left {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
		if time.Now().After(until) {
			w.t.Fatalf("processes %v go on", left)
		}
	}
}

// children are this process's.
func children(t testing.TB) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || lists == nil {
		t.Fatal("no list of children", err)
	}
	for _, path := range lists {
		list, _ := os.ReadFile(path) // a thread may have ended since then
		for _, word := range strings.Fields(string(list)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// However many attachments there are on a node, no verb opens more files and
// folders for it.
func TestCrowdedNode(t *testing.T) {
	for _, s := range subjects {
		if s.alone {
			continue
		}
		s.beside = ""
		t.Run(s.plugin, func(t *testing.T) {
			const others = 200
			w := &traced{sweep: newSweep(t, s), log: filepath.Join(t.TempDir(), "trace")}
			quiet, crowded := w.crowded(t, others)
			few, many := w.opens(quiet), w.opens(crowded)
			for verb, n := range few {
				if many[verb] > n || n == 0 {
					t.Errorf("%s opens %d files among %d other attachments, %d beside one", verb, many[verb], others, n)
				}
			}
		})
	}
}

// opens are how many files and folders the verbs of an attachment's life open.
func (w *traced) opens(c plugintest.Call) map[string]int {
	w.t.Helper()
	c.Under = []string{"strace", "-f", "-qq", "-o", w.log, "-e", "trace=openat"}
	opened, added := map[string]int{}, plugintest.Answer{}
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		call := c
		if verb == "CHECK" {
			call = c.After(added)
		}
		a := call.OK(verb)
		if verb == "ADD" {
			added = a
		}
		text, err := os.ReadFile(w.log)
		if err != nil {
			w.t.Fatal(err)
		}
		opened[verb] = bytes.Count(text, []byte("openat("))
	}
	return opened
}
