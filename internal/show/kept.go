package show

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Where flannel keeps configurations, and host-local its leases, unless a
// configuration says otherwise.
const (
	defaultDataDir = "/var/lib/cni/flannel"
	defaultLeases  = "/var/lib/cni/networks"
)

// Kept is a configuration that flannel has generated for a delegate, and keeps
// for DEL.
type Kept struct {
	Delegate string          `json:"delegate"`
	Config   json.RawMessage `json:"config"`
	// Leases are the addresses that host-local has given the attachment.
	Leases []string `json:"leases"`
	// Refusal is what the delegate said when it would neither add nor delete.
	Refusal string `json:"refusal"`
}

func (k *Kept) refused() bool { return k != nil && k.Refusal != "" }

// has reports whether one of the leases is of that address or subnet.
func (k *Kept) has(only string) bool {
	if k == nil {
		return false
	}
	matches, ok := destination(only)
	return ok && slices.ContainsFunc(k.Leases, func(lease string) bool {
		ip, err := netip.ParseAddr(lease)
		return err == nil && matches(netip.PrefixFrom(ip, ip.BitLen()))
	})
}

func (p *page) kept(r *Record) {
	p.line(plain, "    %s is kept for DEL, for %s", r.File, r.Kept.Delegate)
	for _, lease := range r.Kept.Leases {
		p.line(plain, "    host-local's lease %s", lease)
	}
	if r.Kept.Refusal != "" {
		p.line(red, "    now: the delegate would neither add nor delete it: %s", r.Kept.Refusal)
	}
}

// ListKept reads the configurations that flannel keeps, whose files are named
// network@container@interface. One that goes meanwhile is left out.
func ListKept(dir string) ([]Record, error) {
	if dir == "" {
		dir = defaultDataDir
	}
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var list []Record
	leases := map[string]leases{}
	for _, f := range files {
		parts := strings.Split(f.Name(), "@")
		if len(parts) != 3 || !f.Type().IsRegular() {
			continue
		}
		r := Record{Plugin: "flannel", Network: parts[0], ContainerID: parts[1], IfName: parts[2],
			File: filepath.Join(dir, f.Name()), State: Finished}
		text, err := os.ReadFile(r.File)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			r.State, r.Error = Unreadable, err.Error()
		default:
			r.readKept(text, leases)
		}
		list = append(list, r)
	}
	return list, nil
}

// readKept takes a kept file apart: the configuration is its first line, what
// the delegate refused the rest.
func (r *Record) readKept(text []byte, all map[string]leases) {
	conf, refusal, _ := bytes.Cut(text, []byte{'\n'})
	var c struct {
		Type string
		IPAM struct{ Type, DataDir string }
	}
	if err := json.Unmarshal(conf, &c); err != nil {
		r.State, r.Error = Unreadable, "no configuration: "+err.Error()
		return
	}
	r.Kept = &Kept{Delegate: c.Type, Config: conf, Refusal: string(refusal), Leases: []string{}}
	if c.IPAM.Type != "host-local" {
		return
	}
	dir := c.IPAM.DataDir
	if dir == "" {
		dir = defaultLeases
	}
	dir = filepath.Join(dir, r.Network)
	if all[dir] == nil {
		all[dir] = readLeases(dir)
	}
	if found := all[dir][r.ContainerID+" "+r.IfName]; found != nil {
		r.Kept.Leases = found
	}
}

// leases are the addresses of a network, by container ID and interface.
type leases map[string][]string

// readLeases reads host-local's files, each named by the address that it gives
// to the container and interface in it. What cannot be read is left out.
func readLeases(dir string) leases {
	of := leases{}
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		ip, err := netip.ParseAddr(strings.ReplaceAll(f.Name(), "_", ":"))
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			continue
		}
		key := strings.Join(strings.Fields(string(text)), " ")
		of[key] = append(of[key], ip.String())
	}
	return of
}
