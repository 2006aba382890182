package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Inside names, in the environment of processes that Isolate has started, the
// folder of the run.
const Inside = "E2E_INSIDE"

// grace is how long the first process may take to end, when it has to.
const grace = 20 * time.Second

// Isolate runs this program again as the first process of namespaces of its own,
// with a folder for the run: whatever runs in them ends with that process, which
// gets SIGTERM when this one is to end, and SIGKILL when it takes too long or this
// one is killed. Control groups have no namespace here. Those that are named as
// the folder are removed afterwards, as it is.
func Isolate() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir), removeGroups(filepath.Base(dir))) }()
	runtime.LockOSThread() // whose end is the parent's, for Pdeathsig
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	cmd.Env = append(os.Environ(), Inside+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd.Run()
}

// Main runs what a process of the suite is for, and exits unless it went well. A
// process that failed has said why.
func Main(run func() error) {
	err := run()
	if failed := new(exec.ExitError); err != nil && !errors.As(err, &failed) {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil {
		os.Exit(1)
	}
}

// Enter is for the first process: what it mounts is not seen outside, and /proc
// has the processes of its namespace.
func Enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make all mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// removeGroups removes control groups, from the hierarchy or from each of them,
// whose processes have ended.
func removeGroups(name string) error {
	var problems []error
	for _, pattern := range []string{name, "*/" + name} {
		roots, err := filepath.Glob(filepath.Join("/sys/fs/cgroup", pattern))
		problems = append(problems, err)
		for _, root := range roots {
			// Its files cannot be removed, and a folder only when it has no other.
			_, err := Run("find", root, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+")
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}
