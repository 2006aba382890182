//go:build qemu

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A plugin for another processor answers as it does here. scripts/test.sh runs
// this where Debian's qemu-user is installed.
func TestForeignProcessor(t *testing.T) {
	dir := t.TempDir()
	archive := releasedArchive(target{"linux", arches[1], false})
	if out, err := exec.Command("tar", "-xzf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	plugins, err := pluginsOf(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range plugins {
		cmd := exec.Command(emulators[arches[1]], filepath.Join(dir, name))
		cmd.Env = append(os.Environ(), "CNI_COMMAND=VERSION")
		cmd.Stdin = strings.NewReader(`{"cniVersion": "1.1.0"}`)
		out, err := cmd.Output()
		if err != nil || !strings.HasPrefix(string(out), `{"cniVersion":"1.1.0","supportedVersions":["0.`) || !strings.Contains(string(out), `"1.1.0"]}`) {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}
