package acd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
)

// socket sends and receives whole frames on one interface (packet(7)). The
// kernel's own addresses and neighbours have no part in it: an address that is
// tentative, or not there at all, can be asked for and announced.
type socket struct {
	link netops.Link
	fd   int
	file *os.File // has fd, and Go's deadlines
	raw  syscall.RawConn
}

// open opens a socket, which hears nothing before setUp has made it listen.
func open(ns *kernel.Netns, link netops.Link, setUp func(*socket) error) (*socket, error) {
	s := &socket{link: link}
	err := ns.Within(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return os.NewSyscallError("open packet socket", err)
	})
	if err != nil {
		return nil, err
	}
	s.file = os.NewFile(uintptr(s.fd), link.Name)
	if s.raw, err = s.file.SyscallConn(); err == nil {
		err = setUp(s)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("%s: %w", link.Name, err)
	}
	return s, nil
}

// close gives the socket back in the background: the kernel waits until no
// processor can be using it any more (synchronize_net), which was seen to take
// 8 to 16 ms.
func (s *socket) close() { go func() { _ = s.file.Close() }() }

// listen makes the socket hear what may be a claim, that to some multicast
// groups included: an address that is not configured has not joined its own
// (RFC 4862, 5.4.2), and a card passes on only what was joined. The filter
// comes first, or what arrives in between is heard without one.
func (s *socket) listen(groups [][]byte) error {
	program := filter()
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return os.NewSyscallError("attach filter", err)
	}
	for _, group := range groups {
		m := unix.PacketMreq{Ifindex: int32(s.link.Index), Type: unix.PACKET_MR_MULTICAST, Alen: macLen}
		copy(m.Address[:], group)
		if err := unix.SetsockoptPacketMreq(s.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
			return os.NewSyscallError("join multicast group", err)
		}
	}
	return os.NewSyscallError("bind", unix.Bind(s.fd, s.address(unix.ETH_P_ALL)))
}

func (s *socket) address(protocol uint16) *unix.SockaddrLinklayer {
	return &unix.SockaddrLinklayer{Ifindex: int(s.link.Index), Protocol: networkOrder(protocol)}
}

// networkOrder is htons(3).
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// filter is the part of claim that the kernel does, so that a busy link wakes
// nobody: what was received, of ARP, and of IPv6 where a neighbour solicitation
// or advertisement follows its header. A tagged frame belongs to a VLAN, where
// the same address is another one, and the kernel has taken the tag out of it.
// Tag 0 means none (IEEE 802.1Q, 9.6).
func filter() []unix.SockFilter {
	const (
		loadWord = unix.BPF_LD | unix.BPF_ABS | unix.BPF_W
		loadHalf = unix.BPF_LD | unix.BPF_ABS | unix.BPF_H
		loadByte = unix.BPF_LD | unix.BPF_ABS | unix.BPF_B
		equal    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		anyBit   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		take     = unix.BPF_RET | unix.BPF_K

		// What is not in the frame (linux/filter.h): SKF_AD_OFF, and from there
		// SKF_AD_PKTTYPE, SKF_AD_VLAN_TAG and SKF_AD_VLAN_TAG_PRESENT.
		beside = 0xfffff000
		kind   = beside + 4
		tag    = beside + 44
		tagged = beside + 48

		vlanID = 0xfff
	)
	return []unix.SockFilter{
		0:  {Code: loadWord, K: kind},
		1:  {Code: equal, K: unix.PACKET_OUTGOING, Jt: 15 - 2},
		2:  {Code: loadWord, K: tagged}, // without it the tag may be an old one
		3:  {Code: equal, K: 0, Jt: 6 - 4},
		4:  {Code: loadWord, K: tag},
		5:  {Code: anyBit, K: vlanID, Jt: 15 - 6},
		6:  {Code: loadHalf, K: etherType},
		7:  {Code: equal, K: unix.ETH_P_ARP, Jt: 14 - 8},
		8:  {Code: equal, K: unix.ETH_P_IPV6, Jf: 15 - 9},
		9:  {Code: loadByte, K: etherLen + ip6Next},
		10: {Code: equal, K: unix.IPPROTO_ICMPV6, Jf: 15 - 11},
		11: {Code: loadByte, K: etherLen + ip6Len},
		12: {Code: equal, K: typeSolicitation, Jt: 14 - 13},
		13: {Code: equal, K: typeAdvertisement, Jf: 15 - 14},
		14: {Code: take, K: maxFrame},
		15: {Code: take, K: 0},
	}
}

// send sends frames. Without a carrier what is sent gets lost, and nothing
// tells. Kernels before 5.1 do not find out the protocol, by which queues sort,
// themselves.
func (s *socket) send(frames [][]byte) error {
	if err := s.carrier(); err != nil {
		return fmt.Errorf("%s: %w", s.link.Name, err)
	}
	var failed error
	err := s.raw.Write(func(uintptr) (done bool) {
		for len(frames) > 0 {
			protocol := binary.BigEndian.Uint16(frames[0][etherType:])
			switch failed = unix.Sendto(s.fd, frames[0], 0, s.address(protocol)); failed {
			case nil:
				frames = frames[1:]
			case unix.EINTR:
			case unix.EAGAIN:
				return false // the rest when there is room again
			default:
				return true
			}
		}
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("send to %s: %w", s.link.Name, down(err))
	}
	return nil
}

func (s *socket) carrier() error {
	req, err := unix.NewIfreq(s.link.Name)
	if err == nil {
		err = unix.IoctlIfreq(s.fd, unix.SIOCGIFFLAGS, req)
	}
	switch {
	case err != nil:
		return os.NewSyscallError("look for a carrier", err)
	case req.Uint16()&unix.IFF_UP == 0:
		return ErrDown
	case req.Uint16()&unix.IFF_RUNNING == 0:
		return ErrNoCarrier
	}
	return nil
}

// heard visits what arrives until then, or until wake is called. What arrived
// in time is visited even when the process was woken late.
func (s *socket) heard(ctx context.Context, until time.Time) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := s.file.SetReadDeadline(until); err != nil {
			yield(nil, err)
			return
		}
		wait := ctx.Err() == nil // or wake was called before
		frame := make([]byte, maxFrame)
		for late := 0; late < maxQueued; {
			n, err := s.read(frame, wait)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				wait = false
				continue
			case errors.Is(err, unix.EAGAIN):
				return
			case err != nil:
				yield(nil, fmt.Errorf("receive from %s: %w", s.link.Name, down(err)))
				return
			}
			if !yield(frame[:n], nil) {
				return
			}
			if !wait {
				late++
			}
		}
	}
}

// maxQueued is more than a default receive buffer holds, about 300 frames: the
// link may be flooded.
const maxQueued = 1 << 10

// read reads one frame. If it does not wait for one, the error may be EAGAIN,
// else os.ErrDeadlineExceeded.
func (s *socket) read(frame []byte, wait bool) (n int, err error) {
	once := func(uintptr) (done bool) {
		for n, err = unix.Read(s.fd, frame); err == unix.EINTR; {
			n, err = unix.Read(s.fd, frame)
		}
		return !wait || err != unix.EAGAIN
	}
	if !wait {
		once(0)
		return n, err
	}
	if failed := s.raw.Read(once); failed != nil {
		return 0, failed
	}
	return n, err
}

// wake ends heard.
func (s *socket) wake() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) }

// down says it of the interface where an errno says it of the network.
func down(err error) error {
	if errors.Is(err, unix.ENETDOWN) {
		return ErrDown
	}
	return err
}
