package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// locking takes the lock elsewhere, and tells when it has it.
func locking(t *testing.T, s Store) <-chan *Lock {
	got := make(chan *Lock, 1)
	go func() {
		l, err := s.Lock(netnsLock)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	return got
}

// waits reports whether a lock is waited for, for as long as it takes to get a
// free one a thousand times.
func waits(got <-chan *Lock) bool {
	select {
	case <-got:
		return false
	case <-time.After(20 * time.Millisecond):
		return true
	}
}

func TestLockIsExclusive(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	got := locking(t, s)
	if !waits(got) {
		t.Fatal("two hold one lock")
	}
	if _, err := s.TryLock(netnsLock); !errors.Is(err, ErrLocked) {
		t.Errorf("TryLock: %v", err)
	}
	other := mustLock(t, s, otherNetns) // of another namespace, at the same time
	other.Unlock()
	l.Unlock()
	(<-got).Unlock()
	wantTree(t, s, "after")
}

// The lock is the namespace's, whichever plugin has it.
func TestLockIsOneForAllPlugins(t *testing.T) {
	s := newStore(t)
	other := NewStore(s.root, "host-routes")
	l := mustLock(t, s, netnsLock)
	if _, err := other.TryLock(netnsLock); !errors.Is(err, ErrLocked) {
		t.Errorf("TryLock: %v", err)
	}
	var kept []*Entry
	for _, store := range []Store{s, other} {
		kept = append(kept, create(t, store, l, testKey), create(t, store, l, testKey), create(t, store, l, Key{testNetwork, "c1", "net1"}))
	}
	l.Unlock()
	for _, e := range kept {
		if !there(filepath.Join(s.root, netnsLock)) {
			t.Fatal("the lock is gone with records there")
		}
		l := mustLock(t, e.of.Store, netnsLock)
		must(t, e.Remove())
		l.Unlock()
	}
	wantTree(t, s, "all removed", "700 host-routes/", "700 route-override/")
}

func TestTryLockWithoutALock(t *testing.T) {
	for _, s := range []Store{newStore(t), NewStore(filepath.Join(t.TempDir(), "none"), testPlugin)} {
		l, err := s.TryLock(netnsLock)
		if l != nil || err != nil {
			t.Errorf("%v, %v", l, err)
		}
		l.Unlock() // none to give back
	}
}

func TestTryLockTakesAFreeLock(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	create(t, s, l, testKey)
	l.Unlock()
	l, err := s.TryLock(netnsLock)
	if l == nil || err != nil {
		t.Fatalf("%v, %v", l, err)
	}
	if _, err := s.TryLock(netnsLock); !errors.Is(err, ErrLocked) {
		t.Errorf("a second TryLock: %v", err)
	}
	got := locking(t, s)
	if !waits(got) {
		t.Error("two hold one lock")
	}
	l.Unlock()
	(<-got).Unlock()
}

// The name of a lock is read from a record, and names a file.
func TestNamesOfLocks(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"", ".", "..", "netns-", "other-1", "../netns-1", "netns-1/../../x", "netns-1/x", "netns-a.b", "netns-\x00"} {
		if _, err := s.Lock(name); err == nil {
			t.Errorf("Lock(%q)", name)
		}
		if _, err := s.TryLock(name); err == nil {
			t.Errorf("TryLock(%q)", name)
		}
	}
	for _, name := range []string{"netns-1", "netns-18446744073709551615", "netns-inode-4026531840"} {
		mustLock(t, s, name).Unlock()
	}
	wantTree(t, s, "after")
}

func TestLocksThatCannotBe(t *testing.T) {
	s := newStore(t)
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.Symlink(outside, filepath.Join(s.root, netnsLock)))
	if _, err := s.Lock(netnsLock); !errors.Is(err, unix.ELOOP) || there(outside) {
		t.Errorf("a symbolic link: %v", err)
	}
	must(t, os.Mkdir(filepath.Join(s.root, otherNetns), 0o700))
	if _, err := s.Lock(otherNetns); !errors.Is(err, unix.EISDIR) {
		t.Errorf("a folder: %v", err)
	}
	file := filepath.Join(s.root, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	var path *fs.PathError
	if _, err := NewStore(file, testPlugin).Lock(netnsLock); !errors.As(err, &path) || path.Path != file {
		t.Errorf("a root that is a file: %v", err)
	}
}

// Whoever waited gets a file that the holder has unlinked: it locks nothing.
func TestAWaiterOfAnUnlinkedLockTriesAgain(t *testing.T) {
	s := newStore(t)
	first := mustLock(t, s, netnsLock)
	got := locking(t, s)
	if !waits(got) {
		t.Fatal("two hold one lock")
	}
	must(t, os.Remove(first.path))
	second := mustLock(t, s, netnsLock)
	must(t, unix.Close(first.fd))
	if !waits(got) {
		t.Fatal("an unlinked file was taken for the lock")
	}
	second.Unlock()
	(<-got).Unlock()
	wantTree(t, s, "after")
}

// A lock that somebody removed by hand, beside its records, keeps working.
func TestALockRemovedByHand(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	first := create(t, s, l, testKey)
	l.Unlock()
	must(t, os.Remove(filepath.Join(s.root, netnsLock)))
	l = mustLock(t, s, netnsLock)
	second := create(t, s, l, testKey)
	l.Unlock()
	if !there(filepath.Join(s.root, netnsLock)) {
		t.Error("the new lock did not stay with its record")
	}
	l = mustLock(t, s, netnsLock)
	must(t, first.Remove())
	must(t, second.Remove())
	l.Unlock()
	wantTree(t, s, "after", "700 route-override/")
}

// together runs f in many goroutines at once.
func together(f func(worker int)) {
	var all sync.WaitGroup
	const workers = 16
	for w := range workers {
		all.Go(func() { f(w) })
	}
	all.Wait()
}

// Locks come and go with their files, under many who wait for them.
func TestLockRace(t *testing.T) {
	s := newStore(t)
	var holders, taken atomic.Int32
	hold := func(l *Lock) {
		if n := holders.Add(1); n != 1 {
			t.Errorf("%d hold one lock", n)
		}
		taken.Add(1)
		holders.Add(-1)
		l.Unlock()
	}
	together(func(int) {
		for range 200 {
			l, err := s.Lock(netnsLock)
			if err != nil {
				t.Error(err)
				return
			}
			hold(l)
			if l, err = s.TryLock(netnsLock); err != nil && !errors.Is(err, ErrLocked) {
				t.Error(err)
			} else if l != nil {
				hold(l)
			}
		}
	})
	if taken.Load() < 16*200 {
		t.Errorf("taken %d times", taken.Load())
	}
	wantTree(t, s, "after")
}

// One ADD and DEL after the other, in one namespace: each finds the lock and
// its own record.
func TestRecordsOfOneNamespaceRace(t *testing.T) {
	s := newStore(t)
	together(func(w int) {
		k := Key{testNetwork, "c1", fmt.Sprintf("net%d", w%4)}
		for range 20 {
			l, err := s.Lock(netnsLock)
			if err != nil {
				t.Error(err)
				return
			}
			addAndDelete(t, s, l, k)
			l.Unlock()
		}
	})
	wantTree(t, s, "after", "700 route-override/")
}

// Many namespaces of one attachment, each under its own lock: nothing but the
// names of files keeps them apart, and GC sweeps among them.
func TestNamespacesOfOneAttachmentRace(t *testing.T) {
	s := newStore(t)
	together(func(w int) {
		for range 40 {
			l, err := s.Lock(fmt.Sprintf("netns-%d", w))
			if err != nil {
				t.Error(err)
				return
			}
			addAndDelete(t, s, l, testKey)
			l.Unlock()
			s.Sweep(testKey)
			s.SweepRoot()
		}
	})
	wantTree(t, s, "after", "700 route-override/")
}

// addAndDelete makes a record, finds it in each state, and removes it.
func addAndDelete(t *testing.T, s Store, l *Lock, k Key) {
	beside, err := s.Entries(k)
	if err != nil {
		t.Error(err)
		return
	}
	r := testRecord(k)
	r.Boot = l.name()
	e, err := s.Create(l, r, beside)
	if err != nil {
		t.Error(err)
		return
	}
	for _, step := range []func() error{func() error { return nil }, e.Finish, e.Rewrite, e.BeginUndo} {
		if err := step(); err != nil {
			t.Error(err)
		}
		if !found(t, s, k, e) {
			t.Errorf("%s is not listed", e.Path())
		}
		if !there(l.path) {
			t.Errorf("%s is gone with its record there", l.path)
		}
	}
	if err := e.Remove(); err != nil {
		t.Error(err)
	}
}

// found reports whether an entry is listed, with what was written.
func found(t *testing.T, s Store, k Key, e *Entry) bool {
	list, err := s.Entries(k)
	if err != nil {
		t.Error(err)
	}
	for _, o := range list {
		if o.Path() == e.Path() {
			return o.Err == nil && o.Boot == e.Boot
		}
	}
	return false
}

// The record of an ADD that is ending changes its name while DEL looks for it,
// without the lock: it is never missed.
func TestARecordIsNotMissedWhileItIsRenamed(t *testing.T) {
	s := newStore(t)
	l := mustLock(t, s, netnsLock)
	defer l.Unlock()
	e := create(t, s, l, testKey)
	var stop atomic.Bool
	done := make(chan error)
	go func() {
		var err error
		for !stop.Load() && err == nil {
			if err = e.Finish(); err == nil {
				err = e.BeginUndo()
			}
		}
		done <- err
	}()
	for range 1000 {
		if n := len(entries(t, s, testKey)); n == 0 {
			t.Error("the record was missed")
			break
		}
	}
	stop.Store(true)
	must(t, <-done)
	must(t, e.Remove())
}
