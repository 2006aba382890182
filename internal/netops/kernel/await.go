package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Await looks until what is looked for is there, each time that an interface,
// an address or a default route of the namespace has changed, until a deadline
// or the end of ctx, whose cause is the error then. It reports whether it is
// there.
//
// Where changes come in quick succession, and looking takes long, most of the
// time is left to others.
func (n *Netns) Await(ctx context.Context, until time.Time, look func() (there bool, err error)) (bool, error) {
	news, err := n.subscribe()
	if err != nil {
		return false, err
	}
	defer news.close()
	wake, err := wakeAt(ctx)
	if err != nil {
		return false, err
	}
	defer wake.close()
	for {
		// What came between an earlier look and the subscription is seen now.
		began := time.Now()
		if there, err := look(); there || err != nil {
			return there, err
		}
		rest := min(pauses*time.Since(began), time.Until(until))
		if more, err := news.waitFor(ctx, wake, until, rest); err != nil {
			return false, err
		} else if !more {
			return look() // a process that gets little of a processor has not looked at the last news
		}
	}
}

// pauses is how many times as long as a look has taken it takes to the next.
const pauses = 4

// waitFor waits for news that may matter, and then for as long as it is to rest.
// It reports false when there is no time left.
func (c *conn) waitFor(ctx context.Context, wake waker, until time.Time, rest time.Duration) (bool, error) {
	rested := time.Now().Add(rest)
	for matters := false; ; {
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case !now.Before(until):
			return false, nil
		case matters && !now.Before(rested):
			return true, nil
		}
		by := until
		if matters {
			by = rested // what comes until then is read all the same
		}
		some, err := c.wait(wake, by)
		if err != nil {
			return false, err
		}
		matters = matters || some
	}
}

// wait waits for one batch of news, and reports whether it may matter. On a
// host whose routes come and go, most does not.
func (c *conn) wait(wake waker, until time.Time) (matters bool, err error) {
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}, {Fd: int32(wake.read), Events: unix.POLLIN}}
	_, err = unix.Poll(fds, int(time.Until(until)/time.Millisecond)+1)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return false, os.NewSyscallError("wait for rtnetlink", err)
	}
	if fds[0].Revents == 0 {
		return false, nil
	}
	err = c.receiveAll(func(r reply) error {
		route := r.typ == unix.RTM_NEWROUTE || r.typ == unix.RTM_DELROUTE
		matters = matters || !route || len(r.body) >= unix.SizeofRtMsg && nl.DeserializeRtMsg(r.body).Dst_len == 0
		return nil
	})
	if errors.As(err, new(*lostError)) {
		return true, nil // there was more than the buffer holds
	}
	return matters, err
}

// waker is a pipe that can be read from once a context has ended.
type waker struct {
	read, write int
	stop        func() bool
}

func wakeAt(ctx context.Context) (waker, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return waker{}, os.NewSyscallError("pipe2", err)
	}
	w := waker{read: ends[0], write: ends[1]}
	w.stop = context.AfterFunc(ctx, func() { _, _ = unix.Write(w.write, []byte{0}) })
	return w, nil
}

// close gives the pipe back, unless it is being written to: that process ends.
func (w waker) close() {
	if w.stop() {
		_ = unix.Close(w.read)
		_ = unix.Close(w.write)
	}
}

// subscribe opens a socket in the namespace that is told of changes.
func (n *Netns) subscribe() (*conn, error) {
	const groups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
		1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1)
	c, err := n.dial()
	if err != nil {
		return nil, fmt.Errorf("subscribe to the changes of %s: %w", n.path, err)
	}
	if err := unix.Bind(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		c.close()
		return nil, os.NewSyscallError("subscribe to rtnetlink", err)
	}
	return c, nil
}

// dial opens another socket in the namespace.
func (n *Netns) dial() (c *conn, err error) {
	err = n.Within(func() error { c, err = dial(); return err })
	return c, err
}
