//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const file = "cbr0@c1@eth0"

// compacted is JSON on one line.
func compacted(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(text)); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out.String()
}

// An attachment from its ADD to its DEL: what is generated is what plan prints,
// the delegate gets, and is kept; the result is the delegate's; stderr is quiet.
func TestLife(t *testing.T) {
	b := newBench(t)
	planned := b.OK("plan")
	b.keeps()
	b.verbs()
	added := b.OK("ADD")
	if want := `{"cniVersion": "1.1.0", "ips": [{"address": "10.1.17.2/24"}]}` + "\n"; added.Stdout != want || added.Stderr != "" || planned.Stderr != "" {
		t.Errorf("ADD: %q, stderr %q %q", added.Stdout, added.Stderr, planned.Stderr)
	}
	call := b.verbs("ADD c1 eth0")[0]
	if call.Netns != b.Env["CNI_NETNS"] || call.Args != "A=1;A=2;" || string(call.Conf)+"\n" != planned.Stdout {
		t.Errorf("%+v, planned %s", call, planned.Stdout)
	}
	b.keeps(file)
	kept, err := os.ReadFile(filepath.Join(b.data, file))
	if err != nil || string(kept)+"\n" != planned.Stdout {
		t.Errorf("kept %s, %v", kept, err)
	}

	after := b.After(added)
	after.OK("CHECK")
	checked := b.verbs("CHECK c1 eth0")[0]
	var conf struct {
		Type       string
		PrevResult json.RawMessage
	}
	if err := json.Unmarshal(checked.Conf, &conf); err != nil || conf.Type != "recorder" || compacted(t, string(conf.PrevResult)) != compacted(t, added.Stdout) {
		t.Errorf("CHECK: %s, %v", checked.Conf, err)
	}

	// By now flanneld has written something else, and the configuration is
	// another one.
	writeEnv(t, b.dir, "")
	changed := b.edited(func(conf map[string]any) { conf["delegate"] = map[string]any{"type": "missing"} })
	if got := changed.OK("DEL"); got.Stdout != "" || got.Stderr != "" {
		t.Errorf("DEL: %q %q", got.Stdout, got.Stderr)
	}
	if del := b.verbs("DEL c1 eth0")[0]; string(del.Conf) != string(kept) {
		t.Errorf("DEL by %s, kept was %s", del.Conf, kept)
	}
	b.keeps()
	b.OK("DEL") // nothing is kept: success
	b.verbs()
}

// prevResult goes on to the delegate's DEL and CHECK, with the version that it
// is in.
func TestVersionOfPrevResult(t *testing.T) {
	b := newBench(t).edited(func(conf map[string]any) { conf["cniVersion"] = "0.3.1" })
	b.OK("ADD")
	b.verbs("ADD c1 eth0")
	later := b.edited(func(conf map[string]any) { conf["cniVersion"], conf["prevResult"] = "1.0.0", map[string]any{"x": 1} })
	later.OK("CHECK")
	later.OK("DEL")
	for _, call := range b.verbs("CHECK c1 eth0", "DEL c1 eth0") {
		var conf map[string]any
		if err := json.Unmarshal(call.Conf, &conf); err != nil || conf["cniVersion"] != "1.0.0" || conf["prevResult"] == nil || conf["mtu"] != 1472.0 {
			t.Errorf("%s: %v, %v", call.Verb, conf, err)
		}
	}
}

// Two attachments of a container, two networks, and names that look alike have
// a file each, and each DEL uses its own.
func TestEachItsOwn(t *testing.T) {
	b := newBench(t)
	var all []bench
	for _, a := range [][3]string{{"cbr0", "c1", "eth0"}, {"cbr0", "c1", "net1"}, {"other", "c1", "eth0"}, {"cbr0", "c-1_a.b", "eth-0"}, {"cbr0-c", "1_a.b", "eth-0"}, {"cbr0", "c", "1@eth0"}, {"cbr0", "c", "1@eth0@x"}} {
		one := b.edited(func(conf map[string]any) { conf["name"] = a[0] }).with("CNI_CONTAINERID", a[1]).with("CNI_IFNAME", a[2])
		one.OK("ADD")
		all = append(all, one)
	}
	b.calls()
	b.keeps("cbr0@c1@eth0", "cbr0@c1@net1", "other@c1@eth0", "cbr0@c-1_a.b@eth-0", "cbr0-c@1_a.b@eth-0", "cbr0@c@1@eth0", "cbr0@c@1@eth0@x")
	for _, one := range all {
		one.OK("DEL")
		call := b.verbs(fmt.Sprintf("DEL %s %s", one.Env["CNI_CONTAINERID"], one.Env["CNI_IFNAME"]))[0]
		var sent, own struct{ Name string }
		if json.Unmarshal(call.Conf, &sent) != nil || json.Unmarshal([]byte(one.Conf), &own) != nil || sent != own {
			t.Errorf("DEL of %v by %v", own, sent)
		}
	}
	b.keeps()
}

// Only who owns what is kept may read it.
func TestModes(t *testing.T) {
	b := newBench(t)
	b.OK("ADD")
	for path, want := range map[string]os.FileMode{b.data: 0o700, filepath.Join(b.data, file): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}
}

// A failing delegate is DELeted, what was kept goes, and its own words and code
// come out, with its type.
func TestFailingAdd(t *testing.T) {
	for how, want := range map[string]struct {
		code uint
		says []string
	}{
		"error 11 no address left":       {11, []string{"flannel: recorder: no address left", "more about it"}},
		"error 7 two\nlines":             {7, []string{"flannel: recorder: two", "lines", "more about it"}},
		"error 999 x":                    {999, []string{"flannel: recorder: x"}},
		"error 0 no code":                {105, []string{"flannel: recorder: exit status 1, and no error of CNI's", "no code"}},
		"both 8 it is its own namespace": {8, []string{"flannel: recorder: it is its own namespace"}},
		"exit 3":                         {105, []string{"flannel: recorder: exit status 3, and no word about it on stdout"}},
		"exit 3 {\"code\": ":             {105, []string{"exit status 3, and no error of CNI's", `{"code":`}},
		"exit 3 \x00\xff\x1b[31mred":     {105, []string{"exit status 3"}},
		"exit 1 [1,2]":                   {105, []string{"exit status 1"}},
		"exit 1 {\"code\": \"7\"}":       {105, []string{"exit status 1"}},
		"kill":                           {105, []string{"flannel: recorder: ended by signal: killed"}},
		"print ":                         {105, []string{"success without a result"}},
		"print garbage":                  {105, []string{"success without a result", "garbage"}},
		"print {\"ips\": [":              {105, []string{"success without a result"}},
		"print []":                       {105, []string{"success without a result"}},
		"endless":                        {105, []string{"it prints more than 16 MiB"}},
	} {
		t.Run(strings.ToValidUTF8(strings.ReplaceAll(how, "\x00", ""), ""), func(t *testing.T) {
			if strings.Contains(how, "\x00") {
				how = strings.ReplaceAll(how, "\x00", "\x01") // the environment holds none
			}
			b := newBench(t, "ADD="+how)
			a := b.Refused("ADD", want.code, want.says...)
			if complaint := strings.Contains(a.Stderr, "recorder complains at ADD"); complaint != (strings.HasPrefix(how, "error") || strings.HasPrefix(how, "both")) {
				t.Errorf("stderr: %q", a.Stderr)
			}
			calls := b.verbs("ADD c1 eth0", "DEL c1 eth0")
			if diff := cmp.Diff(string(calls[0].Conf), string(calls[1].Conf)); diff != "" {
				t.Error(diff)
			}
			b.keeps()
		})
	}
}

// When the clean-up fails too, the error is that of ADD, and what was kept
// stays for the runtime's DEL.
func TestFailingCleanUp(t *testing.T) {
	b := newBench(t, "ADD=error 100 first", "DEL=error 101 second")
	a := b.Refused("ADD", 100, "recorder: first")
	if !strings.Contains(a.Stderr, "could not be taken back; DEL will try again") || !strings.Contains(a.Stderr, "second") {
		t.Errorf("stderr: %s", a.Stderr)
	}
	b.keeps(file)
	b.behaving("DEL=").OK("DEL")
	b.verbs("ADD c1 eth0", "DEL c1 eth0", "DEL c1 eth0")
	b.keeps()
}

// A failing DEL keeps what it needs for the next.
func TestFailingDel(t *testing.T) {
	b := newBench(t)
	b.OK("ADD")
	for how, code := range map[string]uint{"error 11 busy": 11, "exit 1 x": 105, "kill": 105} {
		b.behaving("DEL="+how).Refused("DEL", code, "flannel: recorder: ")
		b.keeps(file)
	}
	b.with("CNI_PATH", t.TempDir()).Refused("DEL", 105, "flannel: recorder: there is no such plugin in CNI_PATH")
	b.keeps(file)
	b.OK("DEL")
	b.keeps()
}

// DEL and GC read little, and mind nothing.
func TestDelOfWhatAddRefuses(t *testing.T) {
	b := newBench(t)
	for name, change := range map[string]func(map[string]any){
		"bad keys":       func(c map[string]any) { c["delegate"], c["ipam"], c["subnetfile"], c["dataDirs"] = 7, "x", 1, 2 },
		"no flanneld":    func(c map[string]any) { c["subnetFile"] = "/nowhere" },
		"a typo in type": func(c map[string]any) { c["type"] = "flanel" },
		"relative file":  func(c map[string]any) { c["subnetFile"] = "x" },
	} {
		b.OK("ADD")
		b.calls()
		b.edited(change).with("CNI_NETNS", "").OK("DEL")
		if call := b.verbs("DEL c1 eth0")[0]; call.Netns != "" {
			t.Errorf("%s: CNI_NETNS %q", name, call.Netns)
		}
		b.keeps()
		b.edited(change).Refused("ADD", map[bool]uint{true: 11, false: 7}[name == "no flanneld"])
		b.verbs()
		b.keeps()
	}
	a := b.edited(func(c map[string]any) { c["dataDir"] = "relative" }).OK("DEL")
	if !strings.Contains(a.Stderr, "is not an absolute path") {
		t.Errorf("stderr: %q", a.Stderr)
	}
}

// What cannot be read stays, and is told; what is empty tells nothing, and goes.
func TestDamaged(t *testing.T) {
	for _, old := range []bool{false, true} {
		b := newBench(t)
		name := file
		if old {
			name = "c1"
		}
		for text, says := range map[string]string{`{"name": "cbr0", "type"`: "is no configuration of a plugin", `[]`: "is not an object", "\x00\x00": "is no configuration",
			`{"name":"cbr0","type":"../evil"}`: "is not the name of a plugin", `{"name":"cbr0"}`: "is not the name of a plugin", `{"name":"cbr0","type":"flannel"}`: "would delegate to itself"} {
			b.keep(name, text)
			b.Refused("DEL", 6, b.data+"/"+name, says)
			b.keeps(name)
		}
		b.keep(name, " \n")
		if a := b.OK("DEL"); !strings.Contains(a.Stderr, "what ADD has kept is empty") {
			t.Errorf("stderr: %q", a.Stderr)
		}
		b.verbs()
		b.keeps()
	}
	b := newBench(t)
	if err := os.MkdirAll(filepath.Join(b.data, file), 0o700); err != nil {
		t.Fatal(err)
	}
	b.Refused("DEL", 5, "not a regular file")
	// Nor is a link followed: it could lead anywhere.
	_ = os.Remove(filepath.Join(b.data, file))
	b.keep("elsewhere", `{"name":"cbr0","type":"recorder"}`)
	if err := os.Symlink("elsewhere", filepath.Join(b.data, file)); err != nil {
		t.Fatal(err)
	}
	b.Refused("DEL", 5, "not a regular file")
	b.verbs()
}

const oldFile = `{"cniVersion":"0.3.1","hairpinMode":true,"ipMasq":false,"ipam":{"routes":[{"dst":"10.1.0.0/16"}],"type":"host-local","ranges":[[{"subnet":"10.1.17.0/24"}]]},"isGateway":true,"mtu":1450,"name":"cbr0","type":"recorder"}`

// What the older plugin has left is honoured by the DEL and CHECK of the
// network that it names, where an attachment has no file of its own.
func TestOldPlace(t *testing.T) {
	b := newBench(t)
	b.keep("c1", oldFile)
	b.edited(func(c map[string]any) { c["name"] = "other" }).OK("DEL")
	b.verbs()
	b.keeps("c1")
	b.with("CNI_IFNAME", "net1").OK("ADD")
	b.OK("CHECK")
	b.with("CNI_IFNAME", "net1").OK("DEL")
	b.verbs("ADD c1 net1", "CHECK c1 eth0", "DEL c1 net1")
	b.keeps("c1")
	b.behaving("DEL=exit 1").Refused("DEL", 105)
	b.keeps("c1")
	b.calls()
	b.OK("DEL")
	if call := b.verbs("DEL c1 eth0")[0]; string(call.Conf) != oldFile {
		t.Errorf("DEL by %s", call.Conf)
	}
	b.keeps()
	// A folder there is none of its files.
	if err := os.MkdirAll(filepath.Join(b.data, "c1"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.OK("DEL")
}

// CHECK goes by what is kept; without it there is drift.
func TestCheck(t *testing.T) {
	b := newBench(t)
	b.Refused("CHECK", 106, "no configuration is kept for eth0 of container c1 in "+b.data)
	b.keep(file, "")
	b.Refused("CHECK", 106, "no configuration is kept")
	b.OK("ADD")
	b.behaving("CHECK=error 106 it drifted").Refused("CHECK", 106, "flannel: recorder: it drifted", "more about it")
	b.edited(func(c map[string]any) { c["delegates"] = 1 }).Refused("CHECK", 2, `did you mean "delegate"?`)
	b.with("CNI_NETNS", "/nowhere").Refused("CHECK", 4, "CNI_NETNS /nowhere")
	b.keeps(file)
}

// An ADD that meets what an earlier one has left deletes that first: it was
// killed, or its DEL never came. What cannot be deleted is not written over.
func TestAddMeetsLeftovers(t *testing.T) {
	b := newBench(t)
	left := `{"name":"cbr0","type":"recorder","mtu":1}`
	b.keep(file, left)
	b.behaving("DEL=error 11 busy").Refused("ADD", 11, "delete what an earlier ADD has left: recorder: busy")
	b.verbs("DEL c1 eth0")
	a := b.OK("ADD")
	if !strings.Contains(a.Stderr, "deleting what an earlier ADD") {
		t.Errorf("stderr: %q", a.Stderr)
	}
	if call := b.verbs("DEL c1 eth0", "ADD c1 eth0")[0]; string(call.Conf) != left {
		t.Errorf("DEL by %s", call.Conf)
	}
	b.keeps(file)
}

// validate is a GC with this list.
func (b bench) gc(list string) bench {
	return b.edited(func(c map[string]any) { c["cni.dev/valid-attachments"] = json.RawMessage(list) }).
		with("CNI_NETNS", "").with("CNI_CONTAINERID", "").with("CNI_IFNAME", "")
}

// GC deletes what is no longer valid of this network, without a namespace, and
// then lets the delegate do its own.
func TestGC(t *testing.T) {
	b := newBench(t)
	for _, a := range [][3]string{{"cbr0", "c1", "eth0"}, {"cbr0", "c1", "net1"}, {"cbr0", "c2", "eth0"}, {"other", "c2", "eth0"}} {
		b.edited(func(c map[string]any) { c["name"] = a[0] }).with("CNI_CONTAINERID", a[1]).with("CNI_IFNAME", a[2]).OK("ADD")
	}
	b.keep("c1", oldFile) // a valid attachment's container
	b.keep("c3", oldFile)
	b.keep("c4", strings.Replace(oldFile, "cbr0", "other", 1))
	b.keep("c5", "")
	b.keep("c6", "no JSON")
	b.calls()
	const valid = `[{"containerID": "c1", "ifname": "eth0"}]`
	b.gc(valid).OK("GC")
	calls := b.verbs("DEL c1 net1", "DEL c2 eth0", "DEL c3 eth0", "GC")
	for _, c := range calls {
		if c.Netns != "" {
			t.Errorf("%s with CNI_NETNS %q", c.Verb, c.Netns)
		}
	}
	if !strings.Contains(string(calls[3].Conf), `"cni.dev/valid-attachments":`+strings.ReplaceAll(valid, " ", "")) || !strings.Contains(string(calls[3].Conf), `"mtu":1472`) {
		t.Errorf("GC by %s", calls[3].Conf)
	}
	b.keeps(file, "other@c2@eth0", "c1", "c4", "c5", "c6")

	// Failures keep the files, are all told, and stop nothing.
	b.with("CNI_CONTAINERID", "c7").OK("ADD")
	b.keep("cbr0@c8@eth0", "damaged")
	b.calls()
	a := b.gc(`[]`).behaving("DEL=error 11 busy").Refused("GC", 11, "eth0 of container c1: recorder: busy", "eth0 of container c7: recorder: busy", "cbr0@c8@eth0 is no configuration")
	if !strings.HasPrefix(a.Error.Msg, "flannel: eth0 of container c1") {
		t.Errorf("msg: %s", a.Error.Msg)
	}
	b.verbs("DEL c1 eth0", "DEL c7 eth0", "DEL c1 eth0", "GC")
	b.keeps(file, "cbr0@c7@eth0", "cbr0@c8@eth0", "other@c2@eth0", "c1", "c4", "c5", "c6")
}

// Without a list nothing is known to be invalid. Without flanneld, or with keys
// that are wrong, GC deletes what it can, and leaves the delegate's out.
func TestGCWithLittle(t *testing.T) {
	b := newBench(t)
	b.OK("ADD")
	b.calls()
	b.gc(`null`).OK("GC")
	b.verbs("GC")
	b.gc(`7`).Refused("GC", 7, "cni.dev/valid-attachments")
	b.verbs()
	b.keeps(file)
	for name, change := range map[string]func(map[string]any){
		"flanneld has not written": func(c map[string]any) { c["subnetFile"] = "/nowhere" },
		"delegate: 7 is not":       func(c map[string]any) { c["delegate"] = 7 },
	} {
		b.edited(func(map[string]any) {}).OK("ADD")
		b.calls()
		a := b.edited(change).gc(`[]`).OK("GC")
		if !strings.Contains(a.Stderr, "the delegate's own GC is left out") || !strings.Contains(a.Stderr, name) {
			t.Errorf("stderr: %q", a.Stderr)
		}
		b.verbs("DEL c1 eth0")
		b.keeps()
	}
	// An older delegate knows no GC; one that fails does.
	b.gc(`[]`).behaving("GC=error 4 unknown CNI_COMMAND: GC").OK("GC")
	b.gc(`[]`).behaving("GC=error 5 disk").Refused("GC", 5, "recorder: disk")
	b.gc(`[]`).with("CNI_PATH", t.TempDir()).Refused("GC", 105, "there is no such plugin")
}

// GC removes what killed processes have left half written, but nothing that
// may still be written.
func TestGCSweeps(t *testing.T) {
	b := newBench(t)
	b.keep(".new-1-old", "{")
	b.keep(".new-2-young", "{")
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(b.data, ".new-1-old"), old, old); err != nil {
		t.Fatal(err)
	}
	b.gc(`[]`).OK("GC")
	b.keeps(".new-2-young")
}

// STATUS: 7 is the configuration's, 50 the rest, but for the delegate's own.
func TestStatus(t *testing.T) {
	b := newBench(t)
	b.Call = b.With(map[string]string{"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": ""})
	if a := b.OK("STATUS"); a.Stdout != "" || a.Stderr != "" {
		t.Errorf("%q %q", a.Stdout, a.Stderr)
	}
	b.verbs("STATUS")
	b.keeps()
	b.edited(func(c map[string]any) { c["delegates"] = 1 }).Refused("STATUS", 7, `did you mean "delegate"?`)
	b.edited(func(c map[string]any) { c["subnetFile"] = "/nowhere/subnet.env" }).
		Refused("STATUS", 50, "flanneld has not written /nowhere/subnet.env yet: look at the flannel pod's log on this node")
	b.edited(func(c map[string]any) { c["dataDir"] = b.dir + "/subnet.env" }).Refused("STATUS", 50, "subnet.env")
	b.with("CNI_PATH", t.TempDir()).Refused("STATUS", 50, "recorder: there is no such plugin")
	b.verbs()
	b.behaving("STATUS=error 4 unknown CNI_COMMAND: STATUS").OK("STATUS")
	b.behaving("STATUS=error 50 no").Refused("STATUS", 50, "flannel: recorder: no")
	b.behaving("STATUS=error 51 little").Refused("STATUS", 51, "recorder: little")
	b.behaving("STATUS=exit 2").Refused("STATUS", 50, "recorder: exit status 2")
	b.behaving("STATUS=kill").Refused("STATUS", 50, "ended by signal")
	for _, text := range []string{env4text("FLANNEL_MTU"), env4text("") + "FLANNEL_MTU=x"} {
		writeEnv(t, b.dir, text)
		b.Refused("STATUS", 50, "FLANNEL_MTU", "look at the flannel pod's log on this node")
	}
}

// What the delegate refuses to add, and to delete again, does not make the pod
// undeletable; anything else that it says at DEL keeps the file.
func TestDelegateThatRefusesBoth(t *testing.T) {
	b := newBench(t)
	b.behaving("ADD=error 999 no such key", "DEL=error 999 no such key").Refused("ADD", 999, "no such key")
	b.keeps("cbr0@c1@eth0")
	b.behaving("DEL=error 999 busy").Refused("DEL", 999, "busy", "kept its configuration in "+b.dir)
	b.keeps("cbr0@c1@eth0")
	if a := b.behaving("DEL=error 999 no such key").OK("DEL"); !strings.Contains(a.Stderr, "will not delete it") {
		t.Errorf("no warning: %s", a.Stderr)
	}
	b.keeps()
	// A new ADD of the attachment is not held up by it either.
	b.behaving("ADD=error 999 no such key", "DEL=error 999 no such key").Refused("ADD", 999)
	b.behaving("DEL=error 999 no such key").OK("ADD")
	b.OK("DEL")
	b.keeps()
}

// A delegate that cannot be started has done nothing.
func TestDelegateThatCannotBeStarted(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "broken"), []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	broken := b.with("CNI_PATH", dir).edited(func(c map[string]any) { c["delegate"] = map[string]any{"type": "broken"} })
	broken.Refused("ADD", 105, "broken: cannot be run")
	b.keeps()
	broken.OK("DEL")
}

// Delegates of before say of GC and STATUS that there is no container.
func TestOldDelegates(t *testing.T) {
	b := newBench(t)
	b.behaving("STATUS=error 3 missing containerID").OK("STATUS")
	b.behaving("GC=error 3 missing containerID").OK("GC")
}

// A prevResult that is none does not keep DEL from its work.
func TestDelWithABadPrevResult(t *testing.T) {
	b := newBench(t)
	b.OK("ADD")
	if a := b.edited(func(c map[string]any) { c["prevResult"] = 7 }).OK("DEL"); !strings.Contains(a.Stderr, "prevResult is no object") {
		t.Errorf("no warning: %s", a.Stderr)
	}
	b.keeps()
}

// The file of the older plugin is its first interface's: a DEL of another, which
// runtimes repeat, leaves it.
func TestDelOfAnotherInterfaceLeavesTheOldFile(t *testing.T) {
	b := newBench(t)
	b.OK("ADD")
	if err := os.Rename(filepath.Join(b.dir, "data", "cbr0@c1@eth0"), filepath.Join(b.dir, "data", "c1")); err != nil {
		t.Fatal(err)
	}
	net1 := b.with("CNI_IFNAME", "net1")
	net1.OK("ADD")
	net1.OK("DEL")
	net1.OK("DEL")
	b.keeps("c1")
	b.OK("DEL")
	b.keeps()
}

// ADD that cannot begin changes nothing and calls no delegate; plan says the same.
func TestAddThatCannotBegin(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		bench
		code uint
		says string
	}{
		{b.edited(func(c map[string]any) { c["subnetFile"] = "/nowhere" }), 11, "flanneld has not written /nowhere yet"},
		{b.edited(func(c map[string]any) { c["subnetFile"] = b.dir }), 5, "not a regular file"},
		{b.edited(func(c map[string]any) { c["subnetFile"] = "/dev/zero" }), 5, "not a regular file"},
		{b.edited(func(c map[string]any) { c["delegate"] = map[string]any{"type": "missing"} }), 105, "missing: there is no such plugin in CNI_PATH"},
		{b.edited(func(c map[string]any) { c["delegate"] = map[string]any{"type": "flannel"} }), 7, "delegate.type"},
		{b.with("CNI_NETNS", "/nowhere"), 4, "CNI_NETNS /nowhere"},
		{b.with("CNI_NETNS", b.dir+"/subnet.env"), 4, "not a network namespace"},
		{b.with("CNI_NETNS", "/proc/self/ns/net"), 8, "is the plugin's own network namespace"},
		{b.with("CNI_CONTAINERID", "../c1"), 4, "containerID"},
		{b.with("CNI_IFNAME", "a/b"), 4, "interface name"},
	} {
		tt.Refused("ADD", tt.code, tt.says)
		a := tt.Do("plan")
		if a.Error.Code != tt.code || !strings.Contains(a.Error.Msg+a.Error.Details, tt.says) {
			t.Errorf("plan: %+v", a.Error)
		}
	}
	writeEnv(t, b.dir, env4text("")+strings.Repeat("# long\n", 400_000))
	b.Refused("ADD", 5, "2 MiB or more")
	b.verbs()
	b.keeps()
	writeEnv(t, b.dir, env4)
	b.with("CNI_NETNS", "/proc/self/ns/net").with("CNI_NETNS_OVERRIDE", "1").OK("ADD")
}

// A large configuration and a large result go through.
func TestLarge(t *testing.T) {
	long := strings.Repeat("x", 300_000)
	b := newBench(t, `ADD=print {"cniVersion":"1.1.0","dns":{"domain":"`+strings.Repeat("y", 60_000)+`"}}`).
		edited(func(c map[string]any) { c["args"] = map[string]any{"cni": map[string]any{"long": long}} })
	if a := b.OK("ADD"); len(a.Stdout) < 60_000 {
		t.Errorf("%d bytes of result", len(a.Stdout))
	}
	if call := b.verbs("ADD c1 eth0")[0]; len(call.Conf) < len(long) {
		t.Errorf("%d bytes of configuration", len(call.Conf))
	}
	b.OK("DEL")
	b.verbs("DEL c1 eth0")
}

// At level debug each call of the delegate is a line.
func TestLog(t *testing.T) {
	b := newBench(t).edited(func(c map[string]any) { c["log_options"] = map[string]any{"log_level": "debug"} })
	a := b.OK("ADD")
	for _, says := range []string{"msg=start plugin=flannel verb=ADD containerID=c1 ifName=eth0 version=", "msg=delegated ", "/recorder as=ADD took="} {
		if !strings.Contains(a.Stderr, says) {
			t.Errorf("%q does not say %q", a.Stderr, says)
		}
	}
}

// A result that no runtime reads is no ADD.
func TestResultIsNotRead(t *testing.T) {
	b := newBench(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	cmd := exec.Command(flannel.Name)
	cmd.Env, cmd.Stdin, cmd.Stdout = b.Environ("ADD"), strings.NewReader(b.Conf), full
	_ = cmd.Run()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit %d", cmd.ProcessState.ExitCode())
	}
	b.verbs("ADD c1 eth0", "DEL c1 eth0")
	b.keeps()
}

// At SIGTERM the delegate is ended, or killed where it does not mind, waited
// for, and DELeted.
func TestSignal(t *testing.T) {
	for _, tt := range []struct {
		how string
		sig syscall.Signal
	}{{"wait", syscall.SIGTERM}, {"wait", syscall.SIGINT}, {"stubborn", syscall.SIGTERM}} {
		how, sig := tt.how, tt.sig
		t.Run(how+" "+sig.String(), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "ADD="+how)
			cmd, out := begin(t, b, "ADD")
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), `"code": 11`) || !strings.Contains(out.String(), "flannel: recorder: interrupted by a signal") {
				t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), out)
			}
			b.verbs("ADD c1 eth0", "DEL c1 eth0")
			b.keeps()
		})
	}
}

// A signal also ends the deletion of leftovers, which stay then.
func TestSignalWhileSettling(t *testing.T) {
	b := newBench(t, "DEL=wait")
	b.keep(file, `{"name":"cbr0","type":"recorder"}`)
	cmd, out := begin(t, b, "ADD")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), `"code": 11`) {
		t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), out)
	}
	b.verbs("DEL c1 eth0")
	b.keeps(file)
}

// After SIGKILL the delegate ends too, and DEL finds what it needs.
func TestKill(t *testing.T) {
	b := newBench(t, "ADD=wait")
	cmd, _ := begin(t, b, "ADD")
	children, err := exec.Command("sh", "-c", fmt.Sprintf("cat /proc/%d/task/*/children", cmd.Process.Pid)).Output()
	if err != nil || len(children) == 0 {
		t.Fatalf("%q, %v", children, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for child := strings.Fields(string(children))[0]; ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat("/proc/" + child); err != nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("the delegate goes on")
		}
	}
	b.keeps(file)
	b.behaving("ADD=").OK("DEL")
	b.verbs("ADD c1 eth0", "DEL c1 eth0")
	b.keeps()
}

// begin starts a verb and waits until the recorder is at work.
func begin(t *testing.T, b bench, verb string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(flannel.Name)
	cmd.Env, cmd.Stdin, cmd.Stdout = b.Environ(verb), strings.NewReader(b.Conf), &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		if data, err := os.ReadFile(b.Env[recordVariable]); err == nil && bytes.HasSuffix(data, []byte("\n")) {
			return cmd, &out
		} else if time.Now().After(deadline) {
			t.Fatal("the recorder does not begin")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// What cannot be kept is no ADD: nothing is left, and no delegate called.
func TestCannotKeep(t *testing.T) {
	b := newBench(t)
	plain := filepath.Join(b.dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(dir string) bench { return b.edited(func(c map[string]any) { c["dataDir"] = dir }) }
	at(plain).Refused("ADD", 5, "keep the generated configuration for DEL", "not a directory")
	at(plain).OK("DEL")
	at(plain).gc(`[]`).OK("GC")
	b.verbs("GC")
	at(filepath.Join(plain, "below")).Refused("ADD", 5, "not a directory")
	long := b.with("CNI_CONTAINERID", strings.Repeat("x", 300))
	long.Refused("ADD", 5, "file name too long")
	long.OK("DEL")
	b.keeps()

	small := filepath.Join(b.dir, "small")
	mount(t, small, "size=4096")
	full := at(small).edited(func(c map[string]any) { c["args"] = map[string]any{"long": strings.Repeat("x", 10_000)} })
	full.Refused("ADD", 5, "no space left on device")
	if left, _ := os.ReadDir(small); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := os.WriteFile(filepath.Join(small, ".filled"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	at(small).with("CNI_CONTAINERID", "").with("CNI_IFNAME", "").Refused("STATUS", 50, "no space left on device")
	mount(t, small, "remount,ro")
	at(small).Refused("ADD", 5, "read-only file system")
	at(small).with("CNI_CONTAINERID", "").with("CNI_IFNAME", "").Refused("STATUS", 50, "read-only file system")
	at(small).OK("DEL")
	b.verbs()
}

// mount mounts a tmpfs, or changes one, which goes with the test.
func mount(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
}

// Hundreds at once, each with its own file.
func TestManyAtOnce(t *testing.T) {
	b := newBench(t)
	const containers = 60
	all := func(verb string) {
		var done sync.WaitGroup
		slots := make(chan struct{}, 8)
		for i := range containers {
			done.Go(func() {
				slots <- struct{}{}
				if a := b.with("CNI_CONTAINERID", fmt.Sprintf("c%d", i)).Do(verb); a.Exit != 0 || a.Stderr != "" {
					t.Errorf("%s: %s%s", verb, a.Stdout, a.Stderr)
				}
				<-slots
			})
		}
		done.Wait()
	}
	all("ADD")
	if kept, _ := os.ReadDir(b.data); len(kept) != containers {
		t.Errorf("%d kept", len(kept))
	}
	all("DEL")
	b.keeps()
	if calls := b.calls(); len(calls) != 2*containers {
		t.Errorf("%d calls", len(calls))
	}
}

// stateDir is accepted, and moves nothing.
func TestStateDir(t *testing.T) {
	b := newBench(t)
	state := filepath.Join(b.dir, "state")
	b.edited(func(c map[string]any) { c["stateDir"] = state }).OK("ADD")
	b.keeps(file)
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("%s: %v", state, err)
	}
	b.edited(func(c map[string]any) { c["stateDir"] = "relative" }).Refused("ADD", 7, "stateDir")
	b.edited(func(c map[string]any) { c["stateDir"] = 7 }).OK("DEL")
	b.keeps()
}
