//go:build linux

package attach

import (
	"context"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
)

// status tells whether the next ADD can work.
func status(ctx context.Context, r *request) error {
	planner, err := r.planner()
	if err != nil {
		return cni.Errorf(types.ErrInvalidNetworkConfig, "%w", err) // for an unknown key too
	}
	if err := r.store().Writable(); err != nil {
		return cni.Errorf(types.ErrPluginNotAvailable, "records cannot be saved: %w", err)
	}
	if p, ok := planner.(Prober); ok {
		if err := p.Probe(ctx); err != nil {
			return cni.Errorf(types.ErrPluginNotAvailable, "%w", err)
		}
	}
	return nil
}
