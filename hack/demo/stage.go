package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// stage is where a scenario is told: to the reader in steps, each with what
// was run and what came of it, and to the exit code in promises.
type stage struct {
	out          io.Writer
	paint        palette
	steps        int
	kept, broken int
}

func newStage(out *os.File) *stage { return &stage{out: out, paint: colours(out)} }

func (s *stage) open(title string) {
	fmt.Fprintf(s.out, "\n%s\n", s.paint.bold("=== "+title+" ==="))
}

// close tells how it went and exits.
func (s *stage) close() {
	if s.broken > 0 {
		fmt.Fprintf(s.out, "\n%s\n", s.paint.red(fmt.Sprintf("%d of %d promises broken", s.broken, s.broken+s.kept)))
		os.Exit(1)
	}
	fmt.Fprintf(s.out, "\n%s\n", s.paint.green(fmt.Sprintf("%d promises, all kept", s.kept)))
	os.Exit(0)
}

// tell prints text as it is.
func (s *stage) tell(text string) { fmt.Fprintf(s.out, "\n%s\n", strings.Trim(text, "\n")) }

// step begins a part of the story.
func (s *stage) step(what string) {
	s.steps++
	fmt.Fprintf(s.out, "\n%s\n", s.paint.bold(fmt.Sprintf("%d. %s", s.steps, what)))
}

// show prints a file, or what a command has printed.
func (s *stage) show(text string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		fmt.Fprintf(s.out, "     %s\n", s.paint.dim(strings.TrimRight(line, " \n")))
	}
}

// command prints a command as somebody would type it.
func (s *stage) command(name string, args ...string) {
	fmt.Fprintf(s.out, "   $ %s %s\n", name, strings.Join(args, " "))
}

// Write shows what a plugin says on stderr.
func (s *stage) Write(text []byte) (int, error) {
	s.show(string(text))
	return len(text), nil
}

// promise notes whether something is as it was promised.
func (s *stage) promise(is bool, what string) {
	if is {
		s.kept++
		fmt.Fprintf(s.out, "   %s  %s\n", s.paint.green("ok"), what)
		return
	}
	s.broken++
	fmt.Fprintf(s.out, "   %s  %s\n", s.paint.red("BROKEN"), what)
}

// palette says whether to colour.
type palette bool

// colours are for terminals whose user has not said no (https://no-color.org).
func colours(f *os.File) palette {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return palette(terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func (p palette) bold(s string) string  { return p.with("1", s) }
func (p palette) dim(s string) string   { return p.with("2", s) }
func (p palette) red(s string) string   { return p.with("1;31", s) }
func (p palette) green(s string) string { return p.with("32", s) }

func (p palette) with(code, s string) string {
	if !p {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
