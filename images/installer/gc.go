package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// collector has the node's plugins take back, now and then, what belongs to pods
// that are gone: runtimes that never call GC leave that for ever.
type collector struct {
	root     string // the node's file system
	bin      string // folder of the plugins in it
	plugins  []string
	interval time.Duration
	out      io.Writer
}

func parseGC(args []string, out io.Writer) (collector, error) {
	c := collector{out: out}
	var source, plugins string
	f := flag.NewFlagSet("installer gc", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&source, "source", "/plugins", "folder of the plugins that are installed")
	f.StringVar(&plugins, "plugins", "", "names of those to call, separated by commas (default all)")
	f.StringVar(&c.root, "root", "/host", "the node's file system")
	f.StringVar(&c.bin, "bin", "/opt/cni/bin", "folder on the node where the plugins are installed")
	f.DurationVar(&c.interval, "interval", 10*time.Minute, "time between two calls, and before the first")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("unknown arguments %q", f.Args())
	}
	if c.interval <= 0 {
		return c, fmt.Errorf("--interval %s is not above 0s", c.interval)
	}
	i := installer{source: source}
	err := i.choose(plugins)
	c.plugins = slices.DeleteFunc(i.plugins, without)
	return c, err
}

// without reports whether a plugin is not called: what flannel keeps does not tell
// which pods are gone, and seamless-static-route is seamless by another name.
func without(plugin string) bool { return plugin == "flannel" || plugin == "seamless-static-route" }

// keep calls every plugin after each interval, until ctx ends. What fails is
// told, and tried again the next time.
func (c collector) keep(ctx context.Context) {
	for sleep(ctx, c.interval); ctx.Err() == nil; sleep(ctx, c.interval) {
		for _, plugin := range c.plugins {
			if err := c.call(ctx, plugin); err != nil && ctx.Err() == nil {
				_, _ = fmt.Fprintf(c.out, "%s gc: %v\n", plugin, err)
			}
		}
	}
}

// call runs a plugin in the node's file system: pods' namespaces, records and
// locks have the paths there that the runtime knows them by. From any other
// file system a living pod's namespace may look gone.
func (c collector) call(ctx context.Context, plugin string) error {
	const patience = 10 * time.Second // to take back what it has begun
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, plugin), "gc")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = c.out, c.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	err := cmd.Run()
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: it takes CAP_SYS_CHROOT, CAP_SYS_ADMIN and CAP_NET_ADMIN", err)
	}
	return err
}
