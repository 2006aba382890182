// Package machine has what runtimes are run with: namespaces, commands, and images
// of busybox.
package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Run runs a command, and returns what it printed.
func Run(words ...string) (string, error) {
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, out)
	}
	return string(out), err
}

// RunAll runs a command in each line, whatever becomes of those before it.
func RunAll(commands string) error {
	var problems []error
	for line := range strings.Lines(commands) {
		if words := strings.Fields(line); len(words) > 0 {
			_, err := Run(words...)
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// Write writes a file that only root reads, and makes its folder.
func Write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}
