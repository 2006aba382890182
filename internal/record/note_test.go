package record

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cni-netops/plugins/internal/netops"
)

// lockHost takes the lock of the host, which is there since something of the
// host was recorded.
func lockHost(t *testing.T, s Store) *HostLock {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.root, hostLock), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := s.LockHost(context.Background())
	if err != nil || l == nil {
		t.Fatal(l, err)
	}
	t.Cleanup(l.Unlock)
	return l
}

func TestNotes(t *testing.T) {
	s := newStore(t)
	l := lockHost(t, s)
	is := func(name, want string) {
		t.Helper()
		if text, err := s.Note(name); text != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, text, err, want)
		}
	}
	const name = "sysctl/net/ipv4/conf/all/rp_filter"
	is(name, "")
	for _, text := range []string{"0=1", "3=2"} { // the second in the place of the first
		if err := l.SetNote(name, text); err != nil {
			t.Fatal(err)
		}
		is(name, text)
	}
	is("address/fd00::1", "")
	for range 2 { // a second time it is gone
		if err := l.DropNote(name); err != nil {
			t.Error(err)
		}
	}
	is(name, "")
	if left, err := os.ReadDir(filepath.Join(s.root, hostLock)); len(left) > 0 || err != nil {
		t.Error(left, err)
	}
}

// Nobody has recorded anything of the host, or somebody has removed the folder.
func TestNotesWithoutAFolder(t *testing.T) {
	s := newStore(t)
	l, err := s.LockHost(context.Background())
	if l != nil || err != nil {
		t.Fatal(l, err)
	}
	if text, err := s.Note("x"); text != "" || err != nil {
		t.Error(text, err)
	}
	if err := l.DropNote("x"); err != nil {
		t.Error(err)
	}
	if err := l.SetNote("x", "y"); err == nil {
		t.Error("a note without a place for it")
	}
}

// Who knows enough reads no more.
func TestNamingEndsEarly(t *testing.T) {
	s := newStore(t)
	lock := mustLock(t, s, netnsLock)
	defer lock.Unlock()
	of := netops.State{Rules: []netops.Rule{{Priority: 1000, Table: 500}}}
	for _, network := range []string{"net", "another"} {
		for _, id := range []string{"c1", "c2"} {
			r := testRecord(Key{Network: network, ContainerID: id, IfName: "eth0"})
			r.Done.Host = of
			if _, err := s.Create(lock, r, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for most := range 3 {
		visited, left := 0, of
		if err := s.Naming(nil, &left, nil, func(*Entry) {
			if visited++; visited > most {
				left.Rules = nil
			}
		}); visited != most+1 || err != nil {
			t.Errorf("%d visited: %v", visited, err)
		}
	}
}

// A file in the place of a note is nobody's that can be read.
func TestANoteThatIsNone(t *testing.T) {
	s := newStore(t)
	l := lockHost(t, s)
	if err := os.WriteFile(filepath.Join(s.root, hostLock, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := s.Note("x"); text != "" || err != nil {
		t.Error(text, err)
	}
	if err := l.SetNote("x", "y"); err != nil {
		t.Error(err)
	}
	if text, _ := s.Note("x"); text != "y" {
		t.Error(text)
	}
}

func TestNamed(t *testing.T) {
	s := newStore(t)
	lock := mustLock(t, s, netnsLock)
	defer lock.Unlock()
	create(t, s, lock, testKey)
	e := create(t, s, lock, testKey)
	other := NewStore(s.root, "another")
	if got, err := other.Named(e.Name()); got == nil || err != nil || got.Path() != e.Path() {
		t.Errorf("%s: %v, %v", e.Name(), got, err)
	}
	for _, name := range []string{"", "x", "../../../1", "route-override/net/c1:eth0/3", "route-override/net/c1:eth0", "route-override/net/c1:eth0/x", "route-override/net/c1/1", "a/b/c/d/e"} {
		if got, err := s.Named(name); got != nil || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if err := e.BeginUndo(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Named(e.Name()); got != nil || err != nil {
		t.Errorf("one that is being taken back: %v, %v", got, err)
	}
}

func TestNotesAreSwept(t *testing.T) {
	s := newStore(t)
	lock := mustLock(t, s, netnsLock)
	defer lock.Unlock()
	e := create(t, s, lock, testKey)
	l := lockHost(t, s)
	for name, text := range map[string]string{"address/10.0.0.1": e.Name(), "address/10.0.0.2": "router/gone/c1:net1/1", "sysctl/net/a/b": "0=1"} {
		if err := l.SetNote(name, text); err != nil {
			t.Fatal(err)
		}
	}
	s.SweepNotes(l, "address/")
	s.SweepNotes(nil, "address/")
	for name, kept := range map[string]bool{"address/10.0.0.1": true, "address/10.0.0.2": false, "sysctl/net/a/b": true} {
		if text, err := s.Note(name); (text != "") != kept || err != nil {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// Of hundreds of records those are read that name what is asked for.
func TestNaming(t *testing.T) {
	s := newStore(t)
	lock := mustLock(t, s, netnsLock)
	defer lock.Unlock()
	rule := netops.Rule{Priority: 1000, Table: 500, Protocol: netops.Protocol}
	six := rule
	six.IPv6 = true
	of := map[string]netops.State{
		"route":  {Routes: []netops.Route{testRoute("10.9.0.0/16")}},
		"rule":   {Rules: []netops.Rule{rule}},
		"sysctl": {Sysctls: []netops.Sysctl{{Key: "net/ipv4/conf/all/rp_filter", Value: "2", AtMost: true}}},
		"neigh":  {Neighs: []netops.Neigh{{Dev: "cali1", IP: netip.MustParseAddr("192.0.2.5"), HardwareAddr: "02:00:00:00:00:01"}}},
	}
	for id, state := range of {
		k := testKey
		k.ContainerID = id
		r := testRecord(k)
		r.Done.Host = state
		if _, err := s.Create(lock, r, nil); err != nil {
			t.Fatal(err)
		}
	}
	create(t, s, lock, testKey)
	of["another rule"] = netops.State{Rules: []netops.Rule{six}}
	of["nothing"] = netops.State{}
	for id, state := range of {
		var found []string
		if err := s.Naming(nil, &state, nil, func(e *Entry) { found = append(found, e.ContainerID) }); err != nil {
			t.Error(err)
		}
		want := []string{id}
		if id == "another rule" || id == "nothing" {
			want = nil
		}
		if !slices.Equal(found, want) {
			t.Errorf("%s: %v", id, found)
		}
	}
}
