package main

import (
	"fmt"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// attachment is what router has been added to.
type attachment struct{ call plugintest.Call }

// conf is router's configuration in the lab; keys are further ones, as JSON.
func (l *lab) conf(prevResult, keys string) string {
	if keys != "" {
		keys = ", " + keys
	}
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "lan", "type": "router", "stateDir": %q,
		"overlay_hijack_subnet": ["10.244.0.0/16", "fd00:10:244::/48"], "service_hijack_subnet": ["10.96.0.0/12", "fd00:10:96::/112"],
		"prevResult": %s%s}`, l.stateDir, prevResult, keys)
}

// add calls the plugin in the node's namespace, after the one that made the
// interface.
func (l *lab) add(ifname, prevResult, keys string) attachment {
	l.t.Helper()
	c := plugintest.New(l.t, router.Name, l.pod, l.conf(prevResult, keys)).With(map[string]string{"CNI_IFNAME": ifname})
	l.node.Enter(func() {
		added := c.OK("ADD")
		c = c.After(added)
		c.OK("CHECK")
	})
	return attachment{c}
}

func (l *lab) del(a attachment) {
	l.t.Helper()
	l.node.Enter(func() { a.call.OK("DEL") })
}
