package manifests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const root = "../../"

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// step is one of a workflow's job.
type step struct{ Name, Uses, Run string }

// workflows are the steps of each workflow, by the name of its file.
func workflows(t *testing.T) map[string][]step {
	t.Helper()
	files, err := filepath.Glob(root + ".github/workflows/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	all := map[string][]step{}
	for _, file := range files {
		var w struct {
			Name string
			// "on" is what YAML 1.1 has for true.
			On   map[string]any `json:"true"`
			Jobs map[string]struct {
				RunsOn string `json:"runs-on"`
				Steps  []step
			}
		}
		// Not strictly: there is more than this in a workflow. A key that stands
		// there twice is an error all the same.
		if err := yaml.Unmarshal([]byte(read(t, file)), &w); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if w.Name == "" || len(w.On) == 0 || len(w.Jobs) == 0 {
			t.Errorf("%s: no name, no event, or no jobs", file)
		}
		for name, job := range w.Jobs {
			if job.RunsOn == "" || len(job.Steps) == 0 {
				t.Errorf("%s: %s does not run", file, name)
			}
			all[filepath.Base(file)] = append(all[filepath.Base(file)], job.Steps...)
		}
	}
	return all
}

var (
	makeTarget    = regexp.MustCompile(`\bmake ([a-z0-9-]+)`)
	pinnedAction  = regexp.MustCompile(`^[\w-]+/[\w-]+@v\d`)
	releaseNumber = regexp.MustCompile(`(?m)^## \[(.*?)\]`)
)

// Workflows call make's targets, which are there, in scripts that bash can read.
func TestWorkflows(t *testing.T) {
	makefile := read(t, root+"Makefile")
	called := map[string]int{}
	for file, steps := range workflows(t) {
		for _, s := range steps {
			if (s.Uses == "") == (s.Run == "") || s.Uses != "" && !pinnedAction.MatchString(s.Uses) {
				t.Errorf("%s: %+v", file, s)
			}
			if out, err := exec.Command("bash", "-n", "-c", s.Run).CombinedOutput(); err != nil {
				t.Errorf("%s: %s%s", file, out, s.Run)
			}
			for _, m := range makeTarget.FindAllStringSubmatch(s.Run, -1) {
				called[file]++
				if !strings.Contains(makefile, "\n"+m[1]+": ") {
					t.Errorf("%s: make has no target %q", file, m[1])
				}
			}
		}
	}
	if called["ci.yml"] < 3 || called["release.yml"] < 2 {
		t.Errorf("targets called: %v", called)
	}
}

// The notes of a release are its part of the changelog, and nothing else.
func TestReleaseNotes(t *testing.T) {
	var extract string
	for _, s := range workflows(t)["release.yml"] {
		for line := range strings.Lines(s.Run) {
			if strings.HasPrefix(line, "awk ") {
				extract = line
			}
		}
	}
	dir := t.TempDir()
	cmd := exec.Command("bash", "-c", extract)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "VERSION=v0.1.0", "RUNNER_TEMP="+dir)
	if out, err := cmd.CombinedOutput(); extract == "" || err != nil {
		t.Fatalf("%q: %v: %s", extract, err, out)
	}
	notes := read(t, filepath.Join(dir, "notes.md"))
	if !strings.HasPrefix(strings.TrimSpace(notes), "The first release: ") || strings.Contains(notes, "## ") {
		t.Errorf("%q", notes)
	}
}

// The changelog's newest release is the one that manifests install, and what
// is not released yet stands before it.
func TestChangelog(t *testing.T) {
	text := read(t, root+"CHANGELOG.md")
	var numbers []string
	for _, m := range releaseNumber.FindAllStringSubmatch(text, -1) {
		numbers = append(numbers, m[1])
		if !strings.Contains(text, "\n["+m[1]+"]: https://") {
			t.Errorf("%s has no link", m[1])
		}
	}
	if len(numbers) < 2 || numbers[0] != "Unreleased" || "v"+numbers[1] != loadChart(t).AppVersion() {
		t.Errorf("%q, the chart installs %s", numbers, loadChart(t).AppVersion())
	}
}

// The form for bugs asks for what is needed to answer.
func TestIssueForm(t *testing.T) {
	var form struct {
		Name, Description string
		Labels            []string
		Body              []struct {
			Type, ID    string
			Attributes  struct{ Label, Description, Placeholder, Value, Render string }
			Validations struct{ Required bool }
		}
	}
	text := read(t, root+".github/ISSUE_TEMPLATE/bug.yml")
	if err := yaml.Unmarshal([]byte(text), &form); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, b := range form.Body {
		ids = append(ids, b.ID)
		if !slices.Contains([]string{"textarea", "dropdown", "input"}, b.Type) || b.Attributes.Label == "" {
			t.Errorf("%+v", b)
		}
	}
	for _, id := range []string{"plugin", "what", "configuration", "plan", "show", "versions"} {
		if !slices.Contains(ids, id) {
			t.Errorf("it does not ask for %q, only for %q", id, ids)
		}
	}
	if slices.Sort(ids); form.Name == "" || form.Description == "" || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Errorf("%q %q %q", form.Name, form.Description, ids)
	}
	plugins, err := filepath.Glob(root + "plugins/*/*/main.go")
	if err != nil || len(plugins) == 0 {
		t.Fatal("no plugins", err)
	}
	for _, main := range plugins {
		if plugin := filepath.Base(filepath.Dir(main)); !strings.Contains(text, plugin) {
			t.Errorf("%s is no choice", plugin)
		}
	}
	var config map[string]any
	if err := yaml.UnmarshalStrict([]byte(read(t, root+".github/ISSUE_TEMPLATE/config.yml")), &config); err != nil || config["contact_links"] == nil {
		t.Errorf("%v, %v", config, err)
	}
}
