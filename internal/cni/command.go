package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
)

// Command is a sub-command that an administrator calls by hand. It gets neither a
// configuration nor CNI_* variables: its request tells where records are, and
// nothing else. It prints to standard output, and its error goes to standard
// error as it is.
type Command struct {
	Name string
	Help string // for --help, which leaves out a command without it
	Run  Verb
}

// stateDirFlag moves the records that a command goes by, as the key stateDir
// does for a verb.
const stateDirFlag = "--state-dir"

// command is the sub-command that the arguments begin with.
func (p Plugin) command(args []string) (c Command, ok bool) {
	for _, c := range p.Commands {
		if len(args) > 0 && args[0] == c.Name {
			return c, true
		}
	}
	return Command{}, false
}

// run runs the command and returns the exit code.
func (c Command) run(ctx context.Context, p Plugin, options []string) int {
	signal.Ignore(syscall.SIGPIPE) // what was begun goes on
	config := []byte("{}")
	switch {
	case len(options) == 0:
	case len(options) == 2 && options[0] == stateDirFlag && filepath.IsAbs(options[1]):
		config, _ = json.Marshal(map[string]string{"stateDir": options[1]})
	default:
		fmt.Fprintf(os.Stderr, "%s: unknown arguments %q after %s, which takes %s and an absolute path\n", p.Name, options, c.Name, stateDirFlag)
		return 2
	}
	if err := NewRequest(p, c.Name, &skel.CmdArgs{}, config).run(ctx, c.Run); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		return 1
	}
	return 0
}

func (p Plugin) printCommands(w io.Writer) {
	told := slices.DeleteFunc(slices.Clone(p.Commands), func(c Command) bool { return c.Help == "" })
	if len(told) == 0 {
		return
	}
	fmt.Fprintf(w, "\nBy hand, without any configuration; %s DIR is where records are (default /run/cni):\n\n", stateDirFlag)
	for _, c := range told {
		fmt.Fprintf(w, "  %s %s [%s DIR]   %s\n", p.Name, c.Name, stateDirFlag, c.Help)
	}
}
