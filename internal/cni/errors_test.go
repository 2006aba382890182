package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"syscall"
	"testing"

	"github.com/cni-netops/plugins/internal/strictjson"
)

// Which code an error has, however it is wrapped.
func TestCode(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want uint
	}{
		{"its own", Errorf(7, "x"), 7},
		{"its own, around another", Errorf(4, "CNI_NETNS: %w", &fs.PathError{Op: "open", Path: "/x", Err: syscall.EBUSY}), 4},
		{"a signal", errSignal, 11},
		{"a cancelled context", context.Canceled, 11},
		{"a hard link", &os.LinkError{Op: "link", Old: "/x", New: "/y", Err: syscall.EPERM}, 5},
		{"a system call", os.NewSyscallError("socket", syscall.EMFILE), 5},
		{"a file", &fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}, 5},
		{"anything else", errors.New("x"), 999},
	} {
		for how, err := range map[string]error{
			"":         tt.err,
			" wrapped": fmt.Errorf("x: %w", tt.err),
			" joined":  errors.Join(tt.err, errors.New("x")),
		} {
			if got := Code(err); got != tt.want {
				t.Errorf("%s%s: %d, want %d", tt.name, how, got, tt.want)
			}
		}
	}
}

// The message is one line that names the plugin; the rest is details.
func TestCNIError(t *testing.T) {
	e := cniError("example", Errorf(7, "first\nsecond\nthird"))
	if e.Code != 7 || e.Msg != "example: first" || e.Details != "second\nthird" {
		t.Errorf("%+v", e)
	}
	if e := cniError("example", errors.New("only")); e.Code != 999 || e.Msg != "example: only" || e.Details != "" {
		t.Errorf("%+v", e)
	}
}

// A misspelt key is told before the key that is missing because of it, after
// other values, for which the code is.
func TestInvalid(t *testing.T) {
	type problems = []strictjson.Problem
	value := strictjson.Problem{Path: "tries", Text: "x is not a number"}
	slip := strictjson.Problem{Path: "routin", Text: "unknown key", Unsupported: true, Meant: "routing"}
	missing := strictjson.Problem{Path: "routing", Text: "missing"}
	for _, tt := range []struct {
		list problems
		code uint
		want string
	}{
		{problems{missing}, 7, "routing: missing"},
		{problems{missing, slip}, 2, "routin: unknown key (and 1 more)\nrouting: missing"},
		{problems{missing, slip, value}, 7, "tries: x is not a number (and 2 more)\nroutin: unknown key\nrouting: missing"},
		{problems{slip, value}, 7, "tries: x is not a number (and 1 more)\nroutin: unknown key"},
	} {
		err := Invalid(&strictjson.Problems{List: tt.list})
		if Code(err) != tt.code || err.Error() != tt.want {
			t.Errorf("%v: code %d, %q; want %d, %q", tt.list, Code(err), err, tt.code, tt.want)
		}
	}
	if err := Invalid(&strictjson.Problems{}); err != nil {
		t.Error(err)
	}
}

// Every error object tells its version of the specification: the
// configuration's, whatever is wrong with that, else the newest.
func TestErrorObjectTellsItsVersion(t *testing.T) {
	for _, tt := range []struct {
		name, verb, conf string
		env              map[string]string
		code             uint
		version          string
	}{
		{"a bad value", "ADD", `{"cniVersion": "1.0.0", "name": "net", "flag": 7}`, nil, 7, "1.0.0"},
		{"a bad value, for the preview", "plan", `{"cniVersion": "0.3.1", "name": "net", "flag": 7}`, nil, 7, "0.3.1"},
		{"CNI_IFNAME is missing", "ADD", `{"cniVersion": "0.4.0", "name": "net"}`, map[string]string{"CNI_IFNAME": ""}, 4, "0.4.0"},
		{"no such verb", "ATTACH", `{"cniVersion": "0.4.0", "name": "net"}`, nil, 4, "0.4.0"},
		{"no name", "DEL", `{"cniVersion": "1.0.0"}`, nil, 7, "1.0.0"},
		{"a name of another type", "DEL", `{"cniVersion": "1.0.0", "name": 5}`, nil, 6, "1.0.0"},
		{"a version in another case", "DEL", `{"cniversion": "1.0.0", "name": 5}`, nil, 6, "1.0.0"},
		{"a version without this verb", "CHECK", `{"cniVersion": "0.3.1", "name": "net"}`, nil, 1, "0.3.1"},
		{"a version that is not supported", "ADD", `{"cniVersion": "9.9.9", "name": "net"}`, nil, 1, "9.9.9"},
		{"no version", "ADD", `{"name": "net"}`, nil, 1, "1.1.0"},
		{"a version of another type", "ADD", `{"cniVersion": 1, "name": "net"}`, nil, 6, "1.1.0"},
		{"a version that is none", "ADD", `{"cniVersion": "one", "name": "net"}`, nil, 1, "1.1.0"},
		{"no object", "ADD", `[]`, nil, 6, "1.1.0"},
		{"no JSON", "ADD", `{"cniVersion": "1.0.0"`, nil, 6, "1.1.0"},
		{"nothing", "STATUS", ``, nil, 6, "1.1.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := map[string]string{"CNI_COMMAND": tt.verb, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/proc/self/ns/net", "CNI_IFNAME": "net1", "CNI_PATH": "/x"}
			maps.Copy(env, tt.env)
			for key, value := range env {
				t.Setenv(key, value)
			}
			var args []string
			if tt.verb == "plan" {
				args = []string{"plan"}
			}
			exit, printed := runExample(t, tt.conf, args...)
			var got struct {
				CNIVersion string
				Code       uint
				Msg        string
			}
			if err := json.Unmarshal([]byte(printed), &got); err != nil {
				t.Fatalf("%v in %q", err, printed)
			}
			if exit != 1 || got.Code != tt.code || got.CNIVersion != tt.version || got.Msg == "" {
				t.Errorf("exit %d, want code %d and version %q: %s", exit, tt.code, tt.version, printed)
			}
		})
	}
}

// runExample runs the example with a configuration on its standard input.
func runExample(t *testing.T, conf string, args ...string) (exit int, stdout string) {
	t.Helper()
	in, err := Feed([]byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func(in, out *os.File) { os.Stdin, os.Stdout = in, out }(os.Stdin, os.Stdout)
	os.Stdin, os.Stdout = in, to
	exit = example.Run(t.Context(), args)
	_ = to.Close()
	printed, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return exit, string(printed)
}
