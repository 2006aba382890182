package machine

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// MakeRoot makes the root of containers below a folder, with nothing but busybox.
func MakeRoot(root string, applets ...string) error {
	busybox, err := os.ReadFile("/bin/busybox")
	bin := filepath.Join(root, "bin")
	err = errors.Join(err, os.MkdirAll(bin, 0o755), os.WriteFile(filepath.Join(bin, "busybox"), busybox, 0o755))
	for _, applet := range applets {
		err = errors.Join(err, os.Symlink("busybox", filepath.Join(bin, applet)))
	}
	return err
}

// MakeImage makes an archive with an image of that root, as docker save makes
// them, whose containers do nothing. It lies in a folder with what it is made of.
func MakeImage(dir, root, name string) (archive string, err error) {
	if _, err := Run("tar", "-C", root, "-cf", filepath.Join(dir, "layer.tar"), "."); err != nil {
		return "", err
	}
	layer, err := os.ReadFile(filepath.Join(dir, "layer.tar"))
	err = errors.Join(err,
		Write(filepath.Join(dir, "manifest.json"), fmt.Sprintf(`[{"Config": "config.json", "RepoTags": [%q], "Layers": ["layer.tar"]}]`, name)),
		Write(filepath.Join(dir, "config.json"), fmt.Sprintf(`{"architecture": %q, "os": "linux", "config": {"Cmd": ["/bin/sleep", "86400"]},
			"rootfs": {"type": "layers", "diff_ids": ["sha256:%x"]}}`, runtime.GOARCH, sha256.Sum256(layer))))
	if err != nil {
		return "", err
	}
	archive = filepath.Join(dir, "image.tar")
	_, err = Run("tar", "-C", dir, "-cf", archive, "manifest.json", "config.json", "layer.tar")
	return archive, err
}
