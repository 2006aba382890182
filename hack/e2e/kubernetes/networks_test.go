package kubernetes

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"

	"github.com/cni-netops/plugins/hack/e2e/internal/machine"
)

const (
	networksDir    = "/etc/cni/net.d"
	clusterNetwork = "/etc/cni/multus/net.d/10-cbr0.conflist"
)

// newest is the latest version of CNI that this containerd knows.
var newest string

// configureNetworks has containerd call Multus, and Multus the cluster's network.
func configureNetworks() (err error) {
	if newest, err = machine.NewestCNI(); err != nil {
		return err
	}
	conf, err := json.Marshal(multusConf{CNIVersion: newest, Name: "multus-cni-network", Type: standIn,
		ClusterNetwork: clusterNetwork, Kubeconfig: kubeconfig})
	return errors.Join(err,
		machine.Write(filepath.Join(networksDir, "00-multus.conf"), string(conf)),
		machine.Write(clusterNetwork, strings.ReplaceAll(primary, "VERSION", newest)))
}
