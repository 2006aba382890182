// Package netopstest gives tests network namespaces of their own.
//
// A test binary whose TestMain goes through [Main] runs in fresh user, mount
// and network namespaces: it needs no root, and cannot touch the machine's own
// network, or its files ([isolate.Fresh] are the test's own). Inside,
// [Namespace] makes further ones.
package netopstest

import (
	"fmt"
	"os"
	"strings"

	"github.com/cni-netops/plugins/internal/isolate"
)

// M is testing.M, or what wraps it.
type M interface{ Run() int }

// Main wraps the tests of m so that they run in namespaces of their own. What
// needs the machine as it is (a build, say) is done by prepare, before.
func Main(m M, prepare ...func() error) M { return &isolated{m, prepare} }

type isolated struct {
	M
	prepare []func() error
}

func (m *isolated) Run() int {
	exit, err := m.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "netopstest:", err)
	}
	return exit
}

func (m *isolated) run() (exit int, err error) {
	// go test names a folder of its own to the test, and scripts/cover.sh, by a
	// further argument, the one where all is collected: that is for processes too.
	for _, arg := range os.Args {
		if dir, is := strings.CutPrefix(arg, "-test.gocoverdir="); is {
			_ = os.Setenv("GOCOVERDIR", dir)
		}
	}
	if isolate.Inside() {
		room, err := room()
		if err != nil {
			return 1, err
		}
		if err := isolate.Furnish(room); err != nil {
			return 1, err
		}
		if err := linkUp("lo"); err != nil {
			return 1, err
		}
		return m.M.Run(), nil
	}
	for _, f := range m.prepare {
		if err := f(); err != nil {
			return 1, err
		}
	}
	return isolate.Again(os.Args[1:])
}
