package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

// readSysctls adds those that exist, read in one visit to the namespace. What
// cannot be read is not taken for absent.
func (n *Netns) readSysctls(keys []string, s *netops.State) error {
	return n.Within(func() error {
		buffer := make([]byte, netops.SysctlSize)
		for _, key := range keys {
			size, err := onSysctl(key, unix.O_RDONLY, func(fd int) (int, error) { return unix.Read(fd, buffer) })
			if errors.Is(err, unix.ENOENT) {
				continue
			} else if err != nil {
				return fmt.Errorf("read sysctl %s: %w", key, err)
			}
			s.Sysctls = append(s.Sysctls, netops.Sysctl{Key: key, Value: strings.Join(strings.Fields(string(buffer[:size])), " ")})
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

// setSysctls sets several, in one visit to the namespace.
func (n *Netns) setSysctls(ops []netops.Operation) []error {
	errs := make([]error, len(ops))
	err := n.Within(func() error {
		for i, op := range ops {
			errs[i] = writeSysctl(op.Object.(*netops.Sysctl))
		}
		return nil
	})
	for i, op := range ops {
		if err != nil {
			errs[i] = cmp.Or(errs[i], err)
		} else if errors.Is(errs[i], unix.ENOENT) {
			errs[i] = n.missingSysctl(op.Object.(*netops.Sysctl), errs[i])
		}
	}
	return errs
}

func writeSysctl(s *netops.Sysctl) error {
	_, err := onSysctl(s.Key, unix.O_WRONLY, func(fd int) (int, error) { return unix.Write(fd, []byte(s.Value)) })
	var errno unix.Errno
	if errors.As(err, &errno) {
		return &netops.KernelError{Errno: errno}
	}
	return err
}

// missingSysctl tells why a sysctl is not there: its interface may not be.
func (n *Netns) missingSysctl(s *netops.Sysctl, err error) error {
	dev := s.Dev()
	if dev == "" {
		return err
	}
	n.forget()
	if _, gone := n.index(dev); errors.Is(gone, netops.ErrNoLink) {
		return gone
	}
	return err
}
