package stress

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/plugintest"
)

// stored are the subjects that keep records.
func stored(t *testing.T, f func(t *testing.T, w *sweep)) {
	for _, s := range subjects {
		if s.alone {
			continue // it keeps a configuration, and has tests of that
		}
		s.beside = "" // networks that share a route keep their records together
		t.Run(s.plugin, func(t *testing.T) { f(t, newSweep(t, s)) })
	}
}

// small mounts a tmpfs of four pages, and tells how to fill it.
func small(w *sweep, dir string) (fill, free func()) {
	w.t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	mount(w.t, dir, "size=16k,mode=0700")
	filler := filepath.Join(dir, ".filler")
	fill = func() {
		if err := os.WriteFile(filler, make([]byte, 16<<10), 0o600); err != nil && !errors.Is(err, unix.ENOSPC) {
			w.t.Fatal(err)
		}
	}
	return fill, func() { _ = os.Remove(filler) }
}

// in is a call whose records are kept elsewhere.
func in(c plugintest.Call, dir string) plugintest.Call {
	return c.Edit(func(conf map[string]any) { conf["stateDir"] = dir })
}

// Without room for a record nothing is changed, and STATUS says so. To take
// back needs no room.
func TestFullState(t *testing.T) {
	stored(t, func(t *testing.T, w *sweep) {
		dir := filepath.Join(t.TempDir(), "state")
		fill, free := small(w, dir)
		c := in(w.call(), dir)
		fill()
		refused := c.Refused("ADD", 5, "no space left on device")
		w.asBefore("an ADD without room", refused)
		in(gc(w.call()), dir).Refused("STATUS", 50, "no space left on device")
		free()
		added := c.OK("ADD")
		fill()
		c.After(added).OK("CHECK")
		c.OK("DEL")
		w.asBefore("DEL without room", added)
		free()
		if left := plugintest.Left(t, dir); left != nil {
			t.Errorf("left: %v", left)
		}
	})
}

// Where records cannot be written nothing is changed. DEL keeps what it cannot
// mark as being taken back, and does it when it can.
func TestReadOnlyState(t *testing.T) {
	stored(t, func(t *testing.T, w *sweep) {
		dir := filepath.Join(t.TempDir(), "state")
		small(w, dir)
		c := in(w.call(), dir)
		mount(t, dir, "remount,ro")
		w.asBefore("an ADD that cannot write", c.Refused("ADD", 5, "read-only file system"))
		in(gc(w.call()), dir).Refused("STATUS", 50, "read-only file system")
		c.OK("DEL")
		mount(t, dir, "remount,rw")
		added := c.OK("ADD")
		mount(t, dir, "remount,ro")
		c.Refused("DEL", 5, "read-only file system")
		mount(t, dir, "remount,rw")
		c.OK("DEL")
		w.asBefore("DEL", added)
	})
}

// Records are kept as well on what is no tmpfs, and where the folder is missing.
func TestStateOnDisk(t *testing.T) {
	stored(t, func(t *testing.T, w *sweep) {
		disk, err := filepath.Abs("disk") // beside the sources: temporary files are in memory
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(disk) })
		dir := filepath.Join(disk, "some", "state")
		c := in(w.call(), dir)
		added := c.OK("ADD")
		c.After(added).OK("CHECK")
		modes(t, dir)
		c.OK("DEL")
		w.asBefore("DEL", added)
	})
}

// modes fails the test unless only its owner may read what is kept.
func modes(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type() == os.ModeSymlink { // a note, which has no mode
			return nil
		}
		st, err := d.Info()
		if want := map[bool]os.FileMode{true: 0o700 | os.ModeDir, false: 0o600}[d.IsDir()]; err == nil && st.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, st.Mode(), want)
		}
		files++
		return err
	})
	if err != nil || files < 2 {
		t.Errorf("%d files below %s: %v", files, dir, err)
	}
}

// Somebody removes the folder, between ADD and DEL and beside them: DEL succeeds,
// and the next attachment is as good as any.
func TestStateRemoved(t *testing.T) {
	stored(t, func(t *testing.T, w *sweep) {
		dir := filepath.Join(t.TempDir(), "state")
		c := in(w.call(), dir)
		added := c.OK("ADD")
		remove := func() { _ = os.RemoveAll(dir) }
		remove()
		if w.plugin == "router" { // what it did depends on what there was
			c.After(added).Refused("CHECK", 106, "no record")
		} else {
			c.After(added).OK("CHECK")
		}
		c.After(added).OK("DEL")
		w.renew() // without a record nobody knows what was done in the pod
		for range 10 {
			c = in(w.call(), dir)
			var beside sync.WaitGroup
			beside.Go(remove)
			c.Do("ADD")
			beside.Wait()
			beside.Go(remove)
			if a := c.Do("DEL"); a.Exit != 0 && a.Error.Code != 5 {
				t.Errorf("DEL: %s", a.Stdout)
			}
			beside.Wait()
		}
		// Nor on the node; but the next attachment takes over what shows whose it is.
		w.renew()
		c = in(w.call(), dir)
		c.OK("ADD")
		c.OK("DEL")
		w.renew()
		c = in(w.call(), dir)
		added = c.OK("ADD")
		c.After(added).OK("CHECK")
		c.OK("DEL")
		w.asBefore("DEL", added)
	})
}

// What became of a record: nothing is changed by what it does not say, DEL
// succeeds, and with the record as it was all is taken back.
func TestSweepRecordsThatAreNone(t *testing.T) {
	replaced := func(old, by string) func(string, []byte) error {
		return func(path string, text []byte) error {
			return os.WriteFile(path, bytes.ReplaceAll(text, []byte(old), []byte(by)), 0o600)
		}
	}
	bad := map[string]func(path string, text []byte) error{
		"empty":     func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
		"truncated": func(path string, text []byte) error { return os.WriteFile(path, text[:len(text)/2], 0o600) },
		"garbled": func(path string, text []byte) error {
			return os.WriteFile(path, bytes.Map(func(r rune) rune { return r ^ 1 }, text), 0o600)
		},
		"zeros":             func(path string, text []byte) error { return os.WriteFile(path, make([]byte, len(text)), 0o600) },
		"newer":             replaced(`"format":1`, `"format":99`),
		"another plugin's":  replaced(`"plugin":"`, `"plugin":"x`),
		"another network's": replaced(`"network":"net"`, `"network":"other"`),
		"without a lock":    replaced(`"lock":"netns-`, `"lock":"../netns-`),
		"odd routes":        replaced(`"dst":"`, `"dst":"x`),
		"a folder":          func(path string, _ []byte) error { return os.Mkdir(path, 0o700) },
		"a fifo":            func(path string, _ []byte) error { return unix.Mkfifo(path, 0o600) },
		"a symbolic link": func(path string, text []byte) error {
			elsewhere := filepath.Join(filepath.Dir(stateDir), "elsewhere")
			if err := os.WriteFile(elsewhere, text, 0o600); err != nil {
				return err
			}
			return os.Symlink(elsewhere, path)
		},
	}
	stored(t, func(t *testing.T, w *sweep) {
		for n, name := range slices.Sorted(maps.Keys(bad)) {
			if !w.takes(t, n) {
				continue
			}
			c := w.call()
			added := c.OK("ADD")
			during := w.kernel(w.pod)
			files := kept(t, c)
			text, err := os.ReadFile(files[0])
			if err == nil {
				err = os.Remove(files[0])
			}
			if err == nil {
				err = bad[name](files[0], text)
			}
			if err != nil {
				t.Fatal(err)
			}
			w.spoiled(c, name, during)
			_ = os.RemoveAll(filepath.Dir(files[0]))
			w.recordAgain(files[0], text)
			c.OK("DEL")
			w.asBefore("a record that is "+name, added)
		}
	})
}

// spoiled makes all calls of an attachment whose record is none.
func (w *sweep) spoiled(c plugintest.Call, name, during string) {
	w.t.Helper()
	c.Do("CHECK")
	for _, verb := range []string{"GC", "DEL"} {
		call := c
		if verb == "GC" {
			call = w.gc(c)
		}
		a := call.OK(verb)
		if diff := changed(during, w.kernel(w.pod)); diff != nil && w.plugin != "host-routes" { // that one goes by its configuration
			w.t.Errorf("%s of a record that is %s changes\n%s\n%s", verb, name, strings.Join(diff, "\n"), a.Stderr)
		}
	}
}

// recordAgain puts a record back, with its link to the lock of its namespace.
func (w *sweep) recordAgain(path string, text []byte) {
	w.t.Helper()
	put(w.t, path, string(text))
	_, name, _ := bytes.Cut(text, []byte(`"lock":"`))
	name, _, _ = bytes.Cut(name, []byte(`"`))
	lock := filepath.Join(stateDir, string(name))
	if _, err := os.Stat(lock); err != nil {
		put(w.t, lock, "")
	}
	if err := os.Link(lock, strings.TrimSuffix(path, ".finished")+".lock"); err != nil {
		w.t.Fatal(err)
	}
}
