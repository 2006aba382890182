package isolate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Fresh are the folders that an isolated process has for itself, empty and in
// memory: ip-netns(8), runtimes and plugins keep there what they keep, and
// temporary files belong there.
var Fresh = []string{"/run", "/tmp", "/var/lib", "/var/log", "/etc/cni"}

// Room says what an isolated process finds beside that. A folder that does not
// exist is not missed.
type Room struct {
	Kept []string // can be written to, as on the machine
	Seen []string // can be read, although Fresh covers them
}

// furnishedVariable tells a process that the one that started it, which has the
// same mounts, has furnished them: workers of go test -fuzz are such.
const furnishedVariable = "ISOLATED_ROOM"

// Furnish covers the machine's files for the isolated process and those that it
// starts: all can be read, and nothing can be written to, but what is Fresh, what
// is kept, processes, and the parameters of its own namespaces (/proc/sys/net,
// /proc/sys/user).
// It needs Linux 5.12.
func Furnish(room Room) error {
	if os.Getenv(furnishedVariable) != "" {
		return nil
	}
	if here, err := network(); err != nil {
		return err
	} else if here == os.Getenv(outsideVariable) {
		return errors.New("this is the machine's own network")
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := room.furnish(dir); err != nil {
		return err
	}
	// The folder of before lies below what covers it now.
	if err := os.Chdir(dir); err != nil {
		return err
	}
	return errors.Join(os.Unsetenv("TMPDIR"), os.Setenv(furnishedVariable, "furnished"))
}

func (r Room) furnish(dir string) error {
	windows, err := r.windows(dir)
	defer func() {
		for _, w := range windows {
			_ = unix.Close(w.tree)
		}
	}()
	if err != nil {
		return err
	}
	if err := readOnly(unix.AT_FDCWD, "/", 0); err != nil {
		return err
	}
	for _, path := range Fresh {
		err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("mount a tmpfs on %s: %w", path, err)
		}
	}
	for _, w := range windows {
		if err := w.open(); err != nil {
			return err
		}
	}
	return nil
}

// window is a folder or file of the machine, with what is mounted in it, that
// shows where it was when all else is covered.
type window struct {
	path string
	tree int // handle of a mount that is nowhere yet
}

// own are what a process writes to of itself and of its namespaces; machines are
// what lies there too and is the machine's, which root needs no capability for.
var (
	own      = []string{"/proc", "/proc/sys/net", "/proc/sys/user"}
	machines = []string{"/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"}
)

// windows takes hold of all that shall show, outer folders first.
func (r Room) windows(dir string) (list []window, err error) {
	writable := map[string]bool{}
	paths := slices.Clone(machines)
	for _, path := range slices.Concat(own, r.Kept, []string{os.Getenv("GOCOVERDIR")}) {
		writable[path] = true
		paths = append(paths, path)
	}
	for _, path := range slices.Concat(r.Seen, []string{dir}, filepath.SplitList(os.Getenv("PATH")), programs()) {
		if covered(path) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		w, err := look(path, writable[path])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return list, err
		}
		list = append(list, w)
	}
	return list, nil
}

// programs is the folder of this program.
func programs() []string {
	path, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{filepath.Dir(path)}
}

// covered reports whether a folder lies below one that is Fresh.
func covered(path string) bool {
	return slices.ContainsFunc(Fresh, func(dir string) bool { return strings.HasPrefix(path, dir+"/") })
}

// look takes hold of the file or folder at a path.
func look(path string, writable bool) (window, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return window{}, fmt.Errorf("open_tree %s: %w", path, err)
	}
	if !writable {
		err = readOnly(tree, "", unix.AT_EMPTY_PATH)
	}
	return window{path, tree}, err
}

func (w window) open() error {
	var st unix.Stat_t
	if err := unix.Fstat(w.tree, &st); err != nil {
		return fmt.Errorf("stat %s: %w", w.path, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := os.MkdirAll(w.path, 0o755); err != nil {
			return err
		}
	}
	if err := unix.MoveMount(w.tree, "", unix.AT_FDCWD, w.path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount %s: %w", w.path, err)
	}
	return nil
}

// readOnly makes a mount and all below it read-only.
func readOnly(tree int, path string, flags uint) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, path, unix.AT_RECURSIVE|flags, &attr); err != nil {
		return fmt.Errorf("make %s read-only (mount_setattr, Linux 5.12): %w", path, err)
	}
	return nil
}
