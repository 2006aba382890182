package netopstest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cni-netops/plugins/internal/isolate"
)

// room is what tests need of the machine: Go, the sources, and what they write
// for go test and go build.
func room() (isolate.Room, error) {
	dir, err := os.Getwd()
	if err != nil {
		return isolate.Room{}, err
	}
	out, err := exec.Command("go", "env", "-json", "GOROOT", "GOMODCACHE", "GOCACHE").Output()
	if err != nil {
		return isolate.Room{}, fmt.Errorf("go env: %w", err)
	}
	var golang struct{ GOROOT, GOMODCACHE, GOCACHE string }
	if err := json.Unmarshal(out, &golang); err != nil {
		return isolate.Room{}, fmt.Errorf("go env: %w", err)
	}
	return isolate.Room{
		Seen: []string{golang.GOROOT, golang.GOMODCACHE, sources(dir)},
		// What fuzzing finds lies below the package.
		Kept: append(results(os.Args[1:]), dir, golang.GOCACHE),
	}, nil
}

// sources is the repository that a folder lies in: other modules lie within it.
func sources(dir string) string {
	for at := dir; at != "/"; at = filepath.Dir(at) {
		text, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if first, _, _ := strings.Cut(string(text), "\n"); err == nil && first == "module github.com/cni-netops/plugins" {
			return at
		}
	}
	return dir
}

// results are the folders that go test's arguments name: of coverage and
// profiles, of what fuzzing keeps, and of the log by which results are cached.
func results(args []string) (dirs []string) {
	for _, arg := range args {
		_, path, _ := strings.Cut(arg, "=")
		if !strings.HasPrefix(arg, "-test.") || !filepath.IsAbs(path) {
			continue
		}
		if st, err := os.Stat(path); err != nil || !st.IsDir() {
			path = filepath.Dir(path)
		}
		dirs = append(dirs, path)
	}
	return dirs
}
