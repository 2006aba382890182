//go:build upgrade

package stress

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// Folders of the binaries that are replaced, and of those that replace them.
var (
	upgradeFrom = os.Getenv("UPGRADE_FROM")
	upgradeTo   = os.Getenv("UPGRADE_TO")
	write       = flag.Bool("write", false, "write what is left into the archives")
)

// Pods are attached by one release's binaries, whole or killed at every request
// to the kernel that comes after the record is saved, and checked, deleted and
// collected by another's.
func TestUpgrade(t *testing.T) {
	if upgradeFrom == "" || upgradeTo == "" {
		t.Fatal("scripts/upgrade.sh says what is to be replaced by what")
	}
	t.Setenv("PATH", upgradeTo+":"+os.Getenv("PATH"))
	for _, path := range archives(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			s := newScene(t, path)
			if _, older := s.files["older"]; older {
				s.survives(s.restored)
				return
			}
			old := &earlier{scene: s, points: map[string][]place{}, next: map[string]place{}, log: filepath.Join(t.TempDir(), "trace")}
			if *write {
				old.write(path)
			}
			s.survives(old.left)
			t.Logf("%d processes killed", old.killed)
		})
	}
}

// earlier has an earlier release's binaries attach pods.
type earlier struct {
	*scene
	log     string
	points  map[string][]place // that were found, by state
	next    map[string]place   // that was looked at last
	reached bool               // by the last process
	killed  int
}

// by is a call by the earlier release.
func (e *earlier) by(c attachCall) plugintest.Call {
	e.t.Helper()
	call := e.call(c)
	call.Plugin = filepath.Join(upgradeFrom, c.plugin)
	return call
}

// attach attaches all calls but those that come later than the first n, and notes
// what each changes.
func (e *earlier) attach(n int) {
	e.t.Helper()
	for i, c := range e.calls[:n] {
		if !c.after {
			delete(e.results, c.chain())
		}
		e.files[fmt.Sprint("plan.", i+1)] = tagged(e.by(c).OK("plan").Stdout)
		added := e.by(c).OK("ADD")
		e.files[fmt.Sprint("result.", i+1)] = added.Stdout
		e.results[c.chain()] = added
	}
}

// tagged are the commands of a plan with the protocol that the plugins give to
// what they make. They append what is left of a route, which keeps its own.
func tagged(plan string) string {
	plan = tagFirst.ReplaceAllString(plan, "$0 proto 77")
	return tagLast.ReplaceAllString(plan, "$0 protocol 77")
}

var (
	tagFirst = regexp.MustCompile(`(?m)^ip (-6 )?route (add|prepend)`)
	tagLast  = regexp.MustCompile(`(?m)^ip (-6 )?(rule|neigh) add .*$`)
)

// place is a system call at which a process is killed.
type place struct {
	call string
	n    int // counted from 1, in each thread
}

// places are those of which some come after something was kept: what is sent to
// the kernel, and the last thing that is done to a record. A delegate is started
// through pipes.
func (e *earlier) places(verb string) []string {
	switch {
	case e.delegates():
		return map[string][]string{"ADD": {"pipe2"}, "DEL": {"pipe2", "unlinkat"}}[verb]
	case verb == "ADD":
		return []string{"sendto", "renameat"}
	}
	return []string{"sendto", "unlinkat"}
}

// strace is the command that kills a process at a place. Files matter only where
// they are the last call's records.
func (e *earlier) strace(at place) []string {
	command := []string{"strace", "-f", "--detach-on=execve", "-qq", "-o", e.log, "-e", "trace=" + at.call, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", at.call, at.n)}
	becomes := map[string]string{"renameat": finished, "unlinkat": undoing}[at.call]
	if becomes != "" && !e.delegates() {
		c := e.calls[len(e.calls)-1]
		for n := range len(e.calls) {
			command = append(command, "-P", fmt.Sprintf("%s/%s/net/%s:%s/%d.%s", stateDir, c.plugin, c.container, c.ifName, n+1, becomes))
		}
	}
	return command
}

// left attaches all, and ends the last one's ADD or DEL at a point.
func (e *earlier) left(state string, point int) bool {
	e.t.Helper()
	if state == finished {
		e.attach(len(e.calls))
		return true
	}
	if known := e.points[state]; point < len(known) {
		if e.end(state, known[point]) {
			return true
		}
		// Its thread was another one this time. What is done to files is sure.
		calls := e.places(verbs[state])
		e.anew()
		return e.end(state, place{calls[len(calls)-1], 1})
	}
	for e.search(state) {
		if e.end(state, e.next[state]) {
			e.points[state] = append(e.points[state], e.next[state])
			return true
		}
		e.anew()
	}
	return false
}

// anew builds the pods once more, after a process was killed.
func (e *earlier) anew() {
	e.t.Helper()
	e.sweep()
	e.vanished()
	e.build()
}

// sweep removes files that a killed process was writing. A GC does that when
// nothing can be writing them any more.
func (e *earlier) sweep() {
	e.t.Helper()
	for _, path := range e.node.files() {
		if strings.HasPrefix(filepath.Base(path), ".new-") {
			if err := os.Remove(path); err != nil {
				e.t.Fatal(err)
			}
		}
	}
}

// search goes on to the next place where a process may be killed.
func (e *earlier) search(state string) bool {
	at, calls := e.next[state], e.places(verbs[state])
	switch {
	case at.call == "":
		at = place{calls[0], 1}
	case e.reached:
		at.n++
	default:
		next := slices.Index(calls, at.call) + 1
		if next == len(calls) {
			return false
		}
		at = place{calls[next], 1}
	}
	e.next[state] = at
	return true
}

var verbs = map[string]string{planned: "ADD", undoing: "DEL"}

// end kills the process of the last call at a place, and reports whether that
// left it in the state.
func (e *earlier) end(state string, at place) bool {
	e.t.Helper()
	n := len(e.calls)
	if state == planned {
		n--
	}
	e.attach(n)
	request := e.by(e.calls[len(e.calls)-1]).With(map[string]string{"GOMAXPROCS": "1"}) // most of it in one thread
	request.Under = e.strace(at)
	e.reached = request.Do(verbs[state]).Exit < 0
	if e.reached && e.kept(state) {
		e.killed++
		return true
	}
	return false
}

// kept reports whether something is kept in that state.
func (e *earlier) kept(state string) bool {
	e.t.Helper()
	records, _ := e.readFiles()
	for path := range records {
		if strings.HasSuffix(path, "."+state) || e.delegates() {
			return true
		}
	}
	return false
}

// write writes into the archive what is left in each state.
func (e *earlier) write(path string) {
	e.t.Helper()
	states := []string{finished, planned, undoing}
	for name := range e.files {
		if slices.Contains(states, strings.Split(name, "/")[0]) {
			delete(e.files, name)
		}
	}
	kernel := ""
	for _, state := range states {
		e.build()
		if !e.left(state, 0) {
			e.t.Fatal(state)
		}
		if state == finished {
			kernel = e.kernel(e.all()...)
		}
		records, links := e.readFiles()
		for name, text := range records {
			e.files[state+name] = text
		}
		if links != "" {
			e.files[state+"/links"] = links
		}
		e.vanished()
	}
	if e.delegates() { // whose interfaces have other names each time
		delete(e.files, "result.1")
		delete(e.files, "result.2")
	} else {
		e.build()
		e.restored(finished, 0)
		if diff := changed(kernel, e.kernel(e.all()...)); diff != nil { // neighbours are in no order
			e.t.Fatalf("the commands of plan do not make what ADD made:\n%s", strings.Join(diff, "\n"))
		}
		e.vanished()
	}
	e.save(path)
}

// save replaces in the archive what a release wrote.
func (e *earlier) save(path string) {
	e.t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		e.t.Fatal(err)
	}
	written := regexp.MustCompile(`^(plan|result)\.|/`)
	archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return written.MatchString(f.Name) })
	for _, name := range slices.Sorted(maps.Keys(e.files)) {
		if written.MatchString(name) {
			archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(e.files[name])})
		}
	}
	if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
		e.t.Fatal(err)
	}
}
