package netops

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/jsonappend"
)

type sysctl Sysctl

// command is that of sysctl(8), which takes slashes where a name has dots of
// its own.
func (s *sysctl) command(string) string {
	name := s.Key
	if !strings.Contains(name, ".") {
		name = strings.ReplaceAll(name, "/", ".")
	}
	return "sysctl -w " + name + "=" + s.Value
}

type sysctlSlot string

func (s *sysctl) instead() string    { return "it is " + s.Value }
func (s *sysctl) slot() any          { return sysctlSlot(s.Key) }
func (s *sysctl) hits(o object) bool { return s.slot() == o.slot() }
func (s *sysctl) value() bool        { return true }
func (s *sysctl) into(to *State)     { to.Sysctls = append(to.Sysctls, Sysctl(*s)) }
func (s *sysctl) cover(q *Query)     { q.Sysctls = append(q.Sysctls, s.Key) }

func (s *sysctl) holds(have object) bool { return (*Sysctl)(s).SatisfiedBy(have.(*sysctl).Value) }

// HeldBy reports whether a value is as it is asked for.
func (s *Sysctl) SatisfiedBy(value string) bool {
	if s.Value == value || !s.AtMost {
		return s.Value == value
	}
	most, err := strconv.Atoi(s.Value)
	n, bad := strconv.Atoi(value)
	return err == nil && bad == nil && n <= most
}

// operation puts the switch of IPv6 before all that needs it. Setting it back
// flushes the interface's IPv6, so that it is the last to be undone.
func (s *sysctl) operation(del bool) (operation, stage) {
	at := setSysctls
	if del {
		at = never
	} else if strings.HasSuffix(s.Key, "/disable_ipv6") {
		at = switchIPv6
	}
	return operation{object: s}, at
}

// validate keeps a record that somebody has tampered with from naming another
// file: only what belongs to the network namespace is set here.
func (s *sysctl) validate() error {
	parts := strings.Split(s.Key, "/")
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || strings.ContainsRune(p, 0) {
			return fmt.Errorf("sysctl %q is not below net/", s.Key)
		}
	}
	if len(parts) < 3 || parts[0] != "net" || len(s.Value) > sysctlSize {
		return fmt.Errorf("sysctl %q is not below net/", s.Key)
	}
	return nil
}

func appendSysctl(s *Sysctl, b []byte) []byte {
	o := jsonappend.Open(b)
	o.Text("key", s.Key)
	o.Text("value", s.Value)
	o.Flag("atMost", s.AtMost)
	return o.Close()
}

// sysctlSize is more than any value below net/ has.
const sysctlSize = 4096

// readSysctls adds those that exist, read in one visit to the namespace. What
// cannot be read is not taken for absent.
func (n *Netns) readSysctls(keys []string, s *State) error {
	return n.Within(func() error {
		buffer := make([]byte, sysctlSize)
		for _, key := range keys {
			size, err := onSysctl(key, unix.O_RDONLY, func(fd int) (int, error) { return unix.Read(fd, buffer) })
			if errors.Is(err, unix.ENOENT) {
				continue
			} else if err != nil {
				return fmt.Errorf("read sysctl %s: %w", key, err)
			}
			s.Sysctls = append(s.Sysctls, Sysctl{Key: key, Value: strings.Join(strings.Fields(string(buffer[:size])), " ")})
		}
		return nil
	})
}

// onSysctl opens the file of a sysctl, by plain system calls: os.File would set
// up an epoll.
func onSysctl(key string, flags int, do func(fd int) (int, error)) (size int, err error) {
	fd, err := unix.Open("/proc/sys/"+key, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	return do(fd)
}

// perform sets several, in one visit.
func (s *sysctl) perform(n *Netns, ops []operation) []error {
	errs := make([]error, len(ops))
	err := n.Within(func() error {
		for i, op := range ops {
			errs[i] = op.object.(*sysctl).write()
		}
		return nil
	})
	for i, op := range ops {
		if err != nil {
			errs[i] = cmp.Or(errs[i], err)
		} else if errors.Is(errs[i], unix.ENOENT) {
			errs[i] = op.object.(*sysctl).missing(n, errs[i])
		}
	}
	return errs
}

func (s *sysctl) write() error {
	_, err := onSysctl(s.Key, unix.O_WRONLY, func(fd int) (int, error) { return unix.Write(fd, []byte(s.Value)) })
	var errno unix.Errno
	if errors.As(err, &errno) {
		return &KernelError{Errno: errno}
	}
	return err
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

// missing tells why a sysctl is not there: its interface may not be.
func (s *sysctl) missing(n *Netns, err error) error {
	dev := (*Sysctl)(s).Dev()
	if dev == "" {
		return err
	}
	n.forget()
	if _, gone := n.index(dev); errors.Is(gone, ErrNoLink) {
		return gone
	}
	return err
}
