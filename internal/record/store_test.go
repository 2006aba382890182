package record

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

const (
	netnsLock   = "netns-42"
	otherNetns  = "netns-43"
	testPlugin  = "route-override"
	testNetwork = "net"
)

var testKey = Key{Network: testNetwork, ContainerID: "c1", IfName: "eth0"}

var sameValues = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

func testRecord(k Key) Record {
	return Record{Boot: "b-1", Key: k, Netns: Namespace{Path: "/run/netns/p1", Identity: netops.Identity{Cookie: 42}}}
}

func newStore(t testing.TB) Store { return NewStore(t.TempDir(), testPlugin) }

func mustLock(t testing.TB, s Store, name string) *Lock {
	t.Helper()
	l, err := s.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// create saves a record beside those that are there, as an ADD does.
func create(t testing.TB, s Store, l *Lock, k Key) *Entry {
	t.Helper()
	e, err := s.Create(l, testRecord(k), entries(t, s, k))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func entries(t testing.TB, s Store, k Key) []*Entry {
	t.Helper()
	found, err := s.Entries(k)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree is everything below the root, with modes, and with the number of links
// where it is more than one.
func tree(t testing.TB, s Store) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == s.root {
			return err
		}
		if path == filepath.Join(s.root, hostLock) { // its index has tests of its own
			return fs.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%o %s", st.Mode&0o777, strings.TrimPrefix(path, s.root+"/"))
		if d.IsDir() {
			line += "/"
		} else if st.Nlink > 1 {
			line += fmt.Sprintf(" x%d", st.Nlink)
		}
		lines = append(lines, line)
		return nil
	})
	must(t, err)
	return strings.Join(lines, "\n")
}

func wantTree(t *testing.T, s Store, when string, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(strings.Join(lines, "\n"), tree(t, s)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func list(found []*Entry) []string {
	var names []string
	for _, e := range found {
		what := filepath.Base(e.Path())
		switch {
		case errors.Is(e.Err, ErrNewer):
			what += " newer"
		case errors.Is(e.Err, ErrDamaged):
			what += " damaged"
		case e.Err != nil:
			what += " " + e.Err.Error()
		}
		names = append(names, what)
	}
	return names
}

func wantEntries(t *testing.T, s Store, when string, names ...string) {
	t.Helper()
	if diff := cmp.Diff(names, list(entries(t, s, testKey))); diff != "" {
		t.Errorf("%s: entries (-want +got):\n%s", when, diff)
	}
}

func TestFilesOfARecordsLife(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	wantTree(t, s, "locked", "600 netns-42")
	e := create(t, s, l, testKey)
	folders := []string{"600 netns-42 x2", "700 route-override/", "700 route-override/net/", "700 route-override/net/c1:eth0/"}
	with := func(record string) []string {
		files := []string{"600 route-override/net/c1:eth0/1.lock x2", "600 route-override/net/c1:eth0/" + record}
		slices.Sort(files)
		return slices.Concat(folders, files)
	}
	wantTree(t, s, "created", with("1.planned")...)
	must(t, e.Finish())
	wantTree(t, s, "finished", with("1.finished")...)
	must(t, e.Finish())
	wantTree(t, s, "finished twice", with("1.finished")...)
	e.Done.Pod.Add.Routes = []netops.Route{testRoute("10.9.0.0/16")}
	long := time.Now().Add(-time.Hour).Truncate(time.Second)
	must(t, os.Chtimes(e.Path(), long, long))
	must(t, e.Rewrite())
	wantTree(t, s, "rewritten", with("1.finished")...)
	found := entries(t, s, testKey)
	if !found[0].Created.Equal(long) {
		t.Errorf("created %v, want %v", found[0].Created, long)
	}
	if diff := cmp.Diff(e.Record, found[0].Record, sameValues); diff != "" {
		t.Errorf("rewritten (-want +got):\n%s", diff)
	}
	must(t, e.BeginUndo())
	wantTree(t, s, "undoing", with("1.undoing")...)
	l.Unlock()
	wantTree(t, s, "unlocked beside a record", with("1.undoing")...)
	l = mustLock(t, s, netnsLock)
	must(t, e.Remove())
	wantTree(t, s, "removed", "600 netns-42", "700 route-override/")
	must(t, e.Remove())
	l.Unlock()
	wantTree(t, s, "unlocked without a record", "700 route-override/")
}

// What a process that is killed at any point leaves is listed as what it was
// at, and as what it said.
func TestAKilledProcessLeavesItsRecord(t *testing.T) {
	for _, tt := range []struct {
		want Progress
		step func(*Entry) error
	}{
		{Planned, func(*Entry) error { return nil }},
		{Finished, (*Entry).Finish},
		{Undoing, (*Entry).BeginUndo},
	} {
		s := newStore(t)
		l := mustLock(t, s, netnsLock)
		e := create(t, s, l, testKey)
		must(t, tt.step(e))
		must(t, unix.Close(l.fd)) // as the kernel does for the dead

		found := entries(t, NewStore(s.root, testPlugin), testKey)
		if len(found) != 1 || found[0].Progress != tt.want || found[0].Err != nil {
			t.Fatalf("%s: found %v", tt.want, list(found))
		}
		if diff := cmp.Diff(e.Record, found[0].Record, sameValues); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.want, diff)
		}
		l, err := s.TryLock(found[0].Netns.Lock)
		if err != nil || l == nil {
			t.Fatalf("%s: the dead process's lock: %v, %v", tt.want, l, err)
		}
		must(t, found[0].Remove())
		l.Unlock()
		wantTree(t, s, "after "+string(tt.want), "700 route-override/")
	}
}

func TestKeysDoNotCollide(t *testing.T) {
	var keys []Key
	for _, sep := range []string{"-", "_", "."} {
		keys = append(keys,
			Key{"a" + sep + "b", "c", "d"}, Key{"a", "b" + sep + "c", "d"}, Key{"a", "b", "c" + sep + "d"},
			Key{"a" + sep, "b", "c"}, Key{"a", sep + "b", "c"}, Key{"a", "b" + sep, "c"}, Key{"a", "b", sep + "c"})
	}
	keys = append(keys, Key{"a", "b", "1.finished"}, Key{"netns-42", "netns-42", "netns-42"}, Key{temporary, temporary, "x"})
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	defer l.Unlock()
	for _, k := range keys {
		must(t, create(t, s, l, k).Finish())
	}
	networks := map[string][]Key{}
	for _, k := range keys {
		found := entries(t, s, k)
		if len(found) != 1 || found[0].Err != nil || found[0].Key != k {
			t.Errorf("%+v has %v", k, list(found))
		}
		networks[k.Network] = append(networks[k.Network], k)
	}
	for network, want := range networks {
		got, err := s.Attachments(network)
		must(t, err)
		byID := cmpopts.SortSlices(func(a, b Key) bool { return a.ContainerID+":"+a.IfName < b.ContainerID+":"+b.IfName })
		if diff := cmp.Diff(want, got, byID); diff != "" {
			t.Errorf("attachments of %q (-want +got):\n%s", network, diff)
		}
	}
	for _, k := range keys {
		for _, e := range entries(t, s, k) {
			must(t, e.Remove())
		}
	}
	wantTree(t, s, "all removed", "600 netns-42", "700 route-override/")
}

// Nothing can be recorded under such a key, so that there is nothing for DEL
// and GC to fail at.
func TestNamesThatCannotBeAKey(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "/", "../x", "a:b", ":", "a\x00", "\xff"} {
		for _, k := range []Key{{name, "c", "i"}, {"n", name, "i"}, {"n", "c", name}} {
			s := newStore(t)
			l := mustLock(t, s, netnsLock)
			if _, err := s.Create(l, testRecord(k), nil); err == nil || !strings.Contains(err.Error(), strconv.Quote(name)) {
				t.Errorf("create %+q: %v", k, err)
			}
			if found, err := s.Entries(k); found != nil || err != nil {
				t.Errorf("entries of %+q: %v, %v", k, found, err)
			}
			if keys, err := s.Attachments(name); keys != nil || err != nil {
				t.Errorf("attachments of %q: %v, %v", name, keys, err)
			}
			s.Sweep(k)
			l.Unlock()
			wantTree(t, s, fmt.Sprintf("%+q", k))
		}
	}
}

// A container ID may be longer than a file's name.
func TestAKeyThatIsTooLong(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	defer l.Unlock()
	for _, k := range []Key{{testNetwork, strings.Repeat("c", 256), "eth0"}, {strings.Repeat("n", 256), "c", "eth0"}} {
		if found, err := s.Entries(k); found != nil || err != nil {
			t.Errorf("entries: %v, %v", found, err)
		}
		if _, err := s.Create(l, testRecord(k), nil); !errors.Is(err, unix.ENAMETOOLONG) {
			t.Errorf("create: %v", err)
		}
		if keys, err := s.Attachments(k.Network); keys != nil || err != nil {
			t.Errorf("attachments: %v, %v", keys, err)
		}
		wantTree(t, s, "after", "600 netns-42", "700 route-override/")
	}
}

func TestAStoreWithoutARoot(t *testing.T) {
	t.Chdir(t.TempDir()) // an empty root is not the working directory
	s := NewStore("", testPlugin)
	must(t, os.MkdirAll(filepath.Join(testPlugin, testNetwork, "c1:eth0"), 0o700))
	must(t, os.WriteFile("netns-42", nil, 0o600))
	if found, err := s.Entries(testKey); found != nil || err != nil {
		t.Errorf("entries: %v, %v", found, err)
	}
	if keys, err := s.Attachments(testNetwork); keys != nil || err != nil {
		t.Errorf("attachments: %v, %v", keys, err)
	}
	if _, err := s.Lock(netnsLock); err == nil {
		t.Error("a lock was made")
	}
	if err := s.Writable(); err == nil {
		t.Error("it is writable")
	}
	s.Sweep(testKey)
	s.SweepRoot()
	if !there(filepath.Join(testPlugin, testNetwork, "c1:eth0")) || !there("netns-42") {
		t.Error("the working directory was swept")
	}
}

func TestEntriesOfOneAttachmentInOrder(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	defer l.Unlock()
	var made []*Entry
	for range 12 { // 10 comes after 9
		e := create(t, s, l, testKey)
		must(t, e.Finish())
		made = append(made, e)
	}
	found := entries(t, s, testKey)
	if diff := cmp.Diff(list(made), list(found)); diff != "" {
		t.Errorf("(-made +found):\n%s", diff)
	}
	must(t, found[0].Remove())
	must(t, found[5].Remove())
	if e := create(t, s, l, testKey); filepath.Base(e.Path()) != "13.planned" {
		t.Errorf("after some were removed: %s", e.Path())
	}
	for _, e := range entries(t, s, testKey) {
		must(t, e.Remove())
	}
	if e := create(t, s, l, testKey); filepath.Base(e.Path()) != "1.planned" {
		t.Errorf("after all were removed: %s", e.Path())
	}
}

func TestASequenceNumberIsNotUsedTwice(t *testing.T) {
	for name, content := range map[string]string{
		"newer":   `{"format": 99}`,
		"damaged": `{`,
		"ours":    "",
	} {
		s := newStore(t)
		l := mustLock(t, s, netnsLock)
		e := create(t, s, l, testKey)
		must(t, e.Finish())
		if content != "" {
			must(t, os.WriteFile(e.Path(), []byte(content), 0o600))
		}
		if second := create(t, s, l, testKey); filepath.Base(second.Path()) != "2.planned" {
			t.Errorf("beside a %s one: %s", name, second.Path())
		}
		l.Unlock()
	}
}

// Two namespaces may be given one container ID, and are locked each by itself:
// none overwrites what the other wrote, though neither knew of the other.
func TestTwoNamespacesOfOneAttachment(t *testing.T) {
	s := newStore(t)
	l, other := mustLock(t, s, netnsLock), mustLock(t, s, otherNetns)
	first, err := s.Create(l, testRecord(testKey), nil)
	must(t, err)
	second, err := s.Create(other, testRecord(testKey), nil)
	must(t, err)
	must(t, first.Finish())
	must(t, second.Finish())
	wantEntries(t, s, "both", "1.finished", "2.finished")
	must(t, first.Remove())
	l.Unlock()
	wantTree(t, s, "the first removed", "600 netns-43 x2", "700 route-override/", "700 route-override/net/", "700 route-override/net/c1:eth0/",
		"600 route-override/net/c1:eth0/2.finished", "600 route-override/net/c1:eth0/2.lock x2")
	must(t, second.Remove())
	other.Unlock()
	wantTree(t, s, "both removed", "700 route-override/")
}

// The lock that an ADD has linked, but not yet written its record beside, is
// not another's to take away.
func TestRemoveLeavesAnothersLink(t *testing.T) {
	s := newStore(t)
	l, other := mustLock(t, s, netnsLock), mustLock(t, s, otherNetns)
	defer l.Unlock()
	e := create(t, s, l, testKey)
	must(t, other.link(filepath.Join(e.dir, "2.lock")))
	must(t, e.Remove())
	s.Sweep(testKey)
	wantTree(t, s, "the other at work", "600 netns-42", "600 netns-43 x2", "700 route-override/", "700 route-override/net/",
		"700 route-override/net/c1:eth0/", "600 route-override/net/c1:eth0/2.lock x2")
	must(t, unix.Close(other.fd))
	s.Sweep(testKey)
	wantTree(t, s, "the other killed", "600 netns-42", "700 route-override/")
}

func TestTheFoldersGoWithTheLastRecord(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	defer l.Unlock()
	sibling := testKey
	sibling.IfName = "net1"
	first, second, third := create(t, s, l, testKey), create(t, s, l, testKey), create(t, s, l, sibling)
	exists := func(dir string, want bool) {
		t.Helper()
		if there(dir) != want {
			t.Errorf("%s there: %v", dir, !want)
		}
	}
	must(t, first.Remove())
	exists(first.dir, true)
	must(t, second.Remove())
	exists(first.dir, false)
	exists(third.dir, true)
	must(t, third.Remove())
	exists(filepath.Dir(third.dir), false)
	exists(filepath.Join(s.root, testPlugin), true) // all networks' ADDs need it
}

func TestWhatIsNoRecord(t *testing.T) {
	good := func(change func(*Record)) func(string) error {
		return func(path string) error {
			r := testRecord(testKey)
			r.Format, r.Plugin, r.Netns.Lock = Format, testPlugin, netnsLock
			change(&r)
			return os.WriteFile(path, r.encode(), 0o600)
		}
	}
	text := func(s string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(s), 0o600) }
	}
	for _, tt := range []struct {
		name string
		put  func(path string) error
		want error
		says string
	}{
		{"ours", good(func(*Record) {}), nil, ""},
		{"empty", text(""), ErrDamaged, "unexpected end"},
		{"garbage", text("\x00\xff\x00"), ErrDamaged, "invalid character"},
		{"truncated", func(path string) error {
			r := testRecord(testKey)
			return os.WriteFile(path, r.encode()[:40], 0o600)
		}, ErrDamaged, "unexpected end"},
		{"text after it", func(path string) error {
			r := testRecord(testKey)
			return os.WriteFile(path, append(r.encode(), '}'), 0o600)
		}, ErrDamaged, "invalid character"},
		{"null", text("null"), ErrDamaged, "no format"},
		{"a list", text("[]"), ErrDamaged, "cannot unmarshal"},
		{"no format", good(func(r *Record) { r.Format = 0 }), ErrDamaged, "no format"},
		{"a negative format", text(`{"format":-1}`), ErrDamaged, "no format"},
		{"newer", text(fmt.Sprintf(`{"format":%d}`, Format+1)), ErrNewer, "this version knows 1"},
		{"newer, and of a form unknown here", text(`{"format":2,"plugin":{"name":7},"done":[]}`), ErrNewer, "2"},
		{"another plugin's", good(func(r *Record) { r.Plugin = "seamless" }), ErrDamaged, "seamless"},
		{"another network's", good(func(r *Record) { r.Network = "other" }), ErrDamaged, "network other"},
		{"another container's", good(func(r *Record) { r.ContainerID = "c2" }), ErrDamaged, "container c2"},
		{"another interface's", good(func(r *Record) { r.IfName = "net1" }), ErrDamaged, "net1 of"},
		{"a lock elsewhere", good(func(r *Record) { r.Netns.Lock = "../../x" }), ErrDamaged, "../../x"},
		{"no lock", good(func(r *Record) { r.Netns.Lock = "" }), ErrDamaged, `"" is no name`},
		{"no boot", good(func(r *Record) { r.Boot = "" }), ErrDamaged, "no boot"},
		{"a path with NUL", good(func(r *Record) { r.Netns.Path = "/run/\x00" }), ErrDamaged, `"/run/\x00"`},
		{"a route to nowhere", good(func(r *Record) { r.Done.Pod.Del.Routes = []netops.Route{{Table: 254, Type: 1}} }), ErrDamaged, "no destination"},
		{"a route held to nowhere", good(func(r *Record) { r.Held.Pod.Add.Routes = []netops.Route{{}} }), ErrDamaged, "no destination"},
		{"a route whose peer has peers", good(func(r *Record) {
			nested := testRoute("10.9.0.0/16")
			for range 2 {
				nested.Siblings = []netops.Route{nested}
			}
			r.Done.Pod.Del.Routes = []netops.Route{nested}
		}), ErrDamaged, "siblings of a sibling"},
		{"a symbolic link", func(path string) error {
			target := path + ".new" // ends as no record of ours does
			if err := good(func(*Record) {})(target); err != nil {
				return err
			}
			return os.Symlink(target, path)
		}, ErrDamaged, "symbolic link"},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }, ErrDamaged, "no regular file"},
		{"a FIFO", func(path string) error { return unix.Mkfifo(path, 0o600) }, ErrDamaged, "no regular file"},
		{"a socket", func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) }, ErrDamaged, "socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t)
			must(t, os.MkdirAll(s.dir(testKey), 0o700))
			path := filepath.Join(s.dir(testKey), "3.finished")
			must(t, tt.put(path))
			found := entries(t, s, testKey)
			if len(found) != 1 {
				t.Fatalf("found %v", list(found))
			}
			e := found[0]
			if !errors.Is(e.Err, tt.want) || e.Err != nil && !strings.Contains(e.Err.Error(), tt.says) {
				t.Errorf("error %v, want %v: %s", e.Err, tt.want, tt.says)
			}
			if e.Path() != path || e.Progress != Finished {
				t.Errorf("%s, %s", e.Path(), e.Progress)
			}
			if !there(path) {
				t.Error("it was not kept")
			}
		})
	}
}

// Names that are not written as ours are: another file must not be read for
// such a one, and it does not keep a folder's records.
func TestFilesThatAreNotEntries(t *testing.T) {
	s := newStore(t)
	dir := s.dir(testKey)
	must(t, os.MkdirAll(dir, 0o700))
	for _, name := range []string{"01.finished", "+1.finished", "-1.finished", "0.finished", "1..finished", "1.Finished",
		"1.new", "1.lock", "1.", "1", ".planned", "planned", "1_0.planned", "99999999999.finished", "1.finished.damaged", temporary + "1", "README"} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		if found := entries(t, s, testKey); len(found) != 0 {
			t.Errorf("%s is listed as %v", name, list(found))
			must(t, os.Remove(filepath.Join(dir, name)))
		}
	}
}

func TestSetAsideKeepsTheFile(t *testing.T) {
	s := newStore(t)
	for n, content := range []string{"first", "second", "third"} {
		l := mustLock(t, s, netnsLock)
		e := create(t, s, l, testKey)
		if filepath.Base(e.Path()) != "1.planned" {
			t.Errorf("what is set aside counts: %s", e.Path())
		}
		must(t, os.WriteFile(e.Path(), []byte(content), 0o600))
		l.Unlock()
		damaged := entries(t, s, testKey)[0]
		must(t, damaged.SetAside())
		must(t, damaged.SetAside()) // another DEL was faster
		wantEntries(t, s, "set aside")
		if there(filepath.Join(s.root, netnsLock)) {
			t.Errorf("%d: the lock of a namespace without a record is there", n)
		}
	}
	for name, want := range map[string]string{"damaged": "first", "damaged-2": "second", "damaged-3": "third"} {
		got, err := os.ReadFile(filepath.Join(s.dir(testKey), "1.planned."+name))
		if err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
		}
	}
	keys, err := s.Attachments(testNetwork)
	must(t, err)
	if diff := cmp.Diff([]Key{testKey}, keys); diff != "" {
		t.Errorf("attachments (-want +got):\n%s", diff)
	}
}

// A folder in the place of a record can be set aside as well, and by whoever
// holds the namespace's lock, which he then gives back himself.
func TestSetAsideUnderTheLock(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	e := create(t, s, l, testKey)
	must(t, os.Remove(e.Path()))
	must(t, os.Mkdir(e.Path(), 0o700))
	must(t, entries(t, s, testKey)[0].SetAside())
	wantEntries(t, s, "set aside")
	second := create(t, s, l, testKey)
	must(t, second.Remove())
	l.Unlock()
	wantTree(t, s, "after", "700 route-override/", "700 route-override/net/", "700 route-override/net/c1:eth0/",
		"700 route-override/net/c1:eth0/1.planned.damaged/")
}

func TestANewerRecordIsKept(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	newer := create(t, s, l, testKey)
	must(t, os.WriteFile(newer.Path(), []byte(`{"format":2}`), 0o600))
	e := create(t, s, l, testKey)
	must(t, e.Remove())
	l.Unlock()
	s.Sweep(testKey)
	s.SweepRoot()
	wantEntries(t, s, "after", "1.planned newer")
	if !there(filepath.Join(s.root, netnsLock)) {
		t.Error("its lock is gone")
	}
}

// A later version may know states of a record that this one does not: its
// number and its lock stay with it.
func TestARecordInAnUnknownState(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	e := create(t, s, l, testKey)
	must(t, os.Rename(e.Path(), e.file("paused")))
	if second := create(t, s, l, testKey); filepath.Base(second.Path()) != "2.planned" {
		t.Errorf("its number was taken: %s", second.Path())
	} else {
		must(t, second.Remove())
	}
	l.Unlock()
	s.Sweep(testKey)
	wantTree(t, s, "after", "600 netns-42 x2", "700 route-override/", "700 route-override/net/", "700 route-override/net/c1:eth0/",
		"600 route-override/net/c1:eth0/1.lock x2", "600 route-override/net/c1:eth0/1.paused")
}

// A second DEL of an entry that is gone leaves its number to whoever has it.
func TestRemoveOfAnEntryThatIsGone(t *testing.T) {
	s := newStore(t)
	l, other := mustLock(t, s, netnsLock), mustLock(t, s, otherNetns)
	defer l.Unlock()
	defer other.Unlock()
	gone := create(t, s, l, testKey)
	stale := *gone
	must(t, gone.Remove())
	must(t, create(t, s, other, testKey).Finish())
	before := tree(t, s)
	must(t, stale.Remove())
	if diff := cmp.Diff(before, tree(t, s)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if err := stale.Finish(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("finish: %v", err)
	}
	if err := stale.BeginUndo(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("undo: %v", err)
	}
}

func TestOldTemporaryFilesAreSwept(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	e := create(t, s, l, testKey)
	l.Unlock()
	old := time.Now().Add(-2 * time.Minute)
	for _, name := range []string{temporary + "1-a", temporary + "2-b", "1.planned.damaged", "README"} {
		path := filepath.Join(e.dir, name)
		must(t, os.WriteFile(path, nil, 0o600))
		if name != temporary+"2-b" {
			must(t, os.Chtimes(path, old, old))
		}
	}
	must(t, os.Chtimes(e.Path(), old, old))
	s.Sweep(testKey)
	var left []string
	files, err := os.ReadDir(e.dir)
	must(t, err)
	for _, f := range files {
		left = append(left, f.Name())
	}
	if diff := cmp.Diff([]string{temporary + "2-b", "1.lock", "1.planned", "1.planned.damaged", "README"}, left); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A process may be killed between any two steps of saving a record.
func TestSweptAfterAKill(t *testing.T) {
	for name, leave := range map[string]func(*testing.T, Store, *Lock){
		"folders": func(t *testing.T, s Store, _ *Lock) {
			must(t, makeDirs(s.root, testPlugin, testNetwork, "c1:eth0"))
		},
		"the network's folder": func(t *testing.T, s Store, _ *Lock) {
			must(t, makeDirs(s.root, testPlugin, testNetwork))
		},
		"the link": func(t *testing.T, s Store, l *Lock) {
			must(t, makeDirs(s.root, testPlugin, testNetwork, "c1:eth0"))
			must(t, l.link(filepath.Join(s.dir(testKey), "1.lock")))
		},
		"the temporary file": func(t *testing.T, s Store, l *Lock) {
			must(t, makeDirs(s.root, testPlugin, testNetwork, "c1:eth0"))
			must(t, l.link(filepath.Join(s.dir(testKey), "1.lock")))
			path, fd, err := createTemporary(s.dir(testKey))
			must(t, err)
			must(t, unix.Close(fd))
			old := time.Now().Add(-2 * time.Minute)
			must(t, os.Chtimes(path, old, old))
		},
		"the lock": func(*testing.T, Store, *Lock) {},
		"STATUS's file": func(t *testing.T, s Store, _ *Lock) {
			must(t, makeDirs(s.root, testPlugin))
			path := filepath.Join(s.root, testPlugin, temporary+"1")
			must(t, os.WriteFile(path, nil, 0o600))
			old := time.Now().Add(-2 * time.Minute)
			must(t, os.Chtimes(path, old, old))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			l := mustLock(t, s, netnsLock)
			leave(t, s, l)
			must(t, unix.Close(l.fd))
			s.Sweep(testKey)
			s.SweepRoot()
			if got := tree(t, s); got != "700 route-override/" && got != "" {
				t.Errorf("left:\n%s", got)
			}
		})
	}
}

func TestLocksThatAreOfUseAreNotSwept(t *testing.T) {
	s := newStore(t)
	held, kept := mustLock(t, s, netnsLock), mustLock(t, s, otherNetns)
	defer held.Unlock()
	create(t, s, kept, testKey)
	kept.Unlock()
	must(t, os.WriteFile(filepath.Join(s.root, "README"), nil, 0o600))
	before := tree(t, s)
	s.SweepRoot()
	if diff := cmp.Diff(before, tree(t, s)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// What cannot be saved leaves nothing behind.
func TestCreateFails(t *testing.T) {
	s := newStore(t)
	outside := t.TempDir()
	l := mustLock(t, s, netnsLock)
	defer l.Unlock()
	for name, put := range map[string]func(path string) error{
		"a file":          func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a symbolic link": func(path string) error { return os.Symlink(outside, path) },
		"a dangling link": func(path string) error { return os.Symlink(filepath.Join(outside, "none"), path) },
	} {
		for dir := s.dir(testKey); dir != s.root; dir = filepath.Dir(dir) {
			must(t, os.MkdirAll(filepath.Dir(dir), 0o700))
			must(t, put(dir))
			_, err := s.Create(l, testRecord(testKey), nil)
			if !errors.Is(err, unix.ENOTDIR) || !strings.Contains(err.Error(), dir+":") {
				t.Errorf("%s at %s: %v", name, dir, err)
			}
			// ADD was refused: DEL and GC have nothing to fail at.
			if found, err := s.Entries(testKey); found != nil || err != nil {
				t.Errorf("%s at %s: entries %v, %v", name, dir, found, err)
			}
			if _, err := s.Attachments(testNetwork); err != nil {
				t.Errorf("%s at %s: attachments: %v", name, dir, err)
			}
			s.Sweep(testKey)
			if !there(dir) {
				t.Errorf("%s at %s was removed", name, dir)
			}
			must(t, os.RemoveAll(filepath.Join(s.root, testPlugin)))
		}
	}
	files, err := os.ReadDir(outside)
	if err != nil || len(files) > 0 {
		t.Errorf("beyond the symbolic link: %v, %v", files, err)
	}
	wantTree(t, s, "after", "600 netns-42")
}

// The lock's link is there already when the record cannot be written: the path
// is too long for its temporary name only.
func TestCreateFailsAfterTheLink(t *testing.T) {
	longest := unix.PathMax - 1
	s := newStore(t)
	room := longest - len("/"+testPlugin+"/net/c1:eth0/1.lock")
	for len(s.root)+202 < room {
		s.root += "/" + strings.Repeat("d", 200)
	}
	s.root += "/" + strings.Repeat("d", room-len(s.root)-1)
	l := mustLock(t, s, netnsLock)
	_, err := s.Create(l, testRecord(testKey), nil)
	if !errors.Is(err, unix.ENAMETOOLONG) || !strings.Contains(err.Error(), temporary) {
		t.Fatal(err)
	}
	l.Unlock()
	wantTree(t, s, "after", "700 route-override/")
}

// Records that somebody has put beyond a symbolic link are not read, nor is
// anything there removed.
func TestNoFolderIsReachedByASymbolicLink(t *testing.T) {
	for _, depth := range []int{0, 1, 2} {
		s := newStore(t)
		elsewhere := NewStore(t.TempDir(), testPlugin)
		l := mustLock(t, elsewhere, netnsLock)
		create(t, elsewhere, l, testKey)
		must(t, unix.Close(l.fd))
		before := tree(t, elsewhere)

		parts := strings.Split(strings.TrimPrefix(s.dir(testKey), s.root), "/")[1:]
		dir, target := s.root, elsewhere.root
		for i, part := range parts[:depth+1] {
			dir, target = filepath.Join(dir, part), filepath.Join(target, part)
			if i < depth {
				must(t, os.Mkdir(dir, 0o700))
			}
		}
		must(t, os.Symlink(target, dir))
		if found, err := s.Entries(testKey); found != nil || err != nil {
			t.Errorf("%s: entries %v, %v", dir, list(found), err)
		}
		if keys, err := s.Attachments(testNetwork); keys != nil || err != nil {
			t.Errorf("%s: attachments %v, %v", dir, keys, err)
		}
		s.Sweep(testKey)
		s.SweepRoot()
		if diff := cmp.Diff(before, tree(t, elsewhere)); diff != "" {
			t.Errorf("%s (-before +after):\n%s", dir, diff)
		}
	}
}

func TestWritable(t *testing.T) {
	s := newStore(t)
	must(t, s.Writable())
	wantTree(t, s, "after", "700 route-override/")
	must(t, s.Writable())

	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for root, says := range map[string]string{
		file:                        file,
		filepath.Join(file, "root"): file,
		filepath.Join(t.TempDir(), strings.Repeat("x", 256)): "xxx",
		"/proc/none": "/proc/none", // where even root makes no folder
	} {
		if err := NewStore(root, testPlugin).Writable(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", root, err)
		}
	}
	must(t, os.RemoveAll(filepath.Join(s.root, testPlugin)))
	must(t, os.Symlink(t.TempDir(), filepath.Join(s.root, testPlugin)))
	if err := s.Writable(); err == nil || !strings.Contains(err.Error(), filepath.Join(s.root, testPlugin)) {
		t.Errorf("a symbolic link: %v", err)
	}
}

func TestDefaultRoot(t *testing.T) {
	for _, tt := range []struct {
		uid      int
		xdg, dir string
	}{
		{0, "", "/run/cni"},
		{0, "/run/user/0", "/run/cni"},
		{1000, "/run/user/1000", "/run/user/1000/cni"},
		{1000, "", ""},
		{1000, "run/user", ""},
	} {
		var asked []string
		dir, err := defaultRoot(tt.uid, func(name string) string { asked = append(asked, name); return tt.xdg })
		if dir != tt.dir || (err == nil) != (tt.dir != "") {
			t.Errorf("uid %d, %q: %q, %v", tt.uid, tt.xdg, dir, err)
		}
		if tt.uid != 0 && !slices.Equal(asked, []string{"XDG_RUNTIME_DIR"}) {
			t.Errorf("asked for %q", asked)
		}
	}
}

func TestEntriesOfAnUnknownAttachment(t *testing.T) {
	s := NewStore(filepath.Join(t.TempDir(), "none"), testPlugin)
	if found, err := s.Entries(testKey); found != nil || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	if keys, err := s.Attachments(testNetwork); keys != nil || err != nil {
		t.Errorf("%v, %v", keys, err)
	}
	s.Sweep(testKey)
	s.SweepRoot()
	if there(s.root) {
		t.Error("looking made the root")
	}
}

func TestARootAsItIsWritten(t *testing.T) {
	root := t.TempDir()
	for _, written := range []string{root + "/", root + "//", root + "/x/.."} {
		s := NewStore(written, testPlugin)
		l := mustLock(t, s, netnsLock)
		e := create(t, s, l, testKey)
		if want := filepath.Join(root, testPlugin, testNetwork, "c1:eth0", "1.planned"); e.Path() != want {
			t.Errorf("%s: %s, want %s", written, e.Path(), want)
		}
		wantEntries(t, s, written, "1.planned")
		must(t, e.Remove())
		l.Unlock()
	}
}

func TestBoot(t *testing.T) {
	want, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(t, err)
	got, err := Boot()
	if err != nil || got != string(bytes.TrimSpace(want)) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// What an ADD pays for its record must not depend on how many others there
// are.
func BenchmarkRecord(b *testing.B) {
	for _, others := range []int{0, 5000} {
		b.Run(strconv.Itoa(others)+" others", func(b *testing.B) {
			s := newStore(b)
			for i := range others {
				l := mustLock(b, s, "netns-"+strconv.Itoa(1000+i))
				k := Key{testNetwork, "other" + strconv.Itoa(i), "eth0"}
				must(b, create(b, s, l, k).Finish())
				l.Unlock()
			}
			b.ReportAllocs()
			for b.Loop() {
				l := mustLock(b, s, netnsLock)
				e := create(b, s, l, testKey)
				must(b, e.Finish())
				must(b, e.Remove())
				l.Unlock()
			}
		})
	}
}

// What could not be read again would never be undone.
func TestWhatCannotBeReadIsNotSaved(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	defer l.Unlock()
	r := testRecord(testKey)
	r.Done.Host.Routes = []netops.Route{{Dst: netip.MustParsePrefix("10.9.0.0/16")}} // in no table
	if _, err := s.Create(l, r, nil); err == nil {
		t.Error("it is saved")
	}
	if found := entries(t, s, testKey); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
}
