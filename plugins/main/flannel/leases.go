package main

import (
	"cmp"
	"errors"
	"io"
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

// warnOfSharing tells of other networks to which host-local has given addresses
// of this node's subnet: it knows the leases of one network only, and gives the
// same addresses out again.
func warnOfSharing(r *cni.Request, j job) {
	dir := j.leasesDir()
	if dir == "" {
		return
	}
	networks, err := sharing(dir, r.Config.Network, j.env.subnets)
	if err != nil {
		r.Warn("cannot look for leases of other networks", "error", err)
	}
	for _, name := range networks {
		r.Warn("another network has leases of this node's flannel subnet: pods may get an address twice; give both the same name, or remove leases of pods that are gone",
			"network", r.Config.Network, "other", name, "leases", filepath.Join(dir, name))
	}
}

// sharing are the other networks that have leases of these subnets.
func sharing(dir, own string, subnets []netip.Prefix) (networks []string, err error) {
	folders, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, f := range folders {
		if f.Name() == own || !f.IsDir() {
			continue
		}
		leases, reading := hasLease(filepath.Join(dir, f.Name()), subnets)
		if err = errors.Join(err, reading); leases {
			networks = append(networks, f.Name())
		}
	}
	return networks, err
}

// hasLease reports whether a network's folder has a lease of these subnets. There
// may be thousands: it reads no further than to the first.
func hasLease(dir string, subnets []netip.Prefix) (bool, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // removed meanwhile
	} else if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	for {
		const some = 100
		names, err := f.Readdirnames(some)
		if slices.ContainsFunc(names, func(name string) bool { return leased(name, subnets) }) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
}

// leased reports whether a file is the lease of an address of these subnets. On
// Windows, whose files' names have no colons, host-local writes _ for them.
func leased(file string, subnets []netip.Prefix) bool {
	ip, err := netip.ParseAddr(strings.ReplaceAll(file, "_", ":"))
	return err == nil && slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Contains(ip) })
}
