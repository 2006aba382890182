package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// binDir is where the installer puts the plugins, and where those of others are
// beforehand.
const binDir = "/opt/cni/bin"

// primary is the cluster's network. It needs two plugins of ours, which the
// installer brings.
const primary = `{
  "cniVersion": "VERSION",
  "name": "cbr0",
  "plugins": [
    { "type": "flannel", "delegate": { "hairpinMode": true, "isDefaultGateway": true } },
    { "type": "seamless" }
  ]
}
`

// putUp puts up the cluster, and installs the plugins in it.
func putUp() error {
	if err := errors.Join(writeConfigs(), linkUpstream(), configureNetworks()); err != nil {
		return err
	}
	if err := start("etcd", "kube-apiserver", "containerd"); err != nil {
		return err
	}
	problems := []error{
		containerdAnswers(),
		await("kube-apiserver answers", func() error {
			_, err := kubectl("get", "--raw", "/readyz")
			return err
		})}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	if err := errors.Join(loadImages(), start("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")); err != nil {
		return err
	}
	if err := install("create", "installer"); err != nil {
		return err
	}
	return errors.Join(
		await("the node is ready", func() error { return readiness("True", "") }),
		await("the namespace has its account", func() error {
			_, err := kubectl("get", "serviceaccount", "default")
			return err
		}),
		await("networks can be defined", func() error {
			_, err := kubectl("apply", "-f", "testdata/network-attachment-definitions.yaml", "-f", filepath.Join(root, "images/samples"))
			return err
		}))
}

func containerdAnswers() error {
	return await("containerd answers", func() error {
		_, err := run("ctr", "--address", socket, "version")
		return err
	})
}

// linkUpstream puts the reference plugins on the node, and our stand-in for
// Multus, or Multus itself.
func linkUpstream() error {
	self, err := os.Executable()
	problems := []error{err, os.MkdirAll(binDir, 0o755), os.MkdirAll("/run/cni", 0o755), os.MkdirAll(multusDir, 0o755)}
	upstream, err := filepath.Abs(filepath.Join(root, "bin", "upstream"))
	problems = append(problems, err)
	for _, plugin := range []string{"bridge", "loopback", "macvlan", "host-local"} {
		problems = append(problems, os.Symlink(filepath.Join(upstream, plugin), filepath.Join(binDir, plugin)))
	}
	multus := os.Getenv("MULTUS")
	if multus == "" {
		multus = self
	}
	return errors.Join(append(problems, os.Symlink(multus, filepath.Join(binDir, standIn)))...)
}

// installer is the archive of an installer's image, or its manifest: installer is
// that of this tree, other that of another version.
func installer(file string) string { return filepath.Join(os.Getenv("INSTALLER"), file) }

// install has an installer created, or replace the one that there is, as a user
// does.
func install(verb, name string) error {
	if _, err := kubectl(verb, "-f", installer(name+".yaml")); err != nil {
		return err
	}
	return await("the installer is ready", func() error {
		_, err := kubectl("-n", "kube-system", "rollout", "status", "daemonset/cni-netops", "--timeout=5s")
		return err
	})
}

// kubectl returns what it prints.
func kubectl(args ...string) (string, error) { return run(append([]string{"kubectl"}, args...)...) }

// explain prints what tells why something failed.
func explain() {
	commands := []string{
		"kubectl get nodes,pods,services -A -o wide",
		"kubectl get events -A --sort-by=.lastTimestamp",
		"kubectl -n kube-system logs daemonset/cni-netops --tail=20",
		filepath.Join(binDir, "router") + " show --all",
		"ip addr", "ip rule", "ip route show table all proto 77", "nft list ruleset",
	}
	pods, _ := filepath.Glob("/run/netns/cni-*")
	for _, pod := range pods {
		for _, object := range []string{"addr", "rule", "route show table all type unicast", "neigh"} {
			commands = append(commands, "ip -n "+filepath.Base(pod)+" "+object)
		}
	}
	for _, command := range commands {
		out, err := run(strings.Fields(command)...)
		if err != nil {
			out = err.Error()
		}
		fmt.Fprintf(os.Stderr, "$ %s\n%s\n", command, out)
	}
	for name := range daemons {
		out, _ := run("tail", "-n", "25", logOf(name))
		fmt.Fprintf(os.Stderr, "the last lines of %s:\n%s\n", name, out)
	}
}
