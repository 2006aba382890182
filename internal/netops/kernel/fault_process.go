//go:build faults

package kernel

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

// faultVariable names the environment variable that tells a plugin which was built
// with the tag "faults" what befalls it: "before" or "after", which operation from
// 0, the signal that the process gets, and the errno that stands for the kernel's
// refusal. Package plugintest sets it.
const faultVariable = "PLUGINTEST_FAULT"

func init() {
	var at string
	var n int
	var signal syscall.Signal
	var errno unix.Errno
	if _, err := fmt.Sscan(os.Getenv(faultVariable), &at, &n, (*int)(&signal), (*uintptr)(&errno)); err != nil {
		return
	}
	seen := map[string]int{}
	faultOfProcess = func(ctx context.Context, when, _ string) error {
		i := seen[when]
		seen[when]++
		if when != at || i != n {
			return nil
		}
		if signal != 0 {
			strike(ctx, signal)
		}
		if errno != 0 {
			return &netops.KernelError{Errno: errno}
		}
		return nil
	}
}

// strike sends the process a signal, and comes back when it has taken effect.
func strike(ctx context.Context, signal syscall.Signal) {
	// A signal to another thread would let this one go on for a moment.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), signal)
	if signal == syscall.SIGTERM {
		<-ctx.Done()
	}
}
