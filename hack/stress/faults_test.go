package stress

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// Every operation of the engine, in turn, is refused, or the process ended at
// it; then comes what a runtime would do, and all is as it was before.
func TestSweepOperations(t *testing.T) {
	dir, err := filepath.Abs("../../bin/" + faulty)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range subjects {
		if s.alone {
			continue // its system calls are swept
		}
		t.Run(s.plugin, func(t *testing.T) {
			w := newSweep(t, s)
			w.program = filepath.Join(dir, s.plugin)
			for _, verb := range []string{"ADD", "DEL", "GC"} {
				w.each(verb)
			}
			w.told("killed", "ended", "refused")
		})
	}
}

// sweep is a sweep over the points of a plugin's process.
type sweep struct {
	subject
	*node
	t            testing.TB
	program      string
	pod          *netopstest.NS
	living       []plugintest.Call // attachments that nothing is to happen to
	before       string
	kernelBefore string
	filesBefore  []string
	points       map[string]int // by verb and what happened
}

func newSweep(t testing.TB, s subject) *sweep {
	w := &sweep{subject: s, node: newNode(t), t: t, program: s.plugin, points: map[string]int{}}
	if s.beside != "" {
		c := s.callWith(t, s.newPod(t, "beside"), s.beside)
		c.OK("ADD")
		t.Cleanup(func() { c.OK("DEL") }) // the next test has the same node
		w.living = append(w.living, c)
	}
	w.renew()
	return w
}

// renew makes a new pod, the old one having vanished.
func (w *sweep) renew() {
	w.t.Helper()
	if w.pod != nil {
		w.pod.Remove()
	}
	w.pod = w.newPod(w.t, "pod")
	for until := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		w.kernelBefore, w.filesBefore = w.kernel(w.pod), w.files()
		w.before = w.kernelBefore + strings.Join(w.filesBefore, "\n")
		if time.Now().After(until) || !unsettled(w.before) {
			return
		}
	}
}

func (w *sweep) call() plugintest.Call {
	c := w.subject.call(w.t, w.pod)
	c.Plugin = w.program
	return c
}

// asBefore waits until all is as it was before, which it is at once where no
// interface vanishes.
func (w *sweep) asBefore(after string, a plugintest.Answer) {
	w.t.Helper()
	if diff := eventually(w.before, func() string { return w.state(w.pod) }); diff != "" {
		w.t.Fatalf("after %s all is not as before:\n%s\nit exited %d: %s%s", after, diff, a.Exit, a.Stdout, a.Stderr)
	}
}

// count notes that a point was reached.
func (w *sweep) count(verb, what string) { w.points[verb+" "+what]++ }

// told tells how many points there were. Where a fault could not be made there
// are none, which shows nothing.
func (w *sweep) told(kinds ...string) {
	w.t.Helper()
	total := 0
	for _, n := range w.points {
		total += n
	}
	for _, verb := range []string{"ADD", "DEL", "GC"} {
		for _, kind := range kinds {
			if w.points[verb+" "+kind] == 0 {
				w.t.Errorf("%s: nothing was %s", verb, kind)
			}
		}
	}
	w.t.Logf("%s: %d points: %v", w.plugin, total, w.points)
}

// Errors with which an operation is refused: what lasts is told by code 100, what
// passes by 11. Of what is there already, or gone already, it may be as it is
// wanted.
var (
	lasting   = []unix.Errno{unix.EPERM, unix.EINVAL, unix.ENETUNREACH}
	passing   = []unix.Errno{unix.ENOMEM, unix.EBUSY}
	wantedSo  = []unix.Errno{unix.EEXIST, unix.ESRCH}
	bothSides = []string{"before", "after"}
)

// byTurns are all of a list for each of the first operations. Later ones are much
// like those: of a kind of which there are many, they take it by turns, as all do
// in a sample.
func byTurns[T any](t testing.TB, n int, list []T) []T {
	const each = 3
	if n < each && netopstest.Whole(t) {
		return list
	}
	return list[n%len(list):][:1]
}

// follow is what may come after a process that was killed.
type follow func(c plugintest.Call)

// each goes through the operations of a verb, until there are no more.
func (w *sweep) each(verb string) {
	for n := 0; ; n += netopstest.Sample(w.t, 23) {
		killed := w.killed(verb, n, "before", byTurns(w.t, n, []follow{w.deleted, w.collected}))
		if !killed {
			if n == 0 {
				w.t.Errorf("%s has no operation", verb)
			}
			return
		}
		w.killed(verb, n, "after", byTurns(w.t, n, []follow{w.vanished, w.replaced, w.again}))
		w.ended(verb, n)
		if verb == "ADD" {
			w.refused(n)
		} else {
			w.passing(verb, n)
			w.lasting(verb, n)
		}
		if w.t.Failed() {
			w.t.Fatalf("%s, operation %d", verb, n)
		}
	}
}

// begun is a call of a verb that can be made now.
func (w *sweep) begun(verb string) plugintest.Call {
	w.t.Helper()
	c := w.call()
	if verb == "ADD" {
		return c
	}
	c.OK("ADD")
	return c
}

// gc is a call for all of the network but what lives, and these.
func (w *sweep) gc(c plugintest.Call, valid ...plugintest.Call) plugintest.Call {
	return gc(c, append(valid, w.living...)...)
}

// do makes a call of a verb with a fault in it.
func (w *sweep) do(verb string, c plugintest.Call, f plugintest.Fault) plugintest.Answer {
	c.TB.Helper()
	if verb == "GC" {
		c = w.gc(c)
	}
	return c.Failing(f).Do(verb)
}

// killed kills the process at its operation n, once for each of what may come
// then. It reports whether there is such an operation.
func (w *sweep) killed(verb string, n int, at string, then []follow) bool {
	w.t.Helper()
	for _, follow := range then {
		c := w.begun(verb)
		a := w.do(verb, c, plugintest.Fault{At: at, N: n, Kill: syscall.SIGKILL})
		if a.Exit != -1 {
			if a.Exit != 0 {
				w.t.Errorf("%s: %s%s", verb, a.Stdout, a.Stderr)
			}
			c.OK("DEL")
			return false
		}
		w.count(verb, "killed")
		if verb == "ADD" {
			c.Refused("CHECK", 106, "was not finished")
		}
		follow(c)
		w.asBefore(fmt.Sprintf("%s killed %s operation %d", verb, at, n), a)
	}
	return true
}

// What may come after a process that was killed.

// deleted is the DEL that a runtime sends.
func (w *sweep) deleted(c plugintest.Call) { c.OK("DEL") }

// collected is a GC that takes the attachment for a valid one: what was not
// finished goes all the same.
func (w *sweep) collected(c plugintest.Call) {
	w.gc(c, c).OK("GC")
	w.gc(c).OK("GC") // where the process had ended all but its own file
}

// vanished is that the pod's namespace goes without a DEL.
func (w *sweep) vanished(c plugintest.Call) {
	w.pod.Remove()
	w.gc(c).OK("GC")
	w.renewAs()
}

// replaced is that the pod vanishes, and the next one gets its address.
func (w *sweep) replaced(c plugintest.Call) {
	w.pod.Remove()
	w.pod = w.newPod(w.t, "pod")
	next := w.call()
	added := next.OK("ADD")
	next.After(added).OK("CHECK")
	w.gc(c, next).OK("GC")
	next.After(added).OK("CHECK")
	next.OK("DEL")
}

// again is that the runtime asks once more for the same.
func (w *sweep) again(c plugintest.Call) {
	added := c.OK("ADD")
	c.After(added).OK("CHECK")
	if kept := kept(w.t, c); len(kept) != 1 {
		w.t.Errorf("%d records of one attachment: %v", len(kept), kept)
	}
	c.OK("DEL")
}

// kept are an attachment's records, or what flannel keeps of it.
func kept(t testing.TB, c plugintest.Call) (files []string) {
	t.Helper()
	for _, path := range append(plugintest.Left(t, stateDir), plugintest.Left(t, "/var/lib/cni/flannel")...) {
		state := strings.TrimPrefix(filepath.Ext(path), ".")
		if strings.Contains(path, c.Env["CNI_CONTAINERID"]+":") && slices.Contains([]string{"planned", "finished", "undoing"}, state) || strings.Contains(path, "@"+c.Env["CNI_CONTAINERID"]+"@") {
			files = append(files, path)
		}
	}
	return files
}

// renewAs makes a pod like the one that vanished: what is left of that one would
// show beside.
func (w *sweep) renewAs() {
	w.t.Helper()
	w.pod = w.newPod(w.t, "pod")
}

// ended ends the process by SIGTERM at its operation n. ADD takes back what it
// has done.
func (w *sweep) ended(verb string, n int) {
	w.t.Helper()
	for _, at := range byTurns(w.t, n, bothSides) {
		c := w.begun(verb)
		a := w.do(verb, c, plugintest.Fault{At: at, N: n, Kill: syscall.SIGTERM})
		w.count(verb, "ended")
		if verb != "ADD" {
			c.OK("DEL")
		} else if a.Exit != 1 || a.Error.Code != 11 {
			w.t.Errorf("%s, SIGTERM %s operation %d: exit %d: %s%s", verb, at, n, a.Exit, a.Stdout, a.Stderr)
		}
		w.asBefore(fmt.Sprintf("%s ended %s operation %d", verb, at, n), a)
	}
}

// refused refuses operation n of an ADD, which fails and leaves nothing.
func (w *sweep) refused(n int) {
	const verb = "ADD"
	w.t.Helper()
	for code, list := range map[uint][]unix.Errno{100: lasting, 11: passing} {
		for _, errno := range byTurns(w.t, n, list) {
			a := w.do("ADD", w.begun("ADD"), plugintest.Fault{At: "before", N: n, Deny: errno})
			w.count("ADD", "refused")
			if a.Exit != 1 || a.Error.Code != code {
				w.t.Errorf("ADD, operation %d refused by %v: exit %d: %s%s", n, errno, a.Exit, a.Stdout, a.Stderr)
			}
			w.asBefore(fmt.Sprintf("%s refused at operation %d by %v", verb, n, errno), a)
		}
	}
	for _, errno := range byTurns(w.t, n, wantedSo) {
		c := w.begun("ADD")
		a := w.do("ADD", c, plugintest.Fault{At: "before", N: n, Deny: errno})
		w.count("ADD", "refused")
		if a.Exit == 0 {
			c.OK("DEL")
		}
		w.asBefore(fmt.Sprintf("%s refused at operation %d by %v", verb, n, errno), a)
	}
}

// passing refuses operation n of DEL or GC for a reason that passes: the next
// one does the rest.
func (w *sweep) passing(verb string, n int) {
	w.t.Helper()
	const code = 11
	for _, errno := range byTurns(w.t, n, passing) {
		c := w.begun(verb)
		a := w.do(verb, c, plugintest.Fault{At: "before", N: n, Deny: errno})
		w.count(verb, "refused")
		if a.Exit != 0 && a.Error.Code != code {
			w.t.Errorf("%s, operation %d refused by %v: exit %d: %s%s", verb, n, errno, a.Exit, a.Stdout, a.Stderr)
		}
		c.OK("DEL")
		w.asBefore(fmt.Sprintf("%s refused at operation %d by %v", verb, n, errno), a)
	}
}

// lasting refuses operation n of DEL or GC for good. On the node that fails it,
// and the next one does the rest. In the pod it costs what it was about, with a
// warning: there it is not to make the pod undeletable.
func (w *sweep) lasting(verb string, n int) {
	w.t.Helper()
	c := w.begun(verb)
	a := w.do(verb, c, plugintest.Fault{At: "before", N: n, Deny: unix.EPERM})
	w.count(verb, "refused")
	if a.Exit != 0 {
		c.OK("DEL")
		w.asBefore(fmt.Sprintf("%s refused at operation %d by %v", verb, n, unix.EPERM), a)
		return
	}
	diff := changed(w.before, w.state(w.pod))
	if !strings.Contains(a.Stderr, "not everything in the pod could be taken back") && diff != nil {
		w.t.Errorf("%s, operation %d refused: no warning: %q", verb, n, a.Stderr)
	}
	if objects := objectsOf(diff); objects > 1 {
		w.t.Errorf("%s, operation %d refused: it costs %d objects:\n%s", verb, n, objects, strings.Join(diff, "\n"))
	}
	c.OK("DEL")
	w.renew()
}

// objectsOf counts the routes that lines are about, by their places. A multipath
// route has further lines for its ways; what has changed shows twice.
func objectsOf(diff []string) int {
	about := map[string]bool{}
	for _, l := range diff {
		words := strings.Fields(strings.TrimPrefix(l[1:], "blackhole "))
		if words[0] == "nexthop" {
			continue
		}
		name := words[0]
		if at := slices.Index(words, "metric"); at > 0 {
			name += " metric " + words[at+1]
		}
		about[name] = true
	}
	return len(about)
}
