package record

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

// shared is what all records of these tests want; each has a neighbour besides.
var shared = netops.Rule{Priority: 1000, Table: 500, Protocol: netops.Protocol}

// sharing are the records of router, which the first release had.
func sharing(t testing.TB) Store { return NewStore(t.TempDir(), "router") }

// share saves a finished record of an attachment, in a namespace of its own.
func share(t testing.TB, s Store, number int) *Entry {
	t.Helper()
	l := mustLock(t, s, fmt.Sprintf("netns-%d", number))
	defer l.Unlock()
	e, err := s.Create(l, sharingRecord(number), nil)
	must(t, err)
	must(t, e.Finish())
	return e
}

func sharingRecord(number int) Record {
	r := testRecord(Key{Network: testNetwork, ContainerID: fmt.Sprintf("c%d", number), IfName: "net1"})
	r.Done.Host = netops.State{Rules: []netops.Rule{shared}, Neighs: []netops.Neigh{{Dev: "cali1", IP: address(number), HardwareAddr: "02:00:00:00:00:01"}}}
	return r
}

func address(number int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(number >> 8), byte(number)})
}

// earlier makes a record what the first release would have left.
func earlier(t testing.TB, e *Entry) {
	t.Helper()
	must(t, e.unindex())
	must(t, e.of.unmark())
}

// naming lists the containers of the records that name something.
func naming(t testing.TB, s Store, lock *HostLock, of netops.State) (containers []string) {
	t.Helper()
	must(t, s.Naming(lock, &of, nil, func(e *Entry) { containers = append(containers, e.ContainerID) }))
	slices.Sort(containers)
	return containers
}

// hostTree is what is beside the lock of the host.
func hostTree(t testing.TB, s Store) string {
	t.Helper()
	return tree(t, Store{root: filepath.Join(s.root, hostLock)})
}

func TestIndexOfARecordsLife(t *testing.T) {
	s := sharing(t)
	l := mustLock(t, s, "netns-1")
	defer l.Unlock()
	e, err := s.Create(l, sharingRecord(1), nil)
	must(t, err)
	want := `700 index/
700 index/ip_10.0.0.1/
777 index/ip_10.0.0.1/router:net:c1:net1:1
700 index/ip_rule_add_pref_1000_lookup_500/
777 index/ip_rule_add_pref_1000_lookup_500/router:net:c1:net1:1
700 index/netns-1/
777 index/netns-1/router:net:c1:net1:1
600 indexed x2`
	for _, step := range []func() error{e.Finish, e.Rewrite, e.BeginUndo} {
		if diff := cmp.Diff(want, hostTree(t, s)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", e.Progress, diff)
		}
		must(t, step())
	}
	must(t, e.Remove())
	if left := hostTree(t, s); left != "700 index/" {
		t.Error("left:", left)
	}
}

// However many records there are, only those are opened that the index names.
func TestOnlyNominatedRecordsAreRead(t *testing.T) {
	s := sharing(t)
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	defer func() { _ = unix.Close(watch) }()
	for n := range 200 {
		e := share(t, s, n)
		_, err := unix.InotifyAddWatch(watch, e.dir, unix.IN_OPEN|unix.IN_ONLYDIR)
		must(t, err)
	}
	lock := lockHost(t, s)
	opened := func() int {
		events := make([]byte, 1<<16)
		n, err := unix.Read(watch, events)
		if err == unix.EAGAIN {
			return 0
		}
		must(t, err)
		return strings.Count(string(events[:n]), ".finished")
	}
	opened() // by nothing so far
	if found := naming(t, s, lock, netops.State{Neighs: sharingRecord(7).Done.Host.Neighs}); !slices.Equal(found, []string{"c7"}) || opened() != 1 {
		t.Error("of a neighbour:", found)
	}
	of := netops.State{Rules: []netops.Rule{shared}}
	must(t, s.Naming(lock, &of, nil, func(*Entry) { of.Rules = nil }))
	if n := opened(); n != 1 {
		t.Errorf("%d are read of a rule that all want, and one tells", n)
	}
	if found, whole, err := s.InNamespace("netns-9"); len(found) != 1 || !whole || err != nil || opened() != 1 {
		t.Error("in a namespace:", found, whole, err)
	}
}

// What the first release has left is read, and indexed by the first who reads it
// under the host's lock.
func TestRecordsOfTheFirstReleaseAreIndexed(t *testing.T) {
	s := sharing(t)
	old := []*Entry{share(t, s, 1), share(t, s, 2)}
	for _, e := range old {
		earlier(t, e)
	}
	share(t, s, 3)
	all := []string{"c1", "c2", "c3"}
	busy := mustLock(t, s, "netns-2")
	of := netops.State{Rules: []netops.Rule{shared}}
	lock := lockHost(t, s)
	is := func(when string, marked bool, l *HostLock) {
		t.Helper()
		if found := naming(t, s, l, of); !slices.Equal(found, all) {
			t.Errorf("%s: %v", when, found)
		}
		if rest, err := s.unmarked(); (len(rest) == 0) != marked || err != nil {
			t.Errorf("%s: not indexed: %v, %v", when, rest, err)
		}
	}
	is("without the lock", false, nil)
	is("one pod busy", false, lock)
	busy.Unlock()
	is("none busy", false, nil)
	is("none busy", true, lock)
	is("all indexed", true, lock)
	for _, e := range old {
		must(t, e.Remove())
	}
	if found := naming(t, s, lock, of); !slices.Equal(found, []string{"c3"}) {
		t.Error(found)
	}
}

// What a process that was killed between two steps has left costs no answer.
func TestIndexAfterAKill(t *testing.T) {
	for what, leave := range map[string]func(t *testing.T, e *Entry){
		"a folder without a mark": func(t *testing.T, e *Entry) { must(t, os.Mkdir(e.dir, 0o700)) },
		"a folder with a mark":    func(t *testing.T, e *Entry) { must(t, e.of.makeDir()) },
		"a planned record without entries": func(t *testing.T, e *Entry) {
			plan(t, e)
			must(t, e.unindex())
		},
		"a planned record with some entries": func(t *testing.T, e *Entry) {
			plan(t, e)
			must(t, e.of.leave("netns-2", e.indexFile()))
		},
		"one that is being taken back": func(t *testing.T, e *Entry) {
			plan(t, e)
			must(t, e.BeginUndo())
			must(t, e.unindex())
		},
		"a marked folder, its record gone": func(t *testing.T, e *Entry) {
			plan(t, e)
			must(t, e.unindex())
			must(t, os.Remove(e.Path()))
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := sharing(t)
			living := share(t, s, 1)
			r := sharingRecord(2)
			leave(t, &Entry{Record: r, of: attachment{s, r.Key}, dir: s.dir(r.Key), seq: 1})
			of := netops.State{Rules: []netops.Rule{shared}}
			if found := naming(t, s, lockHost(t, s), of); !slices.Contains(found, "c1") {
				t.Error(found)
			}
			again := mustLock(t, s, "netns-2")
			for _, e := range entries(t, s, r.Key) {
				must(t, e.Remove())
			}
			s.Sweep(r.Key)
			e, err := s.Create(again, r, nil)
			must(t, err)
			if found := naming(t, s, nil, of); !slices.Equal(found, []string{"c1", "c2"}) {
				t.Error("after the next ADD:", found)
			}
			must(t, e.Remove())
			again.Unlock()
			must(t, living.Remove())
			if left := hostTree(t, s); left != "700 index/" {
				t.Error("left:", left)
			}
		})
	}
}

// plan saves the record of an entry as planned.
func plan(t *testing.T, e *Entry) {
	t.Helper()
	l := mustLock(t, e.of.Store, "netns-2")
	defer l.Unlock()
	saved, err := e.of.Create(l, e.Record, nil)
	must(t, err)
	*e = *saved
}

// Entries of records that were lost go, those of others stay. Where a record has
// the name of one that was lost, it is read.
func TestIndexIsSwept(t *testing.T) {
	s := sharing(t)
	living, lost := share(t, s, 1), share(t, s, 2)
	must(t, os.RemoveAll(lost.dir))
	of := netops.State{Rules: []netops.Rule{shared}}
	if found := naming(t, s, nil, of); !slices.Equal(found, []string{"c1"}) {
		t.Error("one was lost:", found)
	}
	again := share(t, s, 2)
	if rest, err := s.unmarked(); len(rest) != 1 || err != nil {
		t.Error("what was lost has come again:", rest, err)
	}
	lock := lockHost(t, s)
	s.SweepIndex(lock)
	if found := naming(t, s, lock, of); !slices.Equal(found, []string{"c1", "c2"}) {
		t.Error("none is lost:", found)
	}
	must(t, os.RemoveAll(again.dir))
	s.SweepIndex(lock)
	s.SweepIndex(nil)
	must(t, living.Remove())
	if left := hostTree(t, s); left != "700 index/" {
		t.Error("left:", left)
	}
}

// A name that is too long for a file is left out of the index, and read.
func TestLongNamesAreRead(t *testing.T) {
	s := sharing(t)
	l := mustLock(t, s, "netns-1")
	defer l.Unlock()
	r := sharingRecord(1)
	r.Network = strings.Repeat("n", unix.NAME_MAX)
	e, err := s.Create(l, r, nil)
	must(t, err)
	must(t, e.Finish())
	share(t, s, 2)
	lock := lockHost(t, s)
	for range 2 {
		if found := naming(t, s, lock, netops.State{Rules: []netops.Rule{shared}}); !slices.Equal(found, []string{"c1", "c2"}) {
			t.Error(found)
		}
	}
	must(t, e.Remove())
}

// Attachments come and go at once, some of them those of the first release: each
// is found from when it counts on something until it is taken back.
func TestIndexRace(t *testing.T) {
	s := sharing(t)
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			for round := range 20 {
				comeAndGo(t, s, n, (n+round)%3 == 0)
			}
		})
	}
	all.Wait()
	if left := hostTree(t, s); left != "700 index/" && left != "700 index/\n600 indexed" {
		t.Error("left:", left)
	}
}

func comeAndGo(t *testing.T, s Store, n int, first bool) {
	l, err := s.Lock(fmt.Sprintf("netns-%d", n))
	if err != nil {
		t.Error(err)
		return
	}
	e, err := s.Create(l, sharingRecord(n), nil)
	if err != nil {
		t.Error(err)
		return
	}
	if first {
		earlier(t, e)
	}
	seen := func() bool {
		host, err := s.LockHost(context.Background())
		if err != nil {
			t.Error(err)
		}
		defer host.Unlock()
		return slices.Contains(naming(t, s, host, netops.State{Rules: []netops.Rule{shared}}), e.ContainerID)
	}
	if !seen() {
		t.Errorf("%s is not found, planned", e.ContainerID)
	}
	if err := e.Finish(); err != nil {
		t.Error(err)
	}
	l.Unlock()
	if !seen() { // another one may index it meanwhile
		t.Errorf("%s is not found", e.ContainerID)
	}
	if l, err = s.Lock(l.name()); err != nil {
		t.Error(err)
		return
	}
	defer l.Unlock()
	if err := e.BeginUndo(); err != nil {
		t.Error(err)
	}
	if seen() {
		t.Errorf("%s is found although it is being taken back", e.ContainerID)
	}
	if err := e.Remove(); err != nil {
		t.Error(err)
	}
}
