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

// keep installs, and then looks whenever something has changed in the target,
// and every now and then: a watch may miss what another node does to a shared
// folder. It ends with ctx, or when the first look fails.
func (i *installer) keep(ctx context.Context, interval time.Duration, h *health) error {
	changes := i.watch()
	changes.renew()
	if _, err := i.look(ctx); err != nil {
		return err
	}
	h.note(nil)
	var failed error
	for pause := shortPause; ; {
		quiet := wait(ctx, changes.seen, nextLook(failed, pause, interval))
		wait(ctx, nil, pause)
		changes.renew()
		changed, err := i.look(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h.note(err)
		if failed = err; failed != nil {
			_, _ = fmt.Fprintln(i.out, failed)
		}
		pause = nextPause(pause, interval, changed || failed != nil, quiet)
	}
}

// nextLook is when to look again if nothing happens.
func nextLook(err error, pause, interval time.Duration) time.Duration {
	if err != nil {
		return pause
	}
	return interval
}

// nextPause grows while there is always something to do: somebody else may
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

// wait waits for something to be seen, for ctx to end, or for so long: then it
// reports that it was quiet.
func wait(ctx context.Context, seen <-chan struct{}, most time.Duration) (quiet bool) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-seen:
	case <-timer.C:
		return true
	}
	return false
}

// watch sees changes in the target.
type watch struct {
	fd     int // below 0: there is none to be had
	target string
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
