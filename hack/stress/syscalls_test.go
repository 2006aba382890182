//go:build strace

package stress

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/plugin/plugintest"
)

// calls are the system calls by which a plugin changes something, or learns
// what it decides by, and the error that each is made to fail with: of what
// leads to the kernel's network one that passes, as a lasting one may cost what
// it hits.
var calls = []struct{ name, errno string }{
	{"mkdirat", "ENOSPC"}, {"openat", "EIO"}, {"read", "EIO"}, {"write", "ENOSPC"}, {"fsync", "EIO"}, {"newfstatat", "EIO"}, {"fstat", "EIO"},
	{"linkat", "ENOSPC"}, {"renameat", "ENOSPC"}, {"unlinkat", "EIO"}, {"unlink", "EIO"}, {"rmdir", "EIO"}, {"getdents64", "EIO"}, {"flock", "ENOLCK"},
	{"setns", "ENOMEM"}, {"socket", "ENOBUFS"}, {"getsockopt", "ENOMEM"}, {"ioctl", "ENOMEM"}, {"sendto", "ENOBUFS"}, {"recvmsg", "ENOBUFS"},
	{"pipe2", "EMFILE"}, {"clone", "EAGAIN"}, {"waitid", "EINTR"}, {"wait4", "EINTR"},
}

// Every system call of a released plugin that matters, in turn, fails, or the
// process is ended there; then comes the DEL of a runtime, and the kernel holds
// what it held before. What is left then of files tells nothing, and goes with
// the next GC. A process has more threads than one, and strace counts in each by
// itself: what several of them do is reached in the first.
func TestEverySystemCall(t *testing.T) {
	for _, s := range subjects {
		t.Run(s.plugin, func(t *testing.T) {
			w := &traced{sweep: newSweep(t, s), log: filepath.Join(t.TempDir(), "trace")}
			for _, verb := range []string{"ADD", "DEL", "GC"} {
				for _, call := range calls {
					for _, what := range []string{"signal=SIGKILL", "signal=SIGTERM", "error=" + call.errno} {
						w.inject(verb, call.name, what)
					}
				}
			}
			w.told()
		})
	}
}

// traced is a sweep over system calls.
type traced struct {
	*sweep
	log string
}

// strace is the command that does something at a system call. What a plugin
// delegates to is left alone; to look for that takes longer.
func (w *traced) strace(call, what string, n int) []string {
	only := "--seccomp-bpf"
	if w.subject.alone {
		only = "--detach-on=execve"
	}
	return []string{"strace", "-f", only, "-qq", "-o", w.log, "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:%s:when=%d", call, what, n)}
}

// inject does something at each system call of a name that a verb makes.
func (w *traced) inject(verb, call, what string) {
	w.t.Helper()
	for n := 1; ; n++ {
		c := w.begun(verb)
		at := c
		at.Under = w.strace(call, what, n)
		if verb == "GC" {
			at = w.gc(at)
		}
		a := at.Do(verb)
		if !w.reached(what, a) {
			if a.Exit != 0 {
				w.t.Errorf("%s: %s%s", verb, a.Stdout, a.Stderr)
			}
			c.OK("DEL")
			return
		}
		kind, _, _ := strings.Cut(what, "=")
		w.count(verb, kind)
		w.alone(c)
		c.OK("DEL")
		w.cleanedUp(c, fmt.Sprintf("%s, %s at %s %d", verb, what, call, n), a)
	}
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

// alone waits until no process of a container is left: what a plugin had
// started ends with it a moment later.
func (w *traced) alone(c plugintest.Call) {
	w.t.Helper()
	of := []byte("CNI_CONTAINERID=" + c.Env["CNI_CONTAINERID"] + "\x00")
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		running := ""
		environs, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			w.t.Fatal(err)
		}
		for _, path := range environs {
			if env, err := os.ReadFile(path); err == nil && bytes.Contains(env, of) {
				running = path
			}
		}
		if running == "" {
			return
		}
		if time.Now().After(until) {
			w.t.Fatalf("%s goes on", running)
		}
	}
}
