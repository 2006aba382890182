package netopstest

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { os.Exit(Main(m).Run()) }

// A list that was kept is what ip(8) would print now, whatever has changed since.
func TestLists(t *testing.T) {
	pod := Namespace(t, "pod")
	pod.Veth("eth0", "10.0.0.5/24", "fd00::5/64")
	var lists [][]string
	for _, options := range []string{"-4 -d ", "-6 -d ", "-oneline -4 "} {
		lists = append(lists, []string{options + "route show table all", options + "rule show", options + "neigh show nud permanent"})
	}
	lists = append(lists, []string{"addr show", "link show"}, []string{"-br link show"}, []string{"-4 route show default"})
	for _, change := range []string{
		"route add default via 10.0.0.1", "route change default via 10.0.0.2", "route change default via 10.0.0.2 proto 77",
		"route change default via 10.0.0.2 mtu 1400", "route change default via 10.0.0.2 src 10.0.0.5", "route append default via 10.0.0.3",
		"route add 10.9.0.0/16 nexthop via 10.0.0.1 nexthop via 10.0.0.2", "route change 10.9.0.0/16 nexthop via 10.0.0.1 weight 2 nexthop via 10.0.0.2",
		"route add 10.8.0.0/16 via 10.0.0.1 table 7", "route add 10.7.0.0/16 encap ip id 7 dst 10.0.0.9 dev eth0", "route add blackhole 10.6.0.0/16",
		"-6 route add default via fd00::1", "-6 route change default via fd00::1 pref high", "-6 route append default via fd00::2 metric 1024",
		"rule add from 10.0.0.5 lookup 7", "-6 rule add to fd07::/64 lookup 7 proto 77", "rule add fwmark 7 unreachable",
		"neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 dev eth0", "neigh change 10.0.0.7 lladdr 02:00:00:00:00:08 dev eth0", "-6 neigh add fd00::7 lladdr 02:00:00:00:00:07 dev eth0",
		"addr add 10.0.0.6/24 dev eth0", "addr change 10.0.0.6/24 dev eth0 preferred_lft 0", "addr add fd00::6/64 dev eth0 nodad", "addr change fd00::6/64 dev eth0 preferred_lft 0",
		"link set eth0 mtu 1400", "link set eth0 address 02:00:00:00:00:09", "link set eth0 alias seven", "link set eth0 arp off", "link set eth0 txqueuelen 7",
		"link set eth0 down", "link set eth0 name eth1", "link set eth1 up", "link del eth1",
	} {
		for _, list := range lists {
			pod.IP(list...)
		}
		pod.IP(change)
		pod.Settle()
		for _, list := range lists {
			if diff := cmp.Diff(pod.runLines(list), pod.IP(list...)); diff != "" {
				t.Errorf("ip %s, then %q (-what it prints +what was kept):\n%s", change, list, diff)
			}
		}
	}
}
