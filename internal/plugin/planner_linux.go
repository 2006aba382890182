package plugin

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
)

// Planner decides what an attachment changes. Its methods are pure.
type Planner interface {
	// Query is what to look at in the pod before deciding.
	Query(prev *Result) netops.Query
	// Plan decides what ADD does.
	Plan(prev *Result, pod netops.Snapshot) (Decision, error)
	// Expect is what must hold after ADD, as far as configuration and
	// prevResult tell: for an attachment without a record.
	Expect(prev *Result, pod netops.Snapshot) (netops.Plan, error)
	// Unjudged says that CHECK leaves out what this plugin did.
	Unjudged() bool
}

// Preparer is a planner that has to evaluate something, or to wait for it,
// before it can decide. ADD calls Prepare without any lock; verbs that have a
// record to go by do not call it.
type Preparer interface {
	Planner
	Prepare(context.Context, Surroundings) (Planner, error)
}

// Surroundings are what a planner may look at before it decides.
type Surroundings struct {
	Prev *Result
	Pod  *netops.Netns // nil for a DEL without a record
	// Host opens the host's namespace, which is not the caller's to close.
	Host func() (*netops.Netns, error)
}

func (r *request) prepare(ctx context.Context, p Planner, prev *Result, pod *netops.Netns) (Planner, error) {
	if unprepared, ok := p.(Preparer); ok {
		return unprepared.Prepare(ctx, Surroundings{prev, pod, r.openHost})
	}
	return p, nil
}

// Announcer is a planner that has something to tell the pod's links when its
// change is made.
type Announcer interface {
	Planner
	Announce(ctx context.Context, pod *netops.Netns, made netops.Change) error
}

// Prober is a planner that needs more for the next ADD than a configuration
// that is valid and a place for records.
type Prober interface {
	Planner
	Probe(context.Context) error
}

// Decision is what a planner has decided.
type Decision struct {
	Want netops.Plan
	// Tries is how often what fails on the host is tried, in all.
	Tries int
	// Result is prevResult without what goes; Listed are the entries that it
	// gains, each once its route is there.
	Result *Result
	Listed []Listing
	// Lenient says that a route that cannot be added is left out.
	Lenient bool
	// Warnings tell what is left out already.
	Warnings []string
	// Idle says that nothing is done, and nothing recorded.
	Idle bool
}

// Listing is a route as the result shows it.
type Listing struct {
	Entry ListedRoute
	For   *netops.Route
}

// Planned are the verbs of a plugin that decides by a planner. decode reads its
// own keys; problems are noted in the configuration, and what is returned then
// is not used.
func Planned(decode func(*Config) Planner) Verbs {
	by := func(verb func(context.Context, *request) error) Verb {
		return func(ctx context.Context, r *Request) error { return verb(ctx, plannedRequest(r, decode)) }
	}
	return Verbs{Add: by(add), Check: by(check), Del: by(del), GC: by(gc), Status: by(status), Plan: by(plan)}
}

// request is one to a plugin that decides by a planner.
type request struct {
	*Request
	decodePlanner func(*Config) Planner
	root          string        // of all plugins' records
	host          *netops.Netns // nil until it is opened
}

func plannedRequest(r *Request, decode func(*Config) Planner) *request {
	root := r.stateDir
	if root == "" {
		var err error
		if root, err = record.DefaultRoot(); err != nil {
			r.config.Invalid("stateDir", "missing: %v", err)
		}
	}
	return &request{Request: r, decodePlanner: decode, root: root}
}

// planner decodes the plugin's own keys, those of args.cni before those of
// the configuration, and notes all problems of both.
func (r *request) planner() Planner {
	c := &r.config
	c.RefuseSlips(names(r.plugin.allKeys()), cniKeys)
	if r.plugin.PerAttachment {
		r.override()
	}
	p := r.decodePlanner(c)
	r.tellWarnings()
	return p
}

// override takes keys from args.cni.
func (r *request) override() {
	c := &r.config
	args, ok := c.Object.Object("args")
	if !ok {
		return
	}
	own, ok := args.Object("cni")
	if !ok {
		return
	}
	own.Fold(names(r.plugin.Keys))
	own.RefuseSlips(names(r.plugin.allKeys()), nil)
	for _, k := range frameKeys {
		if own.Has(k.Name) {
			c.Unsupported(own.At(k.Name), "may not be set for a single attachment")
		}
	}
	c.Object = c.Overridden(own, names(r.plugin.Keys))
}

// decode is planner and prevResult, for ADD and CHECK. A problem of the
// configuration goes before one of prevResult.
func (r *request) decode() (Planner, *Result, error) {
	p := r.planner()
	raw, ok := r.config.Get("prevResult")
	if !ok && !r.plugin.Alone {
		r.config.Invalid("prevResult", "missing: %s must stand after the plugin that makes the interface", r.plugin.Name)
	}
	if err := Invalid(r.config.Problems); err != nil {
		return nil, nil, err
	}
	if !ok {
		return p, noResult(r.version), nil
	}
	prev, err := decodeResult(raw.Raw, r.version)
	return p, prev, err
}

// Parse is what ADD makes of its standard input before it looks at the pod: no
// file is touched, and nothing logged.
func Parse(p Plugin, decode func(*Config) Planner, stdin []byte, ifName string) (Planner, *Result, error) {
	doc, _ := parseDocument(stdin)
	r := plannedRequest(newRequest(p, "ADD", &skel.CmdArgs{IfName: ifName}, doc), decode)
	r.log = &logger{out: slog.New(slog.DiscardHandler)}
	return r.decode()
}

// netns opens CNI_NETNS for ADD and CHECK.
func (r *request) netns() (*netops.Netns, error) {
	ns, err := r.open(r.args.Netns)
	if err != nil {
		return nil, r.noPod(err)
	}
	own, err := ns.Own()
	if err == nil {
		err = r.mayChange(own)
	}
	if err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

// RequirePod fails unless CNI_NETNS is a network namespace that ADD or CHECK
// may work in. It is not entered.
func (r *Request) RequirePod() error {
	own, err := netops.IsOwn(r.args.Netns)
	if err != nil {
		return r.noPod(err)
	}
	return r.mayChange(own)
}

func (r *Request) noPod(err error) error {
	return Errorf(types.ErrInvalidEnvironmentVariables, "CNI_NETNS %s: %w", r.args.Netns, err)
}

func (r *Request) mayChange(own bool) error {
	if own && r.verb != "CHECK" && !r.own {
		return Errorf(types.ErrInvalidNetNS, "CNI_NETNS %s is the plugin's own network namespace; nothing was changed", r.args.Netns)
	}
	return nil
}

// open opens a namespace whose changes are logged, if anybody reads them.
func (r *request) open(path string) (*netops.Netns, error) {
	ns, err := netops.Open(path)
	if err == nil && r.log.debugs() {
		ns.OnSend = r.log.operation
	}
	return ns, err
}

// nothingThere reports whether a path leads to no network namespace, so that
// the pod behind it is gone.
func nothingThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, netops.ErrNotNamespace) ||
		errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.ELOOP)
}

func (r *request) key() record.Key {
	return record.Key{Network: r.network, ContainerID: r.args.ContainerID, IfName: r.args.IfName}
}

func (r *request) store() record.Store { return record.NewStore(r.root, r.plugin.Name) }
