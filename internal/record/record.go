// Package record keeps what an ADD did, so that DEL, CHECK and GC go by it.
//
// A record is written before the first change to the kernel: whatever ends the
// process, the DEL that follows finds it. It lives in tmpfs, beside the kernel
// state that it describes, and dies with it at reboot.
//
//	<root>/netns-<cookie>                              lock of a namespace, for all plugins
//	<root>/host/                                       folder that is the lock of the host,
//	                                                   with what is noted of it (see Note),
//	<root>/host/index/                                 and who wants what (see index.go)
//	<root>/<plugin>/<network>/<container>:<interface>/ an attachment
//	    1.finished                                     its first entry in the chain
//	    1.lock                                         hard link to the lock of its namespace,
//	                                                   whose file goes with the last of them
//	    2.planned, 2.lock                              its second, whose ADD has not ended
//
// Neither container IDs nor interface names may hold a colon (CNI 1.1,
// section 2). The link is made first, and taken away last: it holds the number.
// Two namespaces may be given one container ID, and each is locked by itself.
package record

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cni-netops/plugins/internal/jsonappend"
	"github.com/cni-netops/plugins/internal/netops"
)

// Format is the number of the format written here. Every older one is read.
const Format = 1

var (
	// ErrNewer says that a later version of the plugin wrote a record.
	ErrNewer = errors.New("record of a newer format")
	// ErrDamaged says that a file is no record of this attachment.
	ErrDamaged = errors.New("damaged record")
)

// Key names an attachment of a network. One plugin may have several records
// of it, one for each time that it stands in the chain.
type Key struct {
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

func (k Key) String() string {
	return fmt.Sprintf("%s of container %s in network %s", k.IfName, k.ContainerID, k.Network)
}

// Namespace is the sandbox of an attachment: where it was, which it was, and
// the name of its lock.
type Namespace struct {
	Path string `json:"path"`
	// Folder is the device and inode of the folder that Path leads into; empty in
	// records of the first release.
	Folder string `json:"folder,omitempty"`
	netops.Identity
	Lock string `json:"lock"`
}

// Record is what one ADD did.
type Record struct {
	Format int    `json:"format"`
	Boot   string `json:"boot"` // ID of the boot in which it was written
	Plugin string `json:"plugin"`
	Key
	// Pod is namespace/name as the runtime gave them in CNI_ARGS, for whoever
	// reads the record. Those of the first release have none.
	Pod   string    `json:"pod,omitempty"`
	Netns Namespace `json:"netns"`
	// Done is what was changed, for DEL; Held is what was wanted and there
	// already. On the host Done is all that was wanted: what of it was made
	// here tells the protocol.
	Done netops.Plan `json:"done"`
	Held netops.Plan `json:"held"`
	// SkipCheck says that CHECK leaves out what this ADD did. Its key is the first
	// release's.
	SkipCheck bool `json:"unjudged"`
	// Default is the attachment's preference for the pod's default routes; nil where its
	// plugin has none.
	Default *Default `json:"default"`
}

// Default is what an attachment prefers as to which of the pod's interfaces has
// the default routes of table main, one of each family: all others have theirs
// taken away, and records list them as deleted.
type Default struct {
	Dev string `json:"dev"` // the interface that should have them; empty where it does not matter
	// Asked says that the configuration names it: that goes before any order, and
	// of several that are asked for the last ADD's counts.
	Asked bool `json:"asked"`
	// Number is the place of the interface among those that are not asked for. The
	// highest counts; those without a number come after all others, by their ADDs.
	Number uint32 `json:"number"`
	Order  uint32 `json:"order"` // of the attachment's ADD among those of its pod
}

// In reports whether the record is of that namespace: in another boot the same
// cookie is another one's, and a namespace that nothing is known of is none.
func (r Record) In(boot string, namespace netops.Identity) bool {
	return r.Boot == boot && r.Netns.Identity == namespace && namespace != netops.Identity{}
}

// Want is what the attachment wants, done or found.
func (r Record) Want() netops.Plan {
	want := r.Done
	want.Pod.Add = netops.State{}
	want.Pod.Add.Append(r.Done.Pod.Add)
	want.Pod.Add.Append(r.Held.Pod.Add)
	return want
}

// Wants reports whether the attachment added the route to its pod or found it
// there as it asked for it.
func (r Record) Wants(route *netops.Route) bool {
	want := r.Want()
	return slices.ContainsFunc(want.Pod.Add.Routes, func(w netops.Route) bool { return w.SameRoute(route) || w.SatisfiedBy(route) })
}

// encode is the record as JSON.
func (r Record) encode() []byte {
	o := jsonappend.Open(nil)
	o.Number("format", uint32(r.Format))
	o.Text("boot", r.Boot)
	o.Text("plugin", r.Plugin)
	o.Text("network", r.Network)
	o.Text("containerID", r.ContainerID)
	o.Text("ifName", r.IfName)
	o.Text("pod", r.Pod)
	o.Key("netns")
	o.B = r.Netns.appendJSON(o.B)
	o.Key("done")
	o.B = r.Done.AppendJSON(o.B)
	o.Key("held")
	o.B = r.Held.AppendJSON(o.B)
	o.Flag("unjudged", r.SkipCheck)
	if r.Default != nil {
		o.Key("default")
		o.B = r.Default.appendJSON(o.B)
	}
	return o.Close()
}

func (d *Default) appendJSON(b []byte) []byte {
	o := jsonappend.Open(b)
	o.Text("dev", d.Dev)
	o.Flag("asked", d.Asked)
	o.Number("number", d.Number)
	o.Number("order", d.Order)
	return o.Close()
}

func (n Namespace) appendJSON(b []byte) []byte {
	o := jsonappend.Open(b)
	o.Text("path", n.Path)
	if n.Folder != "" {
		o.Text("folder", n.Folder)
	}
	o.Number64("cookie", n.Cookie)
	o.Number("linkIndex", n.LinkIndex)
	o.Text("hardwareAddr", n.HardwareAddr)
	o.Text("lock", n.Lock)
	return o.Close()
}

// decode reads a record of this plugin and attachment.
func decode(data []byte, plugin string, key Key) (Record, error) {
	var r Record
	err := json.Unmarshal(data, &r)
	switch {
	case err == nil && r.Format <= Format:
	case formatOf(data) > Format:
		return Record{}, fmt.Errorf("%w: %d, this version knows %d", ErrNewer, formatOf(data), Format)
	default:
		return Record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	switch {
	case r.Format < 1:
		return Record{}, fmt.Errorf("%w: no format", ErrDamaged)
	case r.Plugin != plugin || r.Key != key:
		return Record{}, fmt.Errorf("%w: it is %s's, for %s", ErrDamaged, r.Plugin, r.Key)
	case !isLock(r.Netns.Lock):
		return Record{}, fmt.Errorf("%w: %q is no name of a lock", ErrDamaged, r.Netns.Lock)
	case r.Boot == "":
		return Record{}, fmt.Errorf("%w: no boot", ErrDamaged)
	case strings.ContainsRune(r.Netns.Path, 0):
		return Record{}, fmt.Errorf("%w: %q is no path", ErrDamaged, r.Netns.Path)
	}
	if err := r.validate(); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r, nil
}

// formatOf is the format of a record that this version may not understand; 0 of
// what is none.
func formatOf(data []byte) int {
	var head struct{ Format int }
	if json.Unmarshal(data, &head) != nil {
		return 0
	}
	return head.Format
}

// validate reports why what is recorded cannot be one of our changes.
func (r Record) validate() error {
	if d := r.Default; d != nil && d.Dev != "" && !netops.ValidDevice(d.Dev) {
		return fmt.Errorf("%q is no name of an interface", d.Dev)
	}
	return cmp.Or(r.Done.Validate(), r.Held.Validate())
}
