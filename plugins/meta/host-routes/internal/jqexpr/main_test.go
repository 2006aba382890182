package jqexpr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

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
	switch name, step, _ := strings.Cut(os.Getenv(roleVariable), " "); name {
	case "hostile":
		evaluateHostile(step)
	case "endless":
		_, err := within(context.Background(), limits{time.Hour, time.Hour}, endless, `null`)
		fmt.Fprintln(os.Stdout, err)
	default:
		os.Exit(m.Run())
	}
}

// endless never ends by itself, and takes no memory.
const endless = `def f: f; f`

// evaluateHostile evaluates what is hostile, or a sample, and prints what it cost.
func evaluateHostile(step string) {
	by, err := strconv.Atoi(step)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(hostile); i += by {
		tt := hostile[i]
		l := usual
		if errors.Is(tt.want, ErrFailed) { // a busy machine needs longer to fill the memory
			l.processor = time.Minute
		} else { // it would take any time that there is
			l.processor = 200 * time.Millisecond
		}
		before := children()
		if _, err := within(context.Background(), l, tt.source, tt.input); !ended(err, tt.want) {
			fmt.Fprintf(os.Stdout, "%.60s: %v\n", tt.source, err)
		}
		after := children()
		const teardown = 300 * time.Millisecond // of its memory, by the kernel
		if used := after.processor() - before.processor(); used > max(l.processor, usual.processor)+teardown {
			fmt.Fprintf(os.Stdout, "%.60s: took %s\n", tt.source, used)
		}
	}
	_, err = unix.Wait4(-1, nil, unix.WNOHANG, nil)
	fmt.Fprintln(os.Stdout, "children:", err)
	fmt.Fprintln(os.Stdout, "largest child:", children().Maxrss)
	status, _ := os.ReadFile("/proc/self/status")
	fmt.Fprintln(os.Stdout, regexp.MustCompile(`VmHWM:\s+\d+`).FindString(string(status)))
}

// usage is what processes have used.
type usage struct{ unix.Rusage }

func children() (u usage) {
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &u.Rusage); err != nil {
		fmt.Fprintln(os.Stdout, err)
	}
	return u
}

func (u usage) processor() time.Duration { return time.Duration(u.Utime.Nano() + u.Stime.Nano()) }

// ended reports whether an evaluation ended as wanted; nil stands for either
// of its bounds. With what the C library reserves, memory takes longer to run
// out than there is time.
func ended(err, want error) bool {
	if want == nil || threadStacks > 0 && errors.Is(want, ErrFailed) {
		return errors.Is(err, ErrFailed) || errors.Is(err, ErrTimeout)
	}
	return errors.Is(err, want)
}

// evaluate compiles and evaluates.
func evaluate(source, input string) (string, error) {
	return within(context.Background(), usual, source, input)
}

func within(ctx context.Context, l limits, source, input string) (string, error) {
	e, err := Compile(source, environ)
	if err != nil {
		return "", err
	}
	e.limits = l
	answer, err := e.Evaluate(ctx, []byte(input), arguments)
	return string(answer), err
}

// environ is what env holds.
var environ = []string{"CNI_COMMAND=ADD", "CNI_ARGS=a=b;c=d"}

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
