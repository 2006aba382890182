package jqexpr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVariable makes the test binary the program that a test looks at from
// outside.
const roleVariable = "JQEXPR_TEST_ROLE"

// TestMain lets the test binary be the child that evaluates.
func TestMain(m *testing.M) {
	if exit, is := Child(); is {
		os.Exit(exit)
	}
	switch os.Getenv(roleVariable) {
	case "hostile":
		evaluateHostile()
	case "endless":
		_, err := evaluate(`def f: f; f`, `null`)
		fmt.Fprintln(os.Stdout, err)
	default:
		os.Exit(m.Run())
	}
}

// evaluateHostile evaluates all that is hostile and prints what it cost.
func evaluateHostile() {
	for _, tt := range hostile {
		if _, err := evaluate(tt.source, tt.input); !ended(err, tt.want) {
			fmt.Fprintf(os.Stdout, "%s: %v\n", tt.source, err)
		}
	}
	_, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
	fmt.Fprintln(os.Stdout, "children:", err)
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &usage); err != nil {
		fmt.Fprintln(os.Stdout, err)
	}
	fmt.Fprintln(os.Stdout, "largest child:", usage.Maxrss)
	status, _ := os.ReadFile("/proc/self/status")
	fmt.Fprintln(os.Stdout, regexp.MustCompile(`VmHWM:\s+\d+`).FindString(string(status)))
}

// ended reports whether an evaluation ended as wanted; nil stands for either
// of its bounds. On a busy machine the time may be over before anything fails.
func ended(err, want error) bool {
	if errors.Is(want, ErrTimeout) {
		return errors.Is(err, ErrTimeout)
	}
	return errors.Is(err, ErrFailed) || errors.Is(err, ErrTimeout)
}

// evaluate compiles and evaluates.
func evaluate(source, input string) (string, error) {
	e, err := Compile(source)
	if err != nil {
		return "", err
	}
	answer, err := e.Evaluate(context.Background(), []byte(input), arguments)
	return string(answer), err
}

// arguments is a $cni.
var arguments = map[string]any{
	"command": "ADD", "containerID": "c1", "ifname": "eth0", "netns": "/run/netns/c1",
	"args": map[string]string{"K8S_POD_NAMESPACE": "prod", "K8S_POD_NAME": "web"},
}

// network is a configuration as a runtime gives it.
const network = `{
  "cniVersion": "1.0.0", "name": "pods", "type": "host-routes", "tries": 3, "routing": "…",
  "runtimeConfig": {"gateway": "192.0.2.1", "mac": "0a:58:0a:01:00:05", "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]},
  "prevResult": {
    "cniVersion": "1.0.0",
    "interfaces": [
      {"name": "cni0", "mac": "0a:58:0a:01:00:01"},
      {"name": "veth1a2b3c4d", "mac": "be:ef:00:00:00:01"},
      {"name": "eth0", "mac": "0a:58:0a:01:00:05", "sandbox": "/run/netns/c1"}],
    "ips": [
      {"interface": 2, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
      {"interface": 2, "address": "fd00:1::5/64", "gateway": "fd00:1::1"}],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.96.0.0/12", "gw": "10.1.0.1"}],
    "dns": {"nameservers": ["10.96.0.10"]}}}`
