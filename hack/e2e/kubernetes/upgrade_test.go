package kubernetes

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
)

// The plugins are exchanged for those of another version, and back, under pods
// that live and pods that come and go meanwhile. Pods that one version has served
// are removed by the other, and the next ones work.
func TestUpgrade(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		withoutSeamless(t)
		pods := inBothVersions("lives-")
		serve(t, pods...)
		for _, step := range []struct{ installer, shows string }{
			{"other", "the plugins are exchanged for those of another version, under pods that live, and that come and go"},
			{"installer", "they are exchanged back"},
		} {
			comeAndGo(t, func() error { return install("replace", step.installer) })
			ok(t, isOf(step.installer))
			allServed(t, "lives-") // by the version before
			remove(t, pods...)
			serve(t, pods...)
			allServed(t, "lives-")
			shown(t, way{"all", "", "", step.shows})
		}
		// The first release leaves the marks of attachments that it did not make.
		_, err := run(filepath.Join(binDir, "host-routes"), "gc")
		ok(t, err)
	})
}

// withoutSeamless has the cluster's network be flannel alone: the first release's
// router refuses the route of its seamless.
func withoutSeamless(t *testing.T) {
	t.Helper()
	write := func(network string) error {
		return machine.Write(clusterNetwork, strings.ReplaceAll(network, "VERSION", newest))
	}
	ok(t, write(strings.Replace(primary, `,
    { "type": "seamless" }`, "", 1)))
	t.Cleanup(func() { ok(t, write(primary)) })
}

// isOf fails unless the plugins are of an installer.
func isOf(installer string) error {
	var problems []error
	for _, plugin := range []string{"flannel", "host-routes", "route-override", "router", "seamless"} {
		said, err := run(filepath.Join(binDir, plugin), "--version")
		if err == nil && !strings.Contains(said, " "+installer+"\n") {
			err = fmt.Errorf("%s is not of the installer %s: %s", plugin, installer, said)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// inBoth are the networks that the first release serves as well. It does not know a
// key of uplink.
var inBoth = []string{"", "storage", "public", "node", "underlay"}

// inBothVersions are pods on them.
func inBothVersions(prefix string) (pods []object) {
	for _, network := range inBoth {
		pods = append(pods, pod(prefix+onNetwork(network), network))
	}
	return pods
}

// allServed fails the test unless these pods have what they need.
func allServed(t *testing.T, prefix string) {
	t.Helper()
	for _, network := range inBoth {
		ok(t, allGo(prefix+onNetwork(network), byNetwork[network]))
	}
}

// comeAndGo makes pods and removes them, over and over, while something is done,
// and once afterwards.
func comeAndGo(t *testing.T, do func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	for going := true; going; {
		select {
		case err := <-done:
			ok(t, err)
			going = false
		default:
		}
		pods := inBothVersions("comes-")
		serve(t, pods...)
		allServed(t, "comes-")
		remove(t, pods...)
	}
}
