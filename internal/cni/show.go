package cni

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cni-netops/plugins/internal/show"
)

// showing is the command line of show.
type showing struct {
	show.Query
	json bool
}

func (p Plugin) parseShow(args []string, w io.Writer) (s showing, err error) {
	s.Plugin = p.Name
	flags := flag.NewFlagSet(p.Name+" show", flag.ContinueOnError)
	flags.SetOutput(w)
	flags.BoolVar(&s.All, "all", false, "the records of all plugins, flannel's kept configurations among them")
	flags.BoolVar(&s.Wrong, "wrong", false, "only what is not as it should be")
	flags.BoolVar(&s.json, "json", false, "one JSON array")
	flags.StringVar(&s.StateDir, "state-dir", "", "the stateDir of the configurations, where they have one (default /run/cni)")
	flags.StringVar(&s.DataDir, "data-dir", "", "the dataDir of flannel's configurations, where they have one")
	flags.Usage = func() {
		fmt.Fprintf(w, "Usage: %s show [flags] [what]...\n\nLists what is on this node, for whom, and what differs from it now. It changes nothing.\n"+
			"Each what narrows the list: a pod (namespace/name), a container ID or its beginning, a network,\n"+
			"an interface, a plugin, an address or subnet (\"who made this route?\"), or default.\n\n", p.Name)
		flags.PrintDefaults()
	}
	// Flags may stand after what the list is narrowed to.
	for {
		if err := flags.Parse(args); err != nil {
			return s, err
		}
		if flags.NArg() == 0 {
			return s, nil
		}
		s.Only, args = append(s.Only, flags.Arg(0)), flags.Args()[1:]
	}
}

// show is the sub-command, and returns the exit code.
func (p Plugin) show(ctx context.Context, args []string) int {
	var said strings.Builder
	s, err := p.parseShow(args, &said)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(said.String())
		return 0
	case err != nil:
		fmt.Fprint(os.Stderr, said.String())
		return 2
	}
	list, err := p.Verbs.Show(ctx, s.Query)
	if err == nil {
		list = s.Narrow(list)
		show.Sort(list)
		if s.json {
			err = show.JSON(os.Stdout, list)
		} else {
			err = show.Text(os.Stdout, list, coloured(os.Stdout))
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		return 1
	}
	return 0
}

// coloured reports whether a file is a terminal whose user has not said no to
// colours (https://no-color.org).
func coloured(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
