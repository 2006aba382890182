package cni

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/pkg/utils/buildversion"

	"github.com/cni-netops/plugins/internal/strictjson"
)

// Config is the configuration that a plugin decodes its own keys from.
type Config struct {
	strictjson.Object
	*strictjson.Problems
	Attachment
	Text []byte            // all of it, as it was received
	Verb string            // CNI_COMMAND, or "plan"
	Args map[string]string // CNI_ARGS; of a repeated key the last
}

// Attachment is what a request is about; of GC and STATUS, the network alone.
type Attachment struct {
	Network     string // the configuration's name
	ContainerID string // CNI_CONTAINERID
	IfName      string // CNI_IFNAME
	Netns       string // CNI_NETNS
}

// Request is one call by the runtime.
type Request struct {
	Plugin   Plugin
	Config   Config
	Version  string // of the CNI specification, as asked for
	StateDir string // empty where the configuration names none

	ownPod bool // CNI_NETNS_OVERRIDE: CNI_NETNS may be our own namespace
	log    *logger
}

// cniKeys are the keys that the CNI specification, its conventions and
// runtimes put into a plugin's configuration.
var cniKeys = []string{"cniVersion", "cniVersions", "name", "type", "args", "runtimeConfig", "capabilities", "prevResult",
	"ipam", "ipMasq", "dns", "disableCheck", "disableGC", "deviceID", "pciBusID", gcKey, gcOldKey}

// NewRequest is a call for a verb with this configuration: for tests.
func NewRequest(p Plugin, verb string, args *skel.CmdArgs, config []byte) *Request {
	doc, _ := parseDocument(config)
	return newRequest(p, verb, args, doc)
}

// Mute has the request log nothing.
func (r *Request) Mute() { r.log.out = slog.New(slog.DiscardHandler) }

// newRequest decodes what every verb needs. Problems are kept, for the verbs
// that mind them.
func newRequest(p Plugin, verb string, args *skel.CmdArgs, doc document) *Request {
	r := &Request{Plugin: p}
	r.ownPod = args.NetnsOverride == "1" || strings.EqualFold(args.NetnsOverride, "true")
	// skel looks only after ADD, with the changes made, and fails a DEL that
	// has nothing to do there. We look first.
	args.NetnsOverride = "true"
	doc.FoldCase(names(p.allKeys()))
	r.Config = Config{Object: doc.Object, Problems: doc.Problems, Text: doc.text, Verb: verb, Args: parseArgs(args.Args),
		Attachment: Attachment{ContainerID: args.ContainerID, IfName: args.IfName, Netns: args.Netns}}
	doc.Text("name", &r.Config.Network)
	doc.Text("cniVersion", &r.Version)
	r.log = &logger{opts: decodeLogOptions(doc.Object, p.Name, p.LogFile), attrs: r.about}
	if v, ok := r.Config.Get("stateDir"); ok {
		r.StateDir = absolute(v)
	}
	return r
}

// about is what every line of the log says.
func (r *Request) about() []any {
	about := []any{"plugin", r.Plugin.Name, "verb", r.Config.Verb}
	add := func(key, value string) {
		if value != "" {
			about = append(about, key, value)
		}
	}
	add("containerID", r.Config.ContainerID)
	add("ifName", r.Config.IfName)
	add("pod", r.Pod())
	add("traceID", traceID())
	return about
}

// Pod is namespace/name of the pod, as Kubernetes' runtimes tell them in
// CNI_ARGS; empty where they do not.
func (r *Request) Pod() string {
	name := r.Config.Args["K8S_POD_NAME"]
	if name == "" {
		return ""
	}
	return strings.TrimPrefix(r.Config.Args["K8S_POD_NAMESPACE"]+"/"+name, "/")
}

// absolute is a value that is to be an absolute path, cleaned; empty where it
// is none.
func absolute(v strictjson.Value) string {
	dir, ok := v.Text()
	switch {
	case !ok:
	case !filepath.IsAbs(dir) || strings.ContainsRune(dir, 0):
		v.Invalid("%q is not an absolute path", dir)
	default:
		return filepath.Clean(dir)
	}
	return ""
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

// Error logs an error, with further keys and values.
func (r *Request) Error(msg string, args ...any) { r.log.Error(msg, args...) }

// Warn logs a warning, with further keys and values.
func (r *Request) Warn(msg string, args ...any) { r.log.Warn(msg, args...) }

// Debug logs what helps to find a fault.
func (r *Request) Debug(msg string, args ...any) { r.log.Debug(msg, args...) }

// LogsDebug reports whether the log has debug lines at all.
func (r *Request) LogsDebug() bool { return r.log.debugs() }

// MayChange fails unless ADD may work in the namespace at CNI_NETNS, which is
// the plugin's own one or not.
func (r *Request) MayChange(own bool) error {
	if own && r.Config.Verb != "CHECK" && !r.ownPod {
		return Errorf(types.ErrInvalidNetNS, "CNI_NETNS %s is the plugin's own network namespace; nothing was changed", r.Config.Netns)
	}
	return nil
}

// Strict reads a plugin's own keys, and refuses the configuration if anything
// in it is wrong.
func (r *Request) Strict(read func(*Config)) error {
	if r.Config.Has("plugins") { // by hand: a runtime gives one entry at a time
		return Errorf(types.ErrInvalidNetworkConfig, "plugins: a whole list of plugins: %s takes its own entry of it, "+
			"with the list's cniVersion and name, and prevResult", r.Plugin.Name)
	}
	r.Config.RejectMisspelled(names(r.Plugin.allKeys()), cniKeys)
	read(&r.Config)
	for _, w := range r.Config.Warnings {
		r.log.Warn(w)
	}
	return Invalid(r.Config.Problems)
}

// Lenient reads a plugin's own keys for a verb that does without those that
// are of no use.
func (r *Request) Lenient(read func(*Config)) {
	read(&r.Config)
	for _, p := range r.Config.List {
		r.log.Warn(p.String())
	}
}

// TakeArgs has args.cni override the plugin's own keys.
func (r *Request) TakeArgs() {
	c := &r.Config
	args, ok := c.Object.Object("args")
	if !ok {
		return
	}
	own, ok := args.Object("cni")
	if !ok {
		return
	}
	own.FoldCase(names(r.Plugin.Keys))
	own.RejectMisspelled(names(r.Plugin.allKeys()), nil)
	for _, k := range commonKeys {
		if own.Has(k.Name) {
			c.Unsupported(own.At(k.Name), "may not be set for a single attachment")
		}
	}
	c.Object = c.Overridden(own, names(r.Plugin.Keys))
}

// Answer runs a verb, and makes its error CNI's.
func (r *Request) Answer(ctx context.Context, verb Verb) error {
	err := r.run(ctx, verb)
	if err == nil {
		return nil
	}
	return cniError(r.Plugin.Name, err)
}

// run runs a verb, with its log.
func (r *Request) run(ctx context.Context, verb Verb) error {
	defer r.log.close()
	r.log.begin()
	r.log.Debug("start", "version", buildversion.BuildVersion)
	err := verb(ctx, r)
	if err != nil {
		r.log.Debug("failed", "code", Code(err), "error", err)
	}
	return err
}
