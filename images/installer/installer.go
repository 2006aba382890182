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
	if err := i.standAside(o.state, o.status); err != nil {
		return nil, err
	}
	var err error
	i.placed, err = openPlaced(o.state, o.target, out)
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

// standAside sees to it that neither the installer, nor what it copies from, nor
// what it writes for itself lies in the target: some runtimes run every file
// there.
func (i *installer) standAside(state, status string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the installer: %w", err)
	}
	target := folderAt(i.target)
	if target == nil {
		return nil // what a look makes there is a folder of its own
	}
	for name, file := range map[string]string{"state": state, "status": status} {
		if st, err := os.Stat(filepath.Dir(file)); file != "" && err == nil && os.SameFile(st, target) {
			return fmt.Errorf("--%s %s is in the folder of the plugins: runtimes may run every file there", name, file)
		}
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
	var problems []error
	unlock, err := lockFolder(ctx, i.target, lockPatience)
	switch {
	case errors.Is(err, errLocked):
		// Copies have names of their own. Only leftovers may be another installer's.
		_, _ = fmt.Fprintf(i.out, "%v: going on without\n", err)
	case err != nil:
		return false, err
	default:
		defer unlock()
		problems = append(problems, i.removeLeftovers())
	}
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
	err = errors.Join(append(problems, i.placed.save())...)
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
	// Noted before: a kill in between must not leave what no installer removes.
	i.placed.add(name)
	if err := place(from, to); err != nil {
		return false, err
	}
	i.say(name, i.deed(was))
	return true, nil
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

// uninstall removes what this installer placed, unless something else has been
// put there.
func (i *installer) uninstall() error {
	if folderAt(i.target) == nil {
		return i.placed.forget() // no look has succeeded, or the folder is gone
	}
	unlock, err := lockFolder(context.Background(), i.target, lockPatience)
	switch {
	case err == nil:
		defer unlock()
	case !errors.Is(err, errLocked):
		return err
	}
	var problems []error
	names := slices.Compact(slices.Sorted(slices.Values(slices.Concat(i.plugins, i.placed.Plugins))))
	for _, name := range names {
		if err := i.remove(name); err != nil {
			problems = append(problems, unwritable(i.target, err))
		}
	}
	if problems != nil {
		return errors.Join(problems...)
	}
	return i.placed.forget()
}

// remove removes a plugin, if it is as it was placed.
func (i *installer) remove(name string) error {
	if !i.placed.has(name) {
		i.say(name, "left: it was there before")
		return nil
	}
	if !i.inPlace(name) {
		i.say(name, "left: it is not what was installed")
		return nil
	}
	if err := os.Remove(filepath.Join(i.target, name)); err != nil {
		return err
	}
	i.say(name, "removed")
	return nil
}

// inPlace reports whether a plugin is there as it was installed.
func (i *installer) inPlace(name string) bool {
	was, err := compare(filepath.Join(i.source, name), filepath.Join(i.target, name))
	return err == nil && was == same
}

// lockPatience is longer than another installer takes.
const lockPatience = 2 * time.Second
