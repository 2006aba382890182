package netops

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/jsonappend"
)

// Fields of struct fib_rule_hdr (linux/fib_rules.h) where it is not as struct
// rtmsg.
const (
	ruleHeader = unix.SizeofRtMsg
	ruleAction = rtType
	ruleFlags  = rtFlags
)

type rule Rule

// words is the rule as ip(8) takes it, without our own protocol.
func (r *rule) words() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pref %d", r.Priority)
	if r.From.IsValid() {
		b.WriteString(" from " + dstString(r.From))
	}
	if r.To.IsValid() {
		b.WriteString(" to " + dstString(r.To))
	}
	fmt.Fprintf(&b, " lookup %d%s", r.Table, protocolWord(r.Protocol))
	if r.MoreSelectors {
		b.WriteString(", and more")
	}
	return b.String()
}

// String is the rule as ip(8) takes it.
func (r *Rule) String() string { return (*rule)(r).words() }

// AddCommand is the ip(8) command that adds the rule.
func (r *Rule) AddCommand() string { return (*rule)(r).command("add") }

// AppendJSON appends the rule as records have it.
func (r *Rule) AppendJSON(b []byte) []byte { return appendRule(r, b) }

func (r *rule) command(verb string) string {
	if r.IPv6 {
		return "ip -6 rule " + verb + " " + r.words()
	}
	return "ip rule " + verb + " " + r.words()
}

// Rules have no rivals: each is there, or not.
func (r *rule) instead() string   { return "" }
func (r *rule) slot() any         { return *r }
func (r *rule) holds(object) bool { return !r.MoreSelectors }
func (r *rule) value() bool       { return false }
func (r *rule) into(s *State)     { s.Rules = append(s.Rules, Rule(*r)) }
func (r *rule) cover(q *Query)    { q.Rules = true }

// hits is as the kernel compares (rule_find in net/core/fib_rules.c,
// fib4_rule_compare): what is not named may be anything.
func (r *rule) hits(o object) bool {
	have, ok := o.(*rule)
	return ok && r.IPv6 == have.IPv6 && r.Priority == have.Priority && r.Table == have.Table &&
		(r.Protocol == unix.RTPROT_UNSPEC || r.Protocol == have.Protocol) &&
		(!r.From.IsValid() || r.From == have.From) && (!r.To.IsValid() || r.To == have.To)
}

// operation is exclusive: without, the kernel would double the rule.
func (r *rule) operation(del bool) (operation, stage) {
	if del {
		return operation{typ: unix.RTM_DELRULE, object: r}, dropRules
	}
	return operation{typ: unix.RTM_NEWRULE, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, object: r}, addRules
}

func (r *rule) validate() error {
	for _, p := range []netip.Prefix{r.From, r.To} {
		if p.IsValid() && (p.Bits() == 0 || p != p.Masked() || p.Addr().Is4() == r.IPv6 || p.Addr().Is4In6()) {
			return fmt.Errorf("rule %s: %s is no subnet for it", r.words(), p)
		}
	}
	if r.Table == 0 || r.MoreSelectors {
		return fmt.Errorf("rule %s is none that is made here", r.words())
	}
	return nil
}

func appendRule(r *Rule, b []byte) []byte {
	o := jsonappend.Open(b)
	o.Flag("ipv6", r.IPv6)
	o.Number("priority", r.Priority)
	o.Prefix("from", r.From)
	o.Prefix("to", r.To)
	o.Number("table", r.Table)
	o.Number("protocol", uint32(r.Protocol))
	o.Flag("more", r.MoreSelectors)
	return o.Close()
}

func (r *rule) encode(b []byte, _ operation, _ func(string) (uint32, error)) ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, err // the kernel would take what it does not name for "any"
	}
	family := uint8(unix.AF_INET)
	if r.IPv6 {
		family = unix.AF_INET6
	}
	b = append(b, family, uint8(max(r.To.Bits(), 0)), uint8(max(r.From.Bits(), 0)), 0, unix.RT_TABLE_UNSPEC, 0, 0, unix.FR_ACT_TO_TBL)
	b = native.AppendUint32(b, 0)
	b = appendU32(b, unix.FRA_PRIORITY, r.Priority)
	b = appendU32(b, unix.FRA_TABLE, r.Table)
	b = appendAttr(b, unix.FRA_PROTOCOL, []byte{r.Protocol})
	if r.To.IsValid() {
		b = appendAddr(b, unix.FRA_DST, r.To.Addr())
	}
	if r.From.IsValid() {
		b = appendAddr(b, unix.FRA_SRC, r.From.Addr())
	}
	return b, nil
}

// dumpRules lists the rules of a family that look up a table.
func (n *Netns) dumpRules(s *State, family uint8) (batches int, err error) {
	start := n.conn.message(unix.RTM_GETRULE, unix.NLM_F_DUMP)
	n.conn.send = append(n.conn.send, make([]byte, ruleHeader)...)
	n.conn.send[start+unix.SizeofNlMsghdr+rtFamily] = family
	n.conn.finish(start)
	batches, err = n.conn.ask(func(r reply) error {
		rule, ok, err := decodeRule(r.body)
		if ok && r.body[rtFamily] == family {
			s.Rules = append(s.Rules, rule)
		}
		return err
	})
	if noFamily(err) {
		err = nil
	}
	return batches, err
}

// noFamily reports whether the kernel does not know a family: IPv6 is off.
func noFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
}

// decodeRule reads an RTM_NEWRULE message, without its header. It is not ok
// where the rule looks up no table. What a rule asks for that is not known here
// is told by [Rule.More].
func decodeRule(body []byte) (r Rule, ok bool, err error) {
	if len(body) < ruleHeader {
		return Rule{}, false, errMalformed
	}
	r = Rule{IPv6: body[rtFamily] == unix.AF_INET6, Table: uint32(body[rtTable]),
		MoreSelectors: body[rtTos] != 0 || native.Uint32(body[ruleFlags:])&unix.FIB_RULE_INVERT != 0}
	var from, to netip.Addr
	for a, err := range attrs(body[ruleHeader:]) {
		if err != nil {
			return Rule{}, false, err
		}
		switch a.typ {
		case unix.FRA_PRIORITY:
			r.Priority = a.u32()
		case unix.FRA_TABLE:
			r.Table = a.u32()
		case unix.FRA_PROTOCOL:
			r.Protocol = a.u8()
		case unix.FRA_SRC:
			from = a.addr()
		case unix.FRA_DST:
			to = a.addr()
		case unix.FRA_PAD:
		case unix.FRA_SUPPRESS_PREFIXLEN, unix.FRA_SUPPRESS_IFGROUP:
			r.MoreSelectors = r.MoreSelectors || a.u32() != 1<<32-1 // -1 is none
		default:
			r.MoreSelectors = true
		}
	}
	r.From, err = selector(from, body[rtSrcLen], r.IPv6)
	if err == nil {
		r.To, err = selector(to, body[rtDstLen], r.IPv6)
	}
	return r, err == nil && body[ruleAction] == unix.FR_ACT_TO_TBL, err
}

// selector is a rule's subnet. One of length 0 is any.
func selector(ip netip.Addr, bits uint8, is6 bool) (netip.Prefix, error) {
	if bits == 0 {
		return netip.Prefix{}, nil
	}
	p := netip.PrefixFrom(ip, int(bits)).Masked()
	if !p.IsValid() || ip.Is6() != is6 {
		return netip.Prefix{}, errMalformed
	}
	return p, nil
}
