//go:build linux

package attach

import (
	"context"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/cniresult"
	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/record"
)

// Decode reads a plugin's own keys. It notes problems in the configuration; what
// it returns then is not used.
type Decode func(*cni.Config) Planner

// Policy is in what plugins differ beside their decisions.
type Policy struct {
	// PrevResultOptional says that the plugin may stand first in a chain.
	PrevResultOptional bool
	// KeysFromArgs says that args.cni may override the keys. A user
	// who may annotate a pod can set it, so the keys must concern the pod only.
	KeysFromArgs bool
	// DelWithoutRecord says that a DEL which finds no record goes by what
	// [Planner.Expect] says of the host, and removes of that what carries our
	// protocol.
	DelWithoutRecord bool
	// CheckIgnoresPrevResult says that results do not list what the plugin
	// does, so that CHECK judges all of it.
	CheckIgnoresPrevResult bool
}

// Verbs are those of a plugin of this policy.
func (p Policy) Verbs(decode Decode) cni.Verbs {
	by := func(verb func(context.Context, *request) error) cni.Verb {
		return func(ctx context.Context, r *cni.Request) error {
			own := p.request(r, decode)
			defer own.closeHost()
			return withCode(verb(ctx, own))
		}
	}
	return cni.Verbs{Add: by(add), Check: by(check), Del: by(del), GC: by(gc), Status: by(status), Plan: by(plan), GCByHand: by(gcByHand), Show: Show}
}

// Parse is what an ADD makes of its standard input before it looks at the pod.
// It touches no file and logs nothing: for tests.
func (p Policy) Parse(plugin cni.Plugin, decode Decode, stdin []byte, ifName string) (Planner, *cniresult.Result, error) {
	r := cni.NewRequest(plugin, "ADD", &skel.CmdArgs{IfName: ifName}, stdin)
	r.Mute()
	return p.request(r, decode).decode()
}

// request is one to a plugin that decides by a planner.
type request struct {
	*cni.Request
	policy        Policy
	decodePlanner Decode
	root          string        // of all plugins' records
	host          *kernel.Netns // nil until it is opened
	// byHand says that an administrator calls, who may see other folders than
	// the runtime.
	byHand bool
	// inhabitants are the namespaces that processes are in, by the interface that
	// tells them apart, once they were looked at.
	inhabitants map[string]map[netops.Identity]bool
	// onChange, where it is set, is told what is changed, and where.
	onChange func(where, command string)
}

func (p Policy) request(r *cni.Request, decode Decode) *request {
	root, err := record.Root(r.StateDir)
	if err != nil {
		r.Config.Invalid("stateDir", "missing: %v", err)
	}
	return &request{Request: r, policy: p, decodePlanner: decode, root: root}
}

// planner decodes the plugin's own keys, those of args.cni before those of the
// configuration, and refuses the configuration for any problem of both.
func (r *request) planner() (p Planner, err error) {
	err = r.Strict(func(c *cni.Config) { p = r.readKeys(c) })
	return p, err
}

func (r *request) readKeys(c *cni.Config) Planner {
	if r.policy.KeysFromArgs {
		r.TakeArgs()
	}
	return r.decodePlanner(c)
}

// decode is planner and prevResult, for ADD and CHECK. A problem of the
// configuration goes before one of prevResult.
func (r *request) decode() (p Planner, prev *cniresult.Result, err error) {
	err = r.Strict(func(c *cni.Config) {
		p = r.readKeys(c)
		if !r.policy.PrevResultOptional && !c.Has("prevResult") {
			c.Invalid("prevResult", "missing: %s must stand after the plugin that makes the interface", r.Plugin.Name)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	raw, ok := r.Config.Get("prevResult")
	if !ok {
		return p, cniresult.None(r.Version), nil
	}
	prev, err = cniresult.Decode(raw.Raw, r.Version)
	return p, prev, err
}

func (r *request) prepare(ctx context.Context, p Planner, prev *cniresult.Result, pod *kernel.Netns) (Planner, error) {
	if unprepared, ok := p.(Preparer); ok {
		return unprepared.Prepare(ctx, PrepareInput{prev, pod, r.openHost})
	}
	return p, nil
}

func (r *request) key() record.Key {
	return record.Key{Network: r.Config.Network, ContainerID: r.Config.ContainerID, IfName: r.Config.IfName}
}

func (r *request) store() record.Store { return record.NewStore(r.root, r.Plugin.Name) }
