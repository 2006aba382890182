package netopstest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// list is a line that ip(8) answers from what a fingerprint covers, with no details
// of interfaces, and of neighbours only those that do not change by themselves. The
// name that ip(8) gives a peer's namespace is not covered: it is another namespace's.
var list = regexp.MustCompile(`^(-[46o] |-oneline |-br )*((-d )?(route show|rule show|neigh show nud permanent)|addr show|link show)\b`)

// listed is what ip(8) has listed, by the lines and by what the kernel had then.
var listed sync.Map

// lists runs ip(8) for lists, unless it has answered these lines before, when the
// kernel had the same: most states that tests look at are those from before. A process
// costs many times what it takes to ask the kernel.
func (n *NS) lists(lines []string) string {
	n.tb.Helper()
	before := n.fingerprint()
	key := strings.Join(append(slices.Clip(lines), n.Name, before), "\n")
	if out, ok := listed.Load(key); ok {
		return out.(string)
	}
	out := n.runLines(lines)
	if n.fingerprint() == before {
		listed.Store(key, out)
	}
	return out
}

// fingerprint stands for all that the kernel tells of a namespace's routes, rules,
// neighbours, addresses and interfaces, but for what changes by itself.
func (n *NS) fingerprint() (sum string) {
	n.tb.Helper()
	n.Enter(func() {
		for {
			all := sha256.New()
			err := errors.Join(
				addDump(all, unix.RTM_GETROUTE, unix.SizeofRtMsg, lasting{unix.RTA_CACHEINFO: {8, 16}}), // expires, error
				addDump(all, unix.RTM_GETRULE, unix.SizeofRtMsg, nil),
				addDump(all, unix.RTM_GETNEIGH, unix.SizeofNdMsg, lasting{unix.NDA_CACHEINFO: {}, unix.NDA_PROBES: {}}),
				addDump(all, unix.RTM_GETADDR, unix.SizeofIfAddrmsg, lasting{unix.IFA_CACHEINFO: {0, 8}}), // lifetimes
				addDump(all, unix.RTM_GETLINK, unix.SizeofIfInfomsg, lasting{unix.IFLA_STATS: {}, unix.IFLA_STATS64: {}, unix.IFLA_AF_SPEC: {}, unix.IFLA_LINKINFO: {}}),
			)
			if errors.Is(err, nl.ErrDumpInterrupted) {
				continue
			}
			if err != nil {
				n.tb.Fatalf("namespace %q: %v", n.Name, err)
			}
			sum = hex.EncodeToString(all.Sum(nil))
			return
		}
	})
	return sum
}

// lasting is, of attributes that change by themselves, the part that does not, or
// that ip(8) prints: from a byte to another one.
type lasting map[uint16]struct{ from, to int }

// addDump adds a list of the kernel's (rtnetlink(7)): the messages' headers, which
// have this size, and attributes, of some only a part.
func addDump(all hash.Hash, request, header int, parts lasting) error {
	req := nl.NewNetlinkRequest(request, unix.NLM_F_DUMP)
	req.AddRawData(make([]byte, header)) // of every family
	messages, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil {
		return fmt.Errorf("rtnetlink request %d: %w", request, err)
	}
	for _, m := range messages {
		if request == unix.RTM_GETNEIGH && binary.NativeEndian.Uint16(m[8:])&unix.NUD_PERMANENT == 0 {
			continue
		}
		all.Write(m[:header])
		attrs, err := nl.ParseRouteAttr(m[header:])
		if err != nil {
			return fmt.Errorf("rtnetlink request %d: %w", request, err)
		}
		for _, a := range attrs {
			if part, is := parts[a.Attr.Type]; is {
				a.Value = a.Value[part.from:part.to]
			}
			all.Write(binary.NativeEndian.AppendUint16(nil, a.Attr.Type))
			all.Write(binary.NativeEndian.AppendUint32(nil, uint32(len(a.Value))))
			all.Write(a.Value)
		}
	}
	return nil
}
