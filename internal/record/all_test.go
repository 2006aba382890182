package record

import (
	"maps"
	"os"
	"testing"
)

func TestParseLocks(t *testing.T) {
	got := parseLocks(`1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF
1: -> FLOCK  ADVISORY  WRITE 4712 00:19:1234 0 EOF
2: POSIX  ADVISORY  READ  4713 08:01:77 128 128
3: FLOCK  ADVISORY  WRITE 0 00:19:88 0 EOF
4: FLOCK  ADVISORY  READ  12 fd:00:99 0 EOF
none of them
`)
	if want := map[uint64]int{1234: 4711, 99: 12}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Who holds a lock is read, and the lock is not touched.
func TestHolders(t *testing.T) {
	s := NewStore(t.TempDir(), "example")
	if holders, err := s.Holders(); err != nil || len(holders) > 0 {
		t.Fatal(holders, err)
	}
	l, err := s.Lock("netns-7")
	if err != nil {
		t.Fatal(err)
	}
	holders, err := s.Holders()
	if want := map[string]int{"netns-7": os.Getpid()}; err != nil || !maps.Equal(holders, want) {
		t.Errorf("%v, %v; want %v", holders, err, want)
	}
	l.Unlock()
	if holders, err := s.Holders(); err != nil || len(holders) > 0 {
		t.Error(holders, err)
	}
}
