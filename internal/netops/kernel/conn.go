package kernel

import (
	"errors"
	"os"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

// conn is one rtnetlink socket (netlink(7), rtnetlink(7)). It stays in the
// namespace that it was made in.
type conn struct {
	fd      int
	seq     uint32
	receive *[receiveSize]byte
	send    []byte
	last    int // where the last message in send begins
}

const (
	// receiveSize is more than the kernel's largest batch of a dump, 32 KiB.
	receiveSize = 64 << 10
	// maxBatch messages have their answers read before the next go out: a
	// default receive buffer of 208 KiB holds 256 of them.
	maxBatch = 128
	// maxBatchBytes stays below a default send buffer.
	maxBatchBytes = 96 << 10
)

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("open rtnetlink socket", err)
	}
	c := &conn{fd: fd}
	// Kernels before 4.20 know no strict checking: they dump everything, and
	// what was not asked for is dropped here.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	return c, nil
}

// buffers are those of closed sockets: show opens hundreds, one after the other.
var buffers = sync.Pool{New: func() any { return new([receiveSize]byte) }}

func (c *conn) close() {
	_ = unix.Close(c.fd)
	if c.receive != nil {
		buffers.Put(c.receive)
		c.receive = nil
	}
}

// message begins a message of a batch; finish sets its length.
func (c *conn) message(typ, flags uint16) (start int) {
	start = len(c.send)
	c.seq++
	var h *unix.NlMsghdr
	c.send, h = rtattr.Extend[unix.NlMsghdr](c.send)
	h.Type, h.Flags, h.Seq = typ, flags|unix.NLM_F_REQUEST, c.seq
	return start
}

func (c *conn) finish(start int) {
	c.send = append(c.send, make([]byte, rtattr.Align(len(c.send))-len(c.send))...)
	rtattr.View[unix.NlMsghdr](c.send[start:]).Len = uint32(len(c.send) - start)
	c.last = start
}

func (c *conn) transmit(messages []byte) error {
	for {
		err := unix.Sendto(c.fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return os.NewSyscallError("send to rtnetlink", err)
		}
	}
}

// reply is one message of the kernel.
type reply struct {
	typ, flags uint16
	seq        uint32
	body       []byte // valid until the next receive
}

// receiveAll reads one batch of replies and calls visit with each.
func (c *conn) receiveAll(visit func(reply) error) error {
	if c.receive == nil {
		c.receive = buffers.Get().(*[receiveSize]byte)
	}
	n, _, flags, from, err := unix.Recvmsg(c.fd, c.receive[:], nil, 0)
	switch {
	case err == unix.EINTR:
		return nil
	case err != nil:
		return &lostError{err}
	case flags&unix.MSG_TRUNC != 0:
		return &lostError{errors.New("answer longer than the receive buffer")}
	}
	if nl, ok := from.(*unix.SockaddrNetlink); ok && nl.Pid != 0 {
		return nil // only the kernel is port 0
	}
	for b := c.receive[:n]; len(b) >= unix.SizeofNlMsghdr; {
		h := rtattr.View[unix.NlMsghdr](b)
		size := int(h.Len)
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return rtattr.ErrMalformed
		}
		if err := visit(reply{h.Type, h.Flags, h.Seq, b[unix.SizeofNlMsghdr:size]}); err != nil {
			return err
		}
		b = b[min(rtattr.Align(size), len(b)):]
	}
	return nil
}

// lostError says that answers are missing: what was sent may have happened.
type lostError struct{ err error }

func (e *lostError) Error() string { return "receive from rtnetlink: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// verdict decodes NLMSG_ERROR or the end of a dump; nil is success.
func (r reply) verdict() error {
	if len(r.body) < 4 {
		return nil
	}
	code := int32(rtattr.Native.Uint32(r.body))
	if code == 0 {
		return nil
	}
	e := &netops.KernelError{Errno: unix.Errno(-code)}
	header := 4
	if r.typ == unix.NLMSG_ERROR {
		header += unix.SizeofNlMsghdr // of the request, echoed
	}
	if r.flags&unix.NLM_F_ACK_TLVS != 0 && len(r.body) > header {
		for a, err := range rtattr.All(r.body[header:]) {
			if err == nil && a.Type == unix.NLMSGERR_ATTR_MSG {
				e.Reason = a.Text()
			}
		}
	}
	return e
}

// request is a question to the kernel: a header, and attributes.
func request(typ, flags int, parts ...nl.NetlinkRequestData) *nl.NetlinkRequest {
	q := nl.NewNetlinkRequest(typ, flags)
	q.Data = parts
	return q
}

// wholeBatches are those of a list that cannot have missed anything: all of it,
// and the end.
const wholeBatches = 2

// ask sends a request and visits each message of the answer, one or a dump. The
// answer is whole where it came in so few batches that it cannot have missed
// anything. It fails with ErrInterrupted where the kernel says that batches do not
// fit together.
func (c *conn) ask(q *nl.NetlinkRequest, visit func(reply) error) (whole bool, err error) {
	c.seq++
	q.Seq = c.seq // as the operations of this socket are numbered
	seq, interrupted := c.seq, false
	if err := c.transmit(q.Serialize()); err != nil {
		return false, err
	}
	batches := 0
	for done := false; !done; batches++ {
		err := c.receiveAll(func(r reply) error {
			if r.seq != seq || done {
				return nil
			}
			interrupted = interrupted || r.flags&unix.NLM_F_DUMP_INTR != 0
			done = r.flags&unix.NLM_F_MULTI == 0 || r.typ == unix.NLMSG_DONE
			if r.typ == unix.NLMSG_DONE || r.typ == unix.NLMSG_ERROR {
				return r.verdict()
			}
			return visit(r)
		})
		if err != nil {
			return false, err
		}
	}
	if interrupted {
		return false, netops.ErrInterrupted
	}
	return batches <= wholeBatches, nil
}

// unsend takes the message at start out of the send buffer again.
func (c *conn) unsend(start int) {
	c.send = c.send[:start]
	c.seq--
}

// execute sends the n messages in the send buffer and returns each one's
// error. Only the last asks for an acknowledgement: refusals come anyway, and
// the kernel goes on after one. Where answers were lost, every message without
// one has that error.
func (c *conn) execute(n int) []error {
	errs, answered := make([]error, n), make([]bool, n)
	first := c.seq - uint32(n) + 1
	rtattr.View[unix.NlMsghdr](c.send[c.last:]).Flags |= unix.NLM_F_ACK
	err := c.transmit(c.send)
	c.send = c.send[:0]
	for done := false; err == nil && !done; {
		err = c.receiveAll(func(r reply) error {
			i := r.seq - first
			if r.typ != unix.NLMSG_ERROR || i >= uint32(n) {
				return nil
			}
			errs[i], answered[i] = r.verdict(), true
			done = done || i == uint32(n-1)
			return nil
		})
	}
	for i := range errs {
		if err != nil && !answered[i] {
			errs[i] = err
		}
	}
	return errs
}
