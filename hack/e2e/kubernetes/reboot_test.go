package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
	"golang.org/x/sys/unix"
)

// A node that starts anew has none of the kernel's objects that were made on it,
// nothing below /run, and no process of before. Its pods are made anew.
func TestReboot(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		serve(t, all()...)
		ok(t, errors.Join(halt(), loseGroups(), loseKernel(), loseRun()))
		ok(t, errors.Join(writeSubnet(), start("containerd"), containerdAnswers(), start("kubelet", "kube-proxy")))
		ok(t, await("the pods' containers are new", func() error {
			restarts, err := kubectl("get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}")
			if err == nil && slices.Contains(strings.Fields(restarts), "0") {
				err = fmt.Errorf("they have started %s times again", restarts)
			}
			return err
		}))
		work(t)
		shown(t, way{"all", "", "", "the node starts anew, and its pods work"})
	})
}

// halt ends the daemons that a reboot ends, and the processes of all pods.
func halt() error {
	problems := []error{kill("kubelet"), kill("containerd"), kill("kube-proxy")}
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	problems = append(problems, err)
	for _, file := range names {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		name, _ := os.ReadFile(file)
		groups, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cgroup"))
		if strings.HasPrefix(string(name), "containerd-shim") || strings.Contains(string(groups), "/"+filepath.Base(dir)+"/") {
			if err := syscall.Kill(pid, syscall.SIGKILL); !errors.Is(err, unix.ESRCH) {
				problems = append(problems, err)
			}
		}
	}
	return errors.Join(problems...)
}

// loseGroups removes the control groups of all pods. A kubelet would ask long for
// the containers of groups that it finds.
func loseGroups() error {
	roots, err := hierarchies()
	problems := []error{err}
	for _, top := range roots {
		group := filepath.Join(top, filepath.Base(dir))
		problems = append(problems, await("the processes below "+group+" have ended", func() error {
			_, err := run("find", group, "-mindepth", "1", "-depth", "-type", "d", "-exec", "rmdir", "{}", "+")
			return err
		}))
	}
	return errors.Join(problems...)
}

// loseKernel removes what plugins and kube-proxy have made.
func loseKernel() error {
	rules, err := run("ip", "rule")
	problems := []error{err, machine.RunAll("ip link del cni0\nip route flush table all proto 77\nip neigh flush nud permanent\nnft flush ruleset")}
	for line := range strings.Lines(rules) {
		if pref, _, _ := strings.Cut(line, ":"); !slices.Contains([]string{"0", "32766", "32767"}, pref) {
			_, err := run("ip", "rule", "del", "pref", pref)
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// loseRun empties /run, but for the machines around the node.
func loseRun() error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	problems := []error{err}
	for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], "/run/") && !aroundNode(fields[4]) {
			// With the one at a path its copy at the same path may go.
			if err := unix.Unmount(fields[4], unix.MNT_DETACH); !errors.Is(err, unix.EINVAL) {
				problems = append(problems, err)
			}
		}
	}
	for _, pattern := range []string{"/run/netns/*", "/run/*"} {
		paths, err := filepath.Glob(pattern)
		problems = append(problems, err)
		for _, path := range paths {
			if !aroundNode(path) {
				problems = append(problems, os.RemoveAll(path))
			}
		}
	}
	return errors.Join(problems...)
}

func aroundNode(path string) bool {
	return path == "/run/netns/router" || path == "/run/netns/world" || path == "/run/netns"
}
