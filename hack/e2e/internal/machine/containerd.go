package machine

import "strings"

// The latest versions of CNI that containerd knows, before 2 and since.
const (
	WithoutStatus = "1.0.0"
	WithStatus    = "1.1.0"
)

// NewestCNI is the latest version of CNI that the containerd in PATH knows.
func NewestCNI() (string, error) {
	version, err := Run("containerd", "--version")
	if strings.Contains(version, " v2.") {
		return WithStatus, err
	}
	return WithoutStatus, err
}
