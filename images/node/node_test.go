// Package node has files for a node's own configuration.
package node

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops"
	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

func TestMain(m *testing.M) { os.Exit(netopstest.Main(m).Run()) }

// ip(8) reads the file, and knows our routes by it, when it is where the page
// has it put.
func TestProtocolsName(t *testing.T) {
	if err := unix.Mount("tmpfs", "/etc", "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount("/etc", unix.MNT_DETACH) }()
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^sudo (install .*)$`).FindAllSubmatch(page, -1)
	if len(commands) != 2 {
		t.Fatalf("%d commands", len(commands))
	}
	for _, c := range commands {
		cmd := exec.Command("sh", "-c", string(c[1]))
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	if netops.Protocol != 77 {
		t.Errorf("routes are made with protocol %d", netops.Protocol)
	}
	node := netopstest.Host(t)
	node.IP("route add 10.9.0.0/16 dev lo proto 77")
	if got := node.IP("route show 10.9.0.0/16"); !strings.Contains(got, "proto cni-netops") {
		t.Errorf("ip shows %s", got)
	}
	if _, err := os.Stat("/etc/systemd/networkd.conf.d/10-cni-netops.conf"); err != nil {
		t.Error(err)
	}
}
