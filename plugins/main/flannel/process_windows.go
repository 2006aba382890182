package main

import (
	"os"
	"os/exec"
)

// endings are what a program's name may end in beyond its type.
var endings = []string{".exe", ""}

// process is a delegate at work.
type process struct{ *exec.Cmd }

func startProcess(path string, env []string, stdin, stdout *os.File) (process, error) {
	cmd := &exec.Cmd{Path: path, Args: []string{path}, Env: env, Stdin: stdin, Stdout: stdout, Stderr: os.Stderr}
	return process{cmd}, cmd.Start()
}

// wait waits for the end of the process, and says how it did.
func (p process) wait() error { return p.Wait() }

// terminate ends the process at once: Windows has no signal that asks.
func (p process) terminate() { p.kill() }

func (p process) kill() { _ = p.Process.Kill() }
