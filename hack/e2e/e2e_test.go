// Package e2e has container runtimes call the plugins, as users do. It runs for
// root, by scripts/e2e.sh, in namespaces of its own: with them goes whatever a
// failing test, or Ctrl-C, leaves.
package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
	"golang.org/x/sys/unix"
)

const root = "../.."

// dir is the folder of the run.
var dir = os.Getenv(machine.Inside)

func TestMain(m *testing.M) {
	run := machine.Isolate
	if filepath.Base(os.Args[0]) == witness {
		run = testify
	} else if dir != "" {
		run = func() error { return furnished(m) }
	}
	machine.Main(run)
}

var errTestsFailed = errors.New("not all of it was shown")

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
	err := errors.Join(machine.Enter(), hide(), configure(), wire())
	if err == nil && m.Run() != 0 {
		err = errTestsFailed
	}
	if err != nil {
		for _, r := range runtimes {
			fmt.Fprint(os.Stderr, r.log())
		}
	}
	summary.Print()
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
func write(name, text string) error { return machine.Write(filepath.Join(dir, name), text) }

// run runs a command, and returns what it printed.
func run(words ...string) (string, error) { return machine.Run(words...) }

var summary = machine.NewTable("RUNTIME", "PLUGIN", "WHAT WAS SHOWN")

// shown notes what a test shows, if it ends well.
func shown(t *testing.T, runtime, plugin, what string) {
	summary.Shown(t, runtime, plugin, what)
}
