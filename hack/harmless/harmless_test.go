// Package harmless tests scripts/harmless.sh, which proves that make's targets
// leave the machine as it was.
package harmless

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
)

func TestMain(m *testing.M) { os.Exit(netopstest.Main(m).Run()) }

func harmless(args ...string) (string, error) {
	cmd := exec.Command("../../scripts/harmless.sh", args...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// What changes nothing passes, whoever runs it, with its own exit code.
func TestHarmless(t *testing.T) {
	for want, args := range map[string][]string{
		"0\n":    {"sh", "-c", "id -u; ip netns exec machine true; cat /opt/cni/bin/bridge >/dev/null"},
		"1000\n": {"--ordinary", "id", "-u"},
	} {
		if out, err := harmless(args...); err != nil || out != want {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	if out, err := harmless("sh", "-c", "exit 3"); err == nil || err.Error() != "exit status 3" {
		t.Errorf("%v: %s", err, out)
	}
}

// Each change of the machine is told, as is what is left behind.
func TestHarmful(t *testing.T) {
	damages := map[string]string{ // by what is told of them
		"changed/var/lib/cni/networks/machine/10.99.0.2 f": "rm -r /var/lib/cni/networks/machine",
		"changed/etc/cni/net.d/new f":                      "touch /etc/cni/net.d/new",
		"changed/opt/cni/bin/bridge":                       "echo new >/opt/cni/bin/bridge",
		"changed/usr/new f":                                "touch /usr/new",
		"/run/cni/router/net/pod:eth0/1.finished":          "rm /run/cni/router/net/pod:eth0/1.finished",
		"-machine":                                     "ip netns del machine",
		"-10.98.0.0/16 via 10.99.0.2":                  "ip route del 10.98.0.0/16",
		"-31000:\tfrom fd98::/64 lookup 100":           "ip -6 rule del pref 31000",
		"-10.99.0.2 dev cni0 lladdr 02:00:00:00:00:99": "ip neigh del 10.99.0.2 dev cni0",
		"+/proc/sys/net/ipv4/conf/cni0/rp_filter:0":    "echo 0 >/proc/sys/net/ipv4/conf/cni0/rp_filter",
		" /mnt ":          "mount -t tmpfs forgotten /mnt",
		"forgotten.tmp f": "touch $TMPDIR/forgotten.tmp",
	}
	var all []string
	for _, command := range damages {
		all = append(all, command)
	}
	out, err := harmless("sh", "-ec", strings.Join(all, "\n"))
	if err == nil {
		t.Error("it passes")
	}
	for told := range damages {
		if !strings.Contains(out, told) {
			t.Errorf("nothing is told of %q: %s", told, out)
		}
	}
	if out, err := harmless("sh", "-c", "sleep 60 & exit 0"); err == nil || !strings.Contains(out, "left running: sleep 60") {
		t.Errorf("a process that is left: %v: %s", err, out)
	}
}
