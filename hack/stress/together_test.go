package stress

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// seamless and router give a pod the same route to its node. In whichever order
// their networks come and go: both CHECKs succeed, the route is there until the
// last has gone, and then all is as before.
func TestSeamlessAndRouterInOnePod(t *testing.T) {
	n := newNode(t)
	routing := subjectOf("router")
	pod := routing.newPod(t, "pod")
	conf := `{"cniVersion": "1.1.0", "name": "node", "type": "seamless", "families": ["ipv4", "ipv6"], "podTimeout": "1s"}`
	calls := []plugintest.Call{
		plugintest.New(t, "seamless", pod, conf).With(map[string]string{"CNI_IFNAME": "net2"}),
		routing.call(t, pod),
	}
	for i := range calls { // Multus gives all networks of a pod the same container
		calls[i] = calls[i].With(map[string]string{"CNI_CONTAINERID": "c"})
	}
	var before string
	plugintest.Until(t, func() bool { before = n.state(pod); return !unsettled(before) })
	toNode := func() string { return pod.IP("-4 route show 192.0.2.10") + pod.IP("-6 route show 2001:db8::10") }
	for _, adds := range [][]int{{0, 1}, {1, 0}} {
		for _, dels := range [][]int{{0, 1}, {1, 0}} {
			t.Run(fmt.Sprintf("ADD of %s first, DEL of %s first", calls[adds[0]].Plugin, calls[dels[0]].Plugin), func(t *testing.T) {
				here := slices.Clone(calls)
				check := func(list []int) {
					for _, i := range list {
						here[i].OK("CHECK")
					}
					if got := toNode(); strings.Count(got, "via 169.254.1.1 dev eth0") != 1 || strings.Count(got, "via fe80::1 dev eth0") != 1 {
						t.Errorf("with %v: the ways to the node: %s", list, got)
					}
				}
				for k, i := range adds {
					here[i] = here[i].After(here[i].OK("ADD"))
					check(adds[:k+1])
				}
				for k, i := range dels {
					here[i].OK("DEL")
					if k == 0 {
						check(dels[1:])
					}
				}
				if diff := eventually(before, func() string { return n.state(pod) }); diff != "" {
					t.Errorf("in the end it is not as before:\n%s", diff)
				}
			})
		}
	}
}
