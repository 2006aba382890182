package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cni-netops/plugins/internal/plugin/plugintest"
)

// podman runs containers from a folder. At each of its commands it asks each
// plugin of all networks that it knows for its version: so it knows but those
// that are wanted.
type podman struct {
	knows sync.Mutex
}

func (*podman) name() string { return "podman" }

func (*podman) newest() string { return "1.0.0" }

func (p *podman) configure() error {
	folders := strings.Split(fmt.Sprintf("%q", filepath.SplitList(os.Getenv("CNI_PATH"))), " ")
	return errors.Join(os.Mkdir(p.folder(), 0o755), plugintest.Podman(dir,
		"cni_plugin_dirs = "+strings.Join(folders, ", "),
		fmt.Sprintf("network_config_dir = %q", p.folder())))
}

func (*podman) folder() string { return filepath.Join(dir, "podman") }

// want has it know networks. Others are forgotten when there is a new one.
func (p *podman) want(networks []string) error {
	p.knows.Lock()
	defer p.knows.Unlock()
	known := true
	for _, network := range networks {
		_, err := os.Stat(filepath.Join(p.folder(), network+".conflist"))
		known = known && err == nil
	}
	if known {
		return nil
	}
	problems := []error{os.RemoveAll(p.folder())}
	lists := conflists(p.newest())
	for _, network := range networks {
		problems = append(problems, write(filepath.Join("podman", network+".conflist"), lists[network]))
	}
	return errors.Join(problems...)
}

func (*podman) log() string { return "" }

func (*podman) removeAll() { _, _ = run("podman", "rm", "--all", "--force", "--time", "0") }

func (p *podman) start(container string, networks ...string) error {
	if err := p.want(networks); err != nil {
		return err
	}
	_, err := run("podman", "run", "--detach", "--cgroup-parent", cgroup(), "--name", container, "--network", networks[0],
		"--rootfs", filepath.Join(dir, "root"), "/bin/sleep", "600")
	// Networks of one command would come in any order.
	for _, network := range networks[1:] {
		if err == nil {
			_, err = run("podman", "network", "connect", network, container)
		}
	}
	return err
}

func (*podman) exec(container string, words ...string) (string, error) {
	return run(append([]string{"podman", "exec", container}, words...)...)
}

func (*podman) reload(container string) error {
	_, err := run("podman", "network", "reload", container)
	return err
}

func (*podman) stop(container string) error {
	_, err := run("podman", "stop", "--time", "0", container)
	return err
}

func (*podman) remove(container string) error {
	_, err := run("podman", "rm", "--force", "--time", "0", "--ignore", container)
	return err
}
