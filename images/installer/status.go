package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// status is what a probe is told. The installer writes it to a file after each
// look; the probe is a process of its own in the same container and reads it, so
// that the node's network has no port of ours.
type status struct {
	AliveUntil time.Duration `json:"aliveUntil"`        // of CLOCK_BOOTTIME: a node's wall clock may be set
	Problem    string        `json:"problem,omitempty"` // of the last look
}

// reporter writes the status.
type reporter struct {
	file     string
	patience time.Duration
	out      io.Writer
	failed   bool // to write it, which has been said
	status
}

// newReporter begins with a status by which nothing is installed yet. A look
// that is late, or fails for a moment, is no reason to be restarted.
func newReporter(file string, interval time.Duration, out io.Writer) *reporter {
	r := &reporter{file: file, patience: 3*interval + 10*time.Second, out: out}
	r.AliveUntil = sinceBoot() + r.patience
	r.Problem = "nothing is installed yet"
	r.write()
	return r
}

// note notes how a look ended.
func (r *reporter) note(err error) {
	r.Problem = ""
	if err != nil {
		r.Problem = err.Error()
	} else {
		r.AliveUntil = sinceBoot() + r.patience
	}
	r.write()
}

// write writes the status. That it cannot is said once, and keeps no plugin from
// being installed: the probes fail then.
func (r *reporter) write() {
	text, err := json.Marshal(r.status)
	err = errors.Join(err, os.MkdirAll(filepath.Dir(r.file), 0o755))
	if err == nil {
		err = writeWhole(r.file, text)
	}
	if err != nil && !r.failed {
		_, _ = fmt.Fprintf(r.out, "write --status, without which probes fail: %v\n", err)
	}
	r.failed = err != nil
}

// probe is nil if the installer that writes the status to a file is "live", or
// "ready".
func probe(what, file string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no installer has written %s yet", file)
	}
	var s status
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return fmt.Errorf("read --status: %w", err)
	}
	switch what {
	case "live":
		return s.live(sinceBoot())
	case "ready":
		return s.ready()
	}
	return fmt.Errorf(`unknown probe %q, only "live" and "ready"`, what)
}

// ready is nil while all plugins are in their places.
func (s status) ready() error {
	if s.Problem != "" {
		return errors.New(s.Problem)
	}
	return nil
}

// live is nil unless looks fail, or do not take place, for long.
func (s status) live(now time.Duration) error {
	if now <= s.AliveUntil {
		return nil
	}
	return errors.Join(fmt.Errorf("no look has succeeded in time, the last one should have %s ago", (now-s.AliveUntil).Round(time.Second)), s.ready())
}

// sinceBoot is the time since the machine's start, the same for all processes.
func sinceBoot() time.Duration {
	var now unix.Timespec
	// It fails for an unknown clock only (clock_gettime(2)).
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return time.Duration(now.Nano())
}
