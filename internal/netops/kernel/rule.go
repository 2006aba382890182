package kernel

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/rtattr"
)

// appendRule encodes an RTM_NEWRULE or RTM_DELRULE. Its struct fib_rule_hdr
// (linux/fib_rules.h) is a struct rtmsg whose type is the action.
func appendRule(b []byte, r *netops.Rule) []byte {
	family := uint8(unix.AF_INET)
	if r.IPv6 {
		family = unix.AF_INET6
	}
	m := nl.RtMsg{RtMsg: unix.RtMsg{Family: family, Dst_len: uint8(max(r.To.Bits(), 0)), Src_len: uint8(max(r.From.Bits(), 0)),
		Type: unix.FR_ACT_TO_TBL}}
	b = append(b, m.Serialize()...)
	b = rtattr.AppendUint32(b, unix.FRA_PRIORITY, r.Priority)
	b = rtattr.AppendUint32(b, unix.FRA_TABLE, r.Table)
	b = rtattr.Append(b, unix.FRA_PROTOCOL, []byte{r.Protocol})
	if r.To.IsValid() {
		b = rtattr.AppendAddr(b, unix.FRA_DST, r.To.Addr())
	}
	if r.From.IsValid() {
		b = rtattr.AppendAddr(b, unix.FRA_SRC, r.From.Addr())
	}
	return b
}

// dumpRules lists the rules of a family that look up a table.
func (n *Netns) dumpRules(family uint8) (rules []netops.Rule, whole bool, err error) {
	q := request(unix.RTM_GETRULE, unix.NLM_F_DUMP, &nl.RtMsg{RtMsg: unix.RtMsg{Family: family}})
	whole, err = n.conn.ask(q, func(r reply) error {
		rule, ok, err := decodeRule(r.body)
		if ok && nl.DeserializeRtMsg(r.body).Family == family {
			rules = append(rules, rule)
		}
		return err
	})
	if noFamily(err) {
		return nil, true, nil
	}
	return rules, whole, err
}

// noFamily reports whether the kernel does not know a family: IPv6 is off.
func noFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
}

// decodeRule reads an RTM_NEWRULE message, without its header. It is not ok
// where the rule looks up no table. What a rule asks for that is not known here
// is told by [netops.Rule.MoreSelectors].
func decodeRule(body []byte) (r netops.Rule, ok bool, err error) {
	if len(body) < unix.SizeofRtMsg {
		return netops.Rule{}, false, rtattr.ErrMalformed
	}
	m := nl.DeserializeRtMsg(body)
	r = netops.Rule{IPv6: m.Family == unix.AF_INET6, Table: uint32(m.Table),
		MoreSelectors: m.Tos != 0 || m.Flags&unix.FIB_RULE_INVERT != 0}
	var from, to netip.Addr
	for a, err := range rtattr.All(body[unix.SizeofRtMsg:]) {
		if err != nil {
			return netops.Rule{}, false, err
		}
		switch a.Type {
		case unix.FRA_PRIORITY:
			r.Priority = a.Uint32()
		case unix.FRA_TABLE:
			r.Table = a.Uint32()
		case unix.FRA_PROTOCOL:
			r.Protocol = a.Uint8()
		case unix.FRA_SRC:
			from = a.Addr()
		case unix.FRA_DST:
			to = a.Addr()
		case unix.FRA_PAD:
		case unix.FRA_SUPPRESS_PREFIXLEN, unix.FRA_SUPPRESS_IFGROUP:
			r.MoreSelectors = r.MoreSelectors || a.Uint32() != 1<<32-1 // -1 is none
		default:
			r.MoreSelectors = true
		}
	}
	r.From, err = selector(from, m.Src_len, r.IPv6)
	if err == nil {
		r.To, err = selector(to, m.Dst_len, r.IPv6)
	}
	return r, err == nil && m.Type == unix.FR_ACT_TO_TBL, err
}

// selector is a rule's subnet. One of length 0 is any.
func selector(ip netip.Addr, bits uint8, is6 bool) (netip.Prefix, error) {
	if bits == 0 {
		return netip.Prefix{}, nil
	}
	p := netip.PrefixFrom(ip, int(bits)).Masked()
	if !p.IsValid() || ip.Is6() != is6 {
		return netip.Prefix{}, rtattr.ErrMalformed
	}
	return p, nil
}
