package kubernetes

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// standIn is the name by which containerd calls Multus, or this program in its
// place: it calls other plugins for the networks that a pod's annotation names,
// with what thin Multus 4 sends them.
const standIn = "multus"

// multusConf is what both read.
type multusConf struct {
	CNIVersion     string `json:"cniVersion"`
	Name           string `json:"name"`
	Type           string `json:"type"`
	ClusterNetwork string `json:"clusterNetwork"` // a file
	Kubeconfig     string `json:"kubeconfig"`
}

// multusDir is where it keeps what it was asked for, and libcni its cache.
const multusDir = "/var/lib/cni/multus"

// selection is one network of an annotation.
type selection struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Interface string         `json:"interface"`
	IPs       []string       `json:"ips"`
	Args      map[string]any `json:"cni-args"`
}

// delegate is a network that a pod is attached to.
type delegate struct {
	Interface string
	Config    json.RawMessage
	IPs       []string
}

// callNetworks is the stand-in.
func callNetworks() error {
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    addNetworks,
		Del:    delNetworks,
		Check:  func(*skel.CmdArgs) error { return nil },
		Status: primaryStatus,
	}, version.All, "a stand-in for Multus")
	return nil
}

func addNetworks(args *skel.CmdArgs) error {
	conf := &multusConf{}
	if err := json.Unmarshal(args.StdinData, conf); err != nil {
		return err
	}
	delegates, err := delegatesOf(conf, args)
	if err != nil {
		return err
	}
	kept, err := json.Marshal(delegates)
	if err != nil {
		return err
	}
	if err := machine.Write(filepath.Join(multusDir, "delegates", args.ContainerID), string(kept)); err != nil {
		return err
	}
	var primary types.Result
	for i, d := range delegates {
		result, err := d.add(args)
		if err != nil {
			return errors.Join(err, delAll(delegates[:i+1], args))
		}
		if i == 0 {
			primary = result
		}
	}
	return types.PrintResult(primary, conf.CNIVersion)
}

func delNetworks(args *skel.CmdArgs) error {
	path := filepath.Join(multusDir, "delegates", args.ContainerID)
	kept, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var delegates []delegate
	if err := errors.Join(err, json.Unmarshal(kept, &delegates)); err != nil {
		return err
	}
	if err := delAll(delegates, args); err != nil {
		return err
	}
	return os.Remove(path)
}

// delAll calls for all of them, the last one first.
func delAll(delegates []delegate, args *skel.CmdArgs) error {
	var problems []error
	for _, d := range slices.Backward(delegates) {
		list, rt, err := d.call(args)
		if err == nil {
			err = cni(args.Path).DelNetworkList(context.Background(), list, rt)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func primaryStatus(args *skel.CmdArgs) error {
	conf := &multusConf{}
	if err := json.Unmarshal(args.StdinData, conf); err != nil {
		return err
	}
	list, err := libcni.ConfListFromFile(conf.ClusterNetwork)
	if err != nil {
		return err
	}
	return cni(args.Path).GetStatusNetworkList(context.Background(), list)
}

func cni(path string) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(filepath.SplitList(path), multusDir, nil)
}

func (d delegate) add(args *skel.CmdArgs) (types.Result, error) {
	list, rt, err := d.call(args)
	if err != nil {
		return nil, err
	}
	return cni(args.Path).AddNetworkList(context.Background(), list, rt)
}

// call is what libcni gets. What the runtime says of the pod comes twice.
func (d delegate) call(args *skel.CmdArgs) (*libcni.NetworkConfigList, *libcni.RuntimeConf, error) {
	list, err := listOf(d.Config)
	said, again := saidOfPod(args.Args)
	all := [][2]string{{"IgnoreUnknown", "true"}}
	for _, key := range []string{"K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"} {
		all = append(all, [2]string{key, said[key]})
	}
	if d.IPs != nil {
		all = append(all, [2]string{"IP", strings.Join(d.IPs, ",")})
	}
	return list, &libcni.RuntimeConf{ContainerID: args.ContainerID, NetNS: args.Netns, IfName: d.Interface, Args: append(all, again...)}, err
}

// listOf is a configuration, or that of one plugin, as a list.
func listOf(config []byte) (*libcni.NetworkConfigList, error) {
	var one struct {
		CNIVersion, Name string
		Plugins          []any
	}
	if err := json.Unmarshal(config, &one); err != nil {
		return nil, err
	}
	if one.Plugins == nil {
		list, err := json.Marshal(map[string]any{"cniVersion": one.CNIVersion, "name": one.Name, "plugins": []json.RawMessage{config}})
		if err != nil {
			return nil, err
		}
		config = list
	}
	return libcni.NetworkConfFromBytes(config)
}

// saidOfPod is what the runtime says of the pod, by key and in its order.
func saidOfPod(args string) (byKey map[string]string, inOrder [][2]string) {
	byKey = map[string]string{}
	for pair := range strings.SplitSeq(args, ";") {
		key, value, _ := strings.Cut(pair, "=")
		byKey[key] = value
		inOrder = append(inOrder, [2]string{key, value})
	}
	return byKey, inOrder
}

// delegatesOf are the cluster's network, and those that the pod's annotation
// names.
func delegatesOf(conf *multusConf, args *skel.CmdArgs) ([]delegate, error) {
	primary, err := os.ReadFile(conf.ClusterNetwork)
	if err != nil {
		return nil, err
	}
	said, _ := saidOfPod(args.Args)
	api, err := newAPI(conf.Kubeconfig)
	if err != nil {
		return nil, err
	}
	pod := struct {
		Metadata struct{ Annotations map[string]string }
	}{}
	if err := api.get(fmt.Sprintf("/api/v1/namespaces/%s/pods/%s", said["K8S_POD_NAMESPACE"], said["K8S_POD_NAME"]), &pod); err != nil {
		return nil, err
	}
	chosen, err := selections(pod.Metadata.Annotations["k8s.v1.cni.cncf.io/networks"])
	delegates := []delegate{{args.IfName, primary, nil}}
	for i, s := range chosen {
		d, failed := api.delegate(s, said["K8S_POD_NAMESPACE"], i)
		err = errors.Join(err, failed)
		delegates = append(delegates, d)
	}
	return delegates, err
}

// selections are an annotation, either JSON or names with commas.
func selections(annotation string) (list []selection, err error) {
	if strings.HasPrefix(annotation, "[") {
		err = json.Unmarshal([]byte(annotation), &list)
		return list, err
	}
	for name := range strings.SplitSeq(annotation, ",") {
		name, ifName, _ := strings.Cut(strings.TrimSpace(name), "@")
		if name != "" {
			list = append(list, selection{Name: name, Interface: ifName})
		}
	}
	return list, nil
}

// api is the cluster's.
type api struct {
	server, token string
	client        *http.Client
}

func newAPI(kubeconfig string) (*api, error) {
	config := struct {
		Clusters []struct{ Cluster struct{ Server string } }
		Users    []struct{ User struct{ Token string } }
	}{}
	text, err := os.ReadFile(kubeconfig)
	if err := errors.Join(err, json.Unmarshal(text, &config)); err != nil {
		return nil, err
	}
	// The certificate is the server's own, of this run.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // as above
	return &api{config.Clusters[0].Cluster.Server, config.Users[0].User.Token, &http.Client{Transport: transport}}, nil
}

func (a *api) get(path string, into any) error {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, a.server+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(response.Body)
	err = errors.Join(err, response.Body.Close())
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, response.Status, text)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// delegate reads the NetworkAttachmentDefinition of the i-th network.
func (a *api) delegate(s selection, podsNamespace string, i int) (delegate, error) {
	definition := struct{ Spec struct{ Config string } }{}
	namespace := s.Namespace
	if namespace == "" {
		namespace = podsNamespace
	}
	err := a.get(fmt.Sprintf("/apis/k8s.cni.cncf.io/v1/namespaces/%s/network-attachment-definitions/%s", namespace, s.Name), &definition)
	if err != nil {
		return delegate{}, err
	}
	d := delegate{Interface: s.Interface, Config: []byte(definition.Spec.Config), IPs: s.IPs}
	if d.Interface == "" {
		d.Interface = fmt.Sprint("net", i+1)
	}
	if s.Args != nil {
		d.Config, err = withArgs(d.Config, s.Args)
	}
	return d, err
}

// withArgs is a configuration in whose plugins cni-args stand.
func withArgs(config []byte, args map[string]any) ([]byte, error) {
	list, err := listOf(config)
	if err != nil {
		return nil, err
	}
	plugins := []json.RawMessage{}
	for _, plugin := range list.Plugins {
		plugin, err := libcni.InjectConf(plugin, map[string]any{"args": map[string]any{"cni": args}})
		if err != nil {
			return nil, err
		}
		plugins = append(plugins, plugin.Bytes)
	}
	return json.Marshal(map[string]any{"cniVersion": list.CNIVersion, "name": list.Name, "plugins": plugins})
}
