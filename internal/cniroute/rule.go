package cniroute

import (
	"math"
	"net/netip"
	"slices"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// RulePriority is that of a rule without one: after table local, which has 0, and
// before table main, which has 32766. The kernel would choose by what rules there
// are (fib_default_rule_pref in net/core/fib_rules.c), so that the same
// configuration made another rule in every pod.
const RulePriority = 30000

// DecodeRules decodes a list of policy rules (ip-rule(8)) that look up a table, and
// notes all problems in it. One that stands there twice is one.
func DecodeRules(list strictjson.Value) []netops.Rule {
	var rules []netops.Rule
	for _, v := range list.List() {
		o, ok := v.Object()
		if !ok {
			continue
		}
		o.Only("from", "to", "table", "priority")
		if r := decodeRule(v, o); !slices.Contains(rules, r) {
			rules = append(rules, r)
		}
	}
	return rules
}

func decodeRule(v strictjson.Value, o strictjson.Object) netops.Rule {
	r := netops.Rule{Priority: RulePriority, Protocol: netops.Protocol}
	o.Uint32("priority", &r.Priority, 1, math.MaxUint32)
	o.Uint32("table", &r.Table, 1, math.MaxUint32)
	if !o.Has("table") {
		v.Problems().Invalid(o.At("table"), "missing")
	}
	from, to := rulePrefix(o, "from"), rulePrefix(o, "to")
	switch {
	case !from.Given && !to.Given:
		v.Invalid("neither from nor to")
	case from.Value.IsValid() && to.Value.IsValid() && from.Value.Addr().Is4() != to.Value.Addr().Is4():
		v.Invalid("from %s and to %s are of different address families", from.Value, to.Value)
	}
	r.IPv6 = from.Value.Addr().Is6() || to.Value.Addr().Is6()
	r.From, r.To = selector(from.Value), selector(to.Value)
	return r
}

// rulePrefix reads a subnet, or an address. It is given where there is a text.
func rulePrefix(o strictjson.Object, key string) (p Optional[netip.Prefix]) {
	v, ok := o.Get(key)
	if !ok {
		return p
	}
	s, ok := v.Text()
	if p.Given = s != "" || !ok; s == "" {
		return p
	}
	if p.Value, ok = parsePrefix(s); !ok {
		v.Invalid("%q is not an IP address or subnet", s)
	}
	return p
}

// selector is what a rule selects: of length 0, it is everything of its family.
func selector(p netip.Prefix) netip.Prefix {
	if p.Bits() == 0 {
		return netip.Prefix{}
	}
	return p
}
