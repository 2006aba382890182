// Command release makes the archives of a release from binaries that are built
// already: one for each platform and flavour, with checksums and an SBOM beside
// it. It then opens what it made, and looks at it as a stranger would.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// release is what all of its archives have in common.
type release struct {
	version string
	epoch   time.Time // of everything in it
	plugins []string
	texts   []string // files that go into every archive
	out     string
}

func main() {
	version := flag.String("version", "", "version, v0.1.0 say")
	built := flag.String("built", "", "folder of the binaries, in plain/<os>-<arch> and verbose/<os>-<arch>")
	out := flag.String("out", "dist", "folder to write to")
	flag.Parse()
	if err := run(*version, *built, *out); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(version, built, out string) error {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	plugins, err := pluginsOf(".")
	if err != nil {
		return err
	}
	r := release{version, time.Unix(seconds, 0).UTC(), plugins, []string{"LICENSE", "README.md"}, out}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	dirs, err := filepath.Glob(filepath.Join(built, "*", "*-*"))
	if err != nil || len(dirs) == 0 {
		return fmt.Errorf("nothing is built in %s", built)
	}
	for _, dir := range dirs {
		t := targetOf(dir)
		if err := r.publish(t, dir); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	return nil
}

// pluginsOf lists the plugins of a source tree, under the names that
// configurations call them by.
func pluginsOf(root string) ([]string, error) {
	mains, err := filepath.Glob(filepath.Join(root, "plugins", "*", "*", "main.go"))
	if err != nil || len(mains) == 0 {
		return nil, fmt.Errorf("no plugins in %s", root)
	}
	var names []string
	for _, path := range mains {
		names = append(names, filepath.Base(filepath.Dir(path)))
	}
	if slices.Contains(names, "seamless") {
		names = append(names, "seamless-static-route") // what its predecessor is called
	}
	slices.Sort(names)
	return names, nil
}

// target is what an archive is for.
type target struct {
	os, arch string
	verbose  bool
}

func targetOf(dir string) target {
	system, arch, _ := strings.Cut(filepath.Base(dir), "-")
	return target{system, arch, filepath.Base(filepath.Dir(dir)) == "verbose"}
}

func (t target) String() string {
	if t.verbose {
		return t.os + "-" + t.arch + " verbose"
	}
	return t.os + "-" + t.arch
}

// archive is the archive's name.
func (r release) archive(t target) string {
	name := fmt.Sprintf("cni-netops-%s-%s-%s", t.os, t.arch, r.version)
	if t.verbose {
		name += "-verbose"
	}
	return name + ".tgz"
}

// binaries are the names of an archive's binaries. Windows has flannel only.
func (r release) binaries(t target) []string {
	if t.os == "windows" {
		return []string{"flannel.exe"}
	}
	return r.plugins
}

// publish makes one archive, and what lies beside it, and checks it.
func (r release) publish(t target, dir string) error {
	path := filepath.Join(r.out, r.archive(t))
	if err := r.pack(t, dir, path); err != nil {
		return err
	}
	sums, err := writeSums(path)
	if err != nil {
		return err
	}
	if err := r.writeSBOM(t, dir, path, sums); err != nil {
		return err
	}
	ran, err := r.check(t, path)
	if err != nil {
		return fmt.Errorf("%s is not as it has to be: %w", path, err)
	}
	fmt.Printf("%s  %s\n", path, ran)
	return nil
}
