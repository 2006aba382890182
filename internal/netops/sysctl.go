package netops

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cni-netops/plugins/internal/jsonappend"
)

// Sysctl is a kernel parameter of a network namespace.
type Sysctl struct {
	Key   string `json:"key"` // its path below /proc/sys: net/ipv4/conf/eth0/rp_filter
	Value string `json:"value"`
	// AtMost says that a smaller number is as good.
	AtMost bool `json:"atMost"`
}

// SysctlSize is more bytes than any value below net/ has.
const SysctlSize = 4096

// Command is the command of sysctl(8), which takes slashes where a name has dots
// of its own.
func (s *Sysctl) Command(Verb) string {
	name := s.Key
	if !strings.Contains(name, ".") {
		name = strings.ReplaceAll(name, "/", ".")
	}
	return "sysctl -w " + name + "=" + s.Value
}

// Instead is the value where there should be another one.
func (s *Sysctl) Instead() string { return s.Value }

// SatisfiedBy reports whether a value is as it is asked for.
func (s *Sysctl) SatisfiedBy(value string) bool {
	if s.Value == value || !s.AtMost {
		return s.Value == value
	}
	most, err := strconv.Atoi(s.Value)
	n, bad := strconv.Atoi(value)
	return err == nil && bad == nil && n <= most
}

// Dev is the interface that the parameter is of; empty where it is of none.
func (s *Sysctl) Dev() string {
	const tables, dev, all = 2, 3, 5 // net/ipv4/conf/eth0/rp_filter
	parts := strings.Split(s.Key, "/")
	if len(parts) != all || parts[tables] != "conf" && parts[tables] != "neigh" || parts[dev] == "all" || parts[dev] == "default" {
		return ""
	}
	return parts[dev]
}

// AddTo adds the value to a state.
func (s *Sysctl) AddTo(to *State) { to.Sysctls = append(to.Sysctls, *s) }

// Cover makes a query read the parameter.
func (s *Sysctl) Cover(q *Query) { q.Sysctls = append(q.Sysctls, s.Key) }

// stage puts the switch of IPv6 before all that needs it. Setting it back
// flushes the interface's IPv6, so that it is the last to be undone.
func (s *Sysctl) stage(verb Verb) Stage {
	switch {
	case verb == Delete:
		return Never
	case strings.HasSuffix(s.Key, "/disable_ipv6"):
		return SwitchIPv6
	}
	return SetSysctls
}

// validate keeps a record that was tampered with from naming another file: only
// what belongs to the network namespace is set here.
func (s *Sysctl) validate() error {
	parts := strings.Split(s.Key, "/")
	leaves := func(p string) bool { return p == "" || p == "." || p == ".." || strings.ContainsRune(p, 0) }
	if len(parts) < 3 || parts[0] != "net" || slices.ContainsFunc(parts, leaves) || len(s.Value) > SysctlSize {
		return fmt.Errorf("sysctl %q: not below net/", s.Key)
	}
	return nil
}

func (s *Sysctl) appendJSON(b []byte) []byte {
	o := jsonappend.Open(b)
	o.Text("key", s.Key)
	o.Text("value", s.Value)
	o.Flag("atMost", s.AtMost)
	return o.Close()
}
