package plugintest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Scripts runs the scripts of testdata/script, which tell what a user sees at
// the command line, and what a runtime gets. Each has a network namespace of its
// own as $POD, whose interfaces makePod makes, the environment that a runtime
// gives the plugin, and $PREV, a prevResult. Beside
// testscript's own there are these commands:
//
//	pod                       makes the namespace $POD
//	fill conf file            writes a configuration in which $WORK, $PREV and the like are filled in
//	call VERB conf [result]   calls the plugin with a configuration thus filled in, or with a result
//	                          of before as its prevResult
//	call plan conf            the same for the sub-command
func Scripts(t *testing.T, plugin, ifname string, prev func(netns string) string, makePod func(ip func(line string))) {
	s := scripts{plugin, makePod}
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		RequireUniqueNames: true,
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"pod": s.pod, "fill": fillIn, "call": s.call},
		Setup: func(env *testscript.Env) error {
			pod := filepath.Base(env.WorkDir)
			netns := filepath.Join("/run/netns", pod)
			env.Setenv("POD", pod)
			env.Setenv("PREV", prev(netns))
			env.Setenv("CNI_CONTAINERID", "c1")
			env.Setenv("CNI_NETNS", netns)
			env.Setenv("CNI_IFNAME", ifname)
			env.Setenv("CNI_PATH", "/opt/cni/bin")
			env.Defer(func() {
				if _, err := os.Stat(netns); err == nil {
					_ = exec.Command("ip", "netns", "del", pod).Run()
				}
			})
			return nil
		},
	})
}

type scripts struct {
	plugin  string
	makePod func(ip func(line string))
}

func (s scripts) pod(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: pod")
	}
	pod := ts.Getenv("POD")
	ts.Check(ts.Exec("ip", "netns", "add", pod))
	s.makePod(func(line string) { ts.Check(ts.Exec("ip", append([]string{"-n", pod}, strings.Fields(line)...)...)) })
}

func fill(ts *testscript.TestScript, conf string) string {
	return os.Expand(ts.ReadFile(conf), ts.Getenv)
}

func fillIn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fill conf file")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(fill(ts, args[0])), 0o600))
}

func (s scripts) call(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: call VERB conf [result]")
	}
	conf := fill(ts, args[1])
	if len(args) == 3 {
		conf = withPrevResult(ts, conf, ts.ReadFile(args[2]))
	}
	stdin := filepath.Join(ts.Getenv("WORK"), ".stdin")
	ts.Check(os.WriteFile(stdin, []byte(conf), 0o600))
	command := s.plugin
	if args[0] == "plan" {
		command += " plan"
	} else {
		ts.Setenv("CNI_COMMAND", args[0])
	}
	err := ts.Exec("sh", "-c", fmt.Sprintf("%s <'%s'", command, stdin))
	if (err != nil) != neg {
		ts.Fatalf("%s: %v", args[0], err)
	}
}

func withPrevResult(ts *testscript.TestScript, conf, result string) string {
	fields := map[string]json.RawMessage{}
	ts.Check(json.Unmarshal([]byte(conf), &fields))
	fields["prevResult"] = json.RawMessage(result)
	edited, err := json.Marshal(fields)
	ts.Check(err)
	return string(edited)
}
