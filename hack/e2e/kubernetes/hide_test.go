package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
	"golang.org/x/sys/unix"
)

// tunables are what a kubelet sets on its machine, unless it has these values
// already: none of them is a namespace's.
var tunables = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// hide gives the node folders of its own for all that it keeps, and parameters
// of the kernel that look as a kubelet wants them.
func hide() error {
	problems := []error{unix.Sethostname([]byte(nodeName)), unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")}
	for _, path := range []string{"/run", "/dev/shm", "/var/lib", "/var/log", dir} {
		problems = append(problems, unix.Mount("tmpfs", path, "tmpfs", 0, "mode=0755"))
	}
	for _, path := range []string{"/etc", "/opt"} {
		problems = append(problems, cover(path))
	}
	for name, value := range tunables {
		problems = append(problems, pretend(name, value))
	}
	return errors.Join(problems...)
}

// cover has what is written below a folder go to memory.
func cover(path string) error {
	upper, work := filepath.Join(dir, "upper", path), filepath.Join(dir, "work", path)
	if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
		return err
	}
	if err := unix.Mount("overlay", path, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", path, upper, work)); err != nil {
		return fmt.Errorf("mount an overlay on %s: %w", path, err)
	}
	return nil
}

// pretend has a parameter of the kernel look as if it had a value.
func pretend(name, value string) error {
	shown, file := filepath.Join("/proc/sys", name), filepath.Join(dir, "sysctl", name)
	if _, err := os.Stat(shown); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := machine.Write(file, value+"\n"); err != nil {
		return err
	}
	if err := unix.Mount(file, shown, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cover %s: %w", shown, err)
	}
	return nil
}

// hierarchies are the roots of control groups: one, or one of each controller.
func hierarchies() ([]string, error) {
	const top = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(top, "cgroup.controllers")); err == nil {
		return []string{top}, nil
	}
	return filepath.Glob(filepath.Join(top, "*"))
}

// makeGroups makes the groups that the kubelet makes its own in. In cpuset a new
// one is without processors and memory.
func makeGroups(name string) error {
	roots, err := hierarchies()
	problems := []error{err}
	for _, top := range roots {
		problems = append(problems, os.MkdirAll(filepath.Join(top, name), 0o755)) // some have two names
		controllers, err := os.ReadFile(filepath.Join(top, "cgroup.controllers"))
		for controller := range strings.FieldsSeq(string(controllers)) {
			if err == nil && len(roots) == 1 {
				problems = append(problems, os.WriteFile(filepath.Join(top, "cgroup.subtree_control"), []byte("+"+controller), 0o600))
			}
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if all, err := os.ReadFile(filepath.Join(top, file)); err == nil {
				problems = append(problems, os.WriteFile(filepath.Join(top, name, file), all, 0o600))
			}
		}
	}
	return errors.Join(problems...)
}
