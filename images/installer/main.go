// Command installer copies the CNI plugins that lie beside it into the folder
// where a node's container runtime looks for them, and keeps them there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/plugins/pkg/utils/buildversion"
)

// options are those of the command line.
type options struct {
	source, target  string
	plugins         string // separated by commas; empty: all
	once, uninstall bool
	state, status   string
	interval        time.Duration
}

// statusFile is in a folder of the container.
const statusFile = "/run/installer/status"

func main() { os.Exit(exit(run(os.Args[1:], os.Stdout))) }

// exit tells an error, and is what to exit with.
func exit(err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(os.Stderr, "installer:", strings.TrimRight(line, "\n"))
	}
	return 1
}

func parse(args []string, out io.Writer) (o options, version bool, err error) {
	f := flag.NewFlagSet("installer", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&o.source, "source", "/plugins", "folder of the plugins to install")
	f.StringVar(&o.target, "target", "/host/opt/cni/bin", "folder to install them into")
	f.StringVar(&o.plugins, "plugins", "", "names of those to install, separated by commas (default all)")
	f.BoolVar(&o.once, "once", false, "install and exit, as an init container does")
	f.BoolVar(&o.uninstall, "uninstall-on-exit", false, "remove what was installed when told to end")
	f.StringVar(&o.state, "state", "", "file to remember in what was installed, for --uninstall-on-exit after a restart")
	f.StringVar(&o.status, "status", statusFile, "file to write for \"installer probe live\" and \"installer probe ready\"")
	f.DurationVar(&o.interval, "interval", time.Minute, "time between looks at the folder, beside those that a change in it calls for")
	f.BoolVar(&version, "version", false, "print the version and exit")
	if err := f.Parse(args); err != nil {
		return o, false, err
	}
	if f.NArg() > 0 {
		return o, false, fmt.Errorf("unknown arguments %q", f.Args())
	}
	const longest = 24 * time.Hour
	if o.interval <= 0 || o.interval > longest {
		return o, false, fmt.Errorf("--interval %s is not between 0s and %s", o.interval, longest)
	}
	if o.once && o.uninstall {
		return o, false, errors.New("--once exits at once, so --uninstall-on-exit would leave nothing")
	}
	return o, version, nil
}

// parseProbe reads what follows "probe".
func parseProbe(args []string, out io.Writer) (what, file string, err error) {
	f := flag.NewFlagSet("installer probe", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&file, "status", statusFile, "file that the installer writes")
	if err := f.Parse(args); err != nil {
		return "", "", err
	}
	if f.NArg() != 1 {
		return "", "", fmt.Errorf(`"installer probe live" or "installer probe ready", not %q`, f.Args())
	}
	return f.Arg(0), file, nil
}

// run does what the command line asks for, until it is told to end.
func run(args []string, out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch {
	case len(args) > 0 && args[0] == "probe":
		what, file, err := parseProbe(args[1:], out)
		if err != nil {
			return err
		}
		return probe(what, file)
	case len(args) > 0 && args[0] == "gc":
		c, err := parseGC(args[1:], out)
		if err == nil {
			c.keep(ctx)
		}
		return err
	}
	o, version, err := parse(args, out)
	if err != nil {
		return err
	}
	if version {
		_, err := fmt.Fprintln(out, "cni-netops installer", buildversion.BuildVersion)
		return err
	}
	i, err := newInstaller(o, out)
	if err != nil {
		return err
	}
	if o.once {
		_, err := i.look(ctx)
		return err
	}
	i.keep(ctx, o.interval, newReporter(o.status, o.interval, out))
	if o.uninstall {
		stop() // a second signal ends it at once
		return i.uninstall()
	}
	return nil
}
