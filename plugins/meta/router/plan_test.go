package main

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

var update = flag.Bool("update", false, "write what is planned into the golden files")

// Each topology of testdata/plan is told in sections: the node and the pod, in
// ip(8)'s words, then for each attachment, whose interface it begins with, the
// configuration with its prevResult (.json), what the plugins before made in the
// pod (.pod), and what is planned (.plan) or refused (.error), and printed
// (.result). What the pod has then is what the next attachment meets. A plan
// shows what is not there yet, as the sub-command does.
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || files == nil {
		t.Fatalf("no topologies: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var top told
			for i := range a.Files {
				section := &a.Files[i]
				got, golden := top.read(t, section.Name, string(section.Data))
				switch {
				case !golden:
				case *update:
					section.Data = []byte(got)
				default:
					if diff := cmp.Diff(string(section.Data), got); diff != "" {
						t.Errorf("%s (-want +got):\n%s", section.Name, diff)
					}
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// told is a topology as far as it was told.
type told struct {
	pod      netops.Snapshot
	node     string
	ifName   string
	planner  attach.Planner
	prev     *cniresult.Result
	decision *attach.Decision
	recorded []*record.Entry
}

// decide is what an ADD comes to.
func (top *told) decide() (*attach.Decision, netops.Change, error) {
	key := record.Key{IfName: top.ifName}
	return attach.Decide(top.planner, top.prev, seen(top.pod, top.planner.Query(top.prev)), top.recorded, router.Name, key)
}

// record notes what was decided, as done.
func (top *told) record(done netops.Change) {
	_, held := top.decision.Want.Pod.Needed(seen(top.pod, top.planner.Query(top.prev)).State)
	top.recorded = append(top.recorded, &record.Entry{Progress: record.Finished, Record: record.Record{
		Plugin: router.Name, Key: record.Key{IfName: top.ifName}, Default: top.decision.Default,
		Done: netops.Plan{Pod: done}, Held: netops.Plan{Pod: netops.Change{Add: held}}}})
}

// read takes a section, and returns what a golden one should hold.
func (top *told) read(t *testing.T, name, text string) (got string, golden bool) {
	t.Helper()
	name, kind, _ := strings.Cut(name, ".")
	switch kind {
	case "":
		if name == "node" {
			top.node = text
			return "", false
		}
		fallthrough
	case "pod":
		furnish(t, &top.pod, text)
	case "json":
		var err error
		top.ifName = name
		if top.planner, top.prev, err = policy.Parse(router, decode, []byte(text), name); err != nil {
			t.Fatal(err)
		}
		c := top.planner.(config)
		c.node = nodeOf(t, c, top.node)
		top.planner = c
	case "plan":
		return top.plan(t), true
	case "error":
		_, _, err := top.decide()
		if err == nil {
			t.Fatalf("%s is not refused", name)
		}
		return fmt.Sprintf("code %d: %v\n", cni.Code(err), err), true
	case "result":
		var out strings.Builder
		if err := top.decision.Print(&out); err != nil {
			t.Fatal(err)
		}
		return out.String(), true
	default:
		t.Fatalf("%s.%s?", name, kind)
	}
	return "", false
}

// plan decides, and carries it out in what is told of the pod.
func (top *told) plan(t *testing.T) string {
	t.Helper()
	d, needed, err := top.decide()
	if err == nil {
		err = d.Want.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	top.decision = d
	top.record(needed)
	asDone(&top.pod, needed)

	// A second ADD looks past what the first has made, and finds nothing to do.
	again, more, err := top.decide()
	if err != nil {
		t.Fatalf("a second ADD: %v", err)
	}
	if !more.IsZero() {
		t.Errorf("a second ADD:\n%s", more)
	}
	if diff := cmp.Diff(netops.Change{Add: d.Want.Host}.String(), netops.Change{Add: again.Want.Host}.String()); diff != "" {
		t.Errorf("a second ADD on the node (-first +second):\n%s", diff)
	}

	var out strings.Builder
	for _, w := range d.Warnings {
		fmt.Fprintln(&out, "# warning:", w)
	}
	for _, part := range []struct {
		where string
		netops.Change
	}{{"pod", needed}, {"host", netops.Change{Add: d.Want.Host}}} {
		if lines := part.Commands(); len(lines) > 0 {
			fmt.Fprintf(&out, "# %s\n%s\n", part.where, strings.Join(lines, "\n"))
		}
	}
	return out.String()
}

// seen is the part of a pod that a query asks for.
func seen(pod netops.Snapshot, q netops.Query) netops.Snapshot {
	var s netops.Snapshot
	if q.EveryLink {
		s.Links, s.HardwareAddrs, s.Indexes, s.State.Links = pod.Links, pod.HardwareAddrs, pod.Indexes, pod.State.Links
	}
	if q.Addrs {
		s.Addrs = pod.Addrs
	}
	for _, r := range pod.Routes {
		if slices.Contains(q.Tables, r.Table) || slices.Contains(q.Tables, netops.EveryTable) {
			s.Routes = append(s.Routes, r)
		}
	}
	if q.Rules {
		s.Rules = pod.Rules
	}
	for _, e := range pod.Neighs {
		if slices.Contains(q.Neighs, e.Dev) {
			s.Neighs = append(s.Neighs, e)
		}
	}
	for _, v := range pod.Sysctls {
		ofAll := strings.ReplaceAll(v.Key, "/"+v.Dev()+"/", "/*/")
		if slices.Contains(q.Sysctls, v.Key) || v.Dev() != "" && slices.Contains(q.LinkSysctls, ofAll) {
			s.Sysctls = append(s.Sysctls, v)
		}
	}
	return s
}

// asDone does what the kernel would: of an IPv6 route that loses some of its
// ways the others stay, and a neighbour that was learnt gives way.
func asDone(pod *netops.Snapshot, done netops.Change) {
	for _, gone := range done.Del.Routes {
		for i := range pod.Routes {
			if r := &pod.Routes[i]; r.Key() == gone.Key() && len(r.NextHops()) > len(gone.NextHops()) && gone.Dst.Addr().Is6() {
				*r = withWays(*r, slices.DeleteFunc(slices.Clone(r.NextHops()), func(h netops.NextHop) bool {
					return slices.ContainsFunc(gone.NextHops(), func(g netops.NextHop) bool { return g.Gw == h.Gw && g.Dev == h.Dev })
				}))
			}
		}
	}
	pod.Neighs = slices.DeleteFunc(pod.Neighs, func(e netops.Neigh) bool {
		return e.Learnt && slices.ContainsFunc(done.Add.Neighs, func(a netops.Neigh) bool { return a.Dev == e.Dev && a.IP == e.IP })
	})
	pod.State = pod.Before(done.Reverse())
	for _, l := range done.Add.Links {
		pod.HardwareAddrs[l.Dev] = l.HardwareAddr
	}
}

func withWays(r netops.Route, ways []netops.NextHop) netops.Route {
	r.Gw, r.Dev, r.Hops = netip.Addr{}, "", nil
	if len(ways) == 1 {
		r.Gw, r.Dev = ways[0].Gw, ways[0].Dev
	} else {
		r.Hops = ways
	}
	return r
}

// furnish adds to a pod what lines tell: link eth0 02:…, addr eth0 10.0.0.5/24,
// neigh eth0 192.0.2.10 02:…, sysctl net/… 1, rule pref 1 to 10.0.0.0/8 lookup 7,
// and routes as ip route prints them. New routes stand before others, or are
// merged with them, as the kernel has it, but for what routers announce.
func furnish(t *testing.T, pod *netops.Snapshot, lines string) {
	t.Helper()
	if pod.HardwareAddrs == nil {
		pod.HardwareAddrs, pod.Indexes = map[string]string{}, map[string]uint32{}
		pod.Sysctls = []netops.Sysctl{{Key: rpKey("all"), Value: "0"}}
	}
	var routes []netops.Route
	for l := range strings.Lines(lines) {
		f := strings.Fields(l)
		switch {
		case len(f) == 0:
		case f[0] == "link":
			pod.Links = append(pod.Links, f[1])
			pod.State.Links = append(pod.State.Links, netops.LinkAddr{Dev: f[1], HardwareAddr: f[2]})
			pod.HardwareAddrs[f[1]], pod.Indexes[f[1]] = f[2], uint32(len(pod.Links))
			pod.Sysctls = append(pod.Sysctls, netops.Sysctl{Key: rpKey(f[1]), Value: "0"}, netops.Sysctl{Key: ipv6Key(f[1]), Value: "0"})
		case f[0] == "addr":
			a := addrOf(f[1], f[2])
			if slices.Contains(f, "dadfailed") {
				a.Flags |= unix.IFA_F_DADFAILED
			}
			pod.Addrs = append(pod.Addrs, a)
		case f[0] == "neigh":
			pod.Neighs = append(pod.Neighs, netops.Neigh{Dev: f[1], IP: netip.MustParseAddr(f[2]), HardwareAddr: f[3], Learnt: slices.Contains(f, "learnt")})
		case f[0] == "sysctl":
			i := slices.IndexFunc(pod.Sysctls, func(s netops.Sysctl) bool { return s.Key == f[1] })
			pod.Sysctls[i].Value = f[2]
		case f[0] == "rule":
			pod.Rules = append(pod.Rules, ruleOf(t, f))
		default:
			r := routeOf(t, f)
			into := func(o netops.Route) bool {
				return o.Key() == r.Key() && r.Dst.Addr().Is6() && o.Protocol != unix.RTPROT_RA && r.Protocol != unix.RTPROT_RA
			}
			if i := slices.IndexFunc(pod.Routes, into); i >= 0 {
				pod.Routes[i] = withWays(pod.Routes[i], slices.Concat(pod.Routes[i].NextHops(), r.NextHops()))
			} else if i := slices.IndexFunc(routes, into); i >= 0 {
				routes[i] = withWays(routes[i], slices.Concat(routes[i].NextHops(), r.NextHops()))
			} else {
				routes = append(routes, r)
			}
		}
	}
	pod.Routes = append(routes, pod.Routes...)
}

func ruleOf(t *testing.T, f []string) (r netops.Rule) {
	t.Helper()
	for i := 1; i+1 < len(f); i += 2 {
		number, _ := strconv.ParseUint(f[i+1], 10, 32)
		switch f[i] {
		case "pref":
			r.Priority = uint32(number)
		case "lookup":
			r.Table = uint32(number)
		case "to":
			r.To = netip.MustParsePrefix(f[i+1])
		case "from":
			r.From = netip.MustParsePrefix(f[i+1])
		default:
			t.Fatalf("%v: %s?", f, f[i])
		}
	}
	r.IPv6 = r.To.IsValid() && r.To.Addr().Is6() || r.From.IsValid() && r.From.Addr().Is6()
	return r
}

func addrOf(dev, prefix string) netops.Addr {
	p := netip.MustParsePrefix(prefix)
	scope := netops.ScopeGlobal
	if p.Addr().IsLinkLocalUnicast() {
		scope = netops.ScopeLink
	}
	return netops.Addr{Dev: dev, Prefix: p, Subnet: p.Masked(), Scope: scope}
}

// routeOf reads a route as ip(8) prints it.
func routeOf(t *testing.T, f []string) netops.Route {
	t.Helper()
	r := netops.Route{Protocol: unix.RTPROT_BOOT}
	if f[0] == "default" && strings.Contains(strings.Join(f, " "), ":") {
		r.Dst = netip.MustParsePrefix("::/0")
	} else if f[0] == "default" {
		r.Dst = netip.MustParsePrefix("0.0.0.0/0")
	} else if p, err := netip.ParsePrefix(f[0]); err == nil {
		r.Dst = p
	} else {
		ip := netip.MustParseAddr(f[0])
		r.Dst = netip.PrefixFrom(ip, ip.BitLen())
	}
	for i := 1; i < len(f); i += 2 {
		if i+1 == len(f) {
			t.Fatalf("%v: %s without a value", f, f[i])
		}
		number, _ := strconv.ParseUint(f[i+1], 10, 32)
		switch value := f[i+1]; f[i] {
		case "via":
			r.Gw = netip.MustParseAddr(value)
		case "dev":
			r.Dev = value
		case "metric":
			r.Metric = uint32(number)
		case "table":
			r.Table = uint32(number)
		case "src":
			r.Src = netip.MustParseAddr(value)
		case "proto":
			r.Protocol = map[string]uint8{"kernel": unix.RTPROT_KERNEL, "ra": unix.RTPROT_RA, "77": netops.Protocol}[value]
		case "scope":
			r.Scope = netops.ScopeLink
		case "expires":
			r.Expires = uint32(number)
		default:
			t.Fatalf("%v: %s?", f, f[i])
		}
	}
	return r.Normalize()
}

// nodeOf reads what Prepare finds of the node: the host's end of the overlay
// interface (veth cali1 ee:…), its link-local address (fe80 …), its master
// (master cni0 bridge), the filter that counts, and addresses; "source" marks the one
// by which the node would send to the pod, which no pattern excludes.
func nodeOf(t *testing.T, c config, lines string) (n node) {
	t.Helper()
	for l := range strings.Lines(lines) {
		f := strings.Fields(l)
		switch {
		case len(f) == 0:
		case f[0] == "veth":
			n.Name, n.HardwareAddr = f[1], f[2]
		case f[0] == "master":
			n.Master, n.MasterKind = f[1], f[2]
		case f[0] == "fe80":
			n.linkLocal = netip.MustParseAddr(f[1])
		case f[0] == "strict":
			n.strict = f[1]
		case f[0] == "addr":
			a, known := addrOf(f[1], f[2]), !c.excluded(f[1])
			if known {
				n.held = append(n.held, a)
			}
			source := slices.Contains(f, "source")
			if known || source {
				n.addrs = append(n.addrs, a)
			}
			if source {
				n.sources = append(n.sources, a.Prefix.Addr())
			}
		default:
			t.Fatalf("%v?", f)
		}
	}
	if c.onlyMAC || !n.here() {
		return node{held: n.held}
	}
	return n
}
