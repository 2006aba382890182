package e2e

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
)

// runtime is a program that users have their containers from.
type runtime interface {
	name() string
	// newest is the latest CNI version that it knows.
	newest() string
	// configure prepares it for the networks.
	configure() error
	// start starts a container in networks: the first is eth0, the next eth1, or
	// net1. The error has what its user is told.
	start(container string, networks ...string) error
	// exec runs a command in it.
	exec(container string, words ...string) (string, error)
	// reload has the runtime do with a container that lives what it does then: set
	// up its network anew, check it, or start anew itself.
	reload(container string) error
	stop(container string) error
	remove(container string) error
	// removeAll removes the containers that a failing test has left.
	removeAll()
	// log is what the runtime itself has to say of a failure.
	log() string
}

var (
	// ordered are those that add one network of a container after the other.
	ordered  = []runtime{cnitool{args: multus}, &podman{}}
	runtimes = append(slices.Clip(ordered), pods)
)

// older is the version that networks with its name at the end have.
const older = "0.4.0"

// configure makes all that runtimes read.
func configure() error {
	bin, err := filepath.Abs(filepath.Join(root, "bin"))
	self, err2 := os.Executable()
	problems := []error{err, err2, machine.MakeRoot(filepath.Join(dir, "root"), "sleep", "ip", "ping"),
		os.Mkdir(filepath.Join(dir, "bin"), 0o755), os.Symlink(self, filepath.Join(dir, "bin", witness)),
		os.Setenv("CNI_PATH", strings.Join([]string{bin, filepath.Join(bin, "upstream"), filepath.Join(dir, "bin")}, ":"))}
	for plugin, f := range failing {
		networks["failing-"+plugin] = f.plugins
	}
	maps.Copy(networks, underlays)
	for _, r := range runtimes {
		problems = append(problems, r.configure())
	}
	return errors.Join(problems...)
}

// conflists are the networks' configurations in the newest version that a
// runtime knows, and in an older one, by name.
func conflists(newest string) map[string]string {
	lists := map[string]string{}
	for network, plugins := range networks {
		for name, version := range map[string]string{network: newest, network + "-" + older: older} {
			lists[name] = `{ "cniVersion": "` + version + `", "name": "` + name + `", "plugins": [ ` + strings.Join(plugins, ", ") + ` ] }`
		}
	}
	return lists
}

// cgroup is the parent of the containers' groups.
func cgroup() string { return "/" + filepath.Base(dir) }
