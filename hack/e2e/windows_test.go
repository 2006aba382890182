package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// flannel.exe generates, delegates, keeps and forgets under wine, as the binary
// for Linux does.
func TestWindows(t *testing.T) {
	windows := filepath.Join(dir, "windows")
	drive := func(name string) string { return `Z:` + strings.ReplaceAll(filepath.Join(windows, name), "/", `\`) }
	t.Setenv("WINEPREFIX", filepath.Join(dir, "wine"))
	t.Setenv("WINEDEBUG", "-all")
	for name, value := range map[string]string{"CNI_CONTAINERID": "c1", "CNI_NETNS": "none", "CNI_IFNAME": "eth0", "CNI_PATH": drive("")} {
		t.Setenv(name, value)
	}
	ok(t, write("windows/subnet.env", "FLANNEL_NETWORK=10.244.0.0/16\r\nFLANNEL_SUBNET=10.244.3.1/24\r\nFLANNEL_MTU=1450\r\nFLANNEL_IPMASQ=true\r\n"))
	for _, words := range [][]string{
		{"cp", filepath.Join(root, "bin", "windows-amd64", "flannel.exe"), windows},
		{"env", "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0", "go", "build", "-trimpath", "-o", filepath.Join(windows, "win-bridge.exe"), "./testdata/recorder"},
		{"wine", "wineboot", "--init"},
		{"x86_64-w64-mingw32-gcc", "-shared", "-O2", "-o", filepath.Join(dir, "wine/drive_c/windows/system32/bcryptprimitives.dll"), "testdata/bcryptprimitives.c", "-ladvapi32"},
	} {
		_, err := run(words...)
		ok(t, err)
	}
	conf := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "cbr0", "type": "flannel", "subnetFile": %q, "dataDir": %q, "delegate": {"type": "win-bridge"}}`,
		drive("subnet.env"), drive("kept"))
	call := func(verb string) string {
		t.Helper()
		cmd := exec.Command("wine", filepath.Join(windows, "flannel.exe"))
		cmd.Env, cmd.Stdin = append(os.Environ(), "CNI_COMMAND="+verb), strings.NewReader(conf)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", verb, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	recorded := func(verb string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(windows, verb))
		ok(t, err)
		return string(text)
	}

	if got, want := call("ADD"), `{"cniVersion":"1.0.0","ips":[{"address":"10.244.3.2/24"}]}`; got != want {
		t.Errorf("ADD answers %s, want %s", got, want)
	}
	const generated = `{"cniVersion":"1.0.0","name":"cbr0","type":"win-bridge","ipMasq":true,"ipMasqNetwork":"10.244.0.0/16","ipam":{"type":"host-local","subnet":"10.244.3.0/24"}}`
	if got := recorded("ADD"); got != generated {
		t.Errorf("ADD gives the delegate\n%s, want\n%s", got, generated)
	}
	ok(t, os.Remove(filepath.Join(windows, "subnet.env"))) // DEL goes by what was kept
	call("DEL")
	if got := recorded("DEL"); got != generated {
		t.Errorf("DEL gives the delegate\n%s, want\n%s", got, generated)
	}
	kept, err := os.ReadDir(filepath.Join(windows, "kept"))
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(kept) > 0 {
		t.Errorf("left: %v, %v", kept, err)
	}
	shown(t, "wine", "flannel", "flannel.exe generates for win-bridge, and deletes by what it kept")
}
