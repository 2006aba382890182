package main

import (
	"cmp"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cni-netops/plugins/internal/cni"
)

// host-local keeps what it has given out in <dataDir>/<network>/<address>.
const (
	keyLeases     = "dataDir" // of ipam
	defaultLeases = "/var/lib/cni/networks"
)

// leasesDir is the folder below which host-local keeps its leases; it is empty
// where another IPAM plugin gives out addresses.
func (c config) leasesDir() string {
	t, dir := hostLocal, ""
	c.ipam.Text(keyType, &t)
	c.ipam.Text(keyLeases, &dir)
	if t != hostLocal {
		return ""
	}
	return cmp.Or(dir, defaultLeases)
}

// warnOfOthers tells of other networks to which host-local has given addresses
// of this node's subnet: it knows the leases of one network only, and gives the
// same addresses out again.
func warnOfOthers(r *cni.Request, j job) {
	dir := j.leasesDir()
	if dir == "" {
		return
	}
	others, err := sharing(dir, r.Attachment().Network, j.env.subnets)
	if err != nil {
		r.Warn("cannot look for leases of other networks", "error", err)
	}
	for _, name := range others {
		r.Warn("another network has leases of this node's flannel subnet: pods may get an address twice; give both the same name, or remove leases of pods that are gone",
			"network", r.Attachment().Network, "other", name, "leases", filepath.Join(dir, name))
	}
}

// sharing are the other networks that have leases of these subnets.
func sharing(dir, own string, subnets []netip.Prefix) (others []string, err error) {
	networks, err := readDir(dir)
	for _, n := range networks {
		if n.Name() == own || !n.IsDir() {
			continue
		}
		leases, reading := readDir(filepath.Join(dir, n.Name()))
		err = errors.Join(err, reading)
		if slices.ContainsFunc(leases, func(l fs.DirEntry) bool { return leased(l.Name(), subnets) }) {
			others = append(others, n.Name())
		}
	}
	return others, err
}

// leased reports whether a file is the lease of an address of these subnets. On
// Windows, whose files' names have no colons, host-local writes _ for them.
func leased(file string, subnets []netip.Prefix) bool {
	ip, err := netip.ParseAddr(strings.ReplaceAll(file, "_", ":"))
	return err == nil && slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Contains(ip) })
}

// readDir reads a folder, which may be missing.
func readDir(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return entries, err
}
