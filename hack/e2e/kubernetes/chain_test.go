package kubernetes

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
)

// chain is what most clusters have: containerd itself calls the plugins of the
// cluster's network. The node learns of an address that the pod serves beside its
// own.
const chain = `{
  "cniVersion": "VERSION",
  "name": "cbr0",
  "plugins": [
    { "type": "flannel", "delegate": { "hairpinMode": true, "isDefaultGateway": true } },
    { "type": "host-routes", "routing": "[.prevResult.ips[0].address | split(\"/\")[0] | {prefix: \"203.0.113.77\", gateway: .}]" }
  ]
}
`

// Chained plugins need no Multus.
func TestChain(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		conflist := filepath.Join(networksDir, "00-chain.conflist") // before that of Multus
		ok(t, errors.Join(machine.Write(conflist, strings.ReplaceAll(chain, "VERSION", newest)), restartContainerd()))
		t.Cleanup(func() { ok(t, errors.Join(os.Remove(conflist), restartContainerd())) })
		serve(t, pod("chained", ""))
		ok(t, inNetns("chained", "ip", "addr", "add", "203.0.113.77/32", "dev", "lo"))
		ways := []way{
			{"host-routes", "router", "203.0.113.77", "containerd calls the chain itself: the world reaches an address that the pod serves beside its own"},
			{"flannel", "world", "10.244.3.", "containerd calls the chain itself: the world reaches the pod"},
		}
		ok(t, allGo("chained", ways))
		shown(t, ways...)
	})
}

// restartContainerd has it read its networks.
func restartContainerd() error {
	return errors.Join(kill("containerd"), start("containerd"), containerdAnswers())
}
