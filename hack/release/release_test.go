package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

const (
	root    = "../.." // of the source tree
	version = "v0.1.0"
	epoch   = 1_700_000_000
)

var arches = []string{runtime.GOARCH, "s390x"} // the one here, and one that is different in all respects

// released is where a release lies that was made from a copy of the sources.
var released string

func TestMain(m *testing.M) { os.Exit(netopstest.Main(withRelease{m}).Run()) }

type withRelease struct{ *testing.M }

func (m withRelease) Run() int {
	work, err := os.MkdirTemp("", "release-test-")
	if err == nil {
		defer func() { _ = os.RemoveAll(work) }()
		released, err = makeRelease(filepath.Join(work, "a"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.M.Run()
}

// makeRelease copies the sources to a folder, and makes a release there.
func makeRelease(dir string, env ...string) (dist string, err error) {
	src := filepath.Join(dir, "src")
	if err := copySources(src); err != nil {
		return "", err
	}
	cmd := exec.Command("sh", "-c", "umask ${UMASK:-022}; exec scripts/release.sh")
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "VERSION="+version, "ARCHES="+strings.Join(arches, " "), fmt.Sprint("SOURCE_DATE_EPOCH=", epoch))
	cmd.Env = append(cmd.Env, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("release.sh: %w: %s", err, out)
	}
	return filepath.Join(src, "dist"), nil
}

// copySources copies what git knows or would add.
func copySources(to string) error {
	out, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		from, path := filepath.Join(root, name), filepath.Join(to, name)
		st, err := os.Stat(from)
		if err != nil {
			continue // removed, and not yet committed
		}
		content, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, content, st.Mode())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func readAll(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files[strings.TrimPrefix(path, dir+"/")], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The same sources are the same release, to the last byte: in another folder,
// for somebody with other habits. scripts/reproducible.sh does that for all
// platforms, and without a cache.
func TestReproducible(t *testing.T) {
	again, err := makeRelease(filepath.Join(t.TempDir(), "another", "place"), "UMASK=077",
		"TZ=Asia/Kathmandu", "LC_ALL=C.UTF-8", "GOAMD64=v3", "GOARM=7", "GO386=softfloat")
	if err != nil {
		t.Fatal(err)
	}
	first, second := readAll(t, released), readAll(t, again)
	if !slices.Equal(sortedKeys(first), sortedKeys(second)) {
		t.Fatalf("%q and then %q", sortedKeys(first), sortedKeys(second))
	}
	for name := range first {
		if !bytes.Equal(first[name], second[name]) {
			t.Errorf("%s differs", name)
		}
	}
}

// What lies in dist/, by name.
func TestNames(t *testing.T) {
	var want []string
	for _, arch := range arches {
		for _, flavour := range []string{"", "-verbose"} {
			name := "cni-netops-linux-" + arch + "-" + version + flavour
			want = append(want, name+".spdx.json", name+".tgz", name+".tgz.sha256", name+".tgz.sha512")
		}
	}
	if _, err := os.Stat(root + "/plugins/main/flannel/main.go"); err == nil {
		name := "cni-netops-windows-amd64-" + version
		want = append(want, name+".spdx.json", name+".tgz", name+".tgz.sha256", name+".tgz.sha512")
	}
	slices.Sort(want)
	if got := sortedKeys(readAll(t, released)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// As the README says to check and unpack it. What is there then is root's and
// nobody else can write to it.
func TestAsTheReadmeSays(t *testing.T) {
	readme, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, commands, found := bytes.Cut(readme, []byte("\nsha256sum -c "))
	commands, _, _ = bytes.Cut(commands, []byte("```"))
	if !found {
		t.Fatal("the README does not say")
	}
	dir := t.TempDir()
	script := strings.NewReplacer("sudo ", "", "/opt/cni/bin", dir, "linux-amd64", "linux-"+runtime.GOARCH, "v0.1.0", version).
		Replace("sha256sum -c " + string(commands) + "sha512sum -c --quiet *.sha512\nls -l " + dir)
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = released
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	plugins, err := pluginsOf(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range plugins {
		if !regexp.MustCompile(`(?m)^-rwxr-xr-x +1 root root .* ` + name + `$`).Match(out) {
			t.Errorf("no %s in\n%s", name, out)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != len(plugins) {
		t.Errorf("more than plugins:\n%s", out)
	}
	if out, err := exec.Command(filepath.Join(dir, "route-override"), "--version").Output(); !strings.HasPrefix(string(out), "CNI route-override plugin "+version+"\n") {
		t.Errorf("%v: %s", err, out)
	}
}

func releasedArchive(t target) string {
	return filepath.Join(released, release{version: version}.archive(t))
}

// The verbose flavour logs without being told to, and only that one does.
func TestVerbose(t *testing.T) {
	for _, verbose := range []bool{false, true} {
		dir := t.TempDir()
		if out, err := exec.Command("tar", "-xzf", releasedArchive(target{"linux", runtime.GOARCH, verbose}), "-C", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		cmd := exec.Command(filepath.Join(dir, "route-override"))
		cmd.Env = []string{"CNI_COMMAND=DEL", "CNI_CONTAINERID=c1", "CNI_IFNAME=net1", "CNI_PATH=" + dir}
		cmd.Stdin = strings.NewReader(`{"cniVersion": "1.1.0", "name": "net", "type": "route-override"}`)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("verbose %t: %v: %s", verbose, err, out)
		}
		log, err := os.ReadFile("/var/log/cni/route-override.log")
		if wrote := strings.Contains(string(log), "level=DEBUG msg=start plugin=route-override verb=DEL") && strings.Contains(string(log), "version="+version); wrote != verbose {
			t.Errorf("verbose %t: %v: %s", verbose, err, log)
		}
	}
}

// The SBOM names every binary, with its sum, and every module that Go itself
// finds in them; what it refers to is in it.
func TestSBOM(t *testing.T) {
	for _, arch := range arches {
		path := releasedArchive(target{"linux", arch, false})
		dir := t.TempDir()
		if out, err := exec.Command("tar", "-xzf", path, "-C", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var doc document
		text, err := os.ReadFile(sbomPath(path))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		ids := idsOf(t, doc)
		for _, r := range doc.Relationships {
			if !ids[r.Element] || !ids[r.Related] {
				t.Errorf("%s: %v leads nowhere", arch, r)
			}
		}
		plugins, err := pluginsOf(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range plugins {
			sums, err := sumsOf(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(doc.Files, func(f spdxFile) bool {
				return f.Name == "./"+name && slices.Contains(f.Checksums, checksum{"SHA256", sums.sha256})
			}) {
				t.Errorf("%s: no %s with its checksum", arch, name)
			}
			for _, module := range modulesByGo(t, filepath.Join(dir, name)) {
				if !slices.Contains(doc.Relationships, relationship{spdxID("file", name), "DEPENDS_ON", spdxID("module", module)}) {
					t.Errorf("%s: %s is not said to depend on %s", arch, name, module)
				}
			}
		}
	}
}

// idsOf collects the identifiers of a document, of which none is there twice.
func idsOf(t *testing.T, doc document) map[string]bool {
	t.Helper()
	ids := map[string]bool{doc.SPDXID: true}
	add := func(id string) {
		if ids[id] {
			t.Errorf("%s is there twice", id)
		}
		ids[id] = true
	}
	for _, p := range doc.Packages {
		add(p.SPDXID)
	}
	for _, f := range doc.Files {
		add(f.SPDXID)
	}
	return ids
}

// modulesByGo lists "module-version" as go version -m does.
func modulesByGo(t *testing.T, path string) (modules []string) {
	t.Helper()
	out, err := exec.Command("go", "version", "-m", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "dep" {
			modules = append(modules, f[1]+"-"+f[2])
		}
	}
	if modules == nil {
		t.Errorf("no modules in %s", out)
	}
	return modules
}

// entry is a file of an archive.
type entry struct {
	*tar.Header
	content []byte
}

// Whatever is wrong with an archive is found before it goes out.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	plugins, err := pluginsOf(root)
	if err != nil {
		t.Fatal(err)
	}
	linux := target{"linux", runtime.GOARCH, false}
	r := release{version, time.Unix(epoch, 0).UTC(), plugins, []string{"LICENSE", "README.md"}, t.TempDir()}
	dynamic, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	find := func(list []entry, name string) *entry {
		return &list[slices.IndexFunc(list, func(e entry) bool { return e.Name == name })]
	}
	for _, tt := range []struct {
		wrong, says string
		change      func([]entry) []entry
	}{
		{"nothing", "", func(l []entry) []entry { return l }},
		{"one is missing", "it holds", func(l []entry) []entry { return l[:len(l)-1] }},
		{"one too many", "it holds", func(l []entry) []entry {
			return append(l, entry{&tar.Header{Typeflag: tar.TypeReg, Name: "z", Mode: 0o755, Uname: "root", Gname: "root", ModTime: r.epoch}, nil})
		}},
		{"not sorted", "it holds", func(l []entry) []entry { l[0], l[1] = l[1], l[0]; return l }},
		{"./", "not a file at the top", func(l []entry) []entry { l[0].Name = "./" + l[0].Name; return l }},
		{"a folder", "not a file at the top", func(l []entry) []entry { l[0].Typeflag = tar.TypeDir; return l }},
		{"owner", "not root's", func(l []entry) []entry { l[1].Uid = 1000; return l }},
		{"mode of a binary", "mode 775", func(l []entry) []entry { find(l, "seamless").Mode = 0o775; return l }},
		{"mode of a text", "mode 755", func(l []entry) []entry { find(l, "LICENSE").Mode = 0o755; return l }},
		{"time", "is of", func(l []entry) []entry { l[0].ModTime = time.Unix(epoch+1, 0); return l }},
		{"not Go", "seamless", func(l []entry) []entry { find(l, "seamless").content = dynamic; return l }},
		{"another plugin", "it says", func(l []entry) []entry {
			find(l, "seamless").content = find(l, "route-override").content
			return l
		}},
	} {
		path := filepath.Join(r.out, r.archive(linux))
		rewrite(t, releasedArchive(linux), path, tt.change)
		if _, err := writeSums(path); err != nil {
			t.Fatal(err)
		}
		if _, err := r.check(linux, path); (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.wrong, err)
		}
	}
	// Checksums of another file; another version or processor than promised.
	path := filepath.Join(r.out, r.archive(linux))
	rewrite(t, releasedArchive(linux), path, func(l []entry) []entry { return l })
	if _, err := writeSums(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".sha512", []byte("0  x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.check(linux, path); err == nil || !strings.Contains(err.Error(), ".sha512") {
		t.Errorf("checksum: %v", err)
	}
	if _, err := r.check(target{"linux", arches[1], false}, releasedArchive(linux)); err == nil || !strings.Contains(err.Error(), "GOARCH") {
		t.Errorf("processor: %v", err)
	}
	r.version = "v0.1.1"
	if _, err := r.check(linux, releasedArchive(linux)); err == nil || !strings.Contains(err.Error(), "it says") {
		t.Errorf("version: %v", err)
	}
}

// rewrite writes a changed copy of an archive.
func rewrite(t *testing.T, from, to string, change func([]entry) []entry) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var entries []entry
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		content, readErr := io.ReadAll(r)
		if err != nil || readErr != nil {
			t.Fatal(err, readErr)
		}
		entries = append(entries, entry{h, content})
	}
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	w := tar.NewWriter(z)
	for _, e := range change(entries) {
		e.Size = int64(len(e.content))
		if e.Typeflag == tar.TypeDir {
			e.Size, e.content = 0, nil
		}
		if err := w.WriteHeader(e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_ = z.Close()
	if err := os.WriteFile(to, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Without a version that can be told from others there is no release.
func TestVersionIsNeeded(t *testing.T) {
	for _, v := range []string{"", "0.1.0", "v1", "v0.1.0 -X main.x=y", "v0.1.0/../x"} {
		cmd := exec.Command(filepath.Join(root, "scripts", "release.sh"))
		cmd.Env = append(os.Environ(), "VERSION="+v, "DIST_DIR="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "VERSION=v0.1.0, say, is needed") {
			t.Errorf("%q: %v: %s", v, err, out)
		}
	}
}
