package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
)

// all are pods with each of the networks.
func all() (pods []object) {
	for name := range byNetwork {
		pods = append(pods, pod(onNetwork(name), name))
	}
	return pods
}

// work waits until all of them have what they need.
func work(t *testing.T) {
	t.Helper()
	ready(t, all()...)
	for name, ways := range byNetwork {
		ok(t, allGo(onNetwork(name), ways))
	}
}

// Where flanneld has not written anything the pod's events tell, and with STATUS
// the node's condition. All is well when it has.
func TestNoSubnet(t *testing.T) {
	const why = "flanneld has not written /run/flannel/subnet.env yet"
	leavesNothing(t, func(t *testing.T) {
		ok(t, os.Remove("/run/flannel/subnet.env"))
		waits := pod("waits", "")
		spec := waits["spec"].(object)
		spec["nodeName"], spec["tolerations"] = nodeName, []object{{"operator": "Exists"}}
		apply(t, waits)
		_, err := eventOf("waits", why)
		if newest == machine.WithStatus {
			err = errors.Join(err, await("the node says why", func() error { return readiness("False", why) }))
		}
		ok(t, errors.Join(err, writeSubnet(), await("the node is ready", func() error { return readiness("True", "") })))
		ready(t, waits)
		shown(t, way{"flannel", "", "", "without subnet.env the pod's events tell why it does not start, and the node's condition where the runtime calls STATUS"})
	})
}

// readiness fails unless the node's condition is so, and tells why.
func readiness(status, why string) error {
	said, err := kubectl("get", "node", nodeName, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}`)
	if err == nil && (!strings.HasPrefix(said, status+" ") || !strings.Contains(said, why)) {
		err = errors.New(said)
	}
	return err
}

// A daemon that is killed while pods come, or go, loses nothing.
func TestKilled(t *testing.T) {
	for _, daemon := range []string{"containerd", "kubelet"} {
		leavesNothing(t, func(t *testing.T) {
			apply(t, all()...)
			ok(t, errors.Join(await("a pod is being started", started), kill(daemon), start(daemon)))
			work(t)
			for _, p := range all() {
				_, err := kubectl("delete", "pod", name(p), "--wait=false")
				ok(t, err)
			}
			ok(t, errors.Join(kill(daemon), start(daemon)))
			for _, p := range all() {
				_, err := kubectl("wait", "--for=delete", "--timeout=10m", "pod/"+name(p))
				ok(t, err)
			}
			shown(t, way{"all", "", "", daemon + " is killed while pods come, and while they go"})
		})
	}
}

// started fails until a plugin has been called.
func started() error {
	records, err := filepath.Glob("/run/cni/*/*/*")
	if err == nil && records == nil {
		err = errors.New("there is no record")
	}
	return err
}

// The installer that is killed comes again, and puts right what was broken
// meanwhile.
func TestInstallerKilled(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		id, err := kubectl("-n", "kube-system", "get", "pods", "-l", "app.kubernetes.io/name=cni-netops", "-o", "jsonpath={.items[0].status.containerStatuses[0].containerID}")
		ok(t, err)
		_, err = run("ctr", "--address", socket, "--namespace", "k8s.io", "task", "kill", "--signal", "SIGKILL", strings.TrimPrefix(id, "containerd://"))
		ok(t, errors.Join(err, os.Remove(filepath.Join(binDir, "router"))))
		ok(t, await("router is installed again", func() error {
			_, err := os.Stat(filepath.Join(binDir, "router"))
			return err
		}))
		serve(t, all()...)
		work(t)
		shown(t, way{"installer", "", "", "is killed, comes again, and puts right what was broken meanwhile"})
	})
}

// Pods that are removed by force leave nothing.
func TestForced(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		before := state(t)
		serve(t, all()...)
		for _, p := range all() {
			_, err := kubectl("delete", "pod", name(p), "--force", "--grace-period=0")
			ok(t, err)
		}
		ok(t, await("the node is as it was", func() error {
			if after := state(t); after != before {
				return fmt.Errorf("it has\n%s\nand had\n%s", after, before)
			}
			return nil
		}))
		shown(t, way{"all", "", "", "pods that are removed by force leave nothing"})
	})
}

// Whoever wipes the records away has pods that still can be removed, and new ones
// that work. What only records tell stays: the node's routes to pods of router,
// and their neighbours.
func TestRecordsWiped(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		pods := all()
		serve(t, pods...)
		records, err := filepath.Glob("/run/cni/*")
		ok(t, err)
		for _, r := range records {
			ok(t, os.RemoveAll(r))
		}
		remove(t, pods...)
		ok(t, machine.RunAll("ip route flush table 500 proto 77\nip neigh flush nud permanent"))
		serve(t, pods...)
		work(t)
		shown(t, way{"all", "", "", "records that are wiped away: pods can be removed, and new ones work"})
	})
}
