package jqexpr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

// hostile are expressions that would have the machine. Where want is nil, time
// or memory ends them, whichever the machine has less of.
var hostile = []struct {
	source, input string
	want          error
}{
	{`"x" * 1e9`, `null`, ErrFailed},
	{`[range(1e9)]`, `null`, nil},
	{`def f: f; f`, `null`, ErrTimeout},
	{`def f: [f]; f`, `null`, nil},
	{`def f: 1 + f; f`, `null`, nil},
	{`def f: f, f; [f]`, `null`, nil},
	{`[limit(1e9; repeat("x"))] | add`, `null`, nil},
	{`("a" * 2000000) | [splits("a*?")] | length`, `null`, nil},
	{`("a" * 1000000) | [match("(((a{0,30}){0,30})b?)*"; "g")] | length`, `null`, nil},
	{`("a" * 20000) | [range(1e6) as $i | test("(a+)+$")] | length`, `null`, nil},
	{`[limit(1e8; repeat(97))] | implode`, `null`, nil},
	{`"x" * 20000000 | [., ., ., .] | join("")`, `null`, ErrFailed},
	{`"x" * 20000000 | [., ., ., .] | add`, `null`, ErrFailed},
	{`"x" * 20000000 | [., ., ., .] | @json`, `null`, ErrFailed},
	{`"x" * 20000000 | [., ., ., .] | tojson`, `null`, ErrFailed},
	{`"\u0000" * 20000000`, `null`, ErrFailed},
	{`null | until(false; .)`, `null`, ErrTimeout},
	{`[while(true; . + 1)]`, `0`, nil},
	{`reduce range(1e9) as $i (0; . + $i)`, `null`, ErrTimeout},
	{`reduce range(60) as $i ("x"; . + .)`, `null`, ErrFailed},
	{`reduce range(60) as $i (1; [., .])`, `null`, nil},
	{`reduce range(60) as $i (1; [., .]) | . == .`, `null`, ErrTimeout},
	{`reduce range(1e9) as $i (1; . * 3) | 0`, `null`, nil},
	{`.[1e8] = 1`, `null`, ErrFailed},
	{`setpath([100000000]; 1)`, `[]`, ErrFailed},
	{`.[1e9] = 1`, `null`, ErrFailed},
	{`[recurse(. + 1)]`, `0`, nil},
	{`"x" * 30000000 | until(false; ltrimstr("y"))`, `null`, ErrTimeout},
	{`[combinations(30)] | length`, `[1, 2, 3, 4]`, nil},
	{`[range(1e5) | tostring] | [combinations(2)]`, `null`, nil},
	{`range(1e9) | empty`, `null`, ErrTimeout},
	{`try (def f: f; f) catch .`, `null`, ErrTimeout},
	{`[.[] as $a | .[] as $b | .[] as $c | .[] as $d | [$a, $b, $c, $d]] | length`, "[" + strings.Repeat("1,", 200) + "1]", nil},
	{`[., .]` + strings.Repeat(` | [., .]`, 400), `1`, nil},
	{`.` + strings.Repeat(` | . + .`, 400), `"x"`, ErrFailed},
	{strings.Repeat("(", 2000000) + "1" + strings.Repeat(")", 2000000), `null`, nil},
	{strings.Repeat("[", 200000) + strings.Repeat("]", 200000), `null`, nil},
	{strings.Repeat("def f: 1;", 100000) + "1", `null`, nil},
}

// Hostile expressions are ended by their limits. The program that has them
// evaluated stays as small as it is, leaves no process behind, and none of them
// gets more than it may.
func TestSweepHostile(t *testing.T) {
	t.Parallel()
	text, err := role(t, fmt.Sprint("hostile ", netopstest.Sample(t, 3))).Output()
	if err != nil {
		t.Fatal(err)
	}
	var parent, children int // KiB
	if n, err := fmt.Sscanf(string(text), "children: no child processes\nlargest child: %d\nVmHWM: %d", &children, &parent); n != 2 {
		t.Fatalf("%s: %v", text, err)
	}
	t.Logf("peak: %d KiB, of a child: %d KiB", parent, children)
	const program = 20 << 10     // the test binary with what it has touched of itself
	if parent > program+48<<10 { // the longest expression is 4 MB, and there are several copies of it
		t.Errorf("peak: %d KiB", parent)
	}
	if children > program+(memoryLimit+threadStacks)>>10 {
		t.Errorf("peak of a child: %d KiB", children)
	}
}

func role(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// A child does not outlive its parent.
func TestParentKilled(t *testing.T) {
	t.Parallel()
	parent := role(t, "endless")
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var child string
	for ; child == "" && t.Context().Err() == nil; time.Sleep(time.Millisecond) {
		child = childOf(t, parent.Process.Pid)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for began := time.Now(); alive(child); time.Sleep(time.Millisecond) {
		if time.Since(began) > time.Minute { // by itself it would never end
			t.Fatalf("%s lives", child)
		}
	}
}

// childOf is the stat file of a process whose parent is another, which has
// become the program that evaluates.
func childOf(t *testing.T, parent int) string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		if fields := statFields(stat); len(fields) > 1 && fields[1] == fmt.Sprint(parent) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
			if bytes.Contains(line, []byte(childArgument)) {
				return stat
			}
		}
	}
	return ""
}

// statFields are those after the name of the program: state, parent, … (proc(5)).
func statFields(stat string) []string {
	text, _ := os.ReadFile(stat)
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

func alive(stat string) bool {
	fields := statFields(stat)
	return len(fields) > 0 && fields[0] != "Z" && fields[0] != "X"
}

func TestAtOnce(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	defer all.Wait()
	for i := range 8 {
		all.Go(func() {
			for _, tt := range []struct {
				source, want string
				err          error
				processor    time.Duration
			}{
				{`"x" * 1e9`, ``, ErrFailed, time.Second},
				{endless, ``, ErrTimeout, 50 * time.Millisecond},
				{fmt.Sprintf(`[1, 2] | map_values(. + %d)`, i), fmt.Sprintf(`[%d,%d]`, i+1, i+2), nil, time.Second},
				{fmt.Sprintf(`[., %d]`, i), fmt.Sprintf(`[null,%d]`, i), nil, time.Second},
			} {
				got, err := within(context.Background(), limits{tt.processor, time.Hour}, tt.source, `null`)
				if got != tt.want || !errors.Is(err, tt.err) {
					t.Errorf("%s: %s, %v", tt.source, got, err)
				}
			}
		})
	}
}

// A program that is no child is told from one that ran out of memory.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "r", "xv1", "rc{"} {
		if got, err := parseAnswer([]byte(text)); err == nil || errors.Is(err, ErrFailed) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	exit := errors.New("exit status 2")
	for _, tt := range []struct {
		cause    error
		ready    bool
		want     error
		isFailed bool
	}{
		{errDying, true, ErrFailed, true},
		{nil, true, ErrFailed, true}, // the kernel's own killer
		{errDying, false, exit, false},
		{nil, false, exit, false},
		{ErrTimeout, true, ErrTimeout, false},
		{ErrTimeout, false, ErrTimeout, false},
		{tooLong(), true, ErrFailed, true},
		{context.Canceled, true, context.Canceled, false},
	} {
		err := whyNoAnswer(tt.cause, exit, tt.ready)
		if !errors.Is(err, tt.want) || errors.Is(err, ErrFailed) != tt.isFailed {
			t.Errorf("%v, ready %t: %v", tt.cause, tt.ready, err)
		}
	}
}
