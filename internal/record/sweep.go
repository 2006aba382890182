package record

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sweep removes what a killed process has left of an attachment beside its
// records: half-written files older than a minute, links of locks, and empty
// folders.
func (s Store) Sweep(k Key) {
	if s.unusable(k) != "" {
		return
	}
	dir := s.dir(k)
	files, _ := s.list(dir)
	if files == nil {
		return
	}
	removeTemporary(dir, files)
	for _, f := range files {
		if seq, suffix, ok := parse(f.Name()); ok && suffix == linkSuffix && !recorded(files, seq) {
			s.release(dir, seq)
		}
	}
	left, err := s.list(dir)
	if err == nil && !slices.ContainsFunc(left, func(f fs.DirEntry) bool { return f.Name() != mark }) {
		attachment{s, k}.removeEmpty()
	}
}

// recorded reports whether the record of that number is among the files. A
// later version may know more states of one; what was set aside has a second
// dot.
func recorded(files []fs.DirEntry, seq int) bool {
	return slices.ContainsFunc(files, func(f fs.DirEntry) bool {
		n, state, ok := parse(f.Name())
		return ok && n == seq && state != linkSuffix && !strings.Contains(state, ".")
	})
}

// release removes the link of a number without a record, unless the process that
// made it is still at work: then it holds the lock, which is the same file.
func (s Store) release(dir string, seq int) {
	link := (&Entry{dir: dir, seq: seq}).file(linkSuffix)
	l, err := lock(link, 0, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return
	}
	if files, err := s.list(dir); err == nil && !recorded(files, seq) {
		_ = unix.Unlink(link)
	}
	_ = unix.Close(l.fd)
	s.SweepRoot()
}

// removeEmpty removes the folders of an attachment and of its network, if there
// is nothing in them but a mark. Where a record has come, the attachment counts as
// not indexed.
func (a attachment) removeEmpty() {
	dir := a.dir(a.Key)
	_ = a.unmark()
	_ = unix.Rmdir(dir)
	_ = unix.Rmdir(filepath.Dir(dir))
	a.dropMark()
}

// SweepRoot removes what a killed process has left outside of attachments: the
// lock of a namespace that has no record, what [Store.Writable] wrote,
// networks' empty folders, and the file of marks when there are none.
func (s Store) SweepRoot() {
	if s.root == "" {
		return
	}
	s.dropMark()
	own := filepath.Join(s.root, s.plugin)
	files, _ := s.list(own)
	removeTemporary(own, files)
	for _, f := range files {
		_ = unix.Rmdir(filepath.Join(own, f.Name()))
	}
	files, _ = s.list(s.root)
	for _, f := range files {
		var st unix.Stat_t
		if !isLock(f.Name()) || unix.Lstat(filepath.Join(s.root, f.Name()), &st) != nil || st.Nlink != 1 {
			continue
		}
		if l, err := s.TryLock(f.Name()); err == nil {
			l.Unlock()
		}
	}
}

// removeTemporary removes the half-written ones of a folder's files that are
// older than a minute: no process is writing those any more.
func removeTemporary(dir string, files []fs.DirEntry) {
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), temporary) {
			continue
		}
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > time.Minute {
			_ = unix.Unlink(filepath.Join(dir, f.Name()))
		}
	}
}
