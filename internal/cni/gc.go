package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
)

// stateDirFlag moves the records that gc goes by, as the key stateDir does for a
// verb.
const stateDirFlag = "--state-dir"

// gcByHand is the sub-command gc, and returns the exit code. It prints to standard
// output, and its error goes to standard error as it is.
func (p Plugin) gcByHand(ctx context.Context, options []string) int {
	signal.Ignore(syscall.SIGPIPE) // what was begun goes on
	config := []byte("{}")
	switch {
	case len(options) == 0:
	case len(options) == 2 && options[0] == stateDirFlag && filepath.IsAbs(options[1]):
		config, _ = json.Marshal(map[string]string{"stateDir": options[1]})
	default:
		fmt.Fprintf(os.Stderr, "%s: unknown arguments %q after gc, which takes %s and an absolute path\n", p.Name, options, stateDirFlag)
		return 2
	}
	if p.Verbs.GCByHand == nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", p.Name, p.NoGC)
		return 1
	}
	if err := NewRequest(p, "gc", &skel.CmdArgs{}, config).run(ctx, p.Verbs.GCByHand); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		return 1
	}
	return 0
}
