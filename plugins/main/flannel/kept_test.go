package main

import (
	"path/filepath"
	"testing"

	"github.com/cni-netops/plugins/internal/cni"
)

// On Windows the containers of a pod share what is kept for its sandbox.
func TestScratchID(t *testing.T) {
	for _, tt := range []struct{ netns, goos, want string }{
		{"", windows, "c1"},
		{"none", windows, "c1"},
		{"{3c1b8e00-6e8c-4a3f-a0ff-2d2f3a5d5c6d}", windows, "c1"},
		{"container:4f5e", windows, "4f5e"},
		{"container:", windows, "c1"},
		{"container:../x", windows, "c1"},
		{`container:..\x`, windows, "c1"},
		{"container:x@y", windows, "c1"},
		{"container:4f5e", "linux", "c1"},
		{"/run/netns/x", "linux", "c1"},
	} {
		if got := scratchID(cni.Attachment{ContainerID: "c1", Netns: tt.netns}, tt.goos); got != tt.want {
			t.Errorf("%s on %s: %s, want %s", tt.netns, tt.goos, got, tt.want)
		}
	}
}

// Every attachment has a file of its own, in the folder.
func TestPath(t *testing.T) {
	k := keeper{"/data"}
	for _, a := range []cni.Attachment{{Network: "n", ContainerID: "c", IfName: "i@j"}, {Network: "a-b", ContainerID: "c_d", IfName: "..x"}} {
		path := k.path(a)
		if filepath.Dir(path) != filepath.FromSlash("/data") {
			t.Errorf("%v: %s", a, path)
		}
	}
	if path := k.path(cni.Attachment{Network: "n", ContainerID: "c", IfName: "../x"}); path != "" {
		t.Errorf("leads to %s", path)
	}
	if _, err := k.save(cni.Attachment{Network: "n", ContainerID: "c", IfName: "../x"}, nil); codeOf(err) != 4 {
		t.Errorf("saved: %v", err)
	}
}

// Whatever stands in a kept file, it leads to a plugin's name, or is refused.
func FuzzKept(f *testing.F) {
	for _, text := range []string{`{"name":"cbr0","type":"bridge"}`, `{"name":7,"type":"../x"}`, `[]`, ``, `{"type":"flannel"}`, "{\x00"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		conf, err := (&kept{path: "/x", raw: text}).config()
		if err == nil && misfit(conf.typ) != "" || err != nil && codeOf(err) != 6 {
			t.Fatalf("%q, %v", conf.typ, err)
		}
	})
}

// Nor does it matter what a delegate prints.
func FuzzLastError(f *testing.F) {
	for _, text := range []string{`{"code":7,"msg":"x"}`, `{"ips":[]}{"code":8}`, `{"code":-1}`, `{"code":"7"}`, `{"code":7}garbage`, `7 [] null`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, stdout []byte) {
		if e := lastError(stdout); e != nil && e.Code == 0 {
			t.Fatal("an error without a code")
		}
		if err := (program{typ: "x"}).failure(errNoResult, stdout); codeOf(err) == 0 || err.Error() == "" {
			t.Fatalf("%v", err)
		}
	})
}
