package cni

import (
	"cmp"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cni-netops/plugins/internal/strictjson"
)

// logOptions is the key log_options.
type logOptions struct {
	level slog.Level
	file  *logFile // nil: no file
}

const (
	unsetLevel = slog.Level(-100)
	megabytes  = 1 << 20 // bounds of log_max_size, log_max_age and log_max_count: none needs more
)

// verboseLogs is stamped at link time into the verbose flavour: a folder in
// which each plugin logs at debug level what log_options does not send
// elsewhere.
var verboseLogs string

// verboseOld is how many old files the verbose flavour keeps.
const verboseOld = 3

// defaultLog is what holds without log_options.
func defaultLog(plugin string) logOptions {
	if verboseLogs == "" {
		return logOptions{level: unsetLevel}
	}
	path := filepath.Join(verboseLogs, plugin+".log")
	return logOptions{level: slog.LevelDebug, file: &logFile{path: path, maxSize: defaultMaxSize, maxCount: verboseOld}}
}

// decodeLogOptions reads log_options. Without a log_file the path is used.
func decodeLogOptions(config strictjson.Object, plugin, path string) logOptions {
	opts := defaultLog(plugin)
	o, ok := config.Object("log_options")
	if !ok {
		return opts
	}
	o.Only(logKeys...)
	if v, ok := o.Get("log_level"); ok {
		if name, ok := v.Text(); ok && opts.level.UnmarshalText([]byte(name)) != nil || strings.ContainsAny(name, "+-") {
			v.Invalid("%q is not debug, info, warn or error", name)
			opts.level = defaultLog(plugin).level
		}
	}
	var size, age, count uint32
	o.Uint32("log_max_size", &size, 1, megabytes)
	o.Uint32("log_max_age", &age, 1, megabytes)
	o.Uint32("log_max_count", &count, 1, megabytes)
	if v, ok := o.Get("log_file"); ok {
		if given, ok := v.Text(); ok && !filepath.IsAbs(given) {
			v.Invalid("%q is not an absolute path", given)
		} else if ok {
			path = given
		}
	}
	if path != "" {
		opts.file = &logFile{path: path, maxSize: cmp.Or(int64(size)<<20, defaultMaxSize),
			maxAge: time.Duration(age) * 24 * time.Hour, maxCount: int(count)}
	}
	return opts
}

var logKeys = []string{"log_level", "log_file", "log_max_size", "log_max_age", "log_max_count"}

// logger writes one line an event. Warnings always go to stderr; with a file
// everything goes there, without one stderr has its level. Most requests have
// nothing to say, so its handlers are set up when they are first needed.
type logger struct {
	opts  logOptions
	attrs func() []any
	out   *slog.Logger
}

// levels are those from which on stderr and the file are written. Warnings
// always go to stderr.
func (o logOptions) levels() (stderr, file slog.Level) {
	switch {
	case o.level == unsetLevel:
		return slog.LevelWarn, slog.LevelInfo
	case o.file == nil:
		return min(o.level, slog.LevelWarn), o.level
	}
	return slog.LevelWarn, o.level
}

func (l *logger) to() *slog.Logger {
	if l.out != nil {
		return l.out
	}
	stderr, file := l.opts.levels()
	handler := slog.Handler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: stderr}))
	if l.opts.file != nil {
		l.opts.file.complain = slog.New(handler).With(l.attrs()...)
		handler = slog.NewMultiHandler(handler, slog.NewTextHandler(l.opts.file, &slog.HandlerOptions{Level: file}))
	}
	l.out = slog.New(handler).With(l.attrs()...)
	return l.out
}

func (l *logger) Error(msg string, args ...any) { l.to().Error(msg, args...) }
func (l *logger) Warn(msg string, args ...any)  { l.to().Warn(msg, args...) }

func (l *logger) Debug(msg string, args ...any) {
	if l.debugs() {
		l.to().Debug(msg, args...)
	}
}

// debugs reports whether anybody reads debug lines.
func (l *logger) debugs() bool {
	_, file := l.opts.levels()
	return file <= slog.LevelDebug
}

// begin opens the file, so that one that cannot be written is told of now, and
// not when there is something to find in it.
func (l *logger) begin() {
	if l.opts.file == nil {
		return
	}
	if err := l.opts.file.open(); err != nil {
		l.to() // sets up whom it complains to
		l.opts.file.failing(err)
	}
}

func (l *logger) close() {
	if l.opts.file != nil {
		l.opts.file.close()
	}
}

// traceID is that of a W3C trace context, by which runtimes find the lines of
// one request (TRACEPARENT: version, trace ID, parent ID, flags).
func traceID() string {
	parts := strings.Split(os.Getenv("TRACEPARENT"), "-")
	const hexDigits = 32
	if len(parts) < 4 || len(parts[1]) != hexDigits {
		return ""
	}
	return parts[1]
}
