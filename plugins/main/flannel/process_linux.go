package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// endings are what a program's name may end in beyond its type.
var endings = []string{""}

// process is a delegate at work.
type process struct{ pid int }

// startProcess starts a delegate. os/exec would first start one more process,
// to see what the kernel can do, and wait for this one by a poller.
//
// It ends with us: when this process is killed, the DEL that follows must not
// meet an ADD that goes on. It leads a group of its own, for what it has
// started itself, its IPAM plugin say, to be ended with it.
func startProcess(path string, env []string, stdin, stdout *os.File) (process, error) {
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{
		Env:   env,
		Files: []uintptr{stdin.Fd(), stdout.Fd(), os.Stderr.Fd()},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true},
	})
	return process{pid}, err
}

// wait waits for the end of the process, and says how it did.
func (p process) wait() error {
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.pid, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		} else if err != nil {
			return os.NewSyscallError("wait", err)
		}
		break
	}
	switch {
	case status.Signaled():
		return fmt.Errorf("ended by signal: %v", status.Signal())
	case status.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", status.ExitStatus())
	}
	return nil
}

func (p process) terminate() { _ = syscall.Kill(-p.pid, syscall.SIGTERM) }

func (p process) kill() { _ = syscall.Kill(-p.pid, syscall.SIGKILL) }
