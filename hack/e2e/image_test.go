package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
)

// makeImage makes an archive with an image of the containers' root, as docker
// save makes them, whose containers do nothing.
func makeImage(name string) (archive string, err error) {
	archive = filepath.Join(dir, "image.tar")
	if _, err := run("tar", "-C", filepath.Join(dir, "root"), "-cf", filepath.Join(dir, "layer.tar"), "."); err != nil {
		return "", err
	}
	layer, err := os.ReadFile(filepath.Join(dir, "layer.tar"))
	err = errors.Join(err,
		write("manifest.json", fmt.Sprintf(`[{"Config": "config.json", "RepoTags": [%q], "Layers": ["layer.tar"]}]`, name)),
		write("config.json", fmt.Sprintf(`{"architecture": %q, "os": "linux", "config": {"Cmd": ["/bin/sleep", "600"]},
			"rootfs": {"type": "layers", "diff_ids": ["sha256:%x"]}}`, goruntime.GOARCH, sha256.Sum256(layer))))
	if err == nil {
		_, err = run("tar", "-C", dir, "-cf", archive, "manifest.json", "config.json", "layer.tar")
	}
	return archive, err
}
