//go:build linux

package attach

import (
	"errors"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops"
)

// withCode gives an error that tells what the kernel said its CNI code. Package
// cni knows the code of every other one.
func withCode(err error) error {
	if err == nil || errors.As(err, new(*cni.CodedError)) {
		return err
	}
	if code := kernelCode(err); code != 0 {
		return cni.Errorf(code, "%w", err)
	}
	return err
}

// kernelCode is the CNI code for what the kernel said; 0 is that of another
// error. Of several operations that failed it is the first one's, which the
// message is about.
func kernelCode(err error) uint {
	var op *netops.OpError
	if errors.As(err, &op) {
		err = op
	}
	var k *netops.KernelError
	switch {
	case netops.Passing(err), errors.Is(err, netops.ErrNoLink), errors.Is(err, unix.ENODEV):
		return types.ErrTryAgainLater
	case errors.As(err, &k) && k.Errno == unix.EEXIST:
		return cni.CodeOwned
	case errors.As(err, &k), errors.Is(err, netops.ErrStillThere), errors.Is(err, netops.ErrCannotDelete):
		return cni.CodeKernel
	}
	return 0
}
