package cni

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
)

// logged is a request with these log_options.
func logged(options string) *Request {
	return newExample(`, "log_options": {` + options + `}`)
}

// sayAll writes a line of each level.
func sayAll(r *Request) {
	defer r.log.close()
	r.Debug("ip route add 10.0.0.0/8 dev net1", "took", time.Millisecond)
	r.log.to().Info("told")
	r.log.Warn("warned")
	r.log.Error("failed")
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What of the four levels is written where.
func TestLogLevels(t *testing.T) {
	const none, errors, warnings, infos, all = 0, 1, 2, 3, 4
	for _, tt := range []struct {
		options      string
		stderr, file int // lines
	}{
		{``, warnings, none},
		{`"log_level": "debug"`, all, none},
		{`"log_level": "INFO"`, infos, none},
		{`"log_level": "warn"`, warnings, none},
		{`"log_level": "error"`, warnings, none},
		{`"log_level": null`, warnings, none},
		{`"log_level": "nonsense"`, warnings, none},
		{`"log_file": "FILE"`, warnings, infos},
		{`"log_file": "FILE", "log_level": "debug"`, warnings, all},
		{`"log_file": "FILE", "log_level": "error"`, warnings, errors},
	} {
		file := filepath.Join(t.TempDir(), "made", "on", "demand", "example.log")
		r := logged(strings.ReplaceAll(tt.options, "FILE", file))
		if got := strings.Count(stderr(t, func() { sayAll(r) }), "\n"); got != tt.stderr {
			t.Errorf("{%s}: %d lines on stderr, want %d", tt.options, got, tt.stderr)
		}
		if tt.file == none {
			continue
		}
		if got := strings.Count(readFile(t, file), "\n"); got != tt.file {
			t.Errorf("{%s}: %d lines in the file, want %d", tt.options, got, tt.file)
		}
	}
}

// The verbose flavour logs everything to a file of its own, which does not fill
// the disk. What log_options asks for holds there too.
func TestVerboseFlavour(t *testing.T) {
	verboseLogs = filepath.Join(t.TempDir(), "cni")
	defer func() { verboseLogs = "" }()
	own, other := filepath.Join(verboseLogs, "example.log"), filepath.Join(t.TempDir(), "other.log")
	for _, tt := range []struct {
		options, file string
		lines         int
	}{
		{``, own, 4},
		{`"log_level": "nonsense"`, own, 4},
		{`"log_level": "warn"`, own, 2},
		{`"log_file": "` + other + `"`, other, 4},
		{`"log_file": "` + other + `", "log_level": "error"`, other, 1},
	} {
		_, _ = os.Remove(own), os.Remove(other)
		r := logged(tt.options)
		if got := stderr(t, func() { sayAll(r) }); strings.Count(got, "\n") != 2 {
			t.Errorf("{%s}: stderr\n%s", tt.options, got)
		}
		if got := strings.Count(readFile(t, tt.file), "\n"); got != tt.lines {
			t.Errorf("{%s}: %d lines in the file, want %d", tt.options, got, tt.lines)
		}
	}
	if file := newExample("").log.opts.file; file.maxSize != 100<<20 || file.maxCount != 3 {
		t.Errorf("%+v", file)
	}
}

// nothing is a verb that has nothing to say.
func nothing(context.Context, *Request) error { return nil }

// Without anything to say there is nothing on stderr, and nothing in the file.
func TestLogIsQuiet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "example.log")
	r := logged(`"log_file": "` + file + `"`)
	if got := stderr(t, func() { _ = r.Answer(t.Context(), nothing) }); got != "" {
		t.Errorf("stderr: %s", got)
	}
	if got := readFile(t, file); got != "" {
		t.Errorf("in the file: %s", got)
	}
}

func TestLogRotation(t *testing.T) {
	file := logged(`"log_file": "/x.log", "log_max_size": 5, "log_max_age": 6, "log_max_count": 7`).log.opts.file
	if file.path != "/x.log" || file.maxSize != 5<<20 || file.maxAge != 6*24*time.Hour || file.maxCount != 7 {
		t.Errorf("%+v", file)
	}
	if file = logged(`"log_file": "/x.log"`).log.opts.file; file.maxSize != 100<<20 || file.maxAge != 0 || file.maxCount != 0 {
		t.Errorf("by default %+v", file)
	}

	// A file that is over its size gives way to a new one; of the old ones some
	// are kept, and what only looks like one is left alone.
	dir := t.TempDir()
	full := filepath.Join(dir, "example.log")
	old := func(days int) string {
		return filepath.Join(dir, "example-"+time.Now().UTC().AddDate(0, 0, -days).Format(oldTime)+".log")
	}
	for _, path := range []string{old(1), old(2), old(3), old(400), filepath.Join(dir, "example-mine.log"), filepath.Join(dir, "other.log")} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(full, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	r := logged(`"log_file": "` + full + `", "log_max_size": 1, "log_max_count": 3, "log_max_age": 300`)
	if got := stderr(t, func() { sayAll(r) }); strings.Contains(got, "cannot write") {
		t.Error(got)
	}
	// This one, the one set aside, two of those before, and two that are none.
	if files, _ := filepath.Glob(dir + "/*"); len(files) != 6 || len(readFile(t, full)) > 1000 {
		t.Errorf("%d bytes in %s, files %v", len(readFile(t, full)), full, files)
	}
	for path, want := range map[string]bool{old(400): false, filepath.Join(dir, "example-mine.log"): true, filepath.Join(dir, "other.log"): true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Processes that write one file at once lose no line, and set it aside once.
func TestLogInParallel(t *testing.T) {
	const writers, each = 8, 200
	full := filepath.Join(t.TempDir(), "example.log")
	line := []byte(strings.Repeat("x", 99) + "\n")
	var done sync.WaitGroup
	for range writers {
		done.Go(func() {
			f := &logFile{path: full, maxSize: writers * each * 100 / 2, complain: slog.New(slog.NewTextHandler(os.Stderr, nil))}
			defer f.close()
			for range each {
				if _, err := f.Write(line); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done.Wait()
	files, _ := filepath.Glob(filepath.Dir(full) + "/*")
	lines := 0
	for _, path := range files {
		lines += strings.Count(readFile(t, path), string(line))
	}
	if lines != writers*each || len(files) < 2 || len(files) > 4 {
		t.Errorf("%d lines of %d in %d files", lines, writers*each, len(files))
	}
}

// A log file that cannot be written is one warning, also of a request that has
// nothing to say, and takes nothing away from stderr.
func TestLogFileThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{dir, plain + "/below/example.log", "/proc/nowhere/example.log"} {
		r := logged(`"log_file": "` + file + `", "log_level": "debug"`)
		got := stderr(t, func() { sayAll(r) })
		if strings.Count(got, "cannot write the log file") != 1 || strings.Count(got, "\n") != 3 ||
			!strings.Contains(got, "log_file="+file) || !strings.Contains(got, "warned") || !strings.Contains(got, "failed") {
			t.Errorf("%s: stderr\n%s", file, got)
		}
		for _, verb := range []Verb{nothing, func(_ context.Context, r *Request) error { r.Warn("warned"); return nil }} {
			r := logged(`"log_file": "` + file + `"`)
			got := stderr(t, func() { _ = r.Answer(t.Context(), verb) })
			if strings.Count(got, "cannot write the log file") != 1 {
				t.Errorf("%s: stderr of a request\n%s", file, got)
			}
		}
	}
}

// Each line says whose it is, as far as the runtime told.
func TestLogLineSaysWhoseItIs(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, tt := range []struct{ args, parent, want string }{
		{"", "", `level=WARN msg=x plugin=example verb=ADD containerID=c1 ifName=net1`},
		{"IgnoreUnknown=1;K8S_POD_NAME=p-1;K8S_POD_NAMESPACE=prod;", parent,
			`level=WARN msg=x plugin=example verb=ADD containerID=c1 ifName=net1 pod=prod/p-1 traceID=4bf92f3577b34da6a3ce929d0e0e4736`},
		{"K8S_POD_NAME=p", "", `ifName=net1 pod=p`},
		{"K8S_POD_NAMESPACE=prod", "00-4bf9-00f0-01", `ifName=net1`},
		{"", "nonsense", `ifName=net1`},
	} {
		t.Setenv("TRACEPARENT", tt.parent)
		r := requestOf("ADD", &skel.CmdArgs{ContainerID: "c1", IfName: "net1", Args: tt.args, StdinData: []byte(`{}`)})
		if got := stderr(t, func() { r.log.Warn("x") }); !strings.HasSuffix(got, tt.want+"\n") {
			t.Errorf("CNI_ARGS %q, TRACEPARENT %q: %q, want %q", tt.args, tt.parent, got, tt.want)
		}
	}
	// STATUS and GC have neither container nor interface.
	r := requestOf("STATUS", &skel.CmdArgs{StdinData: []byte(`{}`)})
	t.Setenv("TRACEPARENT", "")
	if got := stderr(t, func() { r.log.Warn("x") }); !strings.HasSuffix(got, "plugin=example verb=STATUS\n") {
		t.Errorf("%q", got)
	}
}

// One event is one line, whatever is in it.
func TestLogEventIsOneLine(t *testing.T) {
	r := requestOf("DEL", &skel.CmdArgs{ContainerID: "c\n1", Args: "K8S_POD_NAME=a\nlevel=ERROR", StdinData: []byte(`{"log_options": {"log_level": "debug"}}`)})
	got := stderr(t, func() {
		r.log.Warn("first\nsecond", "error", errors.New("third\nfourth"))
		r.Debug("ip route add 10.0.0.0/8 dev net1", "took", 1500*time.Microsecond, "error", errors.New("network is unreachable"))
	})
	if strings.Count(got, "\n") != 2 {
		t.Errorf("%s", got)
	}
	for _, says := range []string{`level=DEBUG msg="ip route add 10.0.0.0/8 dev net1"`, `took=1.5ms error="network is unreachable"`} {
		if !strings.Contains(got, says) {
			t.Errorf("no %s in\n%s", says, got)
		}
	}
}

// At debug level the first line tells the version, and a failure its code.
func TestDebugTellsVersionAndFailure(t *testing.T) {
	r := logged(`"log_level": "debug"`)
	got := stderr(t, func() {
		_ = r.Answer(t.Context(), func(context.Context, *Request) error { return Errorf(7, "x") })
	})
	lines := strings.Split(got, "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "msg=start") || !strings.Contains(lines[0], "version=\"version unknown\"") || !strings.Contains(lines[1], "code=7 error=x") {
		t.Errorf("%s", got)
	}
}
