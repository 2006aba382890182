// Package docs tests the pages that belong to no plugin: what they say to type
// works, and their links lead somewhere.
package docs

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

const root = "../.."

// The README has built the plugins before.
func TestMain(m *testing.M) {
	os.Exit(netopstest.Main(m, plugintest.Upstream, plugintest.Ours(".")).Run())
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section is what stands below a heading.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, text, found := strings.Cut(page, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// blocks are the code blocks of a kind; "" is what commands print.
func blocks(text, kind string) (list []string) {
	for _, b := range fence.FindAllStringSubmatch(text, -1) {
		if b[1] == kind {
			list = append(list, b[2])
		}
	}
	return list
}

// The README's first chain, typed in as it stands there, prints what stands
// there.
func TestFirstChain(t *testing.T) {
	text := section(t, read(t, "README.md"), "A first chain")
	session, shell, _ := strings.Cut(strings.Join(blocks(text, "sh"), ""), "\n")
	if !strings.HasPrefix(session, "unshare ") || shell == "" {
		t.Fatalf("it begins with %q", session)
	}
	for _, inline := range regexp.MustCompile("`(bin/upstream/cnitool [^`]*)`").FindAllStringSubmatch(text, -1) {
		shell += inline[1] + "\nip -n pod route\n"
	}
	typed(t, session, shell, blocks(text, ""))
}

// The page for the reader whose pod's routes are wrong, typed in as it stands there,
// prints what stands there.
func TestTroubleshooting(t *testing.T) {
	page := read(t, "docs/troubleshooting.md")
	session, shell, _ := strings.Cut(strings.Join(blocks(page, "sh"), ""), "\n")
	if !strings.HasPrefix(session, "unshare ") || shell == "" {
		t.Fatalf("it begins with %q", session)
	}
	typed(t, session, shell, blocks(page, ""))
}

// typed types commands into a session, and fails unless they print these.
func typed(t *testing.T, session, shell string, printed []string) {
	t.Helper()
	words := append(strings.Fields(session), "-euo", "pipefail", "-c", shell)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "PWD=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(printed) < 2 {
		t.Fatalf("%d outputs", len(printed))
	}
	for _, want := range printed {
		if !strings.Contains(plugintest.TrimLines(string(out)), plugintest.TrimLines(want)) {
			t.Errorf("%s\nis not in\n%s", want, out)
		}
	}
}

// pages are all pages of the tree.
func pages(t *testing.T) (list []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "dist" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			list = append(list, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil || len(list) < 4 {
		t.Fatal(list, err)
	}
	return list
}

// make install, without root, into a folder of its own.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("make", "-C", root, "install", "DESTDIR="+dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mains, _ := filepath.Glob(root + "/plugins/*/*/main.go")
	want := map[string]bool{"seamless-static-route": true}
	for _, path := range mains {
		want[filepath.Base(filepath.Dir(path))] = true
	}
	files, err := os.ReadDir(dir + "/opt/cni/bin")
	if err != nil || len(files) != len(want) {
		t.Errorf("%v, %v", files, err)
	}
	for _, f := range files {
		if st, err := f.Info(); err != nil || st.Mode() != 0o755 || !want[f.Name()] {
			t.Errorf("%s: %v", f, err)
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noWord  = regexp.MustCompile("[^a-z0-9 _-]")
)

// anchors are the names by which a page's headings are linked to.
func anchors(page string) map[string]bool {
	names := map[string]bool{"": true}
	for _, h := range heading.FindAllStringSubmatch(page, -1) {
		names[strings.ReplaceAll(noWord.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	return names
}

// Links within the tree lead to files, and to headings that are there.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		text := fence.ReplaceAllString(read(t, page), "")
		for _, l := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(l[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(l[1], "#")
			target := filepath.Join(filepath.Dir(page), path)
			if path == "" {
				target = page
			}
			st, err := os.Stat(filepath.Join(root, target))
			switch {
			case err != nil:
				t.Errorf("%s: %v", page, err)
			case !st.IsDir() && filepath.Ext(target) == ".md" && !anchors(read(t, target))[anchor]:
				t.Errorf("%s: %s has no heading %q", page, target, anchor)
			}
		}
	}
}

// The README leads to every plugin's page, and to what it says to those who
// come from an older plugin.
func TestEveryPluginIsInTheReadme(t *testing.T) {
	readme := read(t, "README.md")
	older := regexp.MustCompile(`(?m)^## (From the older .*)$`)
	mains, err := filepath.Glob(root + "/plugins/*/*/main.go")
	if err != nil || mains == nil {
		t.Fatal("no plugins", err)
	}
	for _, path := range mains {
		page := strings.TrimPrefix(filepath.Dir(path), root+"/") + "/README.md"
		if !strings.Contains(readme, "]("+page+")") {
			t.Errorf("%s is not in the table of plugins", page)
		}
		for _, h := range older.FindAllStringSubmatch(read(t, page), -1) {
			if !strings.Contains(readme, "["+h[1]+"]("+page+"#") {
				t.Errorf("%q of %s is not in the table of older plugins", h[1], page)
			}
		}
	}
}

// places are where every plugin stands, besides its own folder; its name is put in.
var places = map[string]string{
	"hack/stress/subjects_test.go":   `{plugin: "%s"`, // faults, hostile input, load
	"hack/demo/*.go":                 `name: +"%s"`,
	"hack/e2e/*_test.go":             `"%s"`,
	"scripts/harmless.sh":            ` %s\b`,
	"images/README.md":               "`%s`",
	".github/ISSUE_TEMPLATE/bug.yml": `\b%s,`,
}

// What CONTRIBUTING.md asks of a new plugin outside its folder is there.
func TestEveryPluginHasItsPlaces(t *testing.T) {
	mains, err := filepath.Glob(root + "/plugins/*/*/main.go")
	if err != nil || mains == nil {
		t.Fatal("no plugins", err)
	}
	for place, form := range places {
		text := ""
		paths, _ := filepath.Glob(filepath.Join(root, place))
		for _, path := range paths {
			text += read(t, strings.TrimPrefix(path, root+"/"))
		}
		for _, path := range mains {
			plugin := filepath.Base(filepath.Dir(path))
			if !regexp.MustCompile(fmt.Sprintf(form, plugin)).MatchString(text) {
				t.Errorf("%s is not in %s", plugin, place)
			}
		}
	}
}

// make's targets that pages name are there.
func TestTargets(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, page := range []string{"README.md", "images/README.md", "RELEASING.md"} {
		for _, block := range blocks(read(t, page), "sh") {
			for line := range strings.Lines(block) {
				words := strings.Fields(strings.TrimPrefix(line, "sudo "))
				if len(words) > 1 && words[0] == "make" && !strings.Contains(makefile, "\n"+words[1]+": ") {
					t.Errorf("%s: there is no %s", page, words[1])
				}
			}
		}
	}
}

// What pages say is in a file is declared there.
func TestNamesInFiles(t *testing.T) {
	named := regexp.MustCompile("`(?:\\w+\\.)?(\\w+)`\\s+in\\s+`([\\w/.-]+\\.go)`")
	found := 0
	for _, page := range pages(t) {
		for _, m := range named.FindAllStringSubmatch(read(t, page), -1) {
			found++
			declared := regexp.MustCompile(`(?m)^(func|type|var|const|\t)( \([^)]*\))? ?` + m[1] + `\b`)
			if !declared.MatchString(read(t, m[2])) {
				t.Errorf("%s: %s declares no %s", page, m[2], m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no page names anything")
	}
}
