package plugin

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/record"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// Config is the configuration that a plugin decodes its own keys from.
type Config struct {
	strictjson.Object
	*strictjson.Problems
	Text        []byte            // all of it, as it was received
	Verb        string            // CNI_COMMAND, or "plan"
	ContainerID string            // CNI_CONTAINERID
	IfName      string            // CNI_IFNAME
	Netns       string            // CNI_NETNS
	Args        map[string]string // CNI_ARGS; of a repeated key the last
}

// request is one call by the runtime.
type request struct {
	plugin  Plugin
	verb    string
	args    *skel.CmdArgs
	config  Config
	own     bool // CNI_NETNS_OVERRIDE: CNI_NETNS may be our own namespace
	network string
	version string // of the CNI specification, as asked for
	root    string // of records
	log     *logger
}

// cniKeys are the keys that the CNI specification, its conventions and
// runtimes put into a plugin's configuration.
var cniKeys = []string{"cniVersion", "cniVersions", "name", "type", "args", "runtimeConfig", "capabilities", "prevResult",
	"ipam", "ipMasq", "dns", "disableCheck", "disableGC", "deviceID", "pciBusID", gcKey, gcOldKey}

// newRequest decodes what every verb needs. Problems are kept, for the verbs
// that mind them.
func newRequest(p Plugin, verb string, args *skel.CmdArgs, doc document) *request {
	r := &request{plugin: p, verb: verb, args: args}
	r.own = args.NetnsOverride == "1" || strings.EqualFold(args.NetnsOverride, "true")
	// skel looks only after ADD, with the changes made, and fails a DEL that
	// has nothing to do there. We look first.
	args.NetnsOverride = "true"
	doc.Fold(names(p.allKeys()))
	doc.Text("name", &r.network)
	doc.Text("cniVersion", &r.version)
	r.config = Config{Object: doc.Object, Problems: doc.Problems, Text: doc.text, Verb: verb,
		ContainerID: args.ContainerID, IfName: args.IfName, Netns: args.Netns, Args: parseArgs(args.Args)}
	r.log = &logger{opts: decodeLogOptions(doc.Object), attrs: r.about}
	r.root = r.stateDir()
	return r
}

// about is what every line of the log says.
func (r *request) about() []any {
	about := []any{"plugin", r.plugin.Name, "verb", r.verb}
	add := func(key, value string) {
		if value != "" {
			about = append(about, key, value)
		}
	}
	add("containerID", r.args.ContainerID)
	add("ifName", r.args.IfName)
	if name := r.config.Args["K8S_POD_NAME"]; name != "" {
		add("pod", strings.TrimPrefix(r.config.Args["K8S_POD_NAMESPACE"]+"/"+name, "/"))
	}
	add("traceID", traceID())
	return about
}

// stateDir is where all plugins' records are.
func (r *request) stateDir() string {
	if v, ok := r.config.Get("stateDir"); ok {
		dir, ok := v.Text()
		switch {
		case !ok:
		case !filepath.IsAbs(dir) || strings.ContainsRune(dir, 0):
			v.Invalid("%q is not an absolute path", dir)
		default:
			return filepath.Clean(dir)
		}
	}
	root, err := record.DefaultRoot()
	if err != nil {
		r.config.Invalid("stateDir", "missing: %v", err)
	}
	return root
}

// parseArgs reads CNI_ARGS. Runtimes send unknown, repeated and valueless keys,
// values with "=", and trailing semicolons: none is an error.
func parseArgs(s string) map[string]string {
	args := map[string]string{}
	for pair := range strings.SplitSeq(s, ";") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			args[key] = value
		}
	}
	return args
}

// planner decodes the plugin's own keys, those of args.cni before those of
// the configuration, and notes all problems of both.
func (r *request) planner() Planner {
	c := &r.config
	c.RefuseSlips(names(r.plugin.allKeys()), cniKeys)
	if r.plugin.PerAttachment {
		r.override()
	}
	p := r.plugin.Decode(c)
	for _, w := range c.Warnings {
		r.log.Warn(w)
	}
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
func (p Plugin) Parse(stdin []byte, ifName string) (Planner, *Result, error) {
	doc, _ := parseDocument(stdin)
	r := newRequest(p, "ADD", &skel.CmdArgs{IfName: ifName}, doc)
	r.log = &logger{out: slog.New(slog.DiscardHandler)}
	return r.decode()
}

// netns opens CNI_NETNS for ADD and CHECK.
func (r *request) netns() (*netops.Netns, error) {
	ns, err := r.open(r.args.Netns)
	if err != nil {
		return nil, Errorf(types.ErrInvalidEnvironmentVariables, "CNI_NETNS %s: %w", r.args.Netns, err)
	}
	own, err := ns.Own()
	if err == nil && own && r.verb != "CHECK" && !r.own {
		err = Errorf(types.ErrInvalidNetNS, "CNI_NETNS %s is the plugin's own network namespace; nothing was changed", r.args.Netns)
	}
	if err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
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

// answer runs a verb, and makes its error CNI's.
func (r *request) answer(ctx context.Context, verb func(context.Context, *request) error) error {
	defer r.log.close()
	r.log.Debug("start", "version", buildVersion)
	err := verb(ctx, r)
	if err == nil {
		return nil
	}
	e := cniError(r.plugin.Name, err)
	r.log.Debug("failed", "code", e.Code, "error", err)
	return e
}
