// Package isolate runs a program once more in user, mount and network
// namespaces of its own, so that what tests and the demo do needs no root, and
// reaches neither the machine's network nor its files.
package isolate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// outsideVariable tells a process that it is isolated, and the network
// namespace that it must not be in.
const outsideVariable = "ISOLATED_FROM"

// Inside reports whether this process is the isolated one.
func Inside() bool { return os.Getenv(outsideVariable) != "" }

// Again runs this program with these arguments and further variables in
// namespaces of its own, and returns its exit code. The program ends with the
// one that called it.
func Again(args []string, env ...string) (exit int, err error) {
	// Pdeathsig follows the thread that started the child, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	outside, err := network()
	if err != nil {
		return 1, err
	}
	// Ctrl-C reaches the child as well: it ends, and this process after it.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)
	self := exec.CommandContext(context.Background(), "/proc/self/exe", args...)
	self.Args[0] = os.Args[0]
	self.Env = append(append(os.Environ(), env...), outsideVariable+"="+outside)
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		UidMappings: identity("/proc/self/uid_map", os.Getuid()),
		GidMappings: identity("/proc/self/gid_map", os.Getgid()),
		Pdeathsig:   syscall.SIGKILL,
	}
	err = self.Run()
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		return max(failed.ExitCode(), 1), nil
	} else if err != nil {
		return 1, fmt.Errorf("user namespaces are needed (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone): %w", err)
	}
	return 0, nil
}

// identity maps who runs the program to root. Root keeps all IDs, or it could
// not execute what is in somebody's private home.
func identity(path string, id int) []syscall.SysProcIDMap {
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
	f, err := os.Open(path)
	if id != 0 || err != nil {
		return one
	}
	defer func() { _ = f.Close() }()
	var all []syscall.SysProcIDMap
	for {
		var inside, outside, size int
		if n, _ := fmt.Fscan(f, &inside, &outside, &size); n < 3 {
			break
		}
		all = append(all, syscall.SysProcIDMap{ContainerID: inside, HostID: inside, Size: size})
	}
	if all == nil {
		return one
	}
	return all
}

// network names the network namespace of this process.
func network() (string, error) { return os.Readlink("/proc/self/ns/net") }
