package acd

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var (
	ownMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x0a}
	ip4    = netip.MustParseAddr("10.9.0.5")
	ip6    = netip.MustParseAddr("fd00:9::12:3456")
)

// unhex reads bytes as they are in the tables below: with spaces.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Written out by hand from the RFCs. That the kernel sends the same is tested
// by TestKernelSendsTheSame.
var golden = []struct {
	name  string
	frame []byte
	want  string
}{
	{"ARP probe", arpProbe(ownMAC, ip4), `
		ffffffffffff 02000000000a 0806
		0001 0800 06 04 0001 02000000000a 00000000 000000000000 0a090005`},
	{"ARP announcement", arpAnnouncement(ownMAC, ip4), `
		ffffffffffff 02000000000a 0806
		0001 0800 06 04 0001 02000000000a 0a090005 000000000000 0a090005`},
	{"solicitation", solicitation(ownMAC, ip6), `
		3333ff123456 02000000000a 86dd
		60000000 0018 3a ff 00000000000000000000000000000000 ff0200000000000000000001ff123456
		87 00 14ce 00000000 fd000009000000000000000000123456`},
	{"advertisement", advertisement(ownMAC, ip6), `
		333300000001 02000000000a 86dd
		60000000 0020 3a ff fd000009000000000000000000123456 ff020000000000000000000000000001
		88 00 f1b1 20000000 fd000009000000000000000000123456 02 01 02000000000a`},
}

func TestFrames(t *testing.T) {
	for _, tt := range golden {
		if want := unhex(t, tt.want); !bytes.Equal(tt.frame, want) {
			t.Errorf("%s\n got %x\nwant %x", tt.name, tt.frame, want)
		}
	}
}

// wordSum is the Internet checksum of a list of 16 bit words, by the book (RFC
// 1071, 4.1), as a second opinion.
func wordSum(b []byte) uint16 {
	sum := uint64(0)
	for _, w := range slices.Collect(slices.Chunk(b, 2)) {
		sum += uint64(binary.BigEndian.Uint16(append(slices.Clone(w), 0)))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// pseudo is what the checksum of an ICMPv6 message covers (RFC 8200, 8.1), the
// message's own checksum left out.
func pseudo(packet []byte) []byte {
	message := slices.Clone(packet[40:])
	message[2], message[3] = 0, 0
	b := binary.BigEndian.AppendUint32(slices.Clone(packet[8:40]), uint32(len(message)))
	return append(append(b, 0, 0, 0, 58), message...)
}

func TestChecksumBySecondImplementation(t *testing.T) {
	for _, addr := range []string{"::1", "fe80::1", "fd00::ffff:ffff:ffff:ffff", "2001:db8::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		ip := netip.MustParseAddr(addr)
		for _, frame := range [][]byte{solicitation(ownMAC, ip), advertisement(ownMAC, ip)} {
			packet := frame[14:]
			if got, want := binary.BigEndian.Uint16(packet[42:]), wordSum(pseudo(packet)); got != want {
				t.Errorf("%s: checksum %04x, want %04x", addr, got, want)
			}
		}
	}
}

// An odd length is padded with a zero byte that is not sent.
func TestChecksumOfOddLength(t *testing.T) {
	packet := slices.Concat(solicitation(ownMAC, ip6)[14:], []byte{0x7f})
	packet[42], packet[43] = 0, 0
	if got, want := ^checksum(packet), wordSum(pseudo(packet)); got != want {
		t.Errorf("checksum %04x, want %04x", got, want)
	}
}

// changed is a frame with other bytes from an offset on, and for IPv6 with the
// checksum that it has then.
func changed(frame []byte, at int, to ...byte) []byte {
	frame = slices.Clone(frame)
	copy(frame[at:], to)
	if frame[12] == 0x86 {
		binary.BigEndian.PutUint16(frame[14+42:], wordSum(pseudo(frame[14:])))
	}
	return frame
}

// lengthened is a packet of IPv6 with more at its end.
func lengthened(frame []byte, more ...byte) []byte {
	frame = append(slices.Clone(frame), more...)
	binary.BigEndian.PutUint16(frame[18:], uint16(len(frame)-54))
	return changed(frame, 0)
}

func TestClaim(t *testing.T) {
	const mac = "02:00:00:00:00:0a"
	request := arpRequest(ownMAC, ip4, netip.MustParseAddr("10.9.0.1"))
	reply := changed(changed(request, 21, 2), 0, ownMAC...)
	probe, sol, adv := arpProbe(ownMAC, ip4), solicitation(ownMAC, ip6), advertisement(ownMAC, ip6)
	// Without an option who sent the frame has the address.
	bare := lengthened(adv[:78])
	fragment := slices.Concat(adv[:20], []byte{44}, adv[21:54], []byte{58, 0, 0, 0, 0, 0, 0, 0}, adv[54:])
	binary.BigEndian.PutUint16(fragment[18:], uint16(len(fragment)-54))
	broken := slices.Clone(adv)
	broken[56] ^= 1
	for _, tt := range []struct {
		name  string
		frame []byte
		want  string // nothing: no claim
	}{
		{"ARP request", request, "10.9.0.5 " + mac},
		{"ARP reply", reply, "10.9.0.5 " + mac},
		{"ARP announcement", arpAnnouncement(ownMAC, ip4), "10.9.0.5 " + mac},
		{"ARP probe", probe, "10.9.0.5 " + mac},
		{"ARP reply of nobody", changed(probe, 21, 2), "0.0.0.0 " + mac},
		{"ARP packet with padding", append(slices.Clone(probe), make([]byte, 18)...), "10.9.0.5 " + mac},
		{"ARP reply sent on by another", changed(reply, 6, 9, 9, 9, 9, 9, 9), "10.9.0.5 " + mac},
		{"ARP of unknown operation", changed(request, 21, 3), ""},
		{"ARP for another hardware", changed(request, 15, 6), ""},
		{"ARP for another protocol", changed(request, 16, 0x86, 0xdd), ""},
		{"ARP with longer addresses", changed(request, 18, 20), ""},
		{"ARP cut short", request[:41], ""},
		{"ARP with a tag", slices.Concat(request[:12], []byte{0x81, 0, 0, 10}, request[12:]), ""},

		{"solicitation", sol, "fd00:9::12:3456 " + mac},
		{"solicitation with a nonce", lengthened(sol, 14, 1, 1, 2, 3, 4, 5, 6), "fd00:9::12:3456 " + mac},
		{"solicitation by one who has an address", changed(sol, 22, 0xfd), ""},
		{"solicitation to somebody", changed(sol, 38, 0xfd), ""},
		{"advertisement", adv, "fd00:9::12:3456 " + mac},
		{"advertisement with padding", append(slices.Clone(adv), 1, 2, 3), "fd00:9::12:3456 " + mac},
		{"advertisement that another sent on", changed(adv, 6, 9, 9, 9, 9, 9, 9), "fd00:9::12:3456 " + mac},
		{"advertisement without option", bare, "fd00:9::12:3456 " + mac},
		{"advertisement with an option of no length", lengthened(bare, 1, 0, 0, 0, 0, 0, 0, 0), ""},
		{"advertisement with an option cut short", lengthened(bare, 2, 2, 0, 0, 0, 0, 0, 0), ""},
		{"advertisement with half an option", lengthened(bare, 2, 1, 0, 0), ""},
		{"advertisement with other options", lengthened(bare, append([]byte{1, 1, 9, 9, 9, 9, 9, 9}, adv[78:]...)...), "fd00:9::12:3456 " + mac},
		{"advertisement with an address of InfiniBand", lengthened(bare, append([]byte{2, 3}, make([]byte, 22)...)...), "fd00:9::12:3456 " + mac},
		{"advertisement that came through a router", changed(adv, 21, 254), ""},
		{"advertisement with a code", changed(adv, 55, 1), ""},
		{"advertisement with a wrong checksum", broken, ""},
		{"advertisement cut short", adv[:len(adv)-1], ""},
		{"advertisement too short for a target", lengthened(adv[:77]), ""},
		{"advertisement in a fragment", fragment, ""},
		{"echo request", changed(adv, 54, 128), ""},
		{"UDP", changed(adv, 20, 17), ""},
		{"IPv4 as IPv6", changed(adv, 14, 4<<4), ""},
		{"IPv4", changed(request, 12, 8, 0), ""},
		{"nothing", nil, ""},
		{"a header only", adv[:14], ""},
	} {
		got := ""
		if c, ok := claim(tt.frame); ok {
			got = c.Addr.String() + " " + c.MAC.String()
		}
		if got != tt.want {
			t.Errorf("%s: claims %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Whatever arrives, a claim is whole; and every beginning of it arrives, too.
func FuzzClaim(f *testing.F) {
	for _, tt := range golden {
		f.Add(tt.frame)
		f.Add(slices.Concat(tt.frame[:12], []byte{0x81, 0, 0, 10}, tt.frame[12:]))
		f.Add(tt.frame[:len(tt.frame)-9])
	}
	adv := advertisement(ownMAC, ip6)
	f.Add(slices.Concat(adv[:20], []byte{0}, adv[21:54], []byte{58, 0, 5, 2, 0, 0, 1, 0}, adv[54:]))
	f.Add(lengthened(adv, 0, 0))
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := slices.Clone(frame)
		for end := range len(frame) + 1 {
			c, ok := claim(frame[:end:end])
			if ok && (!c.Addr.IsValid() || len(c.MAC) != 6) {
				t.Errorf("%x: %v", frame[:end], c)
			}
			if ok && end < 42 {
				t.Errorf("%x is too short for a claim", frame[:end])
			}
		}
		if !bytes.Equal(before, frame) {
			t.Error("the frame was changed")
		}
	})
}

// Every address finds its way into a frame and back.
func FuzzFrames(f *testing.F) {
	f.Add(ip4.AsSlice(), []byte(ownMAC))
	f.Add(ip6.AsSlice(), []byte(ownMAC))
	f.Fuzz(func(t *testing.T, ip, mac []byte) {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok || len(mac) != 6 || addr.Is4() && addr.IsUnspecified() {
			return
		}
		makers := []func(net.HardwareAddr, netip.Addr) []byte{solicitation, advertisement}
		if addr.Is4() {
			makers = []func(net.HardwareAddr, netip.Addr) []byte{arpProbe, arpAnnouncement}
		}
		for _, frame := range makers {
			if c, ok := claim(frame(mac, addr)); !ok || c.Addr != addr || !bytes.Equal(c.MAC, mac) {
				t.Errorf("%s at %x becomes %v, %v", addr, mac, c, ok)
			}
		}
	})
}
