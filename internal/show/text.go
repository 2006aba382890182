package show

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// JSON writes the records as one array.
func JSON(w io.Writer, list []Record) error {
	for i := range list {
		r := &list[i]
		if r.Node == nil {
			r.Node = []Change{}
		}
		if r.InPod == nil {
			r.InPod = []Change{}
		}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(list)
}

// Text writes the records for a reader, pod by pod, and a line that sums them up.
func Text(w io.Writer, list []Record, colour bool) error {
	p := page{colour: colour}
	for i := range list {
		r := &list[i]
		if i == 0 || list[i-1].Pod != r.Pod || list[i-1].Netns != r.Netns || list[i-1].ContainerID != r.ContainerID {
			p.pod(r)
		}
		p.record(r)
	}
	p.line(bold, "%s", summary(list))
	_, err := io.WriteString(w, p.String())
	return err
}

// page is a text that grows line by line.
type page struct {
	strings.Builder
	colour bool
}

// The colours (ECMA-48, SGR).
const (
	plain = ""
	bold  = "1"
	dim   = "2"
	red   = "31"
)

func (p *page) line(colour, format string, args ...any) {
	text := printable(fmt.Sprintf(format, args...))
	if p.colour && colour != plain {
		text = "\x1b[" + colour + "m" + text + "\x1b[0m"
	}
	p.WriteString(text + "\n")
}

// printable is a text that moves no cursor: names come from the runtime.
func printable(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

func (p *page) pod(r *Record) {
	name := "pod"
	if r.Pod != "" {
		name += " " + r.Pod
	}
	life := string(r.Netns.Life)
	switch r.Netns.Life {
	case Gone:
		life = "is gone"
	case Replaced:
		life = "is gone, another namespace has its place"
	case Unknown:
		life = "cannot be looked at"
	}
	where := ""
	if r.Netns.Path != "" {
		where = ": " + r.Netns.Path + " " + life
	}
	p.line(bold, "%s, container %s%s", name, r.ContainerID, where)
}

func (p *page) record(r *Record) {
	p.line(plain, "  %s %s in network %s: %s", r.Plugin, r.IfName, r.Network, r.state())
	if r.Error != "" {
		p.line(red, "    %s: %s", r.File, r.Error)
	}
	if r.Differs != "" {
		p.line(red, "    now: %s", r.Differs)
	}
	p.changes("on the node", r.Node)
	p.changes("in the pod", r.InPod)
	if r.Kept != nil {
		p.kept(r)
	}
	p.WriteString("\n")
}

func (r *Record) state() string {
	by := ""
	if r.Process != nil {
		by = fmt.Sprintf("process %d (%s) works in this pod", r.Process.PID, r.Process.Name)
	}
	switch {
	case r.State == Unfinished && by != "":
		return "not finished yet, " + by
	case r.State == Unfinished:
		return "unfinished, its ADD was killed; the next ADD, DEL or GC takes it back"
	case r.State == Undoing && by != "":
		return "being taken back, " + by
	case r.State == Undoing:
		return "half taken back, its DEL was killed or failed; DEL or GC goes on"
	case by != "":
		return "finished; not compared, " + by
	case r.Unchecked:
		return "finished; CHECK does not look at it"
	}
	return string(r.State)
}

func (p *page) changes(where string, list []Change) {
	if len(list) == 0 {
		return
	}
	p.line(plain, "    %s", where)
	for _, c := range list {
		var notes []string
		if c.Found {
			notes = append(notes, "was there already")
		}
		if c.SharedWith > 0 {
			notes = append(notes, "shared with "+count(c.SharedWith, "other record"))
		}
		note := ""
		if len(notes) > 0 {
			note = "  # " + strings.Join(notes, ", ")
		}
		p.line(plain, "      %s%s", c.Command, note)
		if c.Differs != "" {
			p.line(red, "        now: %s", c.Differs)
		}
	}
}

// summary is one line for all of the records.
func summary(list []Record) string {
	pods := map[[2]string]bool{}
	var differ, broken, leftover, unreadable int
	add := func(n *int, is bool) {
		if is {
			*n++
		}
	}
	for i := range list {
		r := &list[i]
		pods[[2]string{r.Netns.Path, r.ContainerID}] = true
		add(&differ, r.Differing() > 0)
		add(&broken, r.Broken())
		add(&leftover, r.Leftover())
		add(&unreadable, r.State == Unreadable || r.State == Newer || r.Error != "")
	}
	parts := []string{count(len(list), "record") + " of " + count(len(pods), "pod")}
	for _, part := range []struct {
		n    int
		what string
	}{{differ, "with differences"}, {broken, "unfinished"}, {leftover, "of pods that are gone"}, {unreadable, "unreadable"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	if len(parts) == 1 && len(list) > 0 {
		parts = append(parts, "all as they were made")
	}
	return strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
