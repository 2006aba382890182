package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
)

// Netns is an open network namespace: a handle and one rtnetlink socket in
// it. It is not for concurrent use.
type Netns struct {
	// OnSend, where it is set, is told each operation as its command, how
	// long the send that it was part of took, and how it went; and each
	// list that was worthless because another process changed it meanwhile.
	OnSend func(command string, took time.Duration, err error)

	path    string
	handle  int
	conn    *conn
	names   map[int]string
	indexes map[string]uint32
}

// Open opens the network namespace at path. The error is fs.ErrNotExist where
// there is nothing, and ErrNotNamespace where there is something else.
func Open(path string) (*Netns, error) {
	handle, err := openNamespace(path)
	if err != nil {
		return nil, err
	}
	n := &Netns{path: path, handle: handle, names: map[int]string{}, indexes: map[string]uint32{}}
	if err := inNamespace(handle, func() error { n.conn, err = dial(); return err }); err != nil {
		_ = unix.Close(handle)
		return nil, fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return n, nil
}

func openNamespace(path string) (int, error) {
	// O_NONBLOCK: a FIFO at that path must not hang us.
	handle, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if err = isNetwork(unix.IoctlRetInt(handle, unix.NS_GET_NSTYPE)); err != nil {
		_ = unix.Close(handle)
		return -1, fmt.Errorf("%s is %w", path, err)
	}
	return handle, nil
}

// isNetwork judges what the kernel answers to NS_GET_NSTYPE (ioctl_ns(2)). What
// is no namespace does not know the question. Any other error says nothing: to
// take a pod for gone then would be to never undo what was done in it.
func isNetwork(kind int, err error) error {
	switch {
	case err == nil && kind == unix.CLONE_NEWNET:
		return nil
	case err == nil, errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL):
		return netops.ErrNotNamespace
	}
	return fmt.Errorf("not to be told from other files: %w", err)
}

// Close gives back the handle and the socket.
func (n *Netns) Close() {
	n.conn.close()
	_ = unix.Close(n.handle)
}

// IsOwn reports whether path leads to the network namespace that the process
// runs in, without entering it. Errors are those of [Open].
func IsOwn(path string) (bool, error) {
	handle, err := openNamespace(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = unix.Close(handle) }()
	return (&Netns{path: path, handle: handle}).Own()
}

// Own reports whether this is the namespace that the process runs in.
func (n *Netns) Own() (bool, error) {
	handle, err := openOwn()
	if err != nil {
		return false, err
	}
	defer func() { _ = unix.Close(handle) }()
	var own, there unix.Stat_t
	if err := unix.Fstat(handle, &own); err != nil {
		return false, fmt.Errorf("look at our own network namespace: %w", err)
	}
	if err := unix.Fstat(n.handle, &there); err != nil {
		return false, fmt.Errorf("look at network namespace %s: %w", n.path, err)
	}
	return own.Dev == there.Dev && own.Ino == there.Ino, nil
}

// openOwn opens the network namespace that the calling thread is in.
//
// It does not do so by /proc/thread-self/ns/net, which lies in the process's
// folder: the kernel clears that twice when the plugin ends, and the runtime, which
// waits for the end, spins meanwhile (docs/kernel.md). The thread's own folder is
// cleared once.
func openOwn() (int, error) {
	runtime.LockOSThread() // between the two calls
	defer runtime.UnlockOSThread()
	thread, err := os.Readlink("/proc/thread-self") // as the PID namespace of /proc numbers it
	if err != nil {
		return -1, fmt.Errorf("look for our own thread: %w", err)
	}
	own, err := unix.Open(filepath.Join("/proc", filepath.Base(thread), "ns/net"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open our own network namespace: %w", err)
	}
	return own, nil
}

// Identity is that of the namespace; ifname is looked at where the kernel
// knows no cookies.
func (n *Netns) Identity(ifname string) (netops.Identity, error) {
	cookie, err := unix.GetsockoptUint64(n.conn.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err == nil {
		return netops.Identity{Cookie: cookie}, nil
	}
	if !errors.Is(err, unix.ENOPROTOOPT) {
		return netops.Identity{}, os.NewSyscallError("read the namespace's cookie", err)
	}
	return n.linkIdentity(ifname)
}

// Inhabited are the network namespaces that processes are in, as [Netns.Identity]
// has them. A namespace that may not be looked into is left out: no ADD of this
// user can have worked in it.
func Inhabited(ifname string) map[netops.Identity]bool {
	found, seen := map[netops.Identity]bool{}, map[uint64]bool{}
	paths, _ := filepath.Glob("/proc/[0-9]*/ns/net") // the pattern is a right one
	for _, path := range paths {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || seen[st.Ino] {
			continue
		}
		seen[st.Ino] = true
		n, err := Open(path)
		if err != nil {
			continue
		}
		if identity, err := n.Identity(ifname); err == nil {
			found[identity] = true
		}
		n.Close()
	}
	return found
}

func (n *Netns) linkIdentity(ifname string) (netops.Identity, error) {
	index, err := n.index(ifname)
	if errors.Is(err, netops.ErrNoLink) {
		return netops.Identity{}, nil
	} else if err != nil {
		return netops.Identity{}, err
	}
	l, err := n.link(index)
	return netops.Identity{LinkIndex: index, HardwareAddr: l.HardwareAddr.String()}, err
}

// LockName names the namespace among those that live: by its cookie, or on
// older kernels by the inode of its file.
func (n *Netns) LockName() (string, error) {
	cookie, err := unix.GetsockoptUint64(n.conn.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err == nil {
		return fmt.Sprintf("netns-%d", cookie), nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(n.handle, &st); err != nil {
		return "", fmt.Errorf("look at network namespace %s: %w", n.path, err)
	}
	return fmt.Sprintf("netns-inode-%d", st.Ino), nil
}

// inNamespace calls f on a thread that is in the namespace. Where the thread
// cannot come back, it ends with its goroutine: the caller, who goes on to undo
// what was done, would else take the pod for the host.
func inNamespace(handle int, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- visit(handle, f) }()
	return <-done
}

func visit(handle int, f func() error) error {
	runtime.LockOSThread()
	own, err := openOwn()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() { _ = unix.Close(own) }()
	if err := unix.Setns(handle, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return os.NewSyscallError("setns", err)
	}
	err = f()
	if back := unix.Setns(own, unix.CLONE_NEWNET); back != nil {
		return fmt.Errorf("come back from it: %w", back)
	}
	runtime.UnlockOSThread()
	return err
}

// Within calls f on a thread that is in the namespace: for what no netlink
// socket can do. A socket of another kind that f opens stays in the namespace.
func (n *Netns) Within(f func() error) error {
	if n.handle < 0 {
		return f()
	}
	if err := inNamespace(n.handle, f); err != nil {
		return fmt.Errorf("in network namespace %s: %w", n.path, err)
	}
	return nil
}

// index looks an interface up by name, without listing them all. Only the name
// that it goes by counts, no alternative one: routes are listed with that.
func (n *Netns) index(name string) (uint32, error) {
	if i, ok := n.indexes[name]; ok {
		return i, nil
	}
	req, err := unix.NewIfreq(name)
	if err != nil || strings.ContainsRune(name, 0) {
		return 0, fmt.Errorf("%w: %q", netops.ErrNoLink, name)
	}
	if err := unix.IoctlIfreq(n.conn.fd, unix.SIOCGIFINDEX, req); errors.Is(err, unix.ENODEV) {
		return 0, fmt.Errorf("%w: %q", netops.ErrNoLink, name)
	} else if err != nil {
		return 0, fmt.Errorf("look up interface %q: %w", name, err)
	}
	index := req.Uint32()
	proper, err := n.name(int(index))
	if err == nil && proper != name {
		err = fmt.Errorf("%w: %q, which is an alternative name of %q", netops.ErrNoLink, name, proper)
	}
	return index, err
}

// name looks an interface up by index. One that is gone has none.
func (n *Netns) name(index int) (string, error) {
	if name, ok := n.names[index]; ok {
		return name, nil
	}
	req, _ := unix.NewIfreq("")
	req.SetUint32(uint32(index))
	if err := unix.IoctlIfreq(n.conn.fd, unix.SIOCGIFNAME, req); errors.Is(err, unix.ENODEV) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("look up interface %d: %w", index, err)
	}
	name := req.Name()
	n.indexes[name], n.names[index] = uint32(index), name
	return name, nil
}

// forget drops the names looked up so far: interfaces come and go.
func (n *Netns) forget() {
	clear(n.indexes)
	clear(n.names)
}
