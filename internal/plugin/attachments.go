package plugin

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

// AttachmentKeys are the keys of that list, for who passes it on.
var AttachmentKeys = []string{gcKey, gcOldKey}

type validAttachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// validAttachments reads the runtime's list. Absent or null it says nothing.
func (r *Request) validAttachments() (valid map[validAttachment]bool, given bool, err error) {
	for _, key := range AttachmentKeys {
		v, ok := r.config.Get(key)
		if !ok {
			continue
		}
		var list []validAttachment
		if err := json.Unmarshal(v.Raw, &list); err != nil {
			return nil, false, Errorf(types.ErrInvalidNetworkConfig, "%s: %w", key, err)
		}
		valid = make(map[validAttachment]bool, len(list))
		for i, a := range list {
			// To take what cannot be read for nothing would remove what lives.
			if a.ContainerID == "" || a.IfName == "" {
				return nil, false, Errorf(types.ErrInvalidNetworkConfig, "%s[%d]: containerID or ifname is missing", key, i)
			}
			valid[a] = true
		}
		return valid, true, nil
	}
	return nil, false, nil
}

// Valid lists the attachments of the network that are still valid, at GC.
// Where the runtime has given no list, that is known of none.
func (r *Request) Valid() (valid []Attachment, given bool, err error) {
	list, given, err := r.validAttachments()
	for a := range list {
		valid = append(valid, Attachment{Network: r.network, ContainerID: a.ContainerID, IfName: a.IfName})
	}
	return valid, given, err
}
