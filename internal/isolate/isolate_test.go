package isolate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// kept is where go test has the test binary write its log.
var kept = programs()

func TestMain(m *testing.M) {
	var exit int
	var err error
	if !Inside() {
		exit, err = Again(os.Args[1:])
	} else if err = Furnish(Room{Kept: kept}); err == nil {
		err = Furnish(Room{}) // what a worker of go test -fuzz does
		exit = m.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		exit = 1
	}
	os.Exit(exit)
}

// writable are the mounts of this process that can be written to, innermost
// last, by mountinfo (proc_pid_mountinfo(5)).
func writable(t *testing.T) (paths []string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if slices.Contains(strings.Split(fields[5], ","), "rw") {
			paths = append(paths, fields[4])
		}
	}
	return paths
}

// Of all that is mounted nothing can be written to but what Furnish promises.
func TestEverythingElseIsReadOnly(t *testing.T) {
	allowed := slices.Concat(Fresh, own, kept, []string{os.Getenv("GOCOVERDIR")})
	found := writable(t)
	for _, path := range found {
		// In a container, what its runtime hides of /proc is mounted there.
		if !slices.Contains(allowed, path) && !strings.HasPrefix(path, "/proc/") {
			t.Errorf("%s can be written to", path)
		}
	}
	for _, path := range append([]string{"/run", "/tmp", "/var/lib", "/var/log"}, own...) {
		if !slices.Contains(found, path) {
			t.Errorf("%s cannot be written to", path)
		}
	}
}

// What a test, or a plugin in it, tries on the machine fails, whoever runs it.
func TestWritingElsewhereFails(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/", "/etc", "/usr", "/var", "/var/cache", "/opt", "/opt/cni", "/opt/cni/bin", "/root", "/dev", "/dev/shm", "/sys/fs/cgroup", home, dir} {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) || slices.Contains(kept, dir) {
			continue
		}
		path := filepath.Join(dir, "isolate-test")
		if err := os.Mkdir(path, 0o700); !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EACCES) {
			_ = os.Remove(path)
			t.Errorf("mkdir %s: %v", path, err)
		}
	}
	for _, path := range []string{"/proc/sys/kernel/domainname", "/proc/sys/vm/swappiness", "/proc/sysrq-trigger"} {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_ = f.Close()
		}
		if !errors.Is(err, unix.EROFS) && !errors.Is(err, os.ErrPermission) && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("open %s: %v", path, err)
		}
	}
}

// What is fresh is empty but for what shows in it, and can be written to; and so
// can the parameters of the network, which is the process's own.
func TestFresh(t *testing.T) {
	for _, dir := range Fresh {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) && dir == "/etc/cni" {
			continue // of a machine that never had CNI
		}
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
			t.Errorf("%s is no tmpfs: %v", dir, err)
		}
		path := filepath.Join(dir, "isolate-test")
		if err := errors.Join(os.Mkdir(path, 0o700), os.Remove(path)); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Error(err)
	}
	if got := os.TempDir(); got != "/tmp" {
		t.Errorf("temporary files go to %s", got)
	}
	if _, err := os.ReadFile("room.go"); err != nil {
		t.Errorf("the folder of the process: %v", err)
	}
}
