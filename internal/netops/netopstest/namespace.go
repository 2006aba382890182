package netopstest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/vishvananda/netns"
)

// NS is a network namespace of a test.
type NS struct {
	tb   testing.TB
	Name string
	Path string
}

// Namespace makes a network namespace with lo up, which goes with the test, as
// ip-netns(8) names it.
func Namespace(tb testing.TB, name string) *NS {
	tb.Helper()
	n := &NS{tb: tb, Name: name, Path: filepath.Join("/run/netns", name)}
	if err := makeNamespace(name); err != nil {
		tb.Fatalf("network namespace %s: %v", name, err)
	}
	tb.Cleanup(n.Remove)
	return n
}

// makeNamespace makes a network namespace and furnishes it, from within.
func makeNamespace(name string) error {
	here, err := ns.GetCurrentNS()
	if err != nil {
		return err
	}
	defer func() { _ = here.Close() }()
	// Do brings the thread back.
	return here.Do(func(ns.NetNS) error {
		made, err := netns.NewNamed(name)
		if err != nil {
			return err
		}
		defer func() { _ = made.Close() }()
		// Without duplicate address detection nothing changes by itself later.
		if _, err := sysctl.Sysctl("net/ipv6/conf/default/accept_dad", "0"); err != nil {
			return err
		}
		return linkUp("lo")
	})
}

// Host is the namespace that the test runs in.
func Host(tb testing.TB) *NS { return &NS{tb: tb} }

// Remove takes the namespace away, if it is still there.
func (n *NS) Remove() {
	if _, err := os.Stat(n.Path); err != nil {
		return
	}
	if err := netns.DeleteNamed(n.Name); err != nil {
		n.tb.Fatalf("network namespace %s: %v", n.Name, err)
	}
}

// Enter calls f on a thread that is in the namespace: a process that is started
// there is in it, too.
func (n *NS) Enter(f func()) {
	n.tb.Helper()
	if n.Name == "" {
		f()
		return
	}
	returned := false
	err := ns.WithNetNSPath(n.Path, func(ns.NetNS) error { f(); returned = true; return nil })
	if err != nil {
		n.tb.Fatal(err)
	}
	if !returned { // it has ended the test, but for this goroutine
		n.tb.FailNow()
	}
}

// Sysctl sets a kernel parameter, named by its path below /proc/sys.
func (n *NS) Sysctl(key, value string) {
	n.tb.Helper()
	n.Enter(func() {
		if _, err := sysctl.Sysctl(key, value); err != nil {
			n.tb.Fatalf("sysctl %s=%s: %v", key, value, err)
		}
	})
}
