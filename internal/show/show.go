// Package show is what the sub-command of that name tells of a node: what
// plugins have made there, for which pod, and whether it is still so. Which
// records there are, and what the kernel has, internal/attach finds out; here
// they are chosen and written. All of it is pure but [ListKept].
package show

import (
	"cmp"
	"net/netip"
	"slices"
)

// Query is what is asked for.
type Query struct {
	Plugin   string // whose records
	StateDir string // of records; empty is the default
	DataDir  string // of flannel's kept configurations; empty is the default
	All      bool   // the records of all plugins
	Wrong    bool   // only what is not as it should be
	// Only narrows it. Each is a pod as namespace/name, its namespace's path, a
	// container ID or its beginning, a network, an interface, a plugin, or an
	// address, a subnet or "default", and all must hold.
	Only []string
}

// State is how far an ADD or DEL has come with a record.
type State string

// The states.
const (
	Finished   State = "finished"
	Unfinished State = "unfinished" // its ADD is at work, or was killed
	Undoing    State = "undoing"    // its DEL is at work, was killed or refused
	Newer      State = "newer"      // a later version of the plugin wrote it
	Unreadable State = "unreadable"
)

// Life says whether a pod is there.
type Life string

// What is at the path of a pod's namespace.
const (
	Lives    Life = "lives"
	Gone     Life = "gone"
	Replaced Life = "replaced" // there is another namespace at its path
	Unknown  Life = "unknown"  // it cannot be looked at
)

// Record is one time that a plugin stands in the chain of an attachment.
type Record struct {
	Plugin      string `json:"plugin"`
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
	// Pod is namespace/name, as the runtime gave it in CNI_ARGS; it may be empty.
	Pod   string `json:"pod"`
	Netns Netns  `json:"netns"`
	// Name is that of the record in its store, and File its file, which has
	// another one in each state.
	Name string `json:"-"`
	// Beside stands for the records of its pod, as they were when it was looked at.
	Beside string `json:"-"`
	File   string `json:"file"`
	State  State  `json:"state"`
	// Process works in the pod's namespace now; nil where none is seen.
	Process *Process `json:"process"`
	Error   string   `json:"error"` // why the file or the namespace cannot be read
	// Unchecked says that CHECK leaves the record out, as its configuration asks.
	Unchecked bool `json:"unchecked"`
	// Differs is what CHECK says of the attachment as a whole; mostly empty.
	Differs string   `json:"differs"`
	Node    []Change `json:"node"`
	InPod   []Change `json:"inPod"`
	Kept    *Kept    `json:"kept"` // of flannel
}

// Netns is the pod's namespace.
type Netns struct {
	Path string `json:"path"`
	Life Life   `json:"life"`
}

// Process is a process that holds the lock of a pod's namespace.
type Process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"` // may be empty
}

// Change is one thing that ADD has made or removed, as its command.
type Change struct {
	Command string `json:"command"`
	// Found says that it was so before ADD: DEL leaves it.
	Found bool `json:"found"`
	// SharedWith is how many other records want the same.
	SharedWith int `json:"sharedWith"`
	// Differs is what CHECK says of it; empty where it is as it was made.
	Differs string `json:"differs"`
	// Names are the addresses and subnets in it.
	Names []netip.Prefix `json:"-"`
}

// Leftover reports whether the record's pod is gone, and its DEL has not come.
func (r *Record) Leftover() bool { return r.Netns.Life == Gone || r.Netns.Life == Replaced }

// Differing is how many things of it are not as they were made.
func (r *Record) Differing() (n int) {
	if r.Differs != "" {
		n++
	}
	for _, list := range [][]Change{r.Node, r.InPod} {
		for _, c := range list {
			if c.Differs != "" {
				n++
			}
		}
	}
	return n
}

// Broken reports whether no process seems to be at work that would finish it.
func (r *Record) Broken() bool {
	return (r.State == Unfinished || r.State == Undoing) && r.Process == nil
}

// Wrong reports whether it is not as it should be.
func (r *Record) Wrong() bool {
	return r.Error != "" || r.State == Newer || r.Broken() || r.Leftover() || r.Differing() > 0 || r.Kept.refused()
}

// Sort puts records into the order of pods.
func Sort(list []Record) {
	slices.SortStableFunc(list, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Netns.Path, b.Netns.Path), cmp.Compare(a.ContainerID, b.ContainerID),
			cmp.Compare(a.IfName, b.IfName), cmp.Compare(a.Network, b.Network), cmp.Compare(a.Plugin, b.Plugin), cmp.Compare(a.File, b.File))
	})
}
