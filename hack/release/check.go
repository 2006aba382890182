package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// check opens an archive and looks at everything that is promised of it. It
// says how the binaries were run.
func (r release) check(t target, path string) (ran string, err error) {
	dir, err := os.MkdirTemp("", "release-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := r.checkSums(path); err != nil {
		return "", err
	}
	names, err := r.unpack(path, dir)
	if err != nil {
		return "", err
	}
	want := slices.Concat(r.binaries(t), r.texts)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		return "", fmt.Errorf("it holds %q, not %q", names, want)
	}
	for _, name := range r.binaries(t) {
		if ran, err = r.checkBinary(t, dir, name); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	return ran, nil
}

// checkSums compares the files with sums, in the form that sha256sum -c reads.
func (r release) checkSums(path string) error {
	sums, err := sumsOf(path)
	if err != nil {
		return err
	}
	for ending, sum := range map[string]string{".sha256": sums.sha256, ".sha512": sums.sha512} {
		got, err := os.ReadFile(path + ending)
		if err != nil {
			return err
		}
		if want := sum + "  " + filepath.Base(path) + "\n"; string(got) != want {
			return fmt.Errorf("%s says %q, not %q", ending, got, want)
		}
	}
	return nil
}

// unpack unpacks an archive, and minds what a stranger's tar would not: order,
// names, owners, modes, times.
func (r release) unpack(path, dir string) (names []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	if zipped.Name != "" || !zipped.ModTime.IsZero() {
		return nil, fmt.Errorf("gzip's header tells a name or a time")
	}
	for archive := tar.NewReader(zipped); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		if err := r.checkEntry(h); err != nil {
			return nil, err
		}
		names = append(names, h.Name)
		content, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, h.Name), content, os.FileMode(h.Mode)); err != nil {
			return nil, err
		}
	}
}

func (r release) checkEntry(h *tar.Header) error {
	switch {
	case h.Typeflag != tar.TypeReg || h.Name != filepath.Base(h.Name):
		return fmt.Errorf("%q is not a file at the top", h.Name)
	case h.Uid != 0 || h.Gid != 0 || h.Uname != "root" || h.Gname != "root":
		return fmt.Errorf("%s is not root's", h.Name)
	case h.Mode != r.mode(h.Name):
		return fmt.Errorf("%s has mode %o", h.Name, h.Mode)
	case !h.ModTime.Equal(r.epoch):
		return fmt.Errorf("%s is of %s", h.Name, h.ModTime)
	}
	return nil
}

// checkBinary looks at what a binary is, and has it tell its version where this
// machine can run it.
func (r release) checkBinary(t target, dir, name string) (ran string, err error) {
	path := filepath.Join(dir, name)
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", err
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	wanted := map[string]string{"GOOS": t.os, "GOARCH": t.arch, "CGO_ENABLED": "0", "-trimpath": "true"}
	for _, key := range sortedKeys(wanted) {
		if settings[key] != wanted[key] {
			return "", fmt.Errorf("built with %s=%s, not %s", key, settings[key], wanted[key])
		}
	}
	if t.os != "linux" {
		return "not run", checkHolds(path, r.version)
	}
	if err := checkStatic(path); err != nil {
		return "", err
	}
	return r.runBinary(t, path)
}

// checkStatic refuses what needs a loader or a library of the node.
func checkStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return errors.New("it is linked dynamically")
		}
	}
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
		return errors.New("it is not stripped")
	}
	return nil
}

// emulators are those of Debian's package qemu-user. Its qemu-i386 cannot run
// what Go makes, but amd64 can.
var emulators = map[string]string{"amd64": "qemu-x86_64", "arm": "qemu-arm", "arm64": "qemu-aarch64",
	"loong64": "qemu-loongarch64", "mips64le": "qemu-mips64el", "ppc64le": "qemu-ppc64le", "riscv64": "qemu-riscv64", "s390x": "qemu-s390x"}

// runBinary runs the binary bare, under an emulator if need be. Where there is
// none, the version must at least be in it.
func (r release) runBinary(t target, path string) (ran string, err error) {
	cmd, ran := exec.Command(path), "run here"
	if t.arch != runtime.GOARCH && (t.arch != "386" || runtime.GOARCH != "amd64") {
		emulator, err := exec.LookPath(emulators[t.arch])
		if err != nil {
			return "not run: no qemu-user for it", checkHolds(path, r.version)
		}
		cmd, ran = exec.Command(emulator, path), "run by "+emulators[t.arch]
	}
	var stderr bytes.Buffer
	cmd.Env, cmd.Stderr = []string{}, &stderr
	if err := cmd.Run(); err != nil {
		return ran, fmt.Errorf("%w: %s", err, stderr.String())
	}
	first, _, _ := strings.Cut(stderr.String(), "\n")
	if want := "CNI " + strings.TrimSuffix(filepath.Base(path), "-static-route") + " plugin " + r.version; first != want {
		return ran, fmt.Errorf("it says %q, not %q", first, want)
	}
	return ran, nil
}

func checkHolds(path, text string) error {
	content, err := os.ReadFile(path)
	if err == nil && !bytes.Contains(content, []byte(text)) {
		err = fmt.Errorf("%s is not in it", text)
	}
	return err
}
