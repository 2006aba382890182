package kubernetes

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
)

// A daemon is a program that runs on the node for as long as the tests do.
type daemon struct {
	words []string
	cmd   *exec.Cmd
}

const (
	server     = "https://127.0.0.1:6443"
	token      = "a-secret-of-this-run"
	kubeconfig = "/etc/kubernetes/admin.conf"
	socket     = "/run/containerd/containerd.sock"
)

// daemons are those of the node. What listens on the node's addresses has to be
// reached by pods as well.
var daemons = map[string]*daemon{
	"etcd": {words: []string{"etcd", "--data-dir=/var/lib/etcd", "--listen-client-urls=http://127.0.0.1:2379",
		"--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380", "--unsafe-no-fsync", "--log-level=warn"}},
	"kube-apiserver": {words: []string{"kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--cert-dir=/var/lib/apiserver",
		"--advertise-address=" + nodeAddress, "--kubelet-preferred-address-types=InternalIP", "--service-cluster-ip-range=10.96.0.0/12", "--allow-privileged",
		"--authorization-mode=AlwaysAllow", "--token-auth-file=/etc/kubernetes/tokens.csv",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=/etc/kubernetes/accounts.key",
		"--service-account-signing-key-file=/etc/kubernetes/accounts.key"}},
	"kube-controller-manager": {words: []string{"kube-controller-manager", "--kubeconfig=" + kubeconfig, "--leader-elect=false",
		"--service-account-private-key-file=/etc/kubernetes/accounts.key",
		"--controllers=daemonset-controller,deployment-controller,replicaset-controller,endpointslice-controller,serviceaccount-controller," +
			"namespace-controller,garbage-collector-controller,node-lifecycle-controller,pod-garbage-collector-controller"}},
	"kube-scheduler": {words: []string{"kube-scheduler", "--kubeconfig=" + kubeconfig, "--leader-elect=false"}},
	"containerd":     {words: []string{"containerd", "--config=/etc/containerd/config.toml"}},
	"kubelet":        {words: []string{"kubelet", "--config=/etc/kubernetes/kubelet.yaml", "--kubeconfig=" + kubeconfig, "--hostname-override=" + nodeName, "--node-ip=" + nodeAddress}},
	"kube-proxy":     {words: []string{"kube-proxy", "--config=/etc/kubernetes/proxy.yaml"}},
}

// kubeletConfig has it leave the machine's disks alone, however full they are.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: { anonymous: { enabled: true }, webhook: { enabled: false } }
authorization: { mode: AlwaysAllow }
cgroupDriver: cgroupfs
cgroupRoot: GROUP
containerRuntimeEndpoint: unix://` + socket + `
evictionHard: { memory.available: 1Mi, nodefs.available: 0%, imagefs.available: 0%, nodefs.inodesFree: 0%, imagefs.inodesFree: 0% }
failSwapOn: false
imageGCHighThresholdPercent: 100
volumePluginDir: /var/lib/kubelet/volumeplugins
`

// proxyConfig has it leave the machine's connection tracking alone.
const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.244.0.0/16
hostnameOverride: ` + nodeName + `
clientConnection: { kubeconfig: ` + kubeconfig + ` }
conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }
`

// writeConfigs writes what the daemons read.
func writeConfigs() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	pair := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return errors.Join(
		machine.Write("/etc/kubernetes/accounts.key", string(pair)),
		machine.Write("/etc/kubernetes/tokens.csv", token+",admin,admin,system:masters\n"),
		machine.Write(kubeconfig, fmt.Sprintf(`{ "apiVersion": "v1", "kind": "Config", "current-context": "node",
			"clusters": [ { "name": "node", "cluster": { "server": %q, "insecure-skip-tls-verify": true } } ],
			"users": [ { "name": "admin", "user": { "token": %q } } ],
			"contexts": [ { "name": "node", "context": { "cluster": "node", "user": "admin" } } ] }`, server, token)),
		machine.Write("/etc/kubernetes/kubelet.yaml", strings.ReplaceAll(kubeletConfig, "GROUP", "/"+filepath.Base(dir))),
		machine.Write("/etc/kubernetes/proxy.yaml", proxyConfig),
		machine.Write("/etc/containerd/config.toml", containerdConfig),
		os.Setenv("KUBECONFIG", kubeconfig),
		os.Setenv("HOME", dir)) // where kubectl has a cache
}

func logOf(name string) string { return filepath.Join("/var/log", name+".log") }

// start starts some of them.
func start(names ...string) error {
	for _, name := range names {
		log, err := os.OpenFile(logOf(name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		d := daemons[name]
		d.cmd = exec.Command(d.words[0], d.words[1:]...)
		d.cmd.Stdout, d.cmd.Stderr = log, log
		err = errors.Join(d.cmd.Start(), log.Close())
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// kill ends one of them without giving it time for anything.
func kill(name string) error {
	d := daemons[name]
	if err := d.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	_ = d.cmd.Wait() // it says that it was killed
	return nil
}

// patience is how long a busy machine may take for anything.
const patience = 10 * time.Minute

// await waits until something succeeds.
func await(what string, try func() error) error {
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %s: %w", what, patience, err)
		}
	}
}
