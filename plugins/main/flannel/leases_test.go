package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Which networks' leases are of the node's subnets.
func TestSharing(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{
		"own/10.1.17.2", "own/last_reserved_ip.0",
		"four/10.1.17.2", "four/lock",
		"six/fd01:0:0:11::2", "windows/fd01_0_0_11__3",
		"elsewhere/10.1.18.2", "elsewhere/fd01:0:0:12::2",
		"empty/lock", "empty/last_reserved_ip.0", "file-10.1.17.2",
	} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	subnets := []netip.Prefix{netip.MustParsePrefix("10.1.17.0/24"), netip.MustParsePrefix("fd01:0:0:11::/64")}
	if got, err := sharing(dir, "own", subnets); err != nil || !slices.Equal(got, []string{"four", "six", "windows"}) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := sharing(filepath.Join(dir, "missing"), "own", subnets); err != nil || got != nil {
		t.Errorf("no folder: %q, %v", got, err)
	}
	if got, err := sharing(filepath.Join(dir, "file-10.1.17.2"), "own", subnets); err == nil {
		t.Errorf("no folder but a file: %q", got)
	}
}

// Where host-local keeps its leases, and that other IPAM plugins are none of it.
func TestLeasesDir(t *testing.T) {
	for ipam, want := range map[string]string{
		`null`: defaultLeases,
		`{}`:   defaultLeases,
		`{"type": "host-local", "dataDir": null}`:      defaultLeases,
		`{"type": "host-local", "dataDir": ""}`:        defaultLeases,
		`{"dataDir": "/run/leases"}`:                   "/run/leases",
		`{"type": "whereabouts", "dataDir": "/run/x"}`: "",
	} {
		c, p := decoded(`{"name": "n", "type": "flannel", "ipam": `+ipam+`}`, "linux")
		if got := c.leasesDir(); got != want || len(p.List) > 0 {
			t.Errorf("%s: %q, want %q; %v", ipam, got, want, p.List)
		}
	}
}
