package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cni-netops/plugins/internal/isolate"
)

// scenarioVariable tells a process in namespaces of its own which scenario it
// is for.
const scenarioVariable = "DEMO_SCENARIO"

// enter plays a scenario in a process with namespaces of its own. What went
// wrong in the scenario was told there.
func enter(name string) bool {
	exit, err := isolate.Again(nil, scenarioVariable+"="+name)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	return exit == 0
}

// entered is the scenario that this process is to play in its own namespaces.
func entered() (name string, ok bool) {
	if !isolate.Inside() {
		return "", false
	}
	if err := isolate.Furnish(isolate.Room{Seen: filepath.SplitList(os.Getenv("CNI_PATH"))}); err != nil {
		fatal(err)
	}
	return os.Getenv(scenarioVariable), true
}

// fatal ends a scenario that cannot go on.
func fatal(err error) {
	fmt.Fprintln(os.Stderr, "demo:", err)
	os.Exit(1)
}
