package stress

import (
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// firstRelease holds what the first release has left of attachments, as it wrote
// it. Each archive has these files:
//
//	node, a pod's name   ip(8) commands by which they are furnished
//	calls                attachments, in the order of their ADDs: plugin, pod, interface, container,
//	                     file of the configuration; "after": in the chain of the one before
//	later                attachments that come after the plugins have been replaced
//	ways                 when these have come: pod, arguments of ip route get " => " part of the answer
//	older                is there where an older plugin than ours wrote it all
//
// and, written by the first release (see upgrade_test.go):
//
//	plan.N, result.N     what call N changed, as commands, and what it answered
//	finished/PATH        a record, or another file, after all calls
//	planned/PATH         the last ADD was killed before it was finished
//	undoing/PATH         the DEL of the last one was killed
//	STATE/links          locks, hard links to them, symbolic links
//
// The boot's ID stands as ${boot}, the cookie of a pod's namespace as
// ${cookie:pod}, the number of an interface of the node as ${index:cni0}.
const firstRelease = "../../internal/record/testdata/first-release"

// What the first release has left, whole or in the middle, is understood: CHECK
// finds it as it should be and tells what is missing, DEL, GC and the next ADD
// take it back.
func TestSweepFirstRelease(t *testing.T) {
	for _, path := range archives(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			s := newScene(t, path)
			s.survives(s.restored)
		})
	}
}

func archives(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(firstRelease, "*.txtar"))
	if err != nil || paths == nil {
		t.Fatal("no archives", err)
	}
	return paths
}

// scene is a node with pods, and attachments of theirs by an earlier release.
type scene struct {
	*node
	t            testing.TB
	files        map[string]string // of the archive
	pods         map[string]*netopstest.NS
	calls, later []attachCall
	bare, before string // what there is without pods, and with them
	results      map[string]plugintest.Answer
}

// attachCall is a call of a scene.
type attachCall struct {
	plugin, pod, ifName, container, conf string
	after                                bool // in the chain of the call before
}

func newScene(t testing.TB, path string) *scene {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{node: newNode(t), t: t, files: map[string]string{}, pods: map[string]*netopstest.NS{}}
	for _, f := range archive.Files {
		s.files[f.Name] = string(f.Data)
	}
	s.calls, s.later = s.list("calls"), s.list("later")
	for _, c := range append(s.calls, s.later...) {
		s.pods[c.pod] = nil
	}
	s.bare = s.settledState()
	return s
}

func (s *scene) list(file string) (calls []attachCall) {
	const least = 5
	for l := range strings.Lines(s.files[file]) {
		w := strings.Fields(l)
		if len(w) < least || s.files[w[4]] == "" {
			s.t.Fatalf("%s: what is %q?", file, l)
		}
		calls = append(calls, attachCall{w[0], w[1], w[2], w[3], s.files[w[4]], len(w) > least})
	}
	return calls
}

// build furnishes new pods. Nothing is attached yet.
func (s *scene) build() {
	s.t.Helper()
	s.clear()
	names := slices.Sorted(maps.Keys(s.pods))
	for _, name := range names {
		s.pods[name] = netopstest.Namespace(s.t, name)
	}
	if lines := strings.TrimSpace(s.files["node"]); lines != "" {
		s.Batch(lines)
	}
	for _, name := range names {
		if lines := strings.TrimSpace(s.files[name]); lines != "" {
			s.pods[name].Batch(lines)
		}
	}
	s.results = map[string]plugintest.Answer{}
	s.before = s.settledState(s.all()...)
}

// clear makes the pods vanish, which leaves nothing of them.
func (s *scene) clear() {
	s.t.Helper()
	unplug(s.t)
	for name, pod := range s.pods {
		if pod != nil {
			pod.Remove()
			s.pods[name] = nil
		}
	}
	s.before = s.bare
	s.is(s.bare, "the node without pods")
}

func (s *scene) all() (pods []*netopstest.NS) {
	for _, name := range slices.Sorted(maps.Keys(s.pods)) {
		pods = append(pods, s.pods[name])
	}
	return pods
}

func (s *scene) settledState(pods ...*netopstest.NS) (state string) {
	s.t.Helper()
	plugintest.Until(s.t, func() bool {
		state = s.state(pods...)
		return !unsettled(state)
	})
	return state
}

// is waits until node and pods are as they are to be.
func (s *scene) is(want, what string) {
	s.t.Helper()
	var pods []*netopstest.NS
	if want != s.bare {
		pods = s.all()
	}
	if diff := eventually(want, func() string { return s.state(pods...) }); diff != "" {
		s.t.Fatalf("%s differs from what was before:\n%s", what, diff)
	}
}

// chain names the attachment that a call is part of.
func (c attachCall) chain() string { return c.pod + " " + c.ifName }

// call is the request of a call, by that plugin of that name on PATH; with the
// result of its chain, where there is one.
func (s *scene) call(c attachCall) plugintest.Call {
	s.t.Helper()
	call := plugintest.New(s.t, c.plugin, s.pods[c.pod], c.conf).With(map[string]string{
		"CNI_IFNAME": c.ifName, "CNI_CONTAINERID": c.container, "CNI_PATH": os.Getenv("PATH")})
	if added, ok := s.results[c.chain()]; ok {
		return call.After(added)
	}
	return call
}

// add is the ADD of a call, which is part of the chain from then on.
func (s *scene) add(c attachCall) {
	s.t.Helper()
	if !c.after {
		delete(s.results, c.chain())
	}
	s.results[c.chain()] = s.call(c).OK("ADD")
}

func (s *scene) requests(list []attachCall) (calls []plugintest.Call) {
	for _, c := range list {
		calls = append(calls, s.call(c))
	}
	return calls
}

func (s *scene) check(list []attachCall) {
	s.t.Helper()
	for _, c := range s.requests(list) {
		c.OK("CHECK")
	}
}

func (s *scene) del(list []attachCall) {
	s.t.Helper()
	for _, c := range s.requests(list) {
		c.OK("DEL")
	}
}

// gc is the GC of a runtime for which these attachments are valid.
func (s *scene) gc(valid ...attachCall) {
	s.t.Helper()
	request := plugintest.New(s.t, s.calls[0].plugin, s.all()[0], s.calls[0].conf).With(map[string]string{"CNI_PATH": os.Getenv("PATH")})
	var names []plugintest.Call
	for _, c := range valid {
		names = append(names, request.With(map[string]string{"CNI_IFNAME": c.ifName, "CNI_CONTAINERID": c.container}))
	}
	gc(request, names...).OK("GC")
}

// delegates reports whether the plugin leaves all work to another one.
func (s *scene) delegates() bool { return subjectOf(s.calls[0].plugin).alone }

// States in which an earlier release may have left an attachment.
const (
	finished = "finished"
	planned  = "planned" // its ADD was killed
	undoing  = "undoing" // its DEL was killed
)

// leave brings a node to a state as an earlier release left it, the last call's
// process killed at one of the points there are; it is false where there are not
// so many.
type leave func(state string, point int) bool

// survives fails the test unless the plugins of today understand all that is
// left.
func (s *scene) survives(leave leave) {
	for what, then := range map[string]func(){"DEL": s.deleted, "GC": s.collected, "GC after the pods": s.vanished,
		"later ADDs, which stay longer": s.joined, "later ADDs, which go first": s.visited} {
		if strings.HasPrefix(what, "later") && len(s.later) == 0 {
			continue
		}
		s.build()
		leave(finished, 0)
		then()
		s.is(s.before, "after "+what+" the node")
	}
	for _, state := range []string{planned, undoing} {
		if s.has(state) {
			s.unfinished(leave, state)
		}
	}
	s.clear()
}

// has reports whether the archive has files of a state.
func (s *scene) has(state string) bool {
	for name := range s.files {
		if strings.HasPrefix(name, state+"/") {
			return true
		}
	}
	return false
}

// unfinished is survives for attachments whose process was killed.
func (s *scene) unfinished(leave leave, state string) {
	type follow struct {
		what string
		then func()
	}
	turns := [][]follow{
		{{"DEL", s.unfinishedDeleted}, {"GC", s.unfinishedCollected}},
		{{"ADD", s.unfinishedAgain}, {"GC after the pods", s.vanished}},
	}
	for point := 0; ; point++ {
		for n, f := range turns[point%len(turns)] {
			if !netopstest.Whole(s.t) && (n == 0) != (state == planned) {
				continue // in a sample each state has half of them
			}
			s.build()
			if !leave(state, point) {
				if point == 0 {
					s.t.Errorf("%s: there is no such point", state)
				}
				s.vanished()
				return
			}
			f.then()
			s.is(s.before, fmt.Sprintf("after %s of what was %s, at point %d, the node", f.what, state, point))
		}
	}
}

// deleted is that all attachments live, and are deleted.
func (s *scene) deleted() {
	s.t.Helper()
	s.check(s.calls)
	s.gc(s.calls...)
	s.check(s.calls)
	s.drifts()
	s.del(s.calls)
}

// collected is that a runtime knows of none any more. What is delegated to does
// not come into a pod then.
func (s *scene) collected() {
	s.t.Helper()
	if s.delegates() {
		s.del(s.calls)
	}
	s.gc()
}

// vanished is that the pods went without a DEL.
func (s *scene) vanished() {
	s.t.Helper()
	for _, pod := range s.all() {
		pod.Remove()
	}
	s.gc()
	s.clear()
}

// join has others come by the plugins of today.
func (s *scene) join() {
	s.t.Helper()
	for _, c := range s.later {
		s.add(c)
	}
	s.check(s.calls)
	s.check(s.later)
	for l := range strings.Lines(s.files["ways"]) {
		pod, rest, _ := strings.Cut(strings.TrimSpace(l), " ")
		asked, want, _ := strings.Cut(rest, " => ")
		if got := s.pods[pod].IP("route get " + asked); want == "" || !strings.Contains(got, want) {
			s.t.Errorf("%s: ip route get %s: %s, want %s", pod, asked, got, want)
		}
	}
}

// joined is that others come, and stay longer.
func (s *scene) joined() {
	s.t.Helper()
	s.join()
	s.del(s.calls)
	s.check(s.later)
	s.del(s.later)
}

// visited is that others come, and go first.
func (s *scene) visited() {
	s.t.Helper()
	s.join()
	s.del(s.later)
	s.check(s.calls)
	s.del(s.calls)
}

func (s *scene) last() (others []attachCall, last attachCall) {
	n := len(s.calls) - 1
	return s.calls[:n], s.calls[n]
}

// told fails the test unless CHECK tells that an attachment is not finished.
// What is kept for a delegate does not tell it.
func (s *scene) told(c attachCall) {
	s.t.Helper()
	if !s.delegates() {
		s.call(c).Refused("CHECK", 106, "was not finished")
	}
}

func (s *scene) unfinishedDeleted() {
	s.t.Helper()
	others, last := s.last()
	s.told(last)
	s.call(last).OK("DEL")
	if !last.after { // or else it was one attachment with the one before
		s.check(others)
	}
	s.del(others)
}

// unfinishedAgain is that the runtime asks once more for the same. Of a chain it
// deletes all before.
func (s *scene) unfinishedAgain() {
	s.t.Helper()
	others, last := s.last()
	if last.after {
		s.del(s.calls)
		for _, c := range others {
			s.add(c)
		}
	}
	s.add(last)
	s.check(s.calls)
	s.del(s.calls)
}

// unfinishedCollected is a GC that takes the attachment for a valid one.
func (s *scene) unfinishedCollected() {
	s.t.Helper()
	others, last := s.last()
	s.gc(s.calls...)
	if !s.delegates() && !last.after {
		s.check(others)
	}
	s.del(s.calls)
}

// drifts fails the test unless CHECK tells of one object of each kind that it is
// not as ADD made it.
func (s *scene) drifts() {
	s.t.Helper()
	if s.delegates() {
		return // its own CHECK tells
	}
	seen := map[string]bool{}
	for i, c := range s.calls {
		if i+1 < len(s.calls) && s.calls[i+1].after {
			continue // that has changed it since
		}
		for _, command := range s.plan(i) {
			away, ok := command.reverse()
			kind := command.kind()
			if !ok || seen[kind] {
				continue
			}
			seen[kind] = true
			s.run(away)
			s.call(c).Refused("CHECK", 106)
			s.run(command)
			s.call(c).OK("CHECK")
		}
	}
	if len(seen) == 0 {
		s.t.Error("nothing can be missing")
	}
}

// command is one of ip(8) or sysctl(8), in a pod, or on the node.
type command struct{ pod, line string }

// plan is what a call changed.
func (s *scene) plan(n int) (commands []command) {
	pod := ""
	for l := range strings.Lines(s.files[fmt.Sprint("plan.", n+1)]) {
		l = strings.TrimSpace(l)
		if title, ok := strings.CutPrefix(l, "# "); ok {
			pod, _ = strings.CutPrefix(title, "pod /run/netns/")
			pod = strings.TrimPrefix(pod, "host")
			continue
		}
		commands = append(commands, command{pod, l})
	}
	return commands
}

// run runs commands, those of ip(8) that follow each other in a namespace by few
// processes.
func (s *scene) run(commands ...command) {
	s.t.Helper()
	for len(commands) > 0 {
		first := commands[0]
		var lines []string
		for len(commands) > 0 && commands[0].pod == first.pod && strings.HasPrefix(commands[0].line, "ip ") {
			lines = append(lines, strings.TrimPrefix(commands[0].line, "ip "))
			commands = commands[1:]
		}
		ns := s.NS
		if first.pod != "" {
			ns = s.pods[first.pod]
		}
		if lines == nil {
			key, value, _ := strings.Cut(strings.TrimPrefix(first.line, "sysctl -w "), "=")
			ns.Sysctl(strings.ReplaceAll(key, ".", "/"), value)
			commands = commands[1:]
		}
		ns.IP(lines...)
	}
}

// kind is what a command does to objects of which kind, where.
func (c command) kind() string {
	const words = 3
	w := strings.Fields(strings.ReplaceAll(c.line, "-6 ", ""))
	return fmt.Sprint(c.pod != "", w[:min(words, len(w))])
}

// reverse is a command after which what the first one did does not hold.
func (c command) reverse() (command, bool) {
	for _, verbs := range [][2]string{{" add ", " del "}, {" del ", " append "}} {
		if strings.Contains(c.line, verbs[0]) {
			return command{c.pod, strings.Replace(c.line, verbs[0], verbs[1], 1)}, true
		}
	}
	if address := hardwareAddress.FindString(c.line); address != "" {
		return command{c.pod, strings.Replace(c.line, address, "02:00:00:00:00:ff", 1)}, true
	}
	return c, false
}

var hardwareAddress = regexp.MustCompile(`(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$`)

// restored brings the node to what the archive says: nothing of the last call, or
// all of it, where that was killed.
func (s *scene) restored(state string, point int) bool {
	s.t.Helper()
	const points = 2
	if point == points {
		return false
	}
	for i, c := range s.calls {
		if state == finished || i < len(s.calls)-1 || point > 0 {
			s.carryOut(i, c)
		}
		if result, ok := s.files[fmt.Sprint("result.", i+1)]; ok && (state != planned || i < len(s.calls)-1) {
			s.results[c.chain()] = plugintest.Answer{Stdout: result}
		}
	}
	s.writeFiles(state)
	return true
}

// carryOut does what a call did.
func (s *scene) carryOut(n int, c attachCall) {
	s.t.Helper()
	if conf := s.files[fmt.Sprint("plan.", n+1)]; s.delegates() {
		delegated := s.call(c)
		delegated.Plugin, delegated.Conf = "bridge", conf
		s.results[c.chain()] = delegated.OK("ADD")
		return
	}
	s.run(s.plan(n)...)
}

// writeFiles writes the files of a state.
func (s *scene) writeFiles(state string) {
	s.t.Helper()
	now := strings.NewReplacer(s.volatile(func(name, value string) (string, string) { return name, value })...)
	for l := range strings.Lines(s.files[state+"/links"]) {
		l = index.ReplaceAllStringFunc(strings.TrimSpace(l), func(of string) string {
			link, err := net.InterfaceByName(index.FindStringSubmatch(of)[1])
			if err != nil {
				s.t.Fatal(of, err)
			}
			return strconv.Itoa(link.Index)
		})
		s.link(now.Replace(l))
	}
	for name, text := range s.files {
		path, ok := strings.CutPrefix(name, state)
		if !ok || path == "/links" {
			continue
		}
		text = strings.TrimSuffix(text, "\n") // an archive ends each file by one
		put(s.t, path, now.Replace(text))
	}
}

// A note of a sysctl holds the number of the interface; of all, it is 0.
var (
	index  = regexp.MustCompile(`\$\{index:([^}]+)\}`)
	sysctl = regexp.MustCompile(`(:conf:)([^:]+)(:\w+ -> \$\{boot\}) [1-9]\d*`)
)

// volatile are pairs of names and values of what differs each time.
func (s *scene) volatile(pair func(name, value string) (string, string)) (pairs []string) {
	s.t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		s.t.Fatal(err)
	}
	add := func(name, value string) { a, b := pair(name, value); pairs = append(pairs, a, b) }
	add("${boot}", strings.TrimSpace(string(boot)))
	for name, pod := range s.pods {
		// Where it stands: the number alone could be anything.
		for _, before := range []string{`"cookie":`, "netns-"} {
			add(before+"${cookie:"+name+"}", before+fmt.Sprint(cookie(s.t, pod)))
		}
	}
	return pairs
}

func cookie(t testing.TB, ns *netopstest.NS) (cookie uint64) {
	t.Helper()
	var err error
	ns.Enter(func() {
		var fd int
		//nolint:forbidigo // any socket tells the cookie of its namespace
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
			cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
			_ = unix.Close(fd)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}

// link makes what a line of links says: a folder, a symbolic link, a hard link,
// or a lock, which is empty.
func (s *scene) link(line string) {
	s.t.Helper()
	path, to, symbolic := strings.Cut(line, " -> ")
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if symbolic && err == nil {
		err = os.Symlink(to, path)
	} else if path, to, hard := strings.Cut(line, " = "); hard && err == nil {
		err = os.Link(to, path)
	} else if err == nil {
		put(s.t, path, "")
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// readFiles are the files that plugins keep, as an archive has them: records by
// their paths, and all that is no record as links.
func (s *scene) readFiles() (records map[string]string, links string) {
	s.t.Helper()
	then := strings.NewReplacer(s.volatile(func(name, value string) (string, string) { return value, name })...)
	records = map[string]string{}
	var locks, rest []string
	for _, dir := range []string{stateDir, "/var/lib/cni/flannel"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case os.IsNotExist(err):
				return nil
			case err != nil || d.IsDir():
				return err
			case d.Type()&fs.ModeSymlink != 0:
				to, err := os.Readlink(path)
				rest = append(rest, path+" -> "+to)
				return err
			}
			text, err := os.ReadFile(path)
			switch {
			case len(text) > 0:
				records[path] = then.Replace(string(text)) + "\n"
			case strings.HasSuffix(path, ".lock"):
				rest = append(rest, path+" = "+s.lockOf(path))
			default:
				locks = append(locks, path)
			}
			return err
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	if all := slices.Concat(locks, rest); len(all) > 0 {
		links = sysctl.ReplaceAllString(then.Replace(strings.Join(all, "\n")+"\n"), "$1$2$3 $${index:$2}")
	}
	return records, links
}

// lockOf is the lock that a hard link leads to.
func (s *scene) lockOf(link string) string {
	s.t.Helper()
	locks, err := filepath.Glob(stateDir + "/netns-*")
	for _, lock := range locks {
		a, errA := os.Lstat(lock)
		b, errB := os.Lstat(link)
		if errA == nil && errB == nil && os.SameFile(a, b) {
			return lock
		}
	}
	s.t.Fatal("no lock is ", link, err)
	return ""
}
