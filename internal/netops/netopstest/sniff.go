package netopstest

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Datagram is a UDP datagram that has passed an interface.
type Datagram struct {
	Dev      string
	Src, Dst netip.Addr
	Payload  string
}

// Sniff watches the namespace's interfaces but lo, of which none may come or go,
// until stop is called. That returns the UDP datagrams that have passed them in
// either direction; it is not whole where the kernel had no room to keep some.
func (n *NS) Sniff() (stop func() (seen []Datagram, whole bool)) {
	n.tb.Helper()
	sniffers, err := n.sniffers()
	if err != nil {
		n.tb.Fatalf("sniff at %s: %v", n.Name, err)
	}
	var watching sync.WaitGroup
	for _, s := range sniffers {
		watching.Go(s.watch)
	}
	return func() (seen []Datagram, whole bool) {
		for _, s := range sniffers {
			_ = s.file.SetReadDeadline(time.Now())
		}
		watching.Wait()
		whole = true
		for _, s := range sniffers {
			whole = s.finish() && whole
			seen = append(seen, s.seen...)
		}
		return seen, whole
	}
}

// sniffer is a packet socket (packet(7)) of one interface: each has a receive
// buffer of its own, and a burst may fill one.
type sniffer struct {
	dev    string
	fd     int
	file   *os.File
	buffer []byte
	seen   []Datagram
}

func (n *NS) sniffers() (list []*sniffer, err error) {
	n.Enter(func() {
		var links []net.Interface
		links, err = net.Interfaces()
		for _, l := range links {
			if err == nil && l.Flags&net.FlagLoopback == 0 {
				var s *sniffer
				s, err = newSniffer(l)
				list = append(list, s)
			}
		}
	})
	return list, err
}

func newSniffer(link net.Interface) (*sniffer, error) {
	// What is sent is shown to those only who ask for every protocol.
	const everything = unix.ETH_P_ALL>>8&0xff | unix.ETH_P_ALL<<8&0xff00 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &sniffer{dev: link.Name, fd: fd, file: os.NewFile(uintptr(fd), "packets of "+link.Name), buffer: make([]byte, 2048)}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: link.Index}); err != nil {
		_ = s.file.Close()
		return nil, os.NewSyscallError("bind", err)
	}
	return s, nil
}

// watch reads until the deadline.
func (s *sniffer) watch() {
	raw, err := s.file.SyscallConn()
	for err == nil {
		err = raw.Read(func(uintptr) bool { return s.take() })
	}
}

// finish reads what is left: what has been answered has been seen. It reports
// whether nothing is missing.
func (s *sniffer) finish() bool {
	for s.take() {
	}
	stats, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	_ = s.file.Close()
	return err == nil && stats.Drops == 0
}

// take reads what is there, and reports whether there was something.
func (s *sniffer) take() bool {
	size, _, err := unix.Recvfrom(s.fd, s.buffer, 0)
	for errors.Is(err, unix.EINTR) {
		size, _, err = unix.Recvfrom(s.fd, s.buffer, 0)
	}
	if err != nil {
		return false
	}
	if d, ok := datagram(s.buffer[:size]); ok {
		d.Dev = s.dev
		s.seen = append(s.seen, d)
	}
	return true
}

// datagram reads an IP packet (RFC 791, RFC 8200); it is not ok where that has
// no UDP directly in it.
func datagram(packet []byte) (d Datagram, ok bool) {
	const udp, udpHeader, fixed4, fixed6 = unix.IPPROTO_UDP, 8, 20, 40
	var header int
	switch {
	case len(packet) >= fixed4 && packet[0]>>4 == 4 && packet[9] == udp:
		header = int(packet[0]&0xf) * 4
		d.Src, _ = netip.AddrFromSlice(packet[12:16])
		d.Dst, _ = netip.AddrFromSlice(packet[16:20])
	case len(packet) >= fixed6 && packet[0]>>4 == 6 && packet[6] == udp:
		header = fixed6
		d.Src, _ = netip.AddrFromSlice(packet[8:24])
		d.Dst, _ = netip.AddrFromSlice(packet[24:40])
	default:
		return d, false
	}
	if len(packet) < header+udpHeader {
		return d, false
	}
	end := header + int(binary.BigEndian.Uint16(packet[header+4:]))
	if end < header+udpHeader || end > len(packet) {
		return d, false
	}
	d.Payload = string(packet[header+udpHeader : end])
	return d, true
}
