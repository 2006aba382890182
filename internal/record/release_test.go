package record

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// Of what the first release has recorded nothing gets lost when a record is
// written again. What the archives are stands in hack/stress.
func TestFirstRelease(t *testing.T) {
	archives, err := filepath.Glob("testdata/first-release/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		must(t, err)
		for _, f := range archive.Files {
			if plugin, key, ok := placeOf(f.Name); ok {
				read++
				t.Run(filepath.Base(path)+" "+f.Name, func(t *testing.T) { readAndWritten(t, f.Data, plugin, key) })
			}
		}
	}
	if read == 0 {
		t.Error("no record found")
	}
}

// placeOf takes the path of a record apart: STATE/run/cni/PLUGIN/NETWORK/ID:IF/N.STATE.
func placeOf(path string) (plugin string, key Key, ok bool) {
	parts := strings.Split(path, "/")
	const length = 7
	if len(parts) != length {
		return "", Key{}, false
	}
	_, _, ok = parseRecord(parts[6])
	id, ifName, _ := strings.Cut(parts[5], ":")
	return parts[3], Key{Network: parts[4], ContainerID: id, IfName: ifName}, ok
}

// cookies stand for those of the namespaces of pods.
var cookies = regexp.MustCompile(`\$\{cookie:[a-z0-9]+\}`)

func readAndWritten(t *testing.T, data []byte, plugin string, key Key) {
	data = cookies.ReplaceAll(bytes.ReplaceAll(data, []byte("${boot}"), []byte("b-1")), []byte("42"))
	r, err := decode(data, plugin, key)
	must(t, err)
	var before, after any
	must(t, json.Unmarshal(data, &before))
	must(t, json.Unmarshal(r.encode(), &after))
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("(-read +written):\n%s", diff)
	}
}
