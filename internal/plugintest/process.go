package plugintest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long is waited for what must come. It is long, because nobody
// waits that long unless it does not.
const patience = 20 * time.Second

// Process is a call that is under way.
type Process struct {
	tb   testing.TB
	cmd  *exec.Cmd
	out  strings.Builder
	done chan struct{}
}

// Begin starts a call, which goes on beside the test.
func (c Call) Begin(verb string) *Process {
	c.TB.Helper()
	p := &Process{tb: c.TB, cmd: exec.Command(c.Plugin), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = c.Environ(verb), strings.NewReader(c.Conf), &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		c.TB.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	c.TB.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.done })
	return p
}

// Waits fails the test if the call ends within a while.
func (p *Process) Waits() {
	p.tb.Helper()
	select {
	case <-p.done:
		p.tb.Errorf("it does not wait: %s", p.out.String())
	case <-time.After(150 * time.Millisecond):
	}
}

// Terminate sends the call a SIGTERM.
func (p *Process) Terminate() { p.tb.Helper(); p.signal(syscall.SIGTERM) }

// Stopped waits until the call has stopped where its fault has a SIGSTOP: what it
// does by the clock stands still, however long the test takes.
func (p *Process) Stopped() {
	p.tb.Helper()
	Until(p.tb, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			p.tb.Fatal(err)
		}
		return strings.Contains(string(stat), ") T ") // proc_pid_stat(5)
	})
}

// Continue lets a stopped call go on.
func (p *Process) Continue() { p.tb.Helper(); p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.tb.Fatal(err)
	}
}

// Ends waits for the end of the call, with that exit code, and returns all that it
// has said.
func (p *Process) Ends(exit int) string {
	p.tb.Helper()
	select {
	case <-p.done:
		if got := p.cmd.ProcessState.ExitCode(); got != exit {
			p.tb.Errorf("exit %d, want %d: %s", got, exit, p.out.String())
		}
	case <-time.After(patience):
		p.tb.Fatal("it does not end")
	}
	return p.out.String()
}

// Until waits for something to become so.
func Until(tb testing.TB, so func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatal("it never comes to be")
		}
	}
}
