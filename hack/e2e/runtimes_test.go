//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cni-netops/plugins/internal/plugin/plugintest"
)

// runtime is a program that users have their containers from.
type runtime interface {
	name() string
	// start starts a container in a network. The error has what its user is told.
	start(container, network string) error
	// exec runs a command in it.
	exec(container string, words ...string) (string, error)
	// reload sets up its network anew, or checks it.
	reload(container string) error
	stop(container string) error
	remove(container string) error
}

var runtimes = []runtime{cnitool{}, podman{}}

// configure writes what runtimes read, and tells them where it is.
func configure() error {
	bin, err := filepath.Abs(filepath.Join(root, "bin"))
	upstream := filepath.Join(bin, "upstream")
	problems := []error{err,
		os.Setenv("CNI_PATH", bin+":"+upstream),
		os.Setenv("NETCONFPATH", filepath.Join(dir, "cnitool")),
		plugintest.Podman(dir, fmt.Sprintf("cni_plugin_dirs = [%q, %q]", bin, upstream),
			fmt.Sprintf("network_config_dir = %q", filepath.Join(dir, "podman"))),
		makeRoot()}
	for name, plugins := range networks {
		for folder, version := range map[string]string{"cnitool": "1.1.0", "podman": "1.0.0"} {
			list := `{ "cniVersion": "` + version + `", "name": "` + name + `", "plugins": [ ` + strings.Join(plugins, ", ") + ` ] }`
			problems = append(problems, write(filepath.Join(folder, name+".conflist"), list))
		}
	}
	return errors.Join(problems...)
}

// removeAll removes what an interrupted test has left.
func removeAll() { _, _ = run("podman", "rm", "--all", "--force", "--time", "0") }

// cnitool attaches namespaces: its containers have no more than that. Its
// networks are of CNI 1.1.
type cnitool struct{}

func (cnitool) name() string { return "cnitool" }

// networkOf remembers the network of a container, as other runtimes do.
func networkOf(container string) (string, error) {
	network, err := os.ReadFile(filepath.Join(dir, container+".network"))
	return string(network), err
}

func (c cnitool) start(container, network string) error {
	if _, err := run("ip", "netns", "add", container); err != nil {
		return err
	}
	if err := write(container+".network", network); err != nil {
		return err
	}
	_, err := run("cnitool", "add", network, "/run/netns/"+container)
	return err
}

func (cnitool) exec(container string, words ...string) (string, error) {
	return run(append([]string{"ip", "netns", "exec", container}, words...)...)
}

func (c cnitool) reload(container string) error {
	network, err := networkOf(container)
	for _, verb := range []string{"status", "check"} {
		if err == nil {
			_, err = run("cnitool", verb, network, "/run/netns/"+container)
		}
	}
	return err
}

func (cnitool) stop(container string) error {
	network, err := networkOf(container)
	if err == nil {
		_, err = run("cnitool", "del", network, "/run/netns/"+container)
	}
	return err
}

func (c cnitool) remove(container string) error {
	err := c.stop(container)
	if _, gone := os.Stat("/run/netns/" + container); gone == nil {
		_, failed := run("ip", "netns", "del", container)
		err = errors.Join(err, failed)
	}
	return errors.Join(err, c.stop(container))
}

// podman runs containers from a folder with nothing but busybox.
type podman struct{}

// makeRoot makes the containers' root.
func makeRoot() error {
	busybox, err := os.ReadFile("/bin/busybox")
	bin := filepath.Join(dir, "root", "bin")
	err = errors.Join(err, os.MkdirAll(bin, 0o755), os.WriteFile(filepath.Join(bin, "busybox"), busybox, 0o755))
	for _, applet := range []string{"sleep", "ip", "ping"} {
		err = errors.Join(err, os.Symlink("busybox", filepath.Join(bin, applet)))
	}
	return err
}

func (podman) name() string { return "podman" }

func (podman) start(container, network string) error {
	_, err := run("podman", "run", "--detach", "--name", container, "--network", network, "--rootfs", filepath.Join(dir, "root"), "/bin/sleep", "600")
	return err
}

func (podman) exec(container string, words ...string) (string, error) {
	return run(append([]string{"podman", "exec", container}, words...)...)
}

func (podman) reload(container string) error {
	_, err := run("podman", "network", "reload", container)
	return err
}

func (podman) stop(container string) error {
	_, err := run("podman", "stop", "--time", "0", container)
	return err
}

func (podman) remove(container string) error {
	_, err := run("podman", "rm", "--force", "--time", "0", "--ignore", container)
	return err
}
