package main

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/plugin"
)

var update = flag.Bool("update", false, "write what is planned into the golden files")

// Each topology of testdata/plan has a configuration with its prevResult, what
// was found in the pod and on the node, in ip(8)'s words, and what is planned.
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
			section := func(name string) *txtar.File {
				for i := range a.Files {
					if a.Files[i].Name == name {
						return &a.Files[i]
					}
				}
				t.Fatalf("no %s in %s", name, file)
				return nil
			}
			ifname := strings.TrimSpace(string(section("ifname").Data))
			planner, prev, err := plugin.Parse(router, decode, section("conf.json").Data, ifname)
			if err != nil {
				t.Fatal(err)
			}
			c := planner.(config)
			c.node = nodeOf(t, string(section("node").Data))
			d, err := c.Plan(prev, podOf(t, string(section("pod").Data)))
			if err != nil {
				t.Fatal(err)
			}
			got := text(d.Want)
			if *update {
				section("plan").Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(section("plan").Data), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// text is a plan as golden files have it.
func text(p netops.Plan) string {
	return "# pod\n" + strings.Join(p.Pod.Commands(), "\n") + "\n# host\n" + strings.Join(netops.Change{Add: p.Host}.Commands(), "\n") + "\n"
}

// podOf reads lines as ip -o address and ip route print them.
func podOf(t *testing.T, lines string) (s netops.Snapshot) {
	t.Helper()
	s.HardwareAddrs = map[string]string{}
	for l := range strings.Lines(lines) {
		f := strings.Fields(l)
		switch {
		case len(f) == 0:
		case f[0] == "link": // link eth0 02:…
			s.Links = append(s.Links, f[1])
			s.HardwareAddrs[f[1]] = f[2]
		case f[0] == "addr": // addr eth0 10.0.0.5/24
			s.Addrs = append(s.Addrs, addrOf(f[1], f[2]))
		case f[0] == "sysctl": // sysctl net/… 1
			s.Sysctls = append(s.Sysctls, netops.Sysctl{Key: f[1], Value: f[2]})
		default:
			s.Routes = append(s.Routes, routeOf(t, f))
		}
	}
	return s
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
		default:
			t.Fatalf("%v: %s?", f, f[i])
		}
	}
	return r.Normalize()
}

// nodeOf reads what was found of the node.
func nodeOf(t *testing.T, lines string) (n node) {
	t.Helper()
	for l := range strings.Lines(lines) {
		f := strings.Fields(l)
		switch {
		case len(f) == 0:
		case f[0] == "veth": // veth cali1 ee:…
			n.Name, n.HardwareAddr = f[1], f[2]
		case f[0] == "bridge":
			n.Master = f[1]
		case f[0] == "addr":
			n.addrs = append(n.addrs, addrOf(f[1], f[2]))
		default:
			t.Fatalf("%v?", f)
		}
	}
	return n
}
