// Command demo shows the plugins at work: for each scenario it builds a
// throw-away network, runs a chain of plugins through libcni as a container
// runtime does, and proves what the plugins promise.
//
// Every scenario runs in user, mount and network namespaces of its own, which
// end with its process: it needs no root, cannot touch the machine's network,
// and has nothing to clean up.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// scenario is an example of what plugins are for. Each stands in a file of its
// own.
type scenario struct {
	name  string // to choose it by, on the command line
	title string
	run   func(*stage)
}

var scenarios = []scenario{routeOverride, routeOverrideTwice, hostRoutes, router, routerSecond, seamless, flannel}

func main() {
	if name, ok := entered(); ok {
		play(name)
	}
	os.Exit(direct(os.Args[1:]))
}

// direct plays the scenarios of these names, or all, each in namespaces of its
// own, and returns the exit code.
func direct(names []string) int {
	for _, name := range names {
		if _, ok := find(name); !ok {
			fmt.Fprintf(os.Stderr, "demo: there is no scenario %q. There are:%s\n", name, list())
			return 2
		}
	}
	start, played, broken := time.Now(), 0, []string{}
	for _, sc := range scenarios {
		if len(names) > 0 && !slices.Contains(names, sc.name) {
			continue
		}
		played++
		if !enter(sc.name) {
			broken = append(broken, sc.name)
		}
	}
	p, took := colours(os.Stdout), time.Since(start).Seconds()
	if len(broken) > 0 {
		fmt.Printf("\n%s in %.1f s: not as promised: %s\n", p.red("demo FAILED"), took, strings.Join(broken, ", "))
		return 1
	}
	fmt.Printf("\n%s: %d of %d scenarios as promised, in %.1f s\n", p.green("demo ok"), played, len(scenarios), took)
	return 0
}

// play runs one scenario in the namespaces that the process is in, and exits.
func play(name string) {
	sc, _ := find(name)
	s := newStage(os.Stdout)
	s.open(sc.title)
	sc.run(s)
	s.close()
}

func find(name string) (scenario, bool) {
	i := slices.IndexFunc(scenarios, func(sc scenario) bool { return sc.name == name })
	if i < 0 {
		return scenario{}, false
	}
	return scenarios[i], true
}

func list() string {
	var b strings.Builder
	for _, sc := range scenarios {
		fmt.Fprintf(&b, "\n  %-22s %s", sc.name, sc.title)
	}
	return b.String()
}
