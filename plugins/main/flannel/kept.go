package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// keeper keeps the generated configuration of each attachment between ADD and
// DEL: by then flanneld may have written another one, or the configuration
// may have changed.
//
//	<dataDir>/<network>@<container>@<interface>  an attachment
//	<dataDir>/<container>                        one that the flannel plugin which
//	                                             this one replaces has left
//
// Neither networks' names nor container IDs may hold an @ (CNI 1.1, sections 1
// and 2), and every file system takes it. A colon is none for Windows.
type keeper struct{ dir string }

const separator = "@"

// path is empty for an attachment that no file can be named by: on Windows the
// name of an interface may hold what separates folders there.
func (k keeper) path(a cni.Attachment) string {
	name := strings.Join([]string{a.Network, a.ContainerID, a.IfName}, separator)
	if filepath.Base(name) != name {
		return ""
	}
	return filepath.Join(k.dir, name)
}

// kept is a configuration that is kept.
type kept struct {
	cni.Attachment
	path string
	raw  []byte // what stands in the file, but for the refusal
	// refusal is what the delegate said when it would neither add the attachment
	// nor delete it again.
	refusal string
}

// save keeps the configuration: after a crash there is all of it, or nothing.
func (k keeper) save(a cni.Attachment, conf []byte) (*kept, error) {
	path := k.path(a)
	if path == "" {
		return nil, cni.Errorf(types.ErrInvalidEnvironmentVariables, "CNI_IFNAME %q cannot be part of a file's name", a.IfName)
	}
	if len(conf) > mostBytes {
		return nil, cni.Errorf(types.ErrInvalidNetworkConfig, "the generated configuration has %d bytes, %d at most", len(conf), mostBytes)
	}
	if err := writeFile(path, conf); err != nil {
		return nil, fmt.Errorf("keep the generated configuration for DEL: %w", err)
	}
	return &kept{Attachment: a, path: path, raw: conf}, nil
}

// find is what is kept of an attachment, in the old place where it has no file
// of its own; nil is nothing. What is there and cannot be read is an error.
func (k keeper) find(a cni.Attachment) (*kept, error) {
	own, err := k.findOwn(a)
	if err != nil || own.raw != nil {
		return own, err
	}
	return k.findOld(a)
}

// findOwn is what is kept of an attachment in a file of its own. The generated
// configuration is its first line.
func (k keeper) findOwn(a cni.Attachment) (*kept, error) {
	e := &kept{Attachment: a, path: k.path(a)}
	err := e.read()
	if conf, refusal, marked := bytes.Cut(e.raw, []byte{'\n'}); marked {
		e.raw, e.refusal = conf, string(refusal)
	}
	return e, err
}

// refuse notes what the delegate said when it would neither add the attachment
// nor delete it again. If that is all that it ever says, DEL need not go by it.
func (e *kept) refuse(why error) error {
	e.refusal = oneLine(why)
	return writeFile(e.path, slices.Concat(e.raw, []byte{'\n'}, []byte(e.refusal)))
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// old reports whether this is a file of the older plugin.
func (e *kept) old() bool { return !strings.Contains(filepath.Base(e.path), separator) }

// findOld is what the older plugin has left of a container, for the network that it
// names. It kept one file for all attachments, with what it last generated; an empty
// one names no network, and counts for any.
func (k keeper) findOld(a cni.Attachment) (*kept, error) {
	e := &kept{Attachment: a, path: filepath.Join(k.dir, a.ContainerID)}
	if st, err := os.Lstat(e.path); err == nil && !st.Mode().IsRegular() {
		return nil, nil // nothing of it
	}
	if err := e.read(); err != nil || e.raw == nil {
		return nil, err
	}
	if e.empty() {
		return e, nil
	}
	conf, err := e.config()
	if err != nil {
		return nil, err
	}
	if conf.name != a.Network {
		return nil, nil
	}
	return e, nil
}

// read reads the file; raw is nil where there is none, or cannot be.
func (e *kept) read() error {
	raw, err := readRegular(e.path, os.Lstat)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read what ADD has kept: %w", err)
	}
	e.raw = raw
	return nil
}

func (e *kept) empty() bool { return len(bytes.TrimSpace(e.raw)) == 0 }

// keptConfig is a kept configuration, taken apart.
type keptConfig struct {
	strictjson.Object
	name, typ string
}

// config takes the file apart. What is no configuration stays, for the administrator
// to look at.
func (e *kept) config() (keptConfig, error) {
	var c keptConfig
	problems := &strictjson.Problems{}
	o, ok := strictjson.NewValue(e.raw, "", problems).Object()
	if ok {
		c.Object = o
		o.Text(keyName, &c.name)
		o.Text(keyType, &c.typ)
		if why := misfit(c.typ); why != "" {
			problems.Invalid(keyType, "%q %s", c.typ, why)
		}
	}
	if len(problems.List) > 0 {
		return c, cni.Errorf(types.ErrDecodingFailure, "what ADD has kept in %s is no configuration of a plugin: %s", e.path, problems.List[0])
	}
	return c, nil
}

// remove forgets the attachment.
func (e *kept) remove() error {
	if err := os.Remove(e.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what ADD has kept: %w", err)
	}
	return nil
}

// list is everything that is kept for a network, the old places of those
// containers included that have one. Files that this plugin does not write are
// passed over.
func (k keeper) list(network string) (own, old []cni.Attachment, err error) {
	files, err := os.ReadDir(k.dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("list what ADD has kept: %w", err)
	}
	for _, f := range files {
		of, rest, split := strings.Cut(f.Name(), separator)
		container, ifName, whole := strings.Cut(rest, separator)
		switch {
		case whole && of == network:
			own = append(own, cni.Attachment{Network: network, ContainerID: container, IfName: ifName})
		case !split && !strings.HasPrefix(f.Name(), "."):
			old = append(old, cni.Attachment{Network: network, ContainerID: f.Name()})
		}
	}
	return own, old, nil
}

// writable reports why nothing could be kept. Runtimes ask every few seconds:
// the disk is not waited for.
func (k keeper) writable() error {
	f, err := createTemporary(k.dir)
	if err != nil {
		return err
	}
	_, err = f.WriteString("probe")
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// scratchID is the container whose attachments are kept together: on Windows
// the containers of a pod join the one that is its sandbox. What no one else has
// looked at must not lead to another folder.
func scratchID(a cni.Attachment, goos string) string {
	if sandbox, joins := strings.CutPrefix(a.Netns, "container:"); joins && goos == windows && utils.ValidateContainerID(sandbox) == nil {
		return sandbox
	}
	return a.ContainerID
}
