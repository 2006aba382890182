package kubernetes

import (
	"path/filepath"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
)

// podImage is that of the tests' pods, and of their sandboxes: busybox, and
// nothing else.
const podImage = "docker.io/library/e2e:1"

// containerdConfig, which containerd 2 reads too, needs nothing that not every
// machine allows.
const containerdConfig = `version = 2
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.devmapper"]
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "` + podImage + `"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
`

// loadImages loads the images of pods and of the installers.
func loadImages() error {
	busybox := filepath.Join(dir, "root")
	if err := machine.MakeRoot(busybox, "sh", "sleep", "ip", "ping", "httpd", "mkdir", "hostname"); err != nil {
		return err
	}
	made, err := machine.MakeImage(dir, busybox, podImage)
	if err != nil {
		return err
	}
	for _, archive := range []string{made, installer("installer.tar"), installer("other.tar")} {
		if _, err := run("ctr", "--address", socket, "--namespace", "k8s.io", "images", "import", "--no-unpack", archive); err != nil {
			return err
		}
	}
	return nil
}
