package main

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

// The scripts tell what a user sees at the command line, and what a runtime
// gets. Beside testscript's own there are these commands:
//
//	pod                       makes the namespace $POD: eth0 of another network, net1 of this one
//	fill conf file            writes a configuration in which $WORK and $PREV, a prevResult, are filled in
//	call VERB conf [result]   calls the plugin with a configuration thus filled in, or with a result
//	                          of before as its prevResult
//	call plan conf            the same for the sub-command
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		Setup:              setUpScript,
		RequireUniqueNames: true,
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"pod": makePod, "fill": fillIn, "call": callPlugin},
	})
}

// setUpScript gives each script a pod's name of its own, and what a runtime
// gives a plugin.
func setUpScript(env *testscript.Env) error {
	pod := filepath.Base(env.WorkDir)
	env.Setenv("POD", pod)
	env.Setenv("PREV", `{"interfaces": [{"name": "net1", "sandbox": "/run/netns/`+pod+`"}],
		"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}],
		"routes": [{"dst": "192.168.0.0/24", "gw": "10.1.0.1"}]}`)
	env.Setenv("CNI_CONTAINERID", "c1")
	env.Setenv("CNI_NETNS", "/run/netns/"+pod)
	env.Setenv("CNI_IFNAME", "net1")
	env.Setenv("CNI_PATH", "/opt/cni/bin")
	env.Defer(func() {
		if _, err := os.Stat("/run/netns/" + pod); err == nil {
			_ = exec.Command("ip", "netns", "del", pod).Run()
		}
	})
	return nil
}

func makePod(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: pod")
	}
	pod := ts.Getenv("POD")
	ts.Check(ts.Exec("ip", "netns", "add", pod))
	for _, line := range []string{
		"link add eth0 type veth peer name other0", "link set eth0 up", "link set other0 up", "addr add 10.244.1.5/24 dev eth0",
		"link add net1 type veth peer name other1", "link set net1 up", "link set other1 up", "addr add 10.1.0.5/16 dev net1",
		"route add default via 10.244.1.1",
		"route add default via 10.1.0.1 metric 50",
		"route add 192.168.0.0/24 via 10.1.0.1",
	} {
		ts.Check(ts.Exec("ip", append([]string{"-n", pod}, strings.Fields(line)...)...))
	}
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

func callPlugin(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: call VERB conf [result]")
	}
	conf := fill(ts, args[1])
	if len(args) == 3 {
		conf = withPrevResult(ts, conf, ts.ReadFile(args[2]))
	}
	stdin := filepath.Join(ts.Getenv("WORK"), ".stdin")
	ts.Check(os.WriteFile(stdin, []byte(conf), 0o600))
	command := "route-override"
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
