package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// placed remembers what an installer has placed: that much it may remove. With
// a file it remembers beyond a restart of its container.
type placed struct {
	file  string
	dirty bool // the file lacks something
	record
}

type record struct {
	Target  string   `json:"target"`
	Plugins []string `json:"plugins"`
}

// openPlaced reads the file. One that is damaged, or about another folder, is no
// reason not to install: less is removed at the end then, and that is said.
func openPlaced(file, target string, out io.Writer) (*placed, error) {
	p := &placed{file: file, record: record{Target: target}}
	if file == "" {
		return p, nil
	}
	if err := lockState(file); err != nil {
		return nil, fmt.Errorf("lock --state: %w", err)
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read --state: %w", err)
	}
	var found record
	if err := json.Unmarshal(text, &found); err != nil {
		_, _ = fmt.Fprintf(out, "--state %s is damaged, begun anew: %v\n", file, err)
	} else if found.Target != target {
		_, _ = fmt.Fprintf(out, "--state %s is about %q, begun anew\n", file, found.Target)
	} else {
		p.record = found
	}
	return p, nil
}

// lockState keeps other installers from this state until the process ends: each
// would forget what the others have placed. The lock has a file of its own, which
// stays: the state's is replaced by every write.
func lockState(file string) error {
	fd, err := unix.Open(file+".lock", unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "open", Path: file + ".lock", Err: err}
	}
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("another installer uses %s: give each one of its own", file)
	}
	return err
}

// has reports whether a plugin was placed, or was about to be.
func (p *placed) has(name string) bool { return slices.Contains(p.Plugins, name) }

// add notes a plugin that is about to be placed. What cannot be written then,
// save says.
func (p *placed) add(name string) {
	if !p.has(name) {
		p.Plugins = append(p.Plugins, name)
		p.dirty = true
		_ = p.save()
	}
}

// save writes what the file lacks.
func (p *placed) save() error {
	if p.file == "" || !p.dirty {
		return nil
	}
	text, err := json.Marshal(p.record)
	if err == nil {
		err = writeWhole(p.file, text)
	}
	if err != nil {
		return fmt.Errorf("write --state: %w", err)
	}
	p.dirty = false
	return nil
}

// writeWhole writes a file of which a power cut leaves no half.
func writeWhole(path string, text []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	return err
}

// forget is for when nothing is placed any more.
func (p *placed) forget() error {
	if p.file == "" {
		return nil
	}
	if err := os.Remove(p.file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
