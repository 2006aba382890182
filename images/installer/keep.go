package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// shortPause is for what comes in several steps, an archive that is being
// unpacked over the folder say.
const shortPause = 100 * time.Millisecond

// pathInterval is the time between two questions whether the target's path
// still leads to the folder that is watched: no watch tells that.
const pathInterval = time.Second

// keep installs, and then looks whenever something has changed in the target,
// and every now and then: a watch may miss what another node does to a shared
// folder. A look that fails is tried again, the first one as well. It ends with
// ctx.
func (i *installer) keep(ctx context.Context, interval time.Duration, r *reporter) {
	changes := i.watch()
	quiet, failed := true, ""
	for pause := shortPause; ; {
		changes.renew()
		changed, err := i.look(ctx)
		if ctx.Err() != nil {
			return
		}
		r.note(err)
		if r.Problem != "" && r.Problem != failed {
			_, _ = fmt.Fprintln(i.out, r.Problem)
		}
		failed = r.Problem
		pause = nextPause(pause, interval, changed || err != nil, quiet)
		quiet = changes.wait(ctx, nextLook(err, pause, interval))
		sleep(ctx, pause)
	}
}

// nextLook is when to look again if nothing happens.
func nextLook(err error, pause, interval time.Duration) time.Duration {
	if err != nil {
		return pause
	}
	return interval
}

// nextPause grows while there is always something to do: another installer may
// want another release in this place, and would not give up either. It ends
// when nothing has happened for a whole interval.
func nextPause(pause, interval time.Duration, busy, quiet bool) time.Duration {
	switch {
	case busy:
		return min(pause*5/4, max(interval, shortPause))
	case quiet:
		return shortPause
	}
	return pause
}

// sleep waits for so long, or for ctx to end.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// watch sees changes in the target.
type watch struct {
	fd     int // below 0: there is none to be had
	target string
	folder os.FileInfo // that the path led to, nil if to none
	seen   chan struct{}
	out    io.Writer
	told   bool // that there is no watch left
}

// watch begins to watch. Where the kernel has no watch left, looking now and
// then has to do.
func (i *installer) watch() *watch {
	w := &watch{fd: -1, target: i.target, seen: make(chan struct{}, 1), out: i.out}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		_, _ = fmt.Fprintf(i.out, "%s: cannot be watched: %v\n", i.target, err)
		return w
	}
	w.fd = fd
	go w.read(os.NewFile(uintptr(fd), "inotify"))
	return w
}

// renew watches the folder that the path leads to now. For the one that is
// watched already it does nothing.
func (w *watch) renew() {
	w.folder = folderAt(w.target)
	if w.fd < 0 {
		return
	}
	const changes = unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVE |
		unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	// Most of what fails here fails again in the look that follows, and is told
	// there.
	_, err := unix.InotifyAddWatch(w.fd, w.target, changes|unix.IN_ONLYDIR)
	if errors.Is(err, unix.ENOSPC) && !w.told {
		w.told = true
		_, _ = fmt.Fprintf(w.out, "%s: cannot be watched, the node has no watch left (sysctl fs.inotify.max_user_watches)\n", w.target)
	}
}

// wait waits for a change to be seen, for ctx to end, or for so long: then it
// reports that it was quiet.
func (w *watch) wait(ctx context.Context, most time.Duration) (quiet bool) {
	timer, path := time.NewTimer(most), time.NewTicker(pathInterval)
	defer timer.Stop()
	defer path.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-w.seen:
			return false
		case <-timer.C:
			return true
		case <-path.C:
			if w.ledElsewhere() {
				return false
			}
		}
	}
}

// ledElsewhere reports whether the path leads to another folder than it did: a
// link may have been turned, or a folder above exchanged.
func (w *watch) ledElsewhere() bool {
	now := folderAt(w.target)
	if w.folder == nil || now == nil {
		return w.folder != now
	}
	return !os.SameFile(w.folder, now)
}

// folderAt is the folder that a path leads to, or nil.
func folderAt(path string) os.FileInfo {
	st, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return st
}

// read empties the queue. What happened does not matter: all is looked at.
func (w *watch) read(inotify *os.File) {
	events := make([]byte, 64<<10)
	for {
		if _, err := inotify.Read(events); err != nil {
			return
		}
		select {
		case w.seen <- struct{}{}:
		default:
		}
	}
}
