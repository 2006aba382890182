package plugintest

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Example is a configuration that a page shows, and the session that follows
// it.
type Example struct {
	Conf    map[string]any
	File    string // the last block of kind ini before it: what a file holds
	Session string // as a user sees it: commands after "$ ", and what they print
}

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// Readme has every example of the plugin's page carried out, each as a test of
// its own. Where a session differs from the one that is written, the test
// fails.
func Readme(t *testing.T, carryOut func(*testing.T, Example)) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := fence.FindAllSubmatch(page, -1)
	examples, file := 0, ""
	for i, b := range blocks {
		if string(b[1]) == "ini" {
			file = string(b[2])
		}
		conf := exampleOf(t, string(b[1]), string(b[2]))
		if conf == nil {
			continue
		}
		e := Example{Conf: conf, File: file}
		if i+1 < len(blocks) && string(blocks[i+1][1]) == "console" {
			e.Session = string(blocks[i+1][2])
		}
		examples++
		t.Run(fmt.Sprint("example ", examples), func(t *testing.T) { carryOut(t, e) })
	}
	if examples == 0 {
		t.Error("no example found")
	}
}

// exampleOf is the configuration in a block: JSON, or that of a
// NetworkAttachmentDefinition.
func exampleOf(t *testing.T, kind, text string) map[string]any {
	t.Helper()
	if kind == "yaml" {
		_, text, _ = strings.Cut(text, "config: |\n")
	} else if kind != "json" {
		return nil
	}
	var conf map[string]any
	if err := json.Unmarshal([]byte(text), &conf); err != nil {
		t.Fatalf("%v in an example: %s", err, text)
	}
	return conf
}

// Entry is the last plugin's part of a chain, as it gets to read it, or a lone
// entry with name and version filled in.
func (e Example) Entry(name string) map[string]any {
	plugins, ok := e.Conf["plugins"].([]any)
	if !ok {
		e.Conf["name"], e.Conf["cniVersion"] = name, "1.1.0"
		return e.Conf
	}
	entry := plugins[len(plugins)-1].(map[string]any)
	entry["name"], entry["cniVersion"] = e.Conf["name"], e.Conf["cniVersion"]
	return entry
}

// TypeIn gives the lines of the session with a prompt to the commands of that
// name, and compares.
func (e Example) TypeIn(t *testing.T, commands map[string]func() string) {
	t.Helper()
	var typed strings.Builder
	for line := range strings.Lines(e.Session) {
		command, prompt := strings.CutPrefix(strings.TrimSpace(line), "$ ")
		if !prompt {
			continue
		}
		run := commands[command]
		if run == nil {
			t.Fatalf("unknown command in a session: %s", command)
		}
		typed.WriteString(line + run())
	}
	if diff := cmp.Diff(e.Session, typed.String()); diff != "" {
		t.Errorf("the session (-README +real):\n%s", diff)
	}
}

// CarryOut types the session in, with ADD where it says so, or else after it.
// ADD must not warn, CHECK agrees, and DEL takes all back. commands are those of
// the session beside add; show is what add prints of the answer.
func (e Example) CarryOut(t *testing.T, c Call, add string, show func(Answer) string, commands map[string]func() string) {
	t.Helper()
	var added Answer
	commands[add] = func() string {
		added = c.OK("ADD")
		return show(added)
	}
	e.TypeIn(t, commands)
	if added.Stdout == "" {
		added = c.OK("ADD")
	}
	if added.Stderr != "" {
		t.Errorf("ADD warns: %s", added.Stderr)
	}
	c.After(added).OK("CHECK")
	c.After(added).OK("DEL")
}

// TrimLines is what a command printed, without white space at the ends of
// lines.
func TrimLines(s string) string {
	var out strings.Builder
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			out.WriteString(l + "\n")
		}
	}
	return out.String()
}
