package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// golden is a file of texts, each below all the titles that it goes by.
type golden struct {
	t      *testing.T
	path   string
	titles []string
	texts  map[string]string // by title
}

// readGolden reads a file, or begins it anew.
func readGolden(t *testing.T, folder, name string) *golden {
	t.Helper()
	g := &golden{t: t, path: filepath.Join("testdata", folder, name+".txt"), texts: map[string]string{}}
	if *update {
		return g
	}
	data, err := os.ReadFile(g.path)
	if err != nil {
		t.Fatal(err)
	}
	for section := range strings.SplitSeq(strings.TrimRight(string(data), "\n"), "\n\n") {
		var titles []string
		text := ""
		for line := range strings.Lines(section + "\n") {
			if title, ok := strings.CutPrefix(line, "# "); ok {
				titles = append(titles, strings.TrimRight(title, "\n"))
			} else {
				text += line
			}
		}
		for _, title := range titles {
			g.texts[title] = text
		}
	}
	return g
}

// diff tells in which lines a text differs from what is written. What is not yet
// written is noted, to be written.
func (g *golden) diff(title, got string) string {
	want, ok := g.texts[title]
	if !ok && *update {
		g.titles, g.texts[title] = append(g.titles, title), got
		return ""
	}
	return diffLines(want, got)
}

// write puts those titles together that have the same text.
func (g *golden) write() {
	g.t.Helper()
	if !*update {
		return
	}
	var sections []string
	for i, title := range g.titles {
		text := g.texts[title]
		if slices.ContainsFunc(g.titles[:i], func(earlier string) bool { return g.texts[earlier] == text }) {
			continue
		}
		section := ""
		for _, same := range g.titles[i:] {
			if g.texts[same] == text {
				section += "# " + same + "\n"
			}
		}
		sections = append(sections, section+text)
	}
	if err := os.MkdirAll(filepath.Dir(g.path), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(g.path, []byte(strings.Join(sections, "\n")), 0o600); err != nil {
		g.t.Fatal(err)
	}
}
