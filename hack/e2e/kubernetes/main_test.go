// Package kubernetes has a cluster of one node call the plugins: Kubernetes and
// containerd, with a router between the node's two LANs and the world. It runs
// for root, by scripts/e2e_kubernetes.sh, in namespaces of its own: with them goes
// whatever a failing test, or Ctrl-C, leaves.
package kubernetes

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

const root = "../../.."

// dir is the folder of the run.
var dir = os.Getenv(machine.Inside)

func TestMain(m *testing.M) {
	run := machine.Isolate
	switch {
	case filepath.Base(os.Args[0]) == standIn:
		run = callNetworks
	case dir != "" && os.Getpid() == 1:
		run = first
	case dir != "":
		run = func() error { return furnished(m) }
	}
	machine.Main(run)
}

// first is the first process of the namespaces. It waits for whatever has lost
// its parent, as the processes of containers do, until the tests have ended, and
// ends at once with Ctrl-C.
func first() error {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ends
		os.Exit(1)
	}()
	if err := errors.Join(machine.Enter(), makeGroups(filepath.Base(dir))); err != nil {
		return err
	}
	tests, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case pid == tests.Pid && status.ExitStatus() != 0:
			os.Exit(1)
		case pid == tests.Pid:
			return nil
		}
	}
}

var errTestsFailed = errors.New("not all of it was shown")

// furnished runs the tests on a node that it has put up for them.
func furnished(m *testing.M) error {
	err := errors.Join(hide(), wire())
	if err == nil {
		err = putUp()
	}
	if err == nil && m.Run() != 0 {
		err = errTestsFailed
	}
	if err != nil && !errors.Is(err, errTestsFailed) {
		explain()
	}
	summary.Print()
	return err
}

// run runs a command, and returns what it printed.
func run(words ...string) (string, error) { return machine.Run(words...) }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var summary = machine.NewTable("PLUGIN", "WHAT WAS SHOWN")

// shown notes what a test shows, if it ends well.
func shown(t *testing.T, ways ...way) {
	for _, w := range ways {
		if w.by != "" {
			summary.Shown(t, w.by, w.shows)
		}
	}
}
