//go:build linux

package attach

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/kernel"
	"github.com/cni-netops/plugins/internal/record"
	"github.com/cni-netops/plugins/internal/show"
)

// sandbox opens the namespace of a record: what CNI_NETNS or the record's path
// leads to, if it is the recorded one. It is nil where the pod is gone.
func (r *request) sandbox(e *record.Entry) (*kernel.Netns, error) {
	boot, err := record.Boot()
	if err != nil {
		return nil, err
	}
	if boot != e.Boot {
		return nil, nil // after a reboot nothing of it is left
	}
	var failed error
	for _, path := range slices.Compact([]string{cmp.Or(r.Config.Netns, e.Netns.Path), e.Netns.Path}) {
		ns, err := r.open(path)
		if err != nil {
			if !podGone(err) {
				failed = err
			}
			continue
		}
		identity, err := ns.Identity(e.IfName)
		if err == nil && e.In(boot, identity) {
			return ns, nil
		}
		failed = cmp.Or(err, failed)
		ns.Close()
	}
	return nil, failed
}

// certainlyGone reports whether the pod of a record is gone for certain. A
// plain file at its path does not say so: another mount namespace sees the
// file of a live one like that.
func (r *request) certainlyGone(e *record.Entry) bool {
	boot, err := record.Boot()
	if err == nil && boot != e.Boot {
		return true
	}
	ns, err := kernel.Open(e.Netns.Path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) && (!r.byHand || seesFolder(e) && !r.inhabited(e))
	}
	defer ns.Close()
	identity, err := ns.Identity(e.IfName)
	return err == nil && identity != e.Netns.Identity && identity != netops.Identity{}
}

// seesFolder reports whether the path of a record's pod leads into the folder that
// it led into at ADD. Who calls a plugin by hand may see other folders than the
// runtime, as in a container: there, no pod's namespace exists. Records of the
// first release do not tell which folder it was.
func seesFolder(e *record.Entry) bool {
	now := folderOf(e.Netns.Path)
	return now != "" && (e.Netns.Folder == "" || e.Netns.Folder == now)
}

// folderOf names the folder that a path leads into by its device and inode; it is
// empty where there is none.
func folderOf(path string) string {
	var st unix.Stat_t
	if !filepath.IsAbs(path) || unix.Stat(filepath.Dir(path), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return ""
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// podGone reports whether a path leads to no network namespace, so that the pod
// behind it is gone.
func podGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, netops.ErrNotNamespace) ||
		errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.ELOOP)
}

// inhabited reports whether a process is in the namespace of a record, which may
// have lost its path: it lives on for as long.
func (r *request) inhabited(e *record.Entry) bool {
	if r.inhabitants == nil {
		r.inhabitants = map[string]map[netops.Identity]bool{}
	}
	in, known := r.inhabitants[e.IfName]
	if !known {
		in = kernel.Inhabited(e.IfName)
		r.inhabitants[e.IfName] = in
	}
	return in[e.Netns.Identity]
}

// visible fails unless the pod of a record can be seen.
func (r *request) visible(e *record.Entry) error {
	ns, err := kernel.Open(e.Netns.Path)
	if err == nil {
		ns.Close()
	}
	return err
}

// lifeOf says whether a namespace is the record's.
func lifeOf(ns *kernel.Netns, e *record.Entry, boot string) show.Life {
	identity, err := ns.Identity(e.IfName)
	switch {
	case err != nil || identity == netops.Identity{}:
		return show.Unknown
	case e.In(boot, identity):
		return show.Lives
	}
	return show.Replaced
}
