package plugintest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// Runtime is libcni with a network, as a container runtime uses it for one
// container. Plugins are looked for on PATH.
type Runtime struct {
	*libcni.CNIConfig
	List *libcni.NetworkConfigList
	Args *libcni.RuntimeConf
	tb   testing.TB
}

// NewRuntime is a runtime for container c1.
func NewRuntime(tb testing.TB, pod *netopstest.NS, ifname, conflist string) *Runtime {
	tb.Helper()
	list, err := libcni.ConfListFromBytes([]byte(conflist))
	if err != nil {
		tb.Fatal(err)
	}
	cni := libcni.NewCNIConfigWithCacheDir(filepath.SplitList(os.Getenv("PATH")), tb.TempDir(), nil)
	return &Runtime{cni, list, &libcni.RuntimeConf{ContainerID: "c1", NetNS: pod.Path, IfName: ifname,
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", "web"}}}, tb}
}

// OK fails the test if a verb did.
func (r *Runtime) OK(verb string, err error) {
	r.tb.Helper()
	if err != nil {
		r.tb.Fatalf("%s: %v", verb, err)
	}
}

// Add adds the container to the network.
func (r *Runtime) Add() {
	r.tb.Helper()
	_, err := r.AddNetworkList(r.tb.Context(), r.List, r.Args)
	r.OK("ADD", err)
}

// Del takes it out of it.
func (r *Runtime) Del() {
	r.tb.Helper()
	r.OK("DEL", r.DelNetworkList(r.tb.Context(), r.List, r.Args))
}

// Check checks that all is as ADD left it.
func (r *Runtime) Check() error { return r.CheckNetworkList(r.tb.Context(), r.List, r.Args) }

// Status asks whether the next ADD can work.
func (r *Runtime) Status() error { return r.GetStatusNetworkList(r.tb.Context(), r.List) }

// GC removes all but these.
func (r *Runtime) GC(valid []types.GCAttachment) error {
	return r.GCNetworkList(r.tb.Context(), r.List, &libcni.GCArgs{ValidAttachments: valid})
}
