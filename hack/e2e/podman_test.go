package e2e

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// podman runs containers from a folder. At each of its commands it asks each
// plugin of all networks that it knows for its version: so it knows but those
// that containers are in.
type podman struct {
	mu      sync.Mutex
	members map[string][]string // of containers, their networks
}

func (*podman) name() string { return "podman" }

func (*podman) newest() string { return "1.0.0" }

func (p *podman) configure() error {
	folders := strings.Split(fmt.Sprintf("%q", filepath.SplitList(os.Getenv("CNI_PATH"))), " ")
	p.members = map[string][]string{}
	return errors.Join(os.Mkdir(p.folder(), 0o755), plugintest.Podman(dir,
		"cni_plugin_dirs = "+strings.Join(folders, ", "),
		fmt.Sprintf("network_config_dir = %q", p.folder())))
}

func (*podman) folder() string { return filepath.Join(dir, "podman") }

// join has it know the networks of a container.
func (p *podman) join(container string, networks []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members[container] = networks
	lists := conflists(p.newest())
	var problems []error
	for _, network := range networks {
		if _, err := os.Stat(p.list(network)); err != nil {
			problems = append(problems, os.WriteFile(p.list(network), []byte(lists[network]), 0o600))
		}
	}
	return errors.Join(problems...)
}

// leave has it forget networks that no other container is in.
func (p *podman) leave(container string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.members[container]
	delete(p.members, container)
	var problems []error
	for _, network := range left {
		if others := slices.Concat(slices.Collect(maps.Values(p.members))...); !slices.Contains(others, network) {
			problems = append(problems, os.Remove(p.list(network)))
		}
	}
	return errors.Join(problems...)
}

func (p *podman) list(network string) string { return filepath.Join(p.folder(), network+".conflist") }

func (*podman) log() string { return "" }

func (*podman) removeAll() { _, _ = run("podman", "rm", "--all", "--force", "--time", "0") }

func (p *podman) start(container string, networks ...string) error {
	if err := p.join(container, networks); err != nil {
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
	if _, err := run("podman", "network", "reload", container); err != nil {
		return err
	}
	return kill("restart", container)
}

// restart restarts a container in its first network, and connects it with the
// others anew. By itself podman sets up all of them in any order, as network
// reload does, where router rightly fails with code 11 before the overlay's is
// there.
func (p *podman) restart(container string) error {
	var problems []error
	podman := func(words ...string) {
		_, err := run(append([]string{"podman"}, words...)...)
		problems = append(problems, err)
	}
	others := p.members[container][1:]
	for _, network := range others {
		podman("network", "disconnect", network, container)
	}
	problems = append(problems, kill("restart", container))
	for _, network := range others {
		podman("network", "connect", network, container)
	}
	return errors.Join(problems...)
}

func (*podman) stop(container string) error { return kill("stop", container) }

func (p *podman) remove(container string) error {
	return errors.Join(kill("rm", "--force", "--ignore", container), p.leave(container))
}

// kill runs a command that kills the processes of a container. Podman gives them
// some seconds to die, which are too few on a busy machine: asked again it goes on.
func kill(command string, words ...string) (err error) {
	for range 10 {
		_, err = run(append([]string{"podman", command, "--time", "0"}, words...)...)
		if err == nil || !strings.Contains(err.Error(), "did not die within timeout") {
			return err
		}
	}
	return err
}
