package netops

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Await looks until what is looked for is there, each time that an interface,
// an address or a default route of the namespace has changed, and until a
// deadline. It reports whether it is there.
func (n *Netns) Await(until time.Time, look func() (there bool, err error)) (bool, error) {
	there, err := look()
	if there || err != nil || !time.Now().Before(until) {
		return there, err
	}
	news, err := n.subscribe()
	if err != nil {
		return false, err
	}
	defer news.close()
	for {
		// What came between the last look and the subscription is seen now.
		if there, err := look(); there || err != nil {
			return there, err
		}
		for matters := false; !matters; {
			if matters, err = news.wait(until); err != nil || !time.Now().Before(until) {
				return false, err
			}
		}
	}
}

// subscribe opens a socket in the namespace that is told of changes.
func (n *Netns) subscribe() (c *conn, err error) {
	const groups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
		1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1)
	dialIn := func() error { c, err = dial(); return err }
	if n.handle < 0 {
		err = dialIn()
	} else {
		err = inNamespace(n.handle, dialIn)
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe to the changes of %s: %w", n.path, err)
	}
	if err := unix.Bind(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		c.close()
		return nil, os.NewSyscallError("subscribe to rtnetlink", err)
	}
	return c, nil
}

// wait waits for one batch of news, and reports whether it may matter. On a
// host whose routes come and go, most does not.
func (c *conn) wait(until time.Time) (matters bool, err error) {
	left := time.Until(until)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
	if n == 0 || errors.Is(err, unix.EINTR) {
		return false, nil
	} else if err != nil {
		return false, os.NewSyscallError("wait for rtnetlink", err)
	}
	err = c.receiveAll(func(r reply) error {
		route := r.typ == unix.RTM_NEWROUTE || r.typ == unix.RTM_DELROUTE
		matters = matters || !route || len(r.body) > rtDstLen && r.body[rtDstLen] == 0
		return nil
	})
	if errors.As(err, new(*lostError)) {
		return true, nil // there was more than the buffer holds
	}
	return matters, err
}
