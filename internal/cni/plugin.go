// Package cni speaks the CNI protocol for a plugin: it reads the request from
// the environment and standard input, hands it to the plugin's function for
// that verb, and answers errors in CNI's terms. It logs, too.
//
// It knows neither the kernel nor what a plugin does, and runs on every system
// that Go does.
package cni

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/utils/buildversion"

	"github.com/cni-netops/plugins/internal/show"
)

// Plugin is what a plugin says of itself.
type Plugin struct {
	Name    string
	Purpose string // one sentence, for --help
	Keys    []Key
	// Since is the first version of the CNI specification that is supported.
	Since string
	// LogFile is where log_options without a log_file log to; empty is nowhere.
	LogFile string
	// Verbs carry out its requests.
	Verbs Verbs
	// NoGC is why it refuses the sub-command gc, where it has none.
	NoGC string
}

// Verbs carry out the verbs of CNI that a runtime may ask for, and the
// sub-commands plan, gc and show.
type Verbs struct {
	Add, Check, Del, GC, Status, Plan Verb
	// GCByHand is the sub-command gc, where there is one. It gets neither a
	// configuration nor CNI_* variables: its request tells where records are, and
	// nothing else.
	GCByHand Verb
	// Show lists what is on the node, of which show prints what is asked for.
	Show func(context.Context, show.Query) ([]show.Record, error)
}

// Verb carries out one request.
type Verb func(context.Context, *Request) error

// Key is a key of the configuration.
type Key struct{ Name, Help string }

// Main runs the plugin and exits.
func Main(p Plugin) { os.Exit(p.Run(context.Background(), os.Args[1:])) }

// Run runs the plugin with the process's environment and standard streams,
// and returns the exit code.
func (p Plugin) Run(ctx context.Context, args []string) int {
	preview := false
	switch {
	case len(args) == 0:
	case len(args) == 1 && args[0] == "plan":
		preview = true
	case args[0] == "gc":
		return p.gcByHand(ctx, args[1:])
	case args[0] == "show":
		return p.show(ctx, args[1:])
	case len(args) == 1 && args[0] == "--version":
		p.printVersion(os.Stdout)
		return 0
	case len(args) == 1 && (args[0] == "--help" || args[0] == "-h"):
		p.printHelp(os.Stdout)
		return 0
	default:
		fmt.Fprintf(os.Stderr, "%s: unknown arguments %q\n", p.Name, args)
		p.printHelp(os.Stderr)
		return 2
	}
	// A closed standard output is an error like any other: ADD takes its
	// changes back, and DEL goes on.
	signal.Ignore(syscall.SIGPIPE)
	doc, err := p.serve(ctx, preview)
	if err == nil {
		return 0
	}
	_ = printError(os.Stdout, cmp.Or(doc.version(), version.Current()), err)
	return 1
}

// serve hands the request to the verb that it is for, and returns the
// configuration with the error.
func (p Plugin) serve(ctx context.Context, preview bool) (doc document, failed *types.Error) {
	name := os.Getenv("CNI_COMMAND")
	verb := func(run Verb) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error {
			return newRequest(p, name, args, doc).Answer(ctx, run)
		}
	}
	v := p.Verbs
	funcs := skel.CNIFuncs{Add: verb(v.Add), Check: verb(v.Check), Del: verb(v.Del), GC: verb(v.GC), Status: verb(v.Status)}
	if preview {
		// A preview is an ADD that stops before the first change.
		name = "plan"
		_ = os.Setenv("CNI_COMMAND", "ADD")
		if os.Getenv("CNI_PATH") == "" {
			_ = os.Setenv("CNI_PATH", "/opt/cni/bin") // skel asks for it, nothing uses it
		}
		funcs.Add = verb(v.Plan)
	}
	if name != "" && name != "VERSION" {
		var err error
		if doc, err = readDocument(); err != nil {
			return doc, types.NewError(types.ErrIOFailure, p.Name+": read the configuration", err.Error())
		}
	}
	failed = skel.PluginMainFuncsWithError(funcs, p.versions(), p.about())
	if failed != nil && failed.Code == types.ErrDecodingFailure && doc.broken != "" {
		failed.Msg = p.Name + ": the configuration " + doc.broken
	}
	return doc, failed
}

func (p Plugin) versions() version.PluginInfo { return version.VersionsStartingFrom(p.Since) }

func (p Plugin) about() string { return buildversion.BuildString(p.Name) }

func (p Plugin) printVersion(w io.Writer) {
	fmt.Fprintf(w, "%s\nCNI protocol versions supported: %s\n", p.about(), strings.Join(p.versions().SupportedVersions(), ", "))
}

func (p Plugin) printHelp(w io.Writer) {
	p.printVersion(w)
	fmt.Fprintf(w, "\n%s\n\nA container runtime calls it with CNI_COMMAND=ADD, DEL, CHECK, GC, STATUS or VERSION.\n"+
		"By hand, with the usual CNI_* variables:\n\n"+
		"  %s plan < config.json   show what ADD would do, and change nothing\n"+
		"  %s show                 list what is on this node, for whom, and what differs (show --help)\n",
		p.Purpose, p.Name, p.Name)
	if p.Verbs.GCByHand != nil {
		fmt.Fprintf(w, "\nBy hand, without any configuration; %s DIR is where records are (default /run/cni):\n\n"+
			"  %s gc [%s DIR]   take back what belongs to pods that are gone\n", stateDirFlag, p.Name, stateDirFlag)
	}
	fmt.Fprint(w, "\nKeys of its configuration:\n\n")
	width := 0
	for _, k := range p.allKeys() {
		width = max(width, len(k.Name))
	}
	for _, k := range p.allKeys() {
		fmt.Fprintf(w, "  %-*s  %s\n", width, k.Name, k.Help)
	}
}

// commonKeys are the keys that every plugin has.
var commonKeys = []Key{
	{"stateDir", "folder for records, below which each plugin has its own (default /run/cni)"},
	{"log_options", "log_level (debug, info, warn, error), log_file, log_max_size (MB), log_max_age (days), log_max_count"},
}

// allKeys are the plugin's own keys, and the common ones that it does not
// describe itself.
func (p Plugin) allKeys() []Key {
	all := p.Keys[:len(p.Keys):len(p.Keys)]
	for _, k := range commonKeys {
		if !slices.ContainsFunc(p.Keys, func(own Key) bool { return own.Name == k.Name }) {
			all = append(all, k)
		}
	}
	return all
}

func names(keys []Key) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = k.Name
	}
	return list
}
