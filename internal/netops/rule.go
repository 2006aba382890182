package netops

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/jsonappend"
)

// Rule is a policy rule (ip-rule(8)) that looks up a table.
type Rule struct {
	IPv6     bool         `json:"ipv6"`
	Priority uint32       `json:"priority"`
	From     netip.Prefix `json:"from"` // zero is any
	To       netip.Prefix `json:"to"`   // zero is any
	Table    uint32       `json:"table"`
	Protocol uint8        `json:"protocol"`
	// MoreSelectors says that it asks for more than this, a mark or an interface
	// say: then it is none that is made here. Records say more, as the first
	// release did.
	MoreSelectors bool `json:"more"`
}

// String is the rule as ip(8) takes it, without these plugins' protocol.
func (r *Rule) String() string {
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

// Command is the ip(8) command that does that with the rule.
func (r *Rule) Command(verb Verb) string {
	if r.IPv6 {
		return "ip -6 rule " + string(verb) + " " + r.String()
	}
	return "ip rule " + string(verb) + " " + r.String()
}

// Instead is the rule where another one should be.
func (r *Rule) Instead() string { return r.String() }

// key is the rule, whoever made it: one that is exactly what is wanted need not
// be doubled for its protocol.
func (r *Rule) key() Rule {
	k := *r
	k.Protocol, k.MoreSelectors = unix.RTPROT_UNSPEC, false
	return k
}

// SatisfiedBy reports whether have does what this one asks for, whoever made it.
func (r *Rule) SatisfiedBy(have *Rule) bool { return r.key() == have.key() && !have.MoreSelectors }

// SameRule reports whether to delete the one is to delete the other: then both
// were made by the same protocol.
func (r *Rule) SameRule(have *Rule) bool { return *r == *have && !r.MoreSelectors }

// AddTo adds the rule to a state.
func (r *Rule) AddTo(s *State) { s.Rules = append(s.Rules, *r) }

// Cover makes a query list rules.
func (r *Rule) Cover(q *Query) { q.Rules = true }

func (r *Rule) stage(verb Verb) Stage {
	if verb == Delete {
		return DropRules
	}
	return AddRules
}

// validate also keeps a rule from being sent: the kernel would take what it does
// not name for "any".
func (r *Rule) validate() error {
	for _, p := range []netip.Prefix{r.From, r.To} {
		if p.IsValid() && (p.Bits() == 0 || p != p.Masked() || p.Addr().Is4() == r.IPv6 || p.Addr().Is4In6()) {
			return fmt.Errorf("rule %s: %s is no subnet for it", r, p)
		}
	}
	if r.Table == 0 || r.MoreSelectors {
		return fmt.Errorf("rule %s: none that these plugins make", r)
	}
	return nil
}

// AppendJSON appends the rule as records have it.
func (r *Rule) AppendJSON(b []byte) []byte {
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
