package plugin

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"

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

// Request is one call by the runtime.
type Request struct {
	plugin   Plugin
	verb     string
	args     *skel.CmdArgs
	config   Config
	own      bool // CNI_NETNS_OVERRIDE: CNI_NETNS may be our own namespace
	network  string
	version  string // of the CNI specification, as asked for
	stateDir string // empty where the configuration names none
	log      *logger
	ends     []func() // what is to be done when the request is answered
}

// cniKeys are the keys that the CNI specification, its conventions and
// runtimes put into a plugin's configuration.
var cniKeys = []string{"cniVersion", "cniVersions", "name", "type", "args", "runtimeConfig", "capabilities", "prevResult",
	"ipam", "ipMasq", "dns", "disableCheck", "disableGC", "deviceID", "pciBusID", gcKey, gcOldKey}

// newRequest decodes what every verb needs. Problems are kept, for the verbs
// that mind them.
func newRequest(p Plugin, verb string, args *skel.CmdArgs, doc document) *Request {
	r := &Request{plugin: p, verb: verb, args: args}
	r.own = args.NetnsOverride == "1" || strings.EqualFold(args.NetnsOverride, "true")
	// skel looks only after ADD, with the changes made, and fails a DEL that
	// has nothing to do there. We look first.
	args.NetnsOverride = "true"
	doc.Fold(names(p.allKeys()))
	doc.Text("name", &r.network)
	doc.Text("cniVersion", &r.version)
	r.config = Config{Object: doc.Object, Problems: doc.Problems, Text: doc.text, Verb: verb,
		ContainerID: args.ContainerID, IfName: args.IfName, Netns: args.Netns, Args: parseArgs(args.Args)}
	r.log = &logger{opts: decodeLogOptions(doc.Object, p.Name, p.LogFile), attrs: r.about}
	if v, ok := r.config.Get("stateDir"); ok {
		r.stateDir = absolute(v)
	}
	return r
}

// about is what every line of the log says.
func (r *Request) about() []any {
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

// Attachment is what a request is about; of GC and STATUS, the network alone.
type Attachment struct{ Network, ContainerID, IfName, Netns string }

// Attachment is what the request is about.
func (r *Request) Attachment() Attachment {
	return Attachment{r.network, r.args.ContainerID, r.args.IfName, r.args.Netns}
}

// Warn logs a warning, with further keys and values.
func (r *Request) Warn(msg string, args ...any) { r.log.Warn(msg, args...) }

// Debug logs what helps to find a fault.
func (r *Request) Debug(msg string, args ...any) { r.log.Debug(msg, args...) }

// Strict reads a plugin's own keys, and refuses the configuration if anything
// in it is wrong.
func (r *Request) Strict(read func(*Config)) error {
	r.config.RefuseSlips(names(r.plugin.allKeys()), cniKeys)
	read(&r.config)
	r.tellWarnings()
	return Invalid(r.config.Problems)
}

// Lenient reads a plugin's own keys for a verb that does without those that
// are of no use.
func (r *Request) Lenient(read func(*Config)) {
	read(&r.config)
	r.warnProblems()
}

// tellWarnings tells what of the configuration is to be minded.
func (r *Request) tellWarnings() {
	for _, w := range r.config.Warnings {
		r.log.Warn(w)
	}
}

// warnProblems tells what of the configuration is of no use, for verbs that do
// without.
func (r *Request) warnProblems() {
	for _, p := range r.config.List {
		r.log.Warn(p.String())
	}
}

// answer runs a verb, and makes its error CNI's.
func (r *Request) answer(ctx context.Context, verb Verb) error {
	defer r.log.close()
	defer func() {
		for _, end := range slices.Backward(r.ends) {
			end()
		}
	}()
	r.log.begin()
	r.log.Debug("start", "version", buildVersion)
	err := verb(ctx, r)
	if err == nil {
		return nil
	}
	e := cniError(r.plugin.Name, err)
	r.log.Debug("failed", "code", e.Code, "error", err)
	return e
}
