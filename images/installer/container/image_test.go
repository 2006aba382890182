//go:build podman

// Package container runs the installer's image. scripts/test.sh does so for root
// where podman and runc are installed.
package container

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// version1 and version2 are two releases of the image, and id1 is the first
// one's identity.
const version1, version2 = "v0.1.0", "v0.2.0"

var id1 string

// networks and plugins are the folders where podman looks for these.
var networks, plugins string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "image-test-")
	code := 1
	if err == nil {
		if err = prepare(dir); err == nil {
			code = m.Run()
		}
		_, cleaned := podman("rm", "--all", "--force")
		err = errors.Join(err, cleaned, os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func prepare(dir string) (err error) {
	networks, plugins = filepath.Join(dir, "networks"), filepath.Join(dir, "plugins")
	err = errors.Join(os.Mkdir(networks, 0o755), os.Mkdir(plugins, 0o755), plugintest.Podman(dir,
		fmt.Sprintf("cni_plugin_dirs = [%q]", plugins), fmt.Sprintf("network_config_dir = %q", networks)))
	for _, version := range []string{version1, version2} {
		err = errors.Join(err, build(version))
	}
	if err == nil {
		id1, err = podman("image", "inspect", "--format", "{{.Id}}", image(version1))
	}
	return err
}

func image(version string) string { return "localhost/cni-netops/test:" + version }

func build(version string) error {
	cmd := exec.Command("../../../scripts/image.sh")
	cmd.Env = append(os.Environ(), "IMAGE=cni-netops/test", "VERSION="+version, "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("image.sh: %w: %s", err, out)
	}
	return nil
}

func podman(args ...string) (string, error) {
	out, err := exec.Command("podman", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("podman %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// confined are the limits under which the DaemonSet runs the image: uid 0
// without capabilities, on a read-only root, on the node's network.
func confined(bin, version string, args ...string) []string {
	return append([]string{"run", "--network=host", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges",
		"--user=0:0", "--mount=type=tmpfs,destination=/run/installer", "--volume=" + bin + ":/host/opt/cni/bin", image(version)}, args...)
}

// once installs by the image, and says what was said.
func once(t *testing.T, bin, version string, args ...string) string {
	t.Helper()
	out, err := podman(confined(bin, version, append(args, "--once")...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(out, "/host/opt/cni/bin/", "") + "\n"
}

func newBin(t *testing.T) string {
	bin := t.TempDir()
	if err := os.Chmod(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	return bin
}

// tells is the version that a plugin tells.
func tells(bin string) (string, error) {
	out, err := exec.Command(filepath.Join(bin, "route-override"), "--version").Output()
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(first, "CNI route-override plugin "), err
}

func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !reached(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			logs, _ := podman("logs", "installer")
			t.Fatalf("%s: not in time: %s", what, logs)
		}
	}
}

// The image holds the installer, the plugins and the license. The same sources
// are the same image.
func TestImage(t *testing.T) {
	if err := build(version1); err != nil {
		t.Fatal(err)
	}
	if id, err := podman("image", "inspect", "--format", "{{.Id}}", image(version1)); err != nil || id != id1 {
		t.Errorf("%v: image %s, and then %s", err, id1, id)
	}
	if out, err := podman("run", "--rm", "--network=none", image(version1), "--version"); err != nil || out != "cni-netops installer "+version1 {
		t.Errorf("%v: it says %q", err, out)
	}
	if _, err := podman("create", "--name=content", image(version1)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `podman export content | tar -tv | awk '$1 !~ /^d/ { print $1, $2, $NF }' | sort -k 3`).Output()
	if err != nil {
		t.Fatal(err)
	}
	mains, _ := filepath.Glob("../../../plugins/*/*/main.go")
	for _, want := range append(mains, "/seamless-static-route/x") {
		want = "-rwxr-xr-x 0/0 plugins/" + filepath.Base(filepath.Dir(want))
		if !strings.Contains(string(out), want+"\n") {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, want := range []string{"-rwxr-xr-x 0/0 installer", "-rw-r--r-- 0/0 LICENSE"} {
		if !strings.Contains(string(out), want+"\n") {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// First install, nothing to do, a subset, an upgrade while others run the
// plugin.
func TestOnce(t *testing.T) {
	bin := newBin(t)
	if got := once(t, bin, version1, "--plugins=route-override,seamless"); got != "route-override: installed\nseamless: installed\n" {
		t.Errorf("%q", got)
	}
	if got := once(t, bin, version1, "--plugins=route-override,seamless"); got != "route-override: up to date\nseamless: up to date\n" {
		t.Errorf("%q", got)
	}
	var stop atomic.Bool
	done := make(chan map[string]int)
	go func() {
		told := map[string]int{}
		for !stop.Load() {
			version, err := tells(bin)
			if err != nil {
				t.Error(err)
			}
			told[version]++
		}
		done <- told
	}()
	for _, version := range []string{version2, version1, version2} {
		if got := once(t, bin, version, "--plugins=route-override"); got != "route-override: installed over another one\n" {
			t.Errorf("%q", got)
		}
	}
	stop.Store(true)
	if told := <-done; len(told) != 2 || told[version1] == 0 || told[version2] == 0 {
		t.Errorf("%v", told)
	}
}

// As a DaemonSet runs it: it repairs, answers probes, and clears up.
func TestStays(t *testing.T) {
	bin := newBin(t)
	args := confined(bin, version1, "--uninstall-on-exit", "--state=/run/installer/installed")
	if _, err := podman(append([]string{args[0], "--detach", "--name=installer"}, args[1:]...)...); err != nil {
		t.Fatal(err)
	}
	there := func() bool { version, err := tells(bin); return err == nil && version == version1 }
	until(t, "installed", there)
	if err := os.Remove(filepath.Join(bin, "route-override")); err != nil {
		t.Fatal(err)
	}
	until(t, "repaired", there)
	for _, probe := range []string{"live", "ready"} {
		if out, err := podman("exec", "installer", "/installer", "probe", probe); err != nil {
			t.Errorf("%s: %v: %s", probe, err, out)
		}
	}
	began := time.Now()
	if _, err := podman("stop", "--time=9", "installer"); err != nil || time.Since(began) > 8*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	if left, err := filepath.Glob(bin + "/*"); err != nil || left != nil {
		t.Errorf("left: %v, %v", left, err)
	}
	if code, err := podman("inspect", "--format", "{{.State.ExitCode}}", "installer"); err != nil || code != "0" {
		t.Errorf("%v: exit code %s", err, code)
	}
}

// On a node without a disk the folder is in memory, and what is installed there
// counts against the DaemonSet's limit, as do the probes.
func TestDiskless(t *testing.T) {
	manifest, err := os.ReadFile("../../cni-netops.yaml")
	if err != nil {
		t.Fatal(err)
	}
	limit := regexp.MustCompile(`limits:\n.*\n +memory: (\d+)Mi\n`).FindSubmatch(manifest)
	if limit == nil {
		t.Fatal("the manifest has no limit")
	}
	args := confined(newBin(t), version1)
	for i := range args {
		if strings.HasPrefix(args[i], "--volume=") {
			args[i] = "--mount=type=tmpfs,destination=/host/opt/cni/bin"
		}
	}
	if _, err := podman(append([]string{args[0], "--detach", "--name=diskless", "--memory=" + string(limit[1]) + "m"}, args[1:]...)...); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		out, err := podman("exec", "diskless", "/installer", "probe", "ready")
		if err == nil {
			break
		}
		if running, _ := podman("inspect", "--format", "{{.State.Running}}", "diskless"); running != "true" || time.Now().After(deadline) {
			logs, _ := podman("logs", "diskless")
			t.Fatalf("%v: %s: running %s: %s", err, out, running, logs)
		}
	}
	if _, err := podman("rm", "--force", "--time=1", "diskless"); err != nil {
		t.Error(err)
	}
}

func TestUnwritable(t *testing.T) {
	args := confined(newBin(t), version1, "--once")
	for i := range args {
		if strings.HasPrefix(args[i], "--volume=") {
			args[i] += ":ro"
		}
	}
	_, err := podman(args...)
	if err == nil || !strings.Contains(err.Error(), "read-only file system: it is read-only: mount it writable") {
		t.Errorf("%v", err)
	}
}

// The archive that the page tells how to make has the full name by which
// containerd looks for the image of the manifests.
func TestArchive(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n### Without a registry\n")
	_, script, _ := strings.Cut(section, "\n```sh\n")
	script, _, found := strings.Cut(script, "```")
	if !found {
		t.Fatal("there are no commands")
	}
	archive := filepath.Join(t.TempDir(), "installer.tar")
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", strings.ReplaceAll(script, "installer.tar", archive))
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	index, err := exec.Command("tar", "-xOf", archive, "index.json").Output()
	const name = "cni-netops/installer:" + version1
	if err != nil || !strings.Contains(string(index), `"org.opencontainers.image.ref.name":"docker.io/`+name+`"`) {
		t.Errorf("%v: %s", err, index)
	}
	manifest, err := os.ReadFile("../../cni-netops.yaml")
	if err != nil || !strings.Contains(string(manifest), "image: "+name+"\n") {
		t.Errorf("%v: the manifest has another image than %s", err, name)
	}
}
