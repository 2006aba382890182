//go:build linux

package attach

import (
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/netops/kernel"
)

// netns opens CNI_NETNS for ADD and CHECK.
func (r *request) netns() (*kernel.Netns, error) {
	ns, err := r.open(r.Config.Netns)
	if err != nil {
		return nil, noPod(r.Request, err)
	}
	own, err := ns.Own()
	if err == nil {
		err = r.MayChange(own)
	}
	if err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

// RequirePod fails unless CNI_NETNS is a network namespace that ADD or CHECK
// may work in. It is not entered.
func RequirePod(r *cni.Request) error {
	own, err := kernel.IsOwn(r.Config.Netns)
	if err != nil {
		return noPod(r, err)
	}
	return r.MayChange(own)
}

func noPod(r *cni.Request, err error) error {
	return cni.Errorf(types.ErrInvalidEnvironmentVariables, "CNI_NETNS %s: %w", r.Config.Netns, err)
}

// open opens a namespace whose changes are told.
func (r *request) open(path string) (*kernel.Netns, error) {
	ns, err := kernel.Open(path)
	if err == nil {
		r.listen(ns, "pod "+path)
	}
	return ns, err
}

// listen has each operation in a namespace told, if the log has debug lines or
// changes are listened to.
func (r *request) listen(ns *kernel.Netns, where string) {
	if r.onChange == nil && !r.LogsDebug() {
		return
	}
	ns.OnSend = func(command string, took time.Duration, err error) {
		if err != nil {
			r.Debug(command, "took", took, "error", err)
			return
		}
		r.Debug(command, "took", took)
		if r.onChange != nil {
			r.onChange(where, command)
		}
	}
}
