// Package e2e has container runtimes call the plugins, as users do. It runs for
// root, by scripts/e2e.sh, in namespaces of its own: with them goes whatever a
// failing test, or Ctrl-C, leaves.
package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

const (
	root   = "../.."
	inside = "E2E_INSIDE" // names the folder of the run, in the process that is isolated
)

// dir is the folder of the run.
var dir = os.Getenv(inside)

func TestMain(m *testing.M) {
	run := isolate
	if filepath.Base(os.Args[0]) == witness {
		run = testify
	} else if dir != "" {
		run = func() error { return furnished(m) }
	}
	err := run()
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		os.Exit(1) // it has said why
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var errTestsFailed = errors.New("not all of it was shown")

// isolate runs the tests in namespaces of their own, whose processes end with
// the first of them.
func isolate() (err error) {
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir), removeGroups(filepath.Base(dir))) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Ctrl-C reaches the tests as well. They take their containers away.
	signal.Ignore(os.Interrupt)
	cmd := exec.Command("unshare", append([]string{"--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), inside+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

// removeGroups removes the control groups of containers, from the hierarchy or
// from each of them. No namespace hides them, and they stay when all else goes.
func removeGroups(name string) error {
	var problems []error
	for _, pattern := range []string{name, "*/" + name} {
		roots, err := filepath.Glob(filepath.Join("/sys/fs/cgroup", pattern))
		problems = append(problems, err)
		for _, root := range roots {
			// Its files cannot be removed, and a folder only when it has no other.
			_, err := run("find", root, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+")
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// furnished runs the tests on a node that it has furnished for them.
func furnished(m *testing.M) error {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ends
		for _, r := range runtimes {
			r.removeAll()
		}
		os.Exit(1)
	}()
	err := errors.Join(hide(), configure(), wire())
	if err == nil && m.Run() != 0 {
		err = errTestsFailed
	}
	if err != nil {
		for _, r := range runtimes {
			fmt.Fprint(os.Stderr, r.log())
		}
	}
	printTable()
	return err
}

// hide gives runtimes and plugins folders of their own for all that they keep.
// What is below /var/lib could be removed by somebody else, and the mount with it.
func hide() error {
	for _, path := range []string{"/run", "/dev/shm", "/var/lib"} {
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount a tmpfs on %s: %w", path, err)
		}
	}
	return nil
}

// write writes a file of the run.
func write(name, text string) error {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// run runs a command, and returns what it printed.
func run(words ...string) (string, error) {
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, out)
	}
	return string(out), err
}

// shownRows tell what was shown, by runtime and plugin.
var shownRows []string

// shown notes what a test shows, if it ends well.
func shown(t *testing.T, runtime, plugin, what string) {
	t.Cleanup(func() {
		if !t.Failed() {
			shownRows = append(shownRows, runtime+"\t"+plugin+"\t"+what)
		}
	})
}

func printTable() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "RUNTIME\tPLUGIN\tWHAT WAS SHOWN")
	for _, row := range slices.Sorted(slices.Values(shownRows)) {
		_, _ = fmt.Fprintln(w, row)
	}
	_ = w.Flush()
}
