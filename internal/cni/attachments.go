package cni

import (
	"encoding/json"

	"github.com/containernetworking/cni/pkg/types"
)

// The keys under which a runtime lists the attachments that are still valid
// (CNI 1.1, section 2, GC), and what early drafts called them.
const (
	gcKey    = "cni.dev/valid-attachments"
	gcOldKey = "cni.dev/attachments"
)

// AttachmentKeys are the keys of that list, for a plugin that passes it on.
var AttachmentKeys = []string{gcKey, gcOldKey}

// Valid lists the attachments of the network that are still valid, at GC.
// Where the runtime has given no list, or null, that is known of none.
func (r *Request) Valid() (valid []Attachment, given bool, err error) {
	for _, key := range AttachmentKeys {
		v, ok := r.Config.Get(key)
		if !ok {
			continue
		}
		var list []struct {
			ContainerID string `json:"containerID"`
			IfName      string `json:"ifname"`
		}
		if err := json.Unmarshal(v.Raw, &list); err != nil {
			return nil, false, Errorf(types.ErrInvalidNetworkConfig, "%s: %w", key, err)
		}
		for i, a := range list {
			// To take what cannot be read for nothing would remove what lives.
			if a.ContainerID == "" || a.IfName == "" {
				return nil, false, Errorf(types.ErrInvalidNetworkConfig, "%s[%d]: containerID or ifname is missing", key, i)
			}
			valid = append(valid, Attachment{Network: r.Config.Network, ContainerID: a.ContainerID, IfName: a.IfName})
		}
		return valid, true, nil
	}
	return nil, false, nil
}
