package stress

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// withOnly is a call of which the process has no other capabilities.
func withOnly(c plugintest.Call, capabilities []string) plugintest.Call {
	set := "-all"
	for _, name := range capabilities {
		set += ",+" + name
	}
	c.Under = []string{"setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=" + set}
	return c
}

// Every verb works with the capabilities that the plugin's page names. Without
// any one of them ADD fails, and changes nothing.
func TestCapabilities(t *testing.T) {
	eachSubject(t, func(t *testing.T, s subject) {
		w := newSweep(t, s)
		c := w.call()
		for _, missing := range s.capabilities {
			less := slices.DeleteFunc(slices.Clone(s.capabilities), func(name string) bool { return name == missing })
			a := withOnly(c, less).Do("ADD")
			if a.Exit != 1 || !strings.Contains(a.Error.Msg+a.Error.Details, "operation not permitted") {
				t.Errorf("ADD without %s: exit %d: %s%s", missing, a.Exit, a.Stdout, a.Stderr)
			}
			withOnly(c, s.capabilities).OK("DEL")
			w.asBefore("ADD without "+missing, a)
		}
		c = withOnly(c, s.capabilities)
		c.OK("plan")
		added := c.OK("ADD")
		c.After(added).OK("CHECK")
		w.gc(c, c).OK("GC")
		w.gc(c).OK("STATUS")
		c.After(added).OK("DEL")
		w.asBefore("DEL", added)
		if !s.alone { // what it delegates to does not come into a pod at GC
			added = c.OK("ADD")
			w.gc(c).OK("GC")
			w.asBefore("GC", added)
		}
		if s.alone { // by itself it needs none
			withOnly(c, nil).OK("plan")
			withOnly(w.gc(c), nil).OK("STATUS")
		}
		page, err := os.ReadFile(filepath.Join(pageOf(t, s), "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		_, section, _ := strings.Cut(string(page), "\n## Capabilities\n")
		section, _, _ = strings.Cut(section, "\n## ")
		for _, name := range s.capabilities {
			if !strings.Contains(section, "CAP_"+strings.ToUpper(name)) {
				t.Errorf("the page does not name %s", name)
			}
		}
	})
}

func pageOf(t *testing.T, s subject) string {
	t.Helper()
	found, err := filepath.Glob("../../plugins/*/" + s.plugin)
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return found[0]
}

// Whoever may write to a folder above can put symbolic links where records and
// locks are kept. They are not followed: ADD is refused, nothing is written
// beyond them, and DEL has nothing to do.
func TestSymbolicLinks(t *testing.T) {
	stored(t, func(t *testing.T, w *sweep) {
		ns, err := kernel.Open(w.pod.Path)
		if err != nil {
			t.Fatal(err)
		}
		lock, err := ns.LockName()
		ns.Close()
		if err != nil {
			t.Fatal(err)
		}
		c := w.call()
		attachment := c.Env["CNI_CONTAINERID"] + ":" + w.ifName
		for _, at := range []string{w.plugin, w.plugin + "/net", w.plugin + "/net/" + attachment, lock} {
			dir, beyond := t.TempDir(), t.TempDir()
			path := filepath.Join(dir, at)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			target := beyond
			if at == lock {
				target = filepath.Join(beyond, "file")
			}
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			linked := in(c, dir)
			a := linked.Refused("ADD", 5)
			w.asBefore("an ADD with a link at "+at, a)
			linked.OK("DEL")
			in(w.gc(c), dir).OK("GC")
			if files, err := os.ReadDir(beyond); err != nil || len(files) > 0 {
				t.Errorf("beyond %s: %v, %v", at, files, err)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("the link has gone: %v", err)
			}
		}
	})
}
