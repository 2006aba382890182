package plugin

import (
	"errors"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

// kernelCode is the CNI code of an error that tells what the kernel said; 0 is
// that of another one. Of several operations that failed it is the first one's,
// which the message is about.
func kernelCode(err error) uint {
	var op *netops.OpError
	if errors.As(err, &op) {
		err = op
	}
	var k *netops.KernelError
	switch {
	case netops.Passing(err), errors.Is(err, netops.ErrNoLink), errors.Is(err, unix.ENODEV), interrupted(err):
		return types.ErrTryAgainLater
	case errors.As(err, &k) && k.Errno == unix.EEXIST:
		return CodeOwned
	case errors.As(err, &k), errors.Is(err, netops.ErrStillThere), errors.Is(err, netops.ErrCannotDelete):
		return CodeKernel
	}
	return 0
}
