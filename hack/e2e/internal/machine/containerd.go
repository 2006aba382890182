package machine

import (
	"fmt"
	"strings"
)

// The latest versions of CNI that containerd knows, before 2 and since.
const (
	WithoutStatus = "1.0.0"
	WithStatus    = "1.1.0"
)

// NewestCNI is the latest version of CNI that the containerd in PATH knows. Its own
// version comes after the name of its package, with a v in what the project
// releases and without one in what Go installs.
func NewestCNI() (string, error) {
	said, err := Run("containerd", "--version")
	if err != nil {
		return "", err
	}
	words := append(strings.Fields(said), "", "", "")
	major, _, _ := strings.Cut(strings.TrimPrefix(words[2], "v"), ".")
	switch major {
	case "1":
		return WithoutStatus, nil
	case "2":
		return WithStatus, nil
	}
	return "", fmt.Errorf("containerd --version: no version 1 or 2: %q", said)
}
