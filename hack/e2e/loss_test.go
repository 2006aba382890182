package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// unconfigured is the handler that has no network at first.
const unconfigured = "unconfigured"

// stuck is the last plugin of a network: it tells by a file that those before it have
// returned, and goes on when it is freed by another.
func stuck(network string) string {
	return late("touch " + reached(network) + "; test -e " + freed(network))
}

func reached(network string) string { return filepath.Join(dir, network+".reached") }

func freed(network string) string { return filepath.Join(dir, network+".freed") }

// networkReady fails unless the runtime's own network is ready.
func (c *containerd) networkReady() error {
	answer, err := c.cri.Status(context.Background(), &cri.StatusRequest{})
	if err != nil {
		return err
	}
	for _, condition := range answer.Status.Conditions {
		if condition.Type == cri.NetworkReady && !condition.Status {
			return errors.New(condition.Message)
		}
	}
	return nil
}

// kill ends containerd without giving it time for anything.
func (c *containerd) kill() error {
	if err := c.daemon.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	_ = c.daemon.Wait() // it says that it was killed
	return nil
}

// What STATUS says becomes the condition of the runtime, which a node is ready by.
// An older containerd does not ask.
func TestStatus(t *testing.T) {
	const file, why = "/run/flannel/subnet.env", "flanneld has not written /run/flannel/subnet.env yet"
	subnet, err := os.ReadFile(file)
	ok(t, errors.Join(err, pods.networkReady(), os.Remove(file)))
	t.Cleanup(func() { ok(t, errors.Join(os.WriteFile(file, subnet, 0o600), pods.networkReady())) })
	err = pods.networkReady()
	if pods.newest() != machine.WithStatus {
		ok(t, err)
		return
	}
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("the condition of the network is: %v", err)
	}
	shown(t, pods.name(), "flannel", "STATUS fails: the runtime's condition has what it says")
}

// A pod whose network has no configuration is refused, without a call of any
// plugin, and starts as soon as there is one. One whose configuration goes
// meanwhile ends when it is there again. An older containerd keeps what it has
// refused until then, too.
func TestUnconfigured(t *testing.T) {
	r, before := pods, state(t)
	file := filepath.Join(r.networks(unconfigured), "0.conflist")
	list := []byte(conflists(r.newest())[wholeChain])
	refused := func(err error) error {
		if err == nil || !strings.Contains(err.Error(), "cni plugin not initialized") {
			return fmt.Errorf("without a configuration: %w", err)
		}
		return nil
	}
	start := func(pod string) error {
		err := r.start(pod, unconfigured)
		if err != nil {
			err = errors.Join(err, r.remove(pod))
		}
		return err
	}
	ok(t, refused(r.start("refused", unconfigured)))
	if after := state(t); after != before {
		t.Errorf("plugins were called:\n%s", after)
	}
	ok(t, errors.Join(forget(), os.WriteFile(file, list, 0o600)))
	ok(t, await(func(context.Context) error { return errors.Join(start("pod"), r.remove("refused")) }))
	ok(t, works(r, "pod", inChain))
	shown(t, r.name(), inThree, "a pod without a network's configuration starts when that is there")
	ok(t, os.Remove(file))
	ok(t, await(func(context.Context) error { // until containerd has noticed
		err := r.start("refused", unconfigured)
		if err == nil {
			ok(t, r.remove("refused"))
		}
		return refused(err)
	}))
	ok(t, refused(r.stop("pod")))
	ok(t, os.WriteFile(file, list, 0o600))
	ok(t, await(func(context.Context) error { return r.remove("") }))
	if after := state(t); after != before {
		t.Errorf("left on the node:\n%s", after)
	}
	shown(t, r.name(), inThree, "a pod whose network's configuration has gone ends when that is there again")
}

// containerd is killed when plugins have returned from an ADD that is not at its
// end. Afterwards it knows of the pod, and DEL finds what they have recorded.
func TestKilledDuringAdd(t *testing.T) {
	r := pods
	for plugins, networks := range map[string][]string{inThree: {"stuck"}, "router": {"flannel", "router-stuck"}} {
		before, last := state(t), networks[len(networks)-1]
		ok(t, forget())
		started := make(chan error, 1)
		go func() { started <- r.start("pod", networks...) }()
		ok(t, await(func(context.Context) error {
			_, err := os.Stat(reached(last))
			return err
		}))
		ok(t, r.kill())
		if <-started == nil {
			t.Error("the pod has started")
		}
		ok(t, errors.Join(os.WriteFile(freed(last), nil, 0o600), r.boot()))
		ok(t, r.remove(""))
		if after := state(t); after != before {
			t.Errorf("left on the node:\n%s", after)
		}
		shown(t, r.name(), plugins, "containerd is killed during an ADD")
	}
}
