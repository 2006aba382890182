//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// Every example of the README is carried out: with the subnet.env that stands
// before it, through libcni, with the real bridge, host-local and portmap, and
// the session that follows it prints what is written. portmap gets no ports to
// map: for that it would call nft or iptables, which no test here needs.
func TestReadme(t *testing.T) {
	plugintest.Readme(t, func(t *testing.T, e plugintest.Example) {
		if written, forWindows := strings.CutPrefix(e.Session, "> flannel.exe plan < conf.json\n"); forWindows {
			if diff := cmp.Diff(written, generatedFor(t, marshal(t, e.Conf), e.File, windows)+"\n"); diff != "" {
				t.Errorf("the session (-README +real):\n%s", diff)
			}
			return
		}
		carryOut(t, e)
	})
}

// carryOut adds a pod, checks it, deletes it, and finds nothing left.
func carryOut(t *testing.T, e plugintest.Example) {
	writeEnv(t, "/run/flannel", e.File)
	pod := netopstest.Namespace(t, "pod")
	t.Cleanup(func() { tidy(t) })
	if e.Conf["plugins"] == nil {
		list := map[string]any{"name": e.Conf["name"], "plugins": []any{e.Conf}}
		if v, ok := e.Conf["cniVersion"]; ok {
			list["cniVersion"] = v
		}
		e.Conf = list
	}
	r := plugintest.NewRuntime(t, pod, "eth0", marshal(t, e.Conf))
	r.Add()
	e.TypeIn(t, map[string]func() string{
		"ip -n pod route":    func() string { return plugintest.TrimLines(pod.IP("route")) },
		"ip -n pod -6 route": func() string { return withoutPref(pod.IP("-6 route")) },
		"flannel plan < conf.json": func() string {
			return plugintest.New(t, flannel.Name, pod, entryOf(t, r.List)).With(map[string]string{"CNI_PATH": os.Getenv("PATH")}).OK("plan").Stdout
		},
	})
	if r.List.CNIVersion >= "0.4.0" {
		r.OK("CHECK", r.Check())
	}
	if r.List.CNIVersion >= "1.1.0" {
		r.OK("STATUS", r.Status())
	}
	r.Del()
	r.Del()
	nothingLeft(t)
}

func marshal(t *testing.T, conf map[string]any) string {
	t.Helper()
	text, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// entryOf is flannel's entry of a list, as the plugin gets to read it.
func entryOf(t *testing.T, list *libcni.NetworkConfigList) string {
	t.Helper()
	further := map[string]any{"name": list.Name}
	if list.CNIVersion != "" {
		further["cniVersion"] = list.CNIVersion
	}
	conf, err := libcni.InjectConf(list.Plugins[0], further)
	if err != nil {
		t.Fatal(err)
	}
	return string(conf.Bytes)
}

// nothingLeft fails the test if there is a lease or something kept.
func nothingLeft(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"/var/lib/cni/flannel", "/var/lib/cni/networks", "/run/leases"} {
		for _, path := range plugintest.Left(t, dir) {
			if base := filepath.Base(path); base != "lock" && !strings.HasPrefix(base, "last_reserved_ip") {
				t.Errorf("left: %s", path)
			}
		}
	}
}

// tidy removes what the delegates leave for good.
func tidy(t *testing.T) {
	t.Helper()
	_ = os.RemoveAll("/var/lib/cni")
	out, err := exec.Command("ip", "-o", "link", "show", "type", "bridge").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range bytes.Split(bytes.TrimSpace(out), []byte("\n")) {
		if words := strings.Fields(string(line)); len(words) > 1 {
			netopstest.Host(t).IP("link del " + strings.TrimSuffix(words[1], ":"))
		}
	}
}

func withoutPref(s string) string {
	return plugintest.TrimLines(strings.ReplaceAll(s, " pref medium", ""))
}
