// Package manifests holds the tests of what users hand to Kubernetes: that it
// is what the API takes, and keeps what it promises. It is a module of its own,
// for what Helm and Kubernetes bring with them.
package manifests

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write what is rendered instead of comparing it")

const images = "../../images/"

// nad is Multus's object, as its custom resource definition has it.
type nad struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Config string `json:"config"`
	} `json:"spec"`
}

// decode decodes all objects of a text, and refuses what their types do not
// have.
func decode(t *testing.T, text []byte) (objects []any) {
	t.Helper()
	kinds := map[string]any{
		"apps/v1 DaemonSet":                              appsv1.DaemonSet{},
		"v1 ServiceAccount":                              corev1.ServiceAccount{},
		"rbac.authorization.k8s.io/v1 RoleBinding":       rbacv1.RoleBinding{},
		"k8s.cni.cncf.io/v1 NetworkAttachmentDefinition": nad{},
	}
	for _, part := range bytes.Split(append([]byte("\n"), text...), []byte("\n---")) {
		var head metav1.TypeMeta
		if err := yaml.Unmarshal(part, &head); err != nil {
			t.Fatalf("%v in %s", err, part)
		}
		if head.Kind == "" {
			if strings.TrimSpace(string(part)) != "" && !onlyComments(part) {
				t.Errorf("no kind in %s", part)
			}
			continue
		}
		kind, ok := kinds[head.APIVersion+" "+head.Kind]
		if !ok {
			t.Fatalf("%s %s is none of those that we make", head.APIVersion, head.Kind)
		}
		object := reflect.New(reflect.TypeOf(kind)).Interface()
		if err := yaml.UnmarshalStrict(part, object); err != nil {
			t.Errorf("%v in %s", err, part)
		}
		objects = append(objects, object)
	}
	return objects
}

func onlyComments(text []byte) bool {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

// daemonSetOf is the one that is among objects.
func daemonSetOf(t *testing.T, objects []any) *appsv1.DaemonSet {
	t.Helper()
	var found *appsv1.DaemonSet
	for _, o := range objects {
		if ds, ok := o.(*appsv1.DaemonSet); ok {
			if found != nil {
				t.Fatal("two DaemonSets")
			}
			found = ds
		}
	}
	if found == nil {
		t.Fatal("no DaemonSet")
	}
	return found
}

// preset is where a distribution has its plugins.
type preset struct {
	CNIBinDir  string `json:"cniBinDir"`
	Privileged bool   `json:"privileged"`
	SCC        string `json:"scc"`
}

func presets(t *testing.T) map[string]preset {
	t.Helper()
	text, err := os.ReadFile(images + "chart/files/presets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]preset
	if err := yaml.UnmarshalStrict(text, &all); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"k3s", "rke2", "microk8s", "talos", "openshift", "gke-cos"} {
		if _, ok := all[name]; !ok {
			t.Errorf("no preset for %s", name)
		}
	}
	return all
}

var usual = preset{CNIBinDir: "/opt/cni/bin"}

// promises holds a rendered installation to what is promised of every one.
func promises(t *testing.T, objects []any, p preset) {
	t.Helper()
	ds := daemonSetOf(t, objects)
	spec := ds.Spec.Template.Spec
	if len(spec.Containers) != 1 || len(spec.InitContainers) != 0 {
		t.Fatal("not one container")
	}
	c := spec.Containers[0]
	own := *c.SecurityContext
	confined := own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation && own.Capabilities != nil &&
		slices.Equal(own.Capabilities.Drop, []corev1.Capability{"ALL"}) && own.Capabilities.Add == nil &&
		own.SeccompProfile != nil && own.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault
	for what, kept := range map[string]bool{
		"Linux nodes only":        spec.NodeSelector["kubernetes.io/os"] == "linux",
		"tolerates everything":    slices.ContainsFunc(spec.Tolerations, func(t corev1.Toleration) bool { return t == corev1.Toleration{Operator: corev1.TolerationOpExists} }),
		"system-node-critical":    spec.PriorityClassName == "system-node-critical",
		"the node's network":      spec.HostNetwork && !spec.HostPID && !spec.HostIPC,
		"no token":                spec.AutomountServiceAccountToken != nil && !*spec.AutomountServiceAccountToken && spec.ServiceAccountName != "",
		"uid 0":                   *own.RunAsUser == 0 && *own.RunAsGroup == 0,
		"a read-only root":        *own.ReadOnlyRootFilesystem,
		"privileged as it should": *own.Privileged == p.Privileged,
		// The API refuses a container that is privileged and may not be.
		"no capabilities":      confined == !p.Privileged && (confined || own.AllowPrivilegeEscalation == nil),
		"requests are limits":  len(c.Resources.Requests) == 2 && reflect.DeepEqual(c.Resources.Requests, c.Resources.Limits),
		"enough memory":        c.Resources.Limits.Memory().Cmp(resource.MustParse("16Mi")) > 0,
		"probes":               probes(spec),
		"reasons are told":     c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError,
		"selects its own pods": selects(ds),
		"a version":            strings.Contains(c.Image, ":v"),
	} {
		if !kept {
			t.Errorf("it does not keep: %s", what)
		}
	}
	at := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.HostPath != nil })
	if at < 0 || spec.Volumes[at].HostPath.Path != p.CNIBinDir || *spec.Volumes[at].HostPath.Type != corev1.HostPathDirectoryOrCreate {
		t.Errorf("volumes %v, want %s", spec.Volumes, p.CNIBinDir)
	}
	if mount := c.VolumeMounts[0]; mount.Name != spec.Volumes[at].Name || mount.MountPath != "/host/opt/cni/bin" || mount.ReadOnly {
		t.Errorf("%v", c.VolumeMounts)
	}
	checkSCC(t, objects, p)
}

// probes reports whether both probes run in the container, and the installer can
// tell them something: there is no port of the node for them.
func probes(spec corev1.PodSpec) bool {
	c := spec.Containers[0]
	asks := func(p *corev1.Probe, what string) bool {
		return p.Exec != nil && slices.Equal(p.Exec.Command, []string{"/installer", "probe", what})
	}
	written := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.MountPath == "/run/installer" && slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool {
			return v.Name == m.Name && v.EmptyDir != nil
		})
	})
	return written && asks(c.LivenessProbe, "live") && asks(c.ReadinessProbe, "ready") && len(c.Ports) == 0
}

func selects(ds *appsv1.DaemonSet) bool {
	for key, value := range ds.Spec.Selector.MatchLabels {
		if ds.Spec.Template.Labels[key] != value {
			return false
		}
	}
	return len(ds.Spec.Selector.MatchLabels) > 0
}

// checkSCC: a role for OpenShift's privileged SCC where it is needed only, and
// for the account that the pods have.
func checkSCC(t *testing.T, objects []any, p preset) {
	t.Helper()
	ds := daemonSetOf(t, objects)
	roles := 0
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.ServiceAccount:
			if o.Name != ds.Spec.Template.Spec.ServiceAccountName || o.Namespace != ds.Namespace || *o.AutomountServiceAccountToken {
				t.Errorf("service account %s/%s", o.Namespace, o.Name)
			}
		case *rbacv1.RoleBinding:
			roles++
			want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: ds.Spec.Template.Spec.ServiceAccountName, Namespace: ds.Namespace}}
			if o.RoleRef.Name != "system:openshift:scc:"+p.SCC || !reflect.DeepEqual(o.Subjects, want) || o.Namespace != ds.Namespace {
				t.Errorf("%v %v", o.RoleRef, o.Subjects)
			}
		}
	}
	if (roles == 1) != (p.SCC != "") {
		t.Errorf("%d roles for SCC %q", roles, p.SCC)
	}
}

// compare compares with a file of what was rendered before.
func compare(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if bytes.Equal(want, got) {
		return
	}
	before, after := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range min(len(before), len(after)) {
		if before[i] != after[i] {
			t.Fatalf("%s:%d: was %q, is %q (go test -update)", path, i+1, before[i], after[i])
		}
	}
	t.Errorf("%s: %d lines became %d (go test -update)", path, len(before), len(after))
}

func kustomized(t *testing.T, dir string) []byte {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), images+"kustomize/"+dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// The base, and the file that is the base as kubectl takes it.
func TestBase(t *testing.T) {
	text := kustomized(t, "base")
	promises(t, decode(t, text), usual)
	compare(t, images+"cni-netops.yaml", append([]byte("# The rendered kustomize/base, for kubectl create -f.\n"), text...))
}

func TestOverlays(t *testing.T) {
	dirs, err := os.ReadDir(images + "kustomize/overlays")
	if err != nil {
		t.Fatal(err)
	}
	all := presets(t)
	for _, dir := range dirs {
		t.Run(dir.Name(), func(t *testing.T) {
			p, ok := all[dir.Name()]
			if !ok {
				t.Fatal("there is no such preset in the chart")
			}
			delete(all, dir.Name())
			promises(t, decode(t, kustomized(t, "overlays/"+dir.Name())), p)
		})
	}
	if len(all) > 0 {
		t.Errorf("no overlays for %v", slices.Collect(maps.Keys(all)))
	}
}

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(images + "chart")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// render renders the chart as helm template does.
func render(c *chart.Chart, values string) ([]byte, error) {
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		return nil, err
	}
	options := chartutil.ReleaseOptions{Name: "cni-netops", Namespace: "kube-system", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, given, options, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if text := strings.TrimSpace(files[name]); text != "" && strings.HasSuffix(name, ".yaml") {
			fmt.Fprintf(&out, "---\n# %s\n%s\n", name, text)
		}
	}
	return out.Bytes(), nil
}

func TestChart(t *testing.T) {
	c := loadChart(t)
	check := func(name, values string, p preset) {
		t.Run(name, func(t *testing.T) {
			text, err := render(c, values)
			if err != nil {
				t.Fatal(err)
			}
			promises(t, decode(t, text), p)
			compare(t, "testdata/"+name+".yaml", text)
		})
	}
	check("default", "", usual)
	for name, p := range presets(t) {
		check(name, "preset: "+name, p)
	}
	check("everything", everything, preset{CNIBinDir: "/usr/lib/cni", Privileged: true})
	check("unprivileged", "{preset: openshift, privileged: false}", preset{CNIBinDir: "/var/lib/cni/bin", SCC: "privileged"})
}

// everything sets every value.
const everything = `
preset: k3s
cniBinDir: /usr/lib/cni
privileged: true
plugins: [route-override, seamless]
uninstallOnExit: true
image: {repository: example.org/cni-netops/installer, tag: v9.9.9, pullPolicy: Always}
imagePullSecrets: [{name: registry}]
resources: {cpu: 1, memory: 64Mi}
priorityClassName: system-node-critical
nodeSelector: {example.org/pool: edge, kubernetes.io/os: linux}
tolerations: [{operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
podAnnotations: {example.org/a: b}
maxUnavailable: 1
`

// gc's container may do what it needs, has the node's file system with every
// namespace that comes, and changes nothing about the installer's.
func TestChartGC(t *testing.T) {
	c := loadChart(t)
	for name, values := range map[string]string{"gc": "gc: {enabled: true}", "gc-openshift": "{preset: openshift, gc: {enabled: true, interval: 1h}, plugins: [seamless]}"} {
		text, err := render(c, values)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, "testdata/"+name+".yaml", text)
		ds := daemonSetOf(t, decode(t, text))
		spec := &ds.Spec.Template.Spec
		if len(spec.Containers) != 2 || !spec.HostNetwork {
			t.Fatalf("%s: %+v", name, spec)
		}
		gc := spec.Containers[1]
		own := gc.SecurityContext
		added := []corev1.Capability{"NET_ADMIN", "SYS_ADMIN", "SYS_CHROOT"}
		confined := own.Capabilities != nil && slices.Equal(own.Capabilities.Drop, []corev1.Capability{"ALL"}) && slices.Equal(own.Capabilities.Add, added)
		// The API refuses SYS_ADMIN beside a denied escalation.
		if confined == *own.Privileged || own.AllowPrivilegeEscalation != nil || *own.RunAsUser != 0 || !*own.ReadOnlyRootFilesystem {
			t.Errorf("%s: %+v", name, own)
		}
		propagated := corev1.MountPropagationHostToContainer
		if want := []corev1.VolumeMount{{Name: "node", MountPath: "/host", MountPropagation: &propagated}}; !reflect.DeepEqual(gc.VolumeMounts, want) {
			t.Errorf("%s: %+v", name, gc.VolumeMounts)
		}
		at := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == "node" })
		if spec.Volumes[at].HostPath.Path != "/" || gc.Image != spec.Containers[0].Image || gc.Args[0] != "gc" {
			t.Errorf("%s: %+v %s %q", name, spec.Volumes, gc.Image, gc.Args)
		}
		if bin := "--bin=" + spec.Volumes[1-at].HostPath.Path; !slices.Contains(gc.Args, bin) {
			t.Errorf("%s: no %s in %q", name, bin, gc.Args)
		}
	}
}

// The chart's installation is the base's, but for what Helm adds.
func TestChartIsBase(t *testing.T) {
	text, err := render(loadChart(t), "")
	if err != nil {
		t.Fatal(err)
	}
	base, ours := daemonSetOf(t, decode(t, kustomized(t, "base"))), daemonSetOf(t, decode(t, text))
	if ours.Name != base.Name || ours.Namespace != base.Namespace || !reflect.DeepEqual(ours.Spec.UpdateStrategy, base.Spec.UpdateStrategy) {
		t.Errorf("%s/%s %v", ours.Namespace, ours.Name, ours.Spec.UpdateStrategy)
	}
	ours.Spec.Template.Spec.Containers[0].ImagePullPolicy = ""
	got, _ := json.MarshalIndent(ours.Spec.Template.Spec, "", " ")
	want, _ := json.MarshalIndent(base.Spec.Template.Spec, "", " ")
	if !bytes.Equal(got, want) {
		t.Errorf("the chart has\n%s\nthe base\n%s", got, want)
	}
}

// What values say is in what is rendered.
func TestChartValues(t *testing.T) {
	text, err := render(loadChart(t), everything)
	if err != nil {
		t.Fatal(err)
	}
	spec := daemonSetOf(t, decode(t, text)).Spec.Template.Spec
	c := spec.Containers[0]
	want := []string{"--plugins=route-override,seamless", "--uninstall-on-exit", "--state=/run/installer/installed"}
	if !slices.Equal(c.Args, want) || c.Image != "example.org/cni-netops/installer:v9.9.9" || c.ImagePullPolicy != corev1.PullAlways {
		t.Errorf("%q %s %s", c.Args, c.Image, c.ImagePullPolicy)
	}
	if len(spec.NodeSelector) != 2 || spec.Affinity == nil || spec.ImagePullSecrets[0].Name != "registry" || len(spec.Volumes) != 2 ||
		c.VolumeMounts[1].MountPath != "/run/installer" || c.Resources.Limits.Cpu().String() != "1" {
		t.Errorf("%+v", spec)
	}
}

// A slip in values is told, not passed over.
func TestChartRefuses(t *testing.T) {
	c := loadChart(t)
	for _, values := range []string{"preset: k8s", "cniBinDir: opt/cni/bin", "privileged: yes please", "plugins: route-override", "plugins: ['a,b']",
		"image: {tags: v1}", "cnibindir: /x", "gc: true", "gc: {interval: often}", "resources: {limits: {cpu: 1}}"} {
		if text, err := render(c, values); err == nil {
			t.Errorf("%s is rendered:\n%s", values, text)
		}
	}
}

// The tag that is installed is one and the same.
func TestVersions(t *testing.T) {
	tag := loadChart(t).AppVersion()
	if image := daemonSetOf(t, decode(t, kustomized(t, "base"))).Spec.Template.Spec.Containers[0].Image; image != "cni-netops/installer:"+tag {
		t.Errorf("the base installs %s, the chart %s", image, tag)
	}
}

// Every YAML file that users get is what Kubernetes takes, or a part of what is
// rendered in other tests.
func TestEveryFile(t *testing.T) {
	samples := 0
	err := filepath.WalkDir(images, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" && filepath.Ext(path) != ".yml" {
			return err
		}
		rel := strings.TrimPrefix(path, images)
		switch {
		case strings.HasPrefix(rel, "chart/"), filepath.Base(rel) == "kustomization.yaml":
			return nil
		case strings.HasPrefix(rel, "samples/"):
			samples++
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		objects := decode(t, text)
		if len(objects) == 0 {
			t.Errorf("%s holds nothing", rel)
		}
		for _, o := range objects {
			if n, ok := o.(*nad); ok && !json.Valid([]byte(n.Spec.Config)) {
				t.Errorf("%s: its config is no JSON", rel)
			}
		}
		return nil
	})
	if err != nil || samples == 0 {
		t.Errorf("%v, %d samples", err, samples)
	}
}
