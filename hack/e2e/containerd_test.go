package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// containerd has pods, each with one container, by the calls that a kubelet
// makes. These name no network: there is a runtime handler for each.
type containerd struct {
	latest string // version of CNI that it knows
	daemon *exec.Cmd
	cri    cri.RuntimeServiceClient
	images cri.ImageServiceClient
}

var pods = &containerd{}

const podImage = "docker.io/library/e2e:1"

func (*containerd) name() string { return "containerd" }

func (c *containerd) newest() string { return c.latest }

func (*containerd) path(name string) string { return filepath.Join(dir, "containerd", name) }

// containerdConfig has containerd touch nothing of the machine's own, and need
// nothing that not every machine allows. The network of flannel is that of pods
// which name no other; so it is the one that STATUS is asked for.
const containerdConfig = `version = 2
root = "DIR/root"
state = "DIR/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.devmapper"]
[debug]
level = "warn"
[grpc]
address = "DIR/socket"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "` + podImage + `"
disable_apparmor = true
disable_tcp_service = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "DIR/bin"
conf_dir = "DIR/networks/flannel"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "plain"
`

// A handler with two networks adds both at once.
const handlerConfig = `[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%[1]q]
runtime_type = "io.containerd.runc.v2"
cni_conf_dir = "DIR/networks/%[1]s"
cni_max_conf_num = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%[1]q.options]
SystemdCgroup = false
`

func (c *containerd) configure() (err error) {
	if c.latest, err = machine.NewestCNI(); err != nil {
		return err
	}
	problems := []error{c.linkPlugins(), os.MkdirAll(c.networks(unconfigured), 0o755)}
	config := containerdConfig
	handler := func(name string, lists ...string) {
		config += fmt.Sprintf(handlerConfig, name)
		for i, list := range lists {
			problems = append(problems, write(fmt.Sprintf("containerd/networks/%s/%d.conflist", name, i), list))
		}
	}
	lists := conflists(c.newest())
	for name, list := range lists {
		if underlays[strings.TrimSuffix(name, "-"+older)] == nil {
			handler(name, list)
		}
	}
	handler(unconfigured)
	for _, names := range slices.Concat(together, atOnce) {
		handler(strings.Join(names, "+"), lists[names[0]], lists[names[1]])
	}
	problems = append(problems, write("containerd/config.toml", strings.ReplaceAll(config, "DIR", c.path(""))))
	if err := errors.Join(problems...); err != nil {
		return err
	}
	if err := c.boot(); err != nil {
		return err
	}
	return c.loadImage()
}

// networks is the folder of a handler's networks.
func (c *containerd) networks(handler string) string {
	return filepath.Join(c.path("networks"), handler)
}

// linkPlugins makes one folder of all plugins: containerd knows no list.
func (c *containerd) linkPlugins() error {
	problems := []error{os.MkdirAll(c.path("bin"), 0o755)}
	for _, folder := range filepath.SplitList(os.Getenv("CNI_PATH")) {
		plugins, err := filepath.Glob(filepath.Join(folder, "*"))
		problems = append(problems, err)
		for _, plugin := range plugins {
			problems = append(problems, os.Symlink(plugin, filepath.Join(c.path("bin"), filepath.Base(plugin))))
		}
	}
	return errors.Join(problems...)
}

// often is how soon it is called again when it did not answer.
var often = backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}

// boot starts containerd, and waits until it answers.
func (c *containerd) boot() error {
	log, err := os.OpenFile(c.path("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	c.daemon = exec.Command("containerd", "--config", c.path("config.toml"))
	c.daemon.Stdout, c.daemon.Stderr = log, log
	if err := c.daemon.Start(); err != nil {
		return err
	}
	if c.cri == nil {
		conn, err := grpc.NewClient("unix://"+c.path("socket"), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: often}))
		if err != nil {
			return err
		}
		c.cri, c.images = cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	}
	return await(func(ctx context.Context) error {
		_, err := c.cri.Status(ctx, &cri.StatusRequest{})
		return err
	})
}

// await waits until something succeeds.
func await(try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(often.BaseDelay)
	}
}

// loadImage loads the image of all pods, and waits until pods can have it.
func (c *containerd) loadImage() error {
	archive, err := machine.MakeImage(dir, filepath.Join(dir, "root"), podImage)
	if err != nil {
		return err
	}
	if _, err := run("ctr", "--address", c.path("socket"), "--namespace", "k8s.io", "images", "import", "--no-unpack", archive); err != nil {
		return err
	}
	return await(func(ctx context.Context) error {
		status, err := c.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: podImage}})
		if err == nil && status.Image == nil {
			err = fmt.Errorf("containerd does not know %s", podImage)
		}
		return err
	})
}

func (c *containerd) log() string {
	text, _ := os.ReadFile(c.path("log"))
	return string(text)
}

func (c *containerd) removeAll() {
	if c.cri != nil {
		_ = c.remove("")
	}
}

// sandboxes are the IDs of the pods of a name, or of all.
func (c *containerd) sandboxes(name string) (ids []string, err error) {
	request := &cri.ListPodSandboxRequest{}
	if name != "" {
		request.Filter = &cri.PodSandboxFilter{LabelSelector: map[string]string{"name": name}}
	}
	list, err := c.cri.ListPodSandbox(context.Background(), request)
	for _, sandbox := range list.GetItems() {
		ids = append(ids, sandbox.Id)
	}
	return ids, err
}

func (c *containerd) start(container string, networks ...string) error {
	ctx := context.Background()
	labels := map[string]string{"name": container}
	pod := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: container, Uid: container, Namespace: "e2e"},
		Labels:   labels,
		Linux:    &cri.LinuxPodSandboxConfig{CgroupParent: cgroup()},
	}
	sandbox, err := c.cri.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: pod, RuntimeHandler: strings.Join(networks, "+")})
	if err != nil {
		return err
	}
	created, err := c.cri.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: sandbox.PodSandboxId, SandboxConfig: pod,
		Config: &cri.ContainerConfig{Metadata: &cri.ContainerMetadata{Name: container}, Labels: labels, Image: &cri.ImageSpec{Image: podImage}}})
	if err != nil {
		return err
	}
	_, err = c.cri.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: created.ContainerId})
	return err
}

func (c *containerd) exec(container string, words ...string) (string, error) {
	ctx := context.Background()
	list, err := c.cri.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{LabelSelector: map[string]string{"name": container}}})
	if err != nil {
		return "", err
	}
	if len(list.Containers) != 1 {
		return "", fmt.Errorf("%d containers are named %s", len(list.Containers), container)
	}
	answer, err := c.cri.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: list.Containers[0].Id, Cmd: words})
	if err != nil {
		return "", err
	}
	out := string(answer.Stdout) + string(answer.Stderr)
	if answer.ExitCode != 0 {
		err = fmt.Errorf("%s: exit code %d: %s", strings.Join(words, " "), answer.ExitCode, out)
	}
	return out, err
}

// reload starts containerd anew, beside its pods.
func (c *containerd) reload(string) error {
	if err := c.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := c.daemon.Wait(); err != nil {
		return err
	}
	return c.boot()
}

func (c *containerd) stop(container string) error {
	ids, err := c.sandboxes(container)
	for _, id := range ids {
		_, failed := c.cri.StopPodSandbox(context.Background(), &cri.StopPodSandboxRequest{PodSandboxId: id})
		err = errors.Join(err, failed)
	}
	return err
}

func (c *containerd) remove(container string) error {
	ids, err := c.sandboxes(container)
	for _, id := range ids {
		_, failed := c.cri.RemovePodSandbox(context.Background(), &cri.RemovePodSandboxRequest{PodSandboxId: id})
		err = errors.Join(err, failed)
	}
	return err
}
