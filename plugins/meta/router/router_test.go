package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// everything is a configuration of which ADD does all that it can.
var everything = []string{`"rp_filter": {"value": 0, "set_host": true}`, `"mac_prefix": "0a:0b"`, `"additional_hijack_subnet": ["10.10.0.0/16", "fd00:10:10::/64"]`}

// ADD does all of it once, however often it is called; CHECK agrees, and one DEL
// takes all of it back.
func TestRepeatedAdd(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(2)
	before := s.state(p)
	for n := range 2 {
		c := p.call(n+1, everything...)
		planned := c.OK("plan").Stdout
		added := c.OK("ADD")
		if added.Stderr != "" || planned == "" {
			t.Errorf("ADD warns: %s, or had nothing planned: %q", added.Stderr, planned)
		}
		once := s.state(p)
		c.After(added).OK("CHECK")
		if left := c.OK("plan").Stdout; left != "" {
			t.Errorf("after ADD there is still to do:\n%s", left)
		}
		for range 2 {
			if again := c.OK("ADD"); again.Stdout != added.Stdout || again.Stderr != "" {
				t.Errorf("a second ADD: %s%s, the first: %s", again.Stdout, again.Stderr, added.Stdout)
			}
			once.same("a second ADD")
			c.After(added).OK("CHECK")
		}
	}
	for _, n := range []int{2, 1} {
		if a := p.call(n).OK("DEL"); a.Stderr != "" {
			t.Errorf("DEL warns: %s", a.Stderr)
		}
	}
	before.restored("DEL")
	p.call(1).OK("DEL")
	before.restored("a second DEL")
}

// What ADD makes of a pod with one underlay interface.
func TestFirstUnderlay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	mac := p.HardwareAddr("eth0")
	p.call(1, everything[0]).OK("ADD")
	has(t, "the pod", dump(t, p.NS),
		"31000:	from all to 10.244.0.0/16 lookup 100 proto 77", "31000:	from all to 10.96.0.0/12 lookup 100 proto 77",
		"31000:	from all to fd00:10:244::/96 lookup 100 proto 77", "31000:	from all to fd00:10:96::/108 lookup 100 proto 77",
		"31100:	from 10.244.1.1 lookup 100 proto 77", "31100:	from fd00:10:244::1 lookup 100 proto 77",
		"31100:	from 192.0.2.101 lookup 101 proto 77", "31100:	from 2001:db8::101 lookup 101 proto 77",
		"unicast 192.0.2.10 via 169.254.1.1 dev eth0 table main proto 77", "unicast 2001:db8::10 via fe80::1 dev eth0 table main proto 77",
		"unicast 192.0.2.10 via 169.254.1.1 dev eth0 table 101 proto 77", "unicast 2001:db8::10 via fe80::1 dev eth0 table 101 proto 77",
		"unicast default via 192.0.2.1 dev net1 table 101 proto 77", "unicast default via 2001:db8::1 dev net1 table 101 proto 77",
		"unicast 169.254.1.1 dev eth0 table 100 proto 77 scope link", "unicast default via 169.254.1.1 dev eth0 table 100 proto 77",
		"unicast default via fe80::1 dev eth0 table 100 proto 77", "unicast default via 2001:db8::1 dev net1 table main proto boot",
		"net/ipv4/conf/all/rp_filter = 0", "net/ipv4/conf/eth0/rp_filter = 0", "net/ipv4/conf/net1/rp_filter = 0")
	for _, not := range []string{"default via 169.254.1.1 dev eth0 table main", "default via fe80::1 dev eth0 table main", "fe80::/64 dev eth0 table 100", "ff00::/8 dev eth0 table 100", "192.0.2.10 via 169.254.1.1 dev eth0 table 100", "PERMANENT"} {
		lacks(t, "the pod", dump(t, p.NS), not)
	}
	has(t, "the node", dump(t, s.node), "1000:	from all lookup 500 proto 77",
		"192.0.2.101 dev cali1 lladdr "+mac+" PERMANENT proto 77", "2001:db8::101 dev cali1 lladdr "+mac+" PERMANENT proto 77",
		"unicast 192.0.2.101 dev cali1 table 500 proto 77 scope link", "unicast 2001:db8::101 dev cali1 table 500 proto 77",
		"net/ipv4/conf/all/rp_filter = 0", "net/ipv4/conf/cali1/rp_filter = 0", "net/ipv4/conf/up0/rp_filter = 0")
}

// Later ones: each has a table and a rule of its own, and the node and the
// additional subnets are reached by the overlay.
func TestLaterUnderlay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(3)
	for n := range 3 {
		p.call(n+1, everything[2]).OK("ADD")
	}
	pod := dump(t, p.NS)
	has(t, "the pod", pod, "31000:	from all to 10.10.0.0/16 lookup 100 proto 77", "31000:	from all to fd00:10:10::/64 lookup 100 proto 77")
	for n := 1; n <= 3; n++ {
		dev, table := fmt.Sprint("net", n), fmt.Sprint(100+n)
		subnet := p.ip(n)[:strings.LastIndex(p.ip(n), ".")]
		has(t, "the pod", pod,
			"31100:	from "+p.ip(n)+" lookup "+table+" proto 77", "31100:	from "+p.ip6(n)+" lookup "+table+" proto 77",
			"unicast "+subnet+".0/24 dev "+dev+" table "+table+" proto 77 scope link", "unicast "+prefix6(n)+"/64 dev "+dev+" table "+table+" proto 77",
			"unicast default via "+subnet+".1 dev "+dev+" table "+table+" proto 77", "unicast default via "+prefix6(n)+"1 dev "+dev+" table "+table+" proto 77",
			"unicast 192.0.2.10 via 169.254.1.1 dev eth0 table "+table+" proto 77", "unicast 2001:db8::10 via fe80::1 dev eth0 table "+table+" proto 77")
	}
	if got := strings.Count(pod, "31000:"); got != 6 {
		t.Errorf("%d rules to the cluster", got)
	}
	// The node has no address there: it sends as it does to the overlay.
	has(t, "the node", dump(t, s.node), "198.51.100.101 dev cali1 lladdr "+p.HardwareAddr("eth0")+" PERMANENT proto 77",
		"unicast 198.51.100.101 dev cali1 table 500 proto 77 scope link src 192.0.2.10")
	if got := defaults(p.NS); got != "default via 203.0.113.1 dev net3" {
		t.Errorf("defaults:\n%s", got)
	}
}

// defaults are the IPv4 default routes of main, in order.
func defaults(ns *netopstest.NS) string {
	return plugintest.TrimLines(ns.IP("-4 route show default"))[:max(0, len(plugintest.TrimLines(ns.IP("-4 route show default")))-1)]
}

// DEL of all attachments restores the pod, in whatever order; until the last
// goes, the others hold.
func TestDelInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{3, 2, 1}, {1, 2, 3}, {2, 3, 1}, {2, 1, 3}, {1, 3, 2}, {3, 1, 2}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.pod(3)
			before := s.state(p)
			answers := map[int]plugintest.Answer{}
			for n := 1; n <= 3; n++ {
				answers[n] = p.call(n, everything...).OK("ADD")
			}
			for i, n := range order {
				if a := p.call(n).OK("DEL"); a.Stderr != "" {
					t.Errorf("DEL of net%d: %s", n, a.Stderr)
				}
				if i == len(order)-1 {
					break
				}
				for _, left := range order[i+1:] {
					p.call(left, everything...).After(answers[left]).OK("CHECK")
				}
				pod := dump(t, p.NS)
				has(t, "the pod", pod, "unicast 192.0.2.10 via 169.254.1.1 dev eth0 table main proto 77", "unicast 2001:db8::10 via fe80::1 dev eth0 table main proto 77",
					"net/ipv4/conf/eth0/rp_filter = 0", "net/ipv4/conf/all/rp_filter = 0",
					"31000:	from all to 10.244.0.0/16 lookup 100 proto 77", "unicast default via 169.254.1.1 dev eth0 table 100 proto 77")
				highest := slices.Max(order[i+1:])
				if got, want := defaults(p.NS), fmt.Sprintf("default via %s1 dev net%d", strings.TrimSuffix(p.ip(highest), "101"), highest); got != want {
					t.Errorf("after DEL of net%d the defaults are\n%s\nwant %s", n, got, want)
				}
				has(t, "the node", dump(t, s.node), "1000:	from all lookup 500 proto 77", "net/ipv4/conf/up0/rp_filter = 0")
			}
			before.restored("the last DEL")
		})
	}
}

// Multus makes one interface after the other, and takes them away again.
func TestInterfacesComeAndGo(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{3, 2, 1}, {1, 2, 3}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.pod(0)
			before := s.state(p)
			calls := map[int]call{}
			for n := 1; n <= 3; n++ {
				p.plug(n)
				c := p.call(n, everything...)
				calls[n] = c.After(c.OK("ADD"))
				for i := 1; i <= n; i++ {
					calls[i].OK("CHECK")
				}
				if got, want := defaults(p.NS), fmt.Sprintf("default via %s1 dev net%d", strings.TrimSuffix(p.ip(n), "101"), n); got != want {
					t.Errorf("defaults:\n%s\nwant %s", got, want)
				}
			}
			for i, n := range order {
				calls[n].OK("DEL")
				for _, left := range order[i+1:] { // before macvlan's DEL, and after it
					calls[left].OK("CHECK")
				}
				p.IP(fmt.Sprint("link del net", n))
				for _, left := range order[i+1:] {
					calls[left].OK("CHECK")
				}
			}
			before.restored("DEL")
		})
	}
}

// An interface that came anew under the name of another one, in another subnet and
// without default routes, has nothing of what that one had.
func TestInterfaceOfAnotherNetwork(t *testing.T) {
	t.Parallel()
	for name, migrate := range map[string]string{"by order": "-1", "overruled": "1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.pod(2)
			old, beside := p.call(2), p.call(1, `"migrate_route": `+migrate)
			old.OK("ADD")
			beside.OK("ADD")
			old.OK("DEL")
			p.IP("link del net2")
			p.plug(2)
			p.IP("addr flush dev net2 scope global", "addr add 172.16.0.5/24 dev net2", "-6 route del default via "+prefix6(2)+"1 dev net2")
			before := s.state(p)
			c := p.call(2)
			c.Conf = strings.NewReplacer(p.ip(2), "172.16.0.5", fmt.Sprintf(`, {"address": "%s/64", "interface": 1}`, p.ip6(2)), "").Replace(c.Conf)
			c.OK("ADD")
			lacks(t, "the pod", dump(t, p.NS), "198.51.100.1")
			beside.OK("CHECK")
			c.OK("CHECK")
			c.OK("DEL")
			before.same("its DEL")
			beside.OK("CHECK")
			beside.OK("DEL")
			lacks(t, "the pod, in the end", dump(t, p.NS), "198.51.100.1")
			s.nothingLeft("DEL")
		})
	}
}

// What was done to another sandbox of the container, which lives, says nothing of
// this one.
func TestAnotherSandbox(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, second := s.pod(1), s.pod(1)
	second.IP("route del default via 169.254.1.1", "route add 169.254.1.9 dev eth0", "route append default via 169.254.1.9 dev eth0")
	before := s.state(first, second)
	first.call(1).OK("ADD")
	c := second.call(1).With(map[string]string{"CNI_CONTAINERID": first.Name})
	plan := c.OK("plan").Stdout
	lacks(t, "the plan", plan, "via 169.254.1.1 ")
	c.OK("ADD")
	has(t, "T", second.IP("route show table 100"), "default via 169.254.1.9 dev eth0")
	c.OK("CHECK")
	c.OK("DEL")
	before.restored("DEL")
}

// Two entries in one chain are one attachment: CHECK judges both, one DEL takes
// both back.
func TestTwoEntriesInOneChain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	before := s.state(p)
	one := p.call(1, `"rp_filter": {"value": 1, "set_host": true}`)
	two := p.call(1, `"rp_filter": {"value": 0, "set_host": true}`, `"additional_hijack_subnet": ["10.10.0.0/16"]`, `"mac_prefix": "0a:0b"`)
	first := one.OK("ADD")
	second := two.After(first).OK("ADD")
	for _, c := range []call{one, two} {
		c.After(second).OK("CHECK")
	}
	p.IP("rule del pref 31000 to 10.10.0.0/16")
	one.After(second).Refused("CHECK", 106, "ip rule add pref 31000 to 10.10.0.0/16 lookup 100")
	p.IP("rule del pref 31000 to 10.96.0.0/12") // which both want, and is told once
	two.After(second).Refused("CHECK", 106, "to 10.10.0.0/16", "to 10.96.0.0/12", "(and 1 more)")
	two.OK("DEL")
	before.restored("DEL")
}

// Which interface has the pod's default route.
func TestMigration(t *testing.T) {
	t.Parallel()
	const net1, net2, overlay = "default via 192.0.2.1 dev net1", "default via 198.51.100.1 dev net2", "default via 169.254.1.1 dev eth0"
	for name, tt := range map[string]struct {
		nets int
		keys string
		of   int
		want string
	}{
		"by order":                     {1, `"migrate_route": -1`, 1, net1},
		"by order, a plain one beside": {2, `"migrate_route": -1`, 1, net1},
		"by default as by order":       {2, `"migrate_route": null`, 2, net2},
		"never":                        {1, `"migrate_route": 0`, 1, net1 + "\n" + overlay},
		"always":                       {2, `"migrate_route": 1`, 1, net1},
		"the overlay":                  {2, `"default_route_interface": "overlay"`, 2, overlay},
		"another one":                  {2, `"default_route_interface": "net1"`, 2, net1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.pod(tt.nets)
			before := s.state(p)
			c := p.call(tt.of, tt.keys)
			c.OK("ADD")
			if got := defaults(p.NS); got != tt.want {
				t.Errorf("defaults:\n%s\nwant\n%s", got, tt.want)
			}
			c.OK("CHECK")
			c.OK("DEL")
			before.restored("DEL")
		})
	}
}

// Of several attachments that ask for the default route the last has it, with a
// warning, and CHECK of the others says so; those that go by order never have it
// then.
func TestSeveralAskForTheDefaultRoute(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(3)
	before := s.state(p)
	one, two, three := p.call(1, `"migrate_route": 1`), p.call(2, `"default_route_interface": "overlay"`), p.call(3)
	expect := func(when, want string) {
		t.Helper()
		if got := defaults(p.NS); got != want {
			t.Errorf("%s: defaults:\n%s\nwant %s", when, got, want)
		}
	}
	one.OK("ADD")
	three.OK("ADD")
	expect("net1 asks", "default via 192.0.2.1 dev net1")
	if a := two.OK("ADD"); !strings.Contains(a.Stderr, "level=WARN") || !strings.Contains(a.Stderr, "asked for by several networks") {
		t.Errorf("no warning: %s", a.Stderr)
	}
	expect("net2 asks, too", "default via 169.254.1.1 dev eth0")
	one.Refused("CHECK", 106, "net1 is to have the pod's default route, but net2 of container")
	two.OK("CHECK")
	three.OK("CHECK")
	one.OK("ADD") // a repeated one changes nothing
	expect("net1 once more", "default via 169.254.1.1 dev eth0")
	two.OK("DEL")
	expect("net2 is gone", "default via 192.0.2.1 dev net1")
	one.OK("CHECK")
	two.OK("ADD")
	one.OK("DEL")
	expect("net1 is gone", "default via 169.254.1.1 dev eth0")
	two.OK("DEL")
	expect("net3 is left", "default via 203.0.113.1 dev net3")
	three.OK("DEL")
	before.restored("DEL")
}

// A default route that comes after ADD is told, with what keeps it away.
func TestRouterAdvertisement(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(2)
	c := p.call(2)
	c.OK("ADD")
	p.IP("-6 route append default via fe80::9 dev net1 proto ra metric 300 expires 1800")
	c.Refused("CHECK", 106, "ip -6 route del default via fe80::9 dev net1", "net.ipv6.conf.net1.accept_ra_defrtr=0")
	c.OK("DEL")
}

// The default route leaves main only in a family in which this interface has one
// there.
func TestMigrationByFamily(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	p.IP("route del default via 192.0.2.1")
	before := s.state(p)
	c := p.call(1)
	c.OK("ADD")
	if got := defaults(p.NS); got != "default via 169.254.1.1 dev eth0" {
		t.Errorf("defaults: %s", got)
	}
	if got := p.IP("-6 route show default"); strings.Contains(got, "fe80::1") || !strings.Contains(got, "2001:db8::1 dev net1") {
		t.Errorf("IPv6 defaults: %s", got)
	}
	has(t, "rules", p.IP("rule show"), "31100:	from 10.244.1.1 lookup 100 proto 77") // the rule is there in both
	c.OK("DEL")
	before.restored("DEL")
}

// Interfaces of other names have free tables, unless told, and come after all that
// are numbered.
func TestOtherNames(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	p.IP("link set net1 down", "link set net1 name lan0", "link set lan0 up", "addr add "+p.ip6(1)+"/64 dev lan0 nodad",
		"route prepend default via 192.0.2.1 dev lan0")
	p.AwaitIPv6("lan0", p.ip6(1))
	before := s.state(p)
	other := func(keys ...string) call {
		c := p.withName("lan0", keys...)
		return c
	}
	for keys, table := range map[string]string{`"table": null`: "251", `"table": 77`: "77", `"table": 100`: "251"} {
		c := other(keys)
		a := c.OK("ADD")
		if warned := strings.Contains(a.Stderr, "100 is the overlay's"); warned != strings.Contains(keys, "100") {
			t.Errorf("%s: %s", keys, a.Stderr)
		}
		if got := defaults(p.NS); got != "default via 192.0.2.1 dev lan0" {
			t.Errorf("defaults: %s", got)
		}
		has(t, "rules", p.IP("rule show"), "31100:	from 192.0.2.101 lookup "+table+" proto 77", "31100:	from 10.244.1.1 lookup 100 proto 77")
		c.OK("CHECK")
		c.OK("ADD")
		c.OK("DEL")
		before.restored("DEL")
	}
}

// withName is a call for net1 that has another name by now.
func (p *pod) withName(dev string, keys ...string) call {
	p.s.t.Helper()
	p.IP("link add net1 type bridge")
	c := p.call(1, keys...)
	p.IP("link del net1")
	c.Conf = strings.ReplaceAll(c.Conf, `"net1"`, `"`+dev+`"`)
	return c.With(map[string]string{"CNI_IFNAME": dev})
}

// What a runtime, or somebody else, may do between ADD and DEL.
func TestDel(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(s *site, p *pod, c call) call{
		"without prevResult": func(_ *site, _ *pod, c call) call {
			return c.Edit(func(conf map[string]any) { delete(conf, "prevResult") })
		},
		"without CNI_NETNS": func(_ *site, _ *pod, c call) call { return c.With(map[string]string{"CNI_NETNS": ""}) },
		"a broken configuration": func(_ *site, _ *pod, c call) call {
			return c.Edit(func(conf map[string]any) {
				conf["overlay_hijack_subnet"], conf["table"], conf["mac_prefix"], conf["rp_filter"] = 5, "x", "zz", 7
				conf["overlay_hijack_subne"] = 5
			})
		},
		"another configuration": func(_ *site, _ *pod, c call) call {
			return c.set("host_rule_table", "501").set("table", "77").set("sriov", "true").set("overlay_interface", `"eth7"`)
		},
		"skip_call by now": func(_ *site, _ *pod, c call) call { return c.set("skip_call", "true") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.pod(1)
			before := s.state(p)
			c := p.call(1, everything...)
			c.OK("ADD")
			c = between(s, p, c)
			c.OK("DEL")
			before.restored("DEL")
			c.OK("DEL")
		})
	}
}

// The pod gone, the node is as it was before, whatever is at the path by now.
func TestDelOfAPodThatIsGone(t *testing.T) {
	t.Parallel()
	for name, now := range map[string]func(p *pod, c call) call{
		"nothing there":     func(_ *pod, c call) call { return c },
		"without CNI_NETNS": func(_ *pod, c call) call { return c.With(map[string]string{"CNI_NETNS": ""}) },
		"a plain file": func(p *pod, c call) call {
			_ = os.WriteFile(p.Path, nil, 0o600)
			p.s.t.Cleanup(func() { _ = os.Remove(p.Path) })
			return c
		},
		"another namespace": func(p *pod, c call) call {
			if _, err := os.Stat(p.Path); err != nil {
				netopstest.Namespace(p.s.t, p.Name)
			}
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p, other := s.pod(2), s.pod(1)
			cs := []call{p.call(1, everything...), p.call(2, everything...)}
			before := s.state(other)
			for _, c := range cs {
				c.OK("ADD")
			}
			// The node's end stays, as it does while the pod's is on its way out.
			away := "x" + p.veth()
			p.IP("link set eth0 netns " + s.lan.Name + " name " + away)
			s.lan.IP("link set " + away + " up")
			p.Remove()
			for _, c := range cs {
				if a := now(p, c).OK("DEL"); a.Stderr != "" {
					t.Errorf("DEL warns: %s", a.Stderr)
				}
			}
			before.restored("DEL")
		})
	}
}

// The interface gone before DEL: what went with it is no matter.
func TestInterfaceGone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(0)
	before := s.state(p)
	p.plug(1)
	c := p.call(1, everything...)
	c.OK("ADD")
	p.IP("link del net1")
	c.OK("DEL")
	before.restored("DEL")
}

func TestGC(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stays, goes, dies := s.pod(1), s.pod(1), s.pod(1)
	before := s.state(goes)
	pods := []*pod{stays, goes, dies}
	for _, p := range pods {
		p.call(1, everything...).OK("ADD")
	}
	valid := func(list ...*pod) call {
		return stays.call(1).Edit(func(conf map[string]any) {
			all := []any{}
			for _, p := range list {
				all = append(all, map[string]string{"containerID": p.Name, "ifname": "net1"})
			}
			conf["cni.dev/valid-attachments"] = all
			conf["overlay_hijack_subnet"] = 5 // is not read
			delete(conf, "prevResult")
		})
	}
	valid(pods...).OK("GC")
	for _, p := range pods {
		p.call(1, everything...).OK("CHECK")
	}
	valid(stays, dies).Failing(plugintest.Fault{At: "before", N: 0, Deny: unix.EPERM}).Refused("GC", 100, "operation not permitted")
	valid(stays, dies).OK("GC")
	if diff := cmp.Diff(before.was[goes.NS], dump(t, goes.NS)); diff != "" {
		t.Errorf("GC (-want +got):\n%s", diff)
	}
	stays.call(1, everything...).OK("CHECK")
	// Without a list only what belongs to pods that are gone.
	dies.Remove()
	stays.call(1).OK("GC")
	lacks(t, "the node", dump(t, s.node), dies.ip(1))
	stays.call(1, everything...).OK("CHECK")
	valid().OK("GC")
	before.nothing(dies)
	s.nothingLeft("GC")
}

// nothing fails the test unless the node is as it was but for what went with a
// pod's interfaces.
func (st state) nothing(of *pod) {
	st.s.t.Helper()
	plugintest.Until(st.s.t, func() bool { return !strings.Contains(st.s.node.IP("link show"), of.veth()+"@") })
	for _, part := range []string{"proto 77", "PERMANENT", "lookup 500", "all/rp_filter = 0"} {
		lacks(st.s.t, "the node", dump(st.s.t, st.s.node), part)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	c := p.call(1).With(map[string]string{"CNI_CONTAINERID": "", "CNI_IFNAME": "", "CNI_NETNS": ""}).
		Edit(func(conf map[string]any) { delete(conf, "prevResult") })
	c.OK("STATUS")
	c.set("mac_prefix", `"01:00"`).Refused("STATUS", 7, "mac_prefix")
	c.set("overlay_hijack_subnets", "5").Refused("STATUS", 7, `did you mean "overlay_hijack_subnet"?`)
	c.set("stateDir", `"/proc/nowhere"`).Refused("STATUS", 50, "records cannot be saved")
	s.nothingLeft("STATUS")
}

// Nothing is done and no record kept; CHECK succeeds.
func TestSkipCall(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	before := s.state(p)
	c := p.call(1, `"skip_call": true`, `"ip_conflict": {"enabled": true, "interval": "10s"}`).
		Edit(func(conf map[string]any) { delete(conf, "overlay_hijack_subnet") })
	added := c.OK("ADD")
	for _, verb := range []string{"CHECK", "DEL"} {
		c.After(added).OK(verb)
		before.restored(verb)
	}
	if got := c.OK("plan").Stdout; got != "" {
		t.Errorf("plan: %s", got)
	}
	if !strings.Contains(added.Stdout, p.HardwareAddr("net1")) || !strings.Contains(added.Stdout, `"unknown":{"kept":true}`) {
		t.Errorf("result: %s", added.Stdout)
	}
	_ = os.Remove(filepath.Join(s.records, router.Name)) // STATUS aside, there is no folder either
	if files, _ := os.ReadDir(s.records); len(files) > 0 {
		t.Errorf("left: %v", files)
	}
}

// Nothing on the node but the filters, also where the overlay is no veth of this
// node; then there is nothing of it in the pod, either.
func TestSRIOV(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		keys    []string
		prepare func(s *site, p *pod)
	}{
		"asked for": {[]string{`"sriov": true`, `"rp_filter": {"value": 0}`}, func(*site, *pod) {}},
		"the overlay is no veth": {[]string{`"rp_filter": {"value": 0, "set_host": true}`}, func(_ *site, p *pod) {
			four, six := p.overlay()
			p.IP("link del eth0", "link add eth0 type bridge", "link set eth0 up", "addr add "+four+"/32 dev eth0", "addr add "+six+"/128 dev eth0",
				"route add 169.254.1.1 dev eth0", "route append default via 169.254.1.1 dev eth0", "-6 route append default via fe80::1 dev eth0")
			p.AwaitIPv6("eth0")
		}},
		"its other end is elsewhere": {nil, func(s *site, p *pod) {
			s.node.IP("link set " + p.veth() + " netns " + s.lan.Name)
			s.lan.IP("link set " + p.veth() + " up")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.pod(1)
			tt.prepare(s, p)
			before := s.state(p)
			c := p.call(1, tt.keys...)
			c.OK("ADD")
			if diff := cmp.Diff(before.was[s.node], dump(t, s.node)); diff != "" {
				t.Errorf("the node (-want +got):\n%s", diff)
			}
			pod := dump(t, p.NS)
			if name == "asked for" {
				has(t, "the pod", pod, "unicast 192.0.2.10 via 169.254.1.1 dev eth0 table main proto 77", "unicast 2001:db8::10 via fe80::1 dev eth0 table 101 proto 77")
			} else {
				lacks(t, "the pod", pod, "unicast 192.0.2.10 ")
				lacks(t, "the pod", pod, "unicast 2001:db8::10 ")
			}
			has(t, "the pod", pod, "31000:	from all to 10.244.0.0/16 lookup 100 proto 77")
			c.OK("CHECK")
			c.OK("DEL")
			before.restored("DEL")
		})
	}
}

// Which errors there are, of which nothing comes.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pod  []string // ip(8) commands there before
		keys []string
		code uint
		says []string
	}{
		"no overlay interface":           {nil, []string{`"overlay_interface": "eth7"`}, 11, []string{`"eth7"`, "overlay_interface"}},
		"an overlay that is itself":      {nil, []string{`"overlay_interface": "net1"`}, 7, []string{"overlay_interface: net1 is the interface of this attachment"}},
		"an overlay without an address":  {[]string{"link add eth7 type bridge", "link set eth7 addrgenmode none up"}, []string{`"overlay_interface": "eth7"`}, 11, []string{"eth7", "overlay_interface", "global address"}},
		"table in use by a route":        {[]string{"route add 10.99.0.0/16 dev eth0 table 100"}, nil, 101, []string{"table 100, which is for the overlay, is in use already", "10.99.0.0/16 dev eth0 table 100"}},
		"table in use by an IPv6 route":  {[]string{"-6 route add fd99::/64 dev eth0 table 101"}, nil, 101, []string{"table: 101 is in use already", "fd99::/64"}},
		"table in use by a rule":         {[]string{"rule add pref 5 from 10.9.9.9 lookup 100"}, nil, 101, []string{"table 100, which is for the overlay, is in use already", "from 10.9.9.9"}},
		"table in use by an IPv6 rule":   {[]string{"-6 rule add pref 5 from fd99::9 lookup 77"}, []string{`"table": 77`}, 101, []string{"table: 77 is in use already", "fd99::9"}},
		"table in use by sbr":            {[]string{"rule add from 192.0.2.101 lookup 101"}, nil, 101, []string{"table: 101 is in use already", "sbr", "take that out of the chain"}},
		"table in use by wg-quick":       {[]string{"rule add not fwmark 51820 lookup 51820"}, []string{`"table": 51820`}, 101, []string{"table: 51820 is in use already", "wg-quick"}},
		"table in use by Tailscale":      {[]string{"rule add pref 5270 lookup 52"}, []string{`"table": 52`}, 101, []string{"table: 52 is in use already", "as Tailscale makes it"}},
		"table in use by strongSwan":     {[]string{"-6 rule add pref 220 lookup 220"}, []string{`"table": 220`}, 101, []string{"table: 220 is in use already", "as strongSwan makes it"}},
		"table in use by Cilium's proxy": {[]string{"rule add pref 9 fwmark 0x200/0xf00 lookup 2004"}, []string{`"table": 2004`}, 101, []string{"table: 2004 is in use already", "as Cilium makes it"}},
		"Cilium's proxy, from it":        {[]string{"rule add pref 10 fwmark 0xa00/0xf00 lookup 2005"}, []string{`"table": 2005`}, 101, []string{"table: 2005 is in use already", "as Cilium makes it"}},
		"another way to the node":        {[]string{"route add 192.0.2.10 dev net1"}, nil, 101, []string{`ip route add 192.0.2.10 via 169.254.1.1 dev eth0: there is "192.0.2.10 dev net1" already`}},
		"default_route_interface":        {nil, []string{`"default_route_interface": "a/b"`}, 7, []string{`default_route_interface: "a/b" is neither "overlay" nor the name of an interface`}},
		"a value of migrate_route":       {nil, []string{`"migrate_route": 2`}, 7, []string{"migrate_route: 2 is not -1, 0 or 1"}},
		"only_op_mac without mac_prefix": {nil, []string{`"only_op_mac": true`}, 7, []string{"only_op_mac", `"mac_prefix"`}},
		"a slip of the pen":              {nil, []string{`"servce_hijack_subnet": []`}, 2, []string{"service_hijack_subnet"}},
		"a slip of the pen inside":       {nil, []string{`"rp_filter": {"set_hosts": true}`}, 2, []string{"rp_filter.set_hosts"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.pod(1)
			p.IP(tt.pod...)
			before := s.state(p)
			c := p.call(1, tt.keys...)
			for _, verb := range []string{"ADD", "plan"} {
				c.Refused(verb, tt.code, tt.says...)
				before.restored(verb)
			}
			c.OK("DEL")
			before.restored("DEL")
		})
	}
}

// Rules of VPNs, of Cilium and of sbr, before router's ADD and after it, stay as
// they are, and are no drift.
func TestRulesOfOtherPrograms(t *testing.T) {
	t.Parallel()
	programs := []string{
		"rule add pref 9 fwmark 0x200/0xf00 lookup 2004", "rule add pref 10 fwmark 0xa00/0xf00 lookup 2005", // Cilium's proxy
		"rule add pref 220 lookup 220",                                                           // strongSwan
		"rule add pref 5210 fwmark 0x80000/0xff0000 lookup main", "rule add pref 5270 lookup 52", // Tailscale
		"rule add not fwmark 51820 lookup 51820", "rule add lookup main suppress_prefixlength 0", // wg-quick
		"-6 rule add not fwmark 51820 lookup 51820", "-6 rule add lookup main suppress_prefixlength 0",
		"rule add from 203.0.113.9 lookup 110", // sbr
		"route add default via 169.254.1.1 dev eth0 onlink table 110",
	}
	onNode := slices.DeleteFunc(slices.Clone(programs), func(l string) bool { return strings.Contains(l, "110") })
	for _, first := range []bool{true, false} {
		s := newSite(t)
		p := s.pod(2)
		come := func() { p.IP(programs...); s.node.IP(onNode...) }
		if first {
			come()
		}
		before := s.state(p)
		for n := 1; n <= 2; n++ {
			p.call(n).OK("ADD")
		}
		if !first {
			come()
		}
		for n := 1; n <= 2; n++ {
			p.call(n).OK("CHECK")
		}
		for n := 1; n <= 2; n++ {
			p.call(n).OK("DEL")
		}
		if !first { // which fails where one is gone
			for i := range programs {
				programs[i] = strings.Replace(programs[i], " add ", " del ", 1)
			}
			onNode = programs[:len(onNode)]
			come()
		}
		before.restored("DEL")
	}
}

// sbr after router takes the next table that nothing uses, which is that of the
// next interface.
func TestAfterSBR(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(2)
	p.call(1).OK("ADD")
	p.IP("rule add from "+p.ip(1)+" lookup 102", "route add default via 192.0.2.1 dev net1 table 102")
	before := s.state(p)
	p.call(2).Refused("ADD", 101, "table: 102 is in use already", "as sbr makes it", "take that out of the chain")
	before.same("a refused ADD")
	p.call(2, `"table": 202`).OK("ADD")
	p.call(1).OK("CHECK")
	p.call(2).OK("DEL")
	before.same("DEL")
	p.call(1).OK("DEL")
	has(t, "the pod", dump(t, p.NS), "30999:	from "+p.ip(1)+" lookup 102") // before ours: the kernel's choice
	s.nothingLeft("DEL")
}

// What is made for an address that no interface can have could not be found again.
func TestAddressesThatNoInterfaceHas(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	before := s.state(p)
	for _, address := range []string{"::ffff:192.0.2.101/120", "224.0.0.1/24", "ff02::1/64", "0.0.0.0/0", "::/0"} {
		c := p.call(1).Edit(func(conf map[string]any) {
			conf["prevResult"].(map[string]any)["ips"].([]any)[0].(map[string]any)["address"] = address
		})
		ip, _, _ := strings.Cut(address, "/")
		for _, verb := range []string{"ADD", "plan"} {
			c.Refused(verb, 7, "prevResult: "+ip, "net1")
		}
		c.OK("DEL")
		before.restored("DEL")
	}
}

// The networks of a pod come in any order.
func TestAttachmentsInAnyOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(2)
	before := s.state(p)
	both := []call{p.call(1, everything...), p.call(2, everything...)}
	both[1].OK("ADD")
	both[0].OK("ADD")
	// The node's routes are no routes of the overlay that T would need.
	lacks(t, "the pod", dump(t, p.NS), "192.0.2.10 dev eth0 table 100")
	for _, c := range both {
		c.OK("CHECK")
	}
	both[1].OK("DEL")
	both[0].OK("DEL")
	before.restored("DEL")
}

// Without log_file the log goes to a place of its own, and without log_options
// nowhere.
func TestLogFile(t *testing.T) {
	const path = "/var/log/meta-plugins/router.log"
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(path)) })
	s := newSite(t)
	p := s.pod(1)
	read := func() string {
		text, _ := os.ReadFile(path)
		return string(text)
	}
	p.call(1).OK("ADD")
	p.call(1).OK("DEL")
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Errorf("without log_options there is a log: %v", err)
	}
	c := p.call(1, `"log_options": {"log_level": "debug"}`)
	if a := c.OK("ADD"); a.Stderr != "" {
		t.Errorf("stderr: %s", a.Stderr)
	}
	for _, part := range []string{"ip rule add pref 31000 to 10.244.0.0/16 lookup 100", "containerID=" + p.Name, "verb=ADD"} {
		if !strings.Contains(read(), part) {
			t.Errorf("the log lacks %q: %.2000s", part, read())
		}
	}
	c.OK("DEL")
	elsewhere := filepath.Join(t.TempDir(), "mine.log")
	size := len(read())
	c = p.call(1, fmt.Sprintf(`"log_options": {"log_level": "debug", "log_file": %q}`, elsewhere))
	c.OK("ADD")
	c.OK("DEL")
	if _, err := os.Stat(elsewhere); err != nil || len(read()) != size {
		t.Errorf("log_file: %v, and the default one grew from %d to %d", err, size, len(read()))
	}
	p.call(1, `"log_options": {"log_file": "/proc/nowhere/x.log"}`).OK("ADD") // is a warning
	p.call(1).OK("DEL")
}

// Cilium's host veth is warned about, once.
func TestCilium(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	s.node.IP("link set cali1 down", "link set cali1 name lxc12345", "link set lxc12345 up", "route add 10.244.1.1 dev lxc12345")
	c := p.call(1)
	if a := c.OK("ADD"); strings.Count(a.Stderr, "Cilium") != 1 || !strings.Contains(a.Stderr, "level=WARN") {
		t.Errorf("no warning: %s", a.Stderr)
	}
	for _, verb := range []string{"CHECK", "DEL"} {
		if a := c.OK(verb); a.Stderr != "" {
			t.Errorf("%s warns: %s", verb, a.Stderr)
		}
	}
}

// The node's addresses are the global ones of interfaces that are not excluded,
// and the one that it sends to the pod from.
func TestNodeAddresses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.node.IP("link add up1 type bridge", "link set up1 addrgenmode none up", "addr add 198.18.0.10/24 dev up1", "addr add 198.18.1.10/24 dev up1 scope link",
		"addr add 2001:db8:9::10/64 dev up1 nodad",
		"link add docker7 type bridge", "link set docker7 addrgenmode none up", "addr add 172.17.0.1/16 dev docker7",
		"link add mine0 type bridge", "link set mine0 addrgenmode none up", "addr add 198.18.9.10/24 dev mine0")
	p := s.pod(1)
	before := s.state(p)
	nodes := func(c call) (list []string) {
		c.OK("ADD")
		for l := range strings.Lines(p.IP("-4 route show proto 77") + p.IP("-6 route show proto 77")) {
			list = append(list, strings.Fields(l)[0])
		}
		c.OK("CHECK")
		c.OK("DEL")
		before.restored("DEL")
		slices.Sort(list)
		return list
	}
	for _, tt := range []struct {
		keys string
		want []string
	}{
		{`"exclude_interfaces": null`, []string{"192.0.2.10", "198.18.0.10", "198.18.9.10", "2001:db8:9::10", "2001:db8::10"}},
		{`"exclude_interfaces": ["up1", "min?0"]`, []string{"172.17.0.1", "192.0.2.10", "2001:db8::10"}},
		// That by which it sends counts in any case.
		{`"exclude_interfaces": ["*"]`, []string{"192.0.2.10", "2001:db8::10"}},
	} {
		if diff := cmp.Diff(tt.want, nodes(p.call(1, tt.keys))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.keys, diff)
		}
	}
}

// A node without IPv6 is told of the pod's IPv4 addresses only.
func TestNodeWithoutIPv6(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	s.sysctl(s.node, "net/ipv6/conf/all/disable_ipv6", "1")
	before := s.state(p)
	c := p.call(1)
	c.OK("ADD")
	c.OK("CHECK")
	has(t, "the pod", p.IP("-6 rule show"), "31000:	from all to fd00:10:244::/96 lookup 100 proto 77")
	has(t, "the node", s.node.IP("neigh show nud permanent"), p.ip(1)+" dev cali1")
	lacks(t, "the node", s.node.IP("-6 rule show"), "lookup 500")
	c.OK("DEL")
	before.restored("DEL")
}

// IPv6 is switched on where it is needed, and off again by who was the last.
func TestIPv6SwitchedOff(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{1, 2}, {2, 1}} {
		s := newSite(t)
		p := s.pod(2)
		s.sysctl(p.NS, "net/ipv6/conf/eth0/disable_ipv6", "1")
		before := s.state(p)
		for n := 1; n <= 2; n++ {
			p.call(n).OK("ADD")
			if got := s.value(p.NS, "net/ipv6/conf/eth0/disable_ipv6"); got != "0" {
				t.Errorf("disable_ipv6 is %s", got)
			}
		}
		p.call(order[0]).OK("DEL")
		if got := s.value(p.NS, "net/ipv6/conf/eth0/disable_ipv6"); got != "0" {
			t.Errorf("with one left disable_ipv6 is %s", got)
		}
		p.call(order[1]).OK("CHECK")
		p.call(order[1]).OK("DEL")
		before.restored("DEL")
	}
}

// Of the reverse path filters those of the pod are set, to 2 unless told, and
// "all" is lowered where it is greater; the node's only where that is told.
func TestReversePathFilter(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(2)
	before := s.state(p)
	node := func(dev string) string { return s.value(s.node, "net/ipv4/conf/"+dev+"/rp_filter") }
	pod := func(dev string) string { return s.value(p.NS, "net/ipv4/conf/"+dev+"/rp_filter") }
	for _, tt := range []struct{ keys, pod, podAll, node, nodeAll string }{
		{`"rp_filter": null`, "2", "2", "0", "1"},
		{`"rp_filter": {}`, "2", "2", "0", "1"},
		{`"rp_filter": {"value": 1}`, "1", "1", "0", "1"},
		{`"rp_filter": {"value": 0, "set_host": false}`, "0", "0", "0", "1"},
		{`"rp_filter": {"value": 2, "set_host": true}`, "2", "2", "2", "1"},
		{`"rp_filter": {"value": 0, "set_host": true}`, "0", "0", "0", "0"},
	} {
		c := p.call(2, tt.keys)
		c.OK("ADD")
		for _, dev := range []string{"eth0", "net2"} {
			if got := pod(dev); got != tt.pod {
				t.Errorf("%s: the pod's %s has %s, want %s", tt.keys, dev, got, tt.pod)
			}
		}
		for _, dev := range []string{"cali1", "up0"} {
			if got := node(dev); got != tt.node {
				t.Errorf("%s: the node's %s has %s, want %s", tt.keys, dev, got, tt.node)
			}
		}
		if pod("all") != tt.podAll || node("all") != tt.nodeAll {
			t.Errorf("%s: all is %s in the pod, %s on the node", tt.keys, pod("all"), node("all"))
		}
		c.OK("CHECK")
		c.OK("DEL")
		before.restored(tt.keys)
	}
}

// CHECK without a record says so.
func TestCheckWithoutRecord(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	p.call(1).Refused("CHECK", 106, "record")
	s.nothingLeft("CHECK")
}

// CHECK tells all that is not as ADD left it, each by itself and all together.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(2)
	p.call(1, everything...).OK("ADD")
	c := p.call(2, everything...)
	c = c.After(c.OK("ADD"))
	// What others do is none of its business.
	p.IP("route add 10.99.0.0/16 dev eth0", "route add 10.99.0.0/16 dev eth0 table 101", "rule add pref 5 lookup 7",
		"neigh add 192.0.2.99 lladdr 02:00:00:00:00:01 dev eth0 nud permanent", "addr add 10.99.9.9/32 dev net2")
	s.node.IP("route add 10.99.0.0/16 dev cali1 table 500", "rule add pref 5 lookup 7")
	c.OK("CHECK")
	type drift struct {
		ns   *netopstest.NS
		line string
		says string
	}
	var all []string
	for _, d := range []drift{
		{p.NS, "rule del pref 31000 to 10.10.0.0/16 lookup 100", "ip rule add pref 31000 to 10.10.0.0/16 lookup 100: missing"},
		{p.NS, "-6 rule del pref 31100 from 2001:db8:2::101", "ip -6 rule add pref 31100 from 2001:db8:2::101 lookup 102: missing"},
		{p.NS, "route del 192.0.2.10 table 102", "ip route add 192.0.2.10 via 169.254.1.1 dev eth0 table 102: missing"},
		{p.NS, "-6 route del default table 100", "ip -6 route add default via fe80::1 dev eth0 table 100: missing"},
		{p.NS, "route append default via 192.0.2.1 dev net1", "ip route del default via 192.0.2.1 dev net1: present, should be absent"},
		{p.NS, "link set eth0 address 02:00:00:00:00:09", "ip link set dev eth0 address " + p.HardwareAddr("eth0") + ": found 02:00:00:00:00:09 instead"},
		{p.NS, "link set net2 address 02:00:00:00:00:07", "ip link set dev net2 address 0a:0b:c6:33:64:65: found 02:00:00:00:00:07 instead"},
		{s.node, "neigh del 198.51.100.101 dev cali1", "ip neigh add 198.51.100.101 lladdr " + p.HardwareAddr("eth0") + " dev cali1 nud permanent: missing"},
		{s.node, "rule del pref 1000 lookup 500", "ip rule add pref 1000 lookup 500: missing"},
	} {
		d.ns.IP(d.line)
		a := c.Refused("CHECK", 106, d.says)
		for _, earlier := range all {
			if !strings.Contains(a.Error.Msg+a.Error.Details, earlier) {
				t.Errorf("after %q it forgets %q", d.line, earlier)
			}
		}
		if all = append(all, d.says); !strings.Contains(a.Error.Msg, fmt.Sprintf("(and %d more)", len(all)-1)) && len(all) > 1 {
			t.Errorf("after %q: %s %s", d.line, a.Error.Msg, a.Error.Details)
		}
	}
	s.sysctl(p.NS, "net/ipv4/conf/net2/rp_filter", "1")
	s.sysctl(s.node, "net/ipv4/conf/cali1/rp_filter", "2")
	c.Refused("CHECK", 106, "sysctl -w net.ipv4.conf.net2.rp_filter=0: found 1 instead", "sysctl -w net.ipv4.conf.cali1.rp_filter=0: found 2 instead")
	p.call(1).Refused("CHECK", 106, "ip rule add pref 1000 lookup 500: missing") // shared by both
	// The pod is not to be deleted any the less.
	for n := range 2 {
		p.call(n + 1).OK("DEL")
	}
	s.nothingLeft("DEL")
}

// The node's rule may be there already, made by whomever: then it is not made a
// second time, and stays.
func TestNodeRuleThatIsThere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	s.node.IP("rule add pref 1000 lookup 500", "-6 rule add pref 1000 lookup 500 proto 99")
	before := s.state(p)
	c := p.call(1, everything...)
	if got := c.OK("plan").Stdout; strings.Contains(got, "lookup 500") {
		t.Errorf("plan makes it again: %s", got)
	}
	c.OK("ADD")
	if got := strings.Count(s.node.IP("rule show")+s.node.IP("-6 rule show"), "1000:"); got != 2 {
		t.Errorf("%d rules of pref 1000 on the node, 2 before", got)
	}
	c.OK("CHECK")
	c.OK("DEL")
	before.restored("DEL")
	s.nothingLeft("DEL")
}

// Of a family of which the attachment has no address the overlay's side is made
// all the same: one may come later. The node learns of what there is.
func TestOneFamily(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]int{"IPv4": 0, "IPv6": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.pod(1)
			gone := []string{p.ip6(1) + "/64", p.ip(1) + "/24"}[keep]
			p.IP("addr del " + gone + " dev net1")
			before := s.state(p)
			c := p.call(1).Edit(func(conf map[string]any) {
				prev := conf["prevResult"].(map[string]any)
				prev["ips"] = prev["ips"].([]any)[keep : keep+1]
			})
			c.OK("ADD")
			for family, flag := range []string{"-4", "-6"} {
				if onNode := strings.Contains(s.node.IP(flag+" rule show")+s.node.IP(flag+" route show table all")+s.node.IP(flag+" neigh show nud permanent"), "proto 77"); onNode != (family == keep) {
					t.Errorf("%s: the node is touched: %v", flag, onNode)
				}
				rules := p.IP(flag + " rule show")
				has(t, flag, rules, "31000:	from all to "+[]string{"10.244.0.0/16", "fd00:10:244::/96"}[family]+" lookup 100 proto 77")
				if own := strings.Contains(rules, "lookup 101"); own != (family == keep) {
					t.Errorf("%s: a rule of its own: %v", flag, own)
				}
			}
			c.OK("CHECK")
			c.OK("DEL")
			before.restored("DEL")
		})
	}
}

// A chain that runs again when the pod has got more interfaces changes nothing.
func TestRepeatedAddBesideLaterOnes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(0)
	first := s.state(p)
	p.plug(1)
	one := p.call(1, everything...)
	one.OK("ADD")
	p.plug(2)
	two := p.call(2, everything...)
	two.OK("ADD")
	both := s.state(p)
	for range 2 {
		one.OK("ADD")
		both.same("a second ADD of net1")
		two.OK("ADD")
		both.same("a second ADD of net2")
	}
	for _, c := range []call{one, two} {
		c.OK("CHECK")
	}
	one.OK("DEL")
	two.OK("CHECK")
	p.IP("link del net1")
	two.OK("DEL")
	p.IP("link del net2")
	first.restored("DEL")
}

// The overlay gone before DEL: the rest is taken back.
func TestOverlayGone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.pod(1)
	c := p.call(1, everything...)
	c.OK("ADD")
	s.node.IP("link del " + p.veth())
	if a := c.OK("DEL"); a.Stderr != "" {
		t.Errorf("DEL warns: %s", a.Stderr)
	}
	lacks(t, "the pod", dump(t, p.NS), "proto 77")
	lacks(t, "the node", dump(t, s.node), "proto 77")
	if got := s.value(s.node, "net/ipv4/conf/all/rp_filter"); got != "1" {
		t.Errorf("the node's rp_filter is %s", got)
	}
	s.nothingLeft("DEL")
}
