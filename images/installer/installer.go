package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// installer keeps plugins of one folder in another.
type installer struct {
	source, target string
	plugins        []string
	out            io.Writer
	looked         bool // once already
	placed         *placed
}

func newInstaller(o options, out io.Writer) (*installer, error) {
	i := &installer{source: o.source, target: o.target, out: out}
	if err := i.choose(o.plugins); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.target, 0o755); err != nil {
		return nil, unwritable(o.target, err)
	}
	if err := i.standAside(); err != nil {
		return nil, err
	}
	var err error
	i.placed, err = openPlaced(o.state)
	return i, err
}

// choose finds the plugins to install.
func (i *installer) choose(names string) error {
	files, err := os.ReadDir(i.source)
	if err != nil {
		return fmt.Errorf("find the plugins: %w", err)
	}
	var all []string
	for _, f := range files {
		if f.Type().IsRegular() {
			all = append(all, f.Name())
		}
	}
	if all == nil {
		return fmt.Errorf("there are no plugins in %s", i.source)
	}
	i.plugins = all
	if names == "" {
		return nil
	}
	i.plugins = nil
	var problems []error
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		switch {
		case !slices.Contains(all, name):
			problems = append(problems, fmt.Errorf("--plugins: there is no %q, only %s", name, strings.Join(all, ", ")))
		case !slices.Contains(i.plugins, name):
			i.plugins = append(i.plugins, name)
		}
	}
	return errors.Join(problems...)
}

// standAside sees to it that neither the installer nor what it copies from lies
// in the target: some runtimes run every file there.
func (i *installer) standAside() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the installer: %w", err)
	}
	target, err := os.Stat(i.target)
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(self), i.source} {
		if st, err := os.Stat(dir); err == nil && os.SameFile(st, target) {
			return fmt.Errorf("%s holds what is to be installed, or the installer: runtimes may run every file there, name another --target", dir)
		}
	}
	return nil
}

// look brings the target to what it has to hold, and says what it did. One
// plugin that fails does not keep the others back.
func (i *installer) look(ctx context.Context) (changed bool, err error) {
	if err := os.MkdirAll(i.target, 0o755); err != nil {
		return false, unwritable(i.target, err)
	}
	unlock, err := lockFolder(ctx, i.target)
	if err != nil {
		return false, err
	}
	defer unlock()
	problems := []error{i.removeLeftovers()}
	for _, name := range i.plugins {
		if ctx.Err() != nil {
			return changed, context.Cause(ctx)
		}
		did, err := i.lookAt(name)
		if err != nil {
			problems = append(problems, unwritable(i.target, fmt.Errorf("%s: %w", name, err)))
			if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
				break // the others would say the same
			}
			continue
		}
		changed = changed || did
	}
	err = errors.Join(problems...)
	i.looked = i.looked || err == nil
	return changed, err
}

// lookAt brings one plugin to where it has to be.
func (i *installer) lookAt(name string) (changed bool, err error) {
	from, to := filepath.Join(i.source, name), filepath.Join(i.target, name)
	was, err := compare(from, to)
	if err != nil {
		return false, err
	}
	if was == same {
		if !i.looked {
			i.say(name, "up to date")
		}
		return false, nil
	}
	sum, err := place(from, to)
	if err != nil {
		return false, err
	}
	i.say(name, i.deed(was))
	return true, i.placed.add(name, sum)
}

// deed tells what was done to a plugin that was missing or different.
func (i *installer) deed(was state) string {
	switch {
	case !i.looked && was == missing:
		return "installed"
	case !i.looked:
		return "installed over another one"
	case was == missing:
		return "was removed, installed again"
	}
	return "was changed, installed again"
}

func (i *installer) say(name, what string) {
	_, _ = fmt.Fprintf(i.out, "%s: %s\n", filepath.Join(i.target, name), what)
}

// uninstall removes what this installer placed, unless somebody has put
// something else there.
func (i *installer) uninstall() error {
	// Whoever told it to end does not wait for ever.
	ctx, cancel := context.WithTimeoutCause(context.Background(), 5*time.Second, errors.New("another installer is at work there"))
	defer cancel()
	unlock, err := lockFolder(ctx, i.target)
	if err != nil {
		return err
	}
	defer unlock()
	var problems []error
	for _, name := range i.plugins {
		sum, ours := i.placed.sums[name]
		if !ours {
			i.say(name, "left: it was there before")
			continue
		}
		if there, err := sumOf(filepath.Join(i.target, name)); err != nil || there != sum {
			i.say(name, "left: it is not what was installed")
			continue
		}
		if err := os.Remove(filepath.Join(i.target, name)); err != nil {
			problems = append(problems, unwritable(i.target, err))
			continue
		}
		i.say(name, "removed")
	}
	if problems != nil {
		return errors.Join(problems...)
	}
	return i.placed.forget()
}
