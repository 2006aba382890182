package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// pack writes the archive: flat, sorted, everything root's and of one time, so
// that the same files are the same archive, wherever they were built.
func (r release) pack(t target, dir, path string) error {
	files := map[string]string{}
	for _, name := range r.texts {
		files[name] = name
	}
	for _, name := range r.binaries(t) {
		files[name] = filepath.Join(dir, name)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	zipped := gzip.NewWriter(f)
	w := tar.NewWriter(zipped)
	for _, name := range sortedKeys(files) {
		if err := r.add(w, name, files[name]); err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
	}
	for _, c := range []io.Closer{w, zipped, f} {
		if err := c.Close(); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

func (r release) add(w *tar.Writer, name, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: r.mode(name),
		Uname: "root", Gname: "root", ModTime: r.epoch, Format: tar.FormatUSTAR})
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}

// mode is that of a file in an archive. What its builder's umask made of it is
// of no interest.
func (r release) mode(name string) int64 {
	if slices.Contains(r.texts, name) {
		return 0o644
	}
	return 0o755
}

// checksums are those of a file, in hexadecimal.
type checksums struct{ sha1, sha256, sha512 string }

func sumsOf(path string) (checksums, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return checksums{}, err
	}
	return checksums{fmt.Sprintf("%x", sha1.Sum(content)), fmt.Sprintf("%x", sha256.Sum256(content)),
		fmt.Sprintf("%x", sha512.Sum512(content))}, nil
}

// writeSums writes the files that sha256sum -c and sha512sum -c read.
func writeSums(path string) (checksums, error) {
	sums, err := sumsOf(path)
	if err != nil {
		return sums, err
	}
	for ending, sum := range map[string]string{".sha256": sums.sha256, ".sha512": sums.sha512} {
		line := fmt.Sprintf("%s  %s\n", sum, filepath.Base(path))
		if err := os.WriteFile(path+ending, []byte(line), 0o644); err != nil {
			return sums, err
		}
	}
	return sums, nil
}
