package plugintest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Podman has podman(1) keep all of its own below a folder, on a machine without
// systemd, and have its networks from CNI. Further lines are settings of its
// networks (containers.conf(5)).
func Podman(dir string, network ...string) error {
	const storage = `[storage]
driver = "vfs"
graphroot = "DIR/storage"
runroot = "DIR/run"
`
	const containers = `[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "DIR/tmp"
[containers]
default_ulimits = ["nofile=1024:20000", "nproc=4096:16384"]
[network]
network_backend = "cni"
`
	var problems []error
	for variable, text := range map[string]string{
		"CONTAINERS_STORAGE_CONF": storage,
		"CONTAINERS_CONF":         containers + strings.Join(network, "\n") + "\n",
	} {
		path := filepath.Join(dir, variable)
		problems = append(problems, os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600), os.Setenv(variable, path))
	}
	return errors.Join(problems...)
}
