package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/cni-netops/plugins/internal/jsonappend"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// document is the configuration as it came, taken apart once. What is wrong
// with it is noted, for the verbs that mind.
type document struct {
	strictjson.Object
	*strictjson.Problems
	text   []byte
	broken string // why it is no JSON object
}

func parseDocument(data []byte) (doc document, ok bool) {
	doc.text, doc.Problems = data, &strictjson.Problems{}
	doc.Object, ok = strictjson.NewValue(data, "", doc.Problems).Object()
	doc.FoldCase(specKeys)
	if !ok {
		doc.broken = noObject(data)
	}
	return doc, ok
}

// noObject says why a text is no JSON object (RFC 8259), and where.
func noObject(data []byte) string {
	var o map[string]json.RawMessage
	err := json.Unmarshal(data, &o)
	if wrong := new(json.SyntaxError); errors.As(err, &wrong) {
		before := data[:max(wrong.Offset-1, 0)]
		line, column := bytes.Count(before, []byte{'\n'})+1, len(before)-bytes.LastIndexByte(before, '\n')
		return fmt.Sprintf("is not JSON: line %d, column %d: %v", line, column, err)
	}
	return "is not a JSON object"
}

// version is the configuration's version of the CNI specification; empty where
// it cannot be read.
func (d document) version() string {
	var v string
	if raw := d.Raw("cniVersion"); raw == nil || json.Unmarshal(raw, &v) != nil {
		return ""
	}
	if _, _, _, err := version.ParseVersion(v); err != nil {
		return ""
	}
	return v
}

// specKeys are the keys of the CNI specification that are read here.
var specKeys = []string{"cniVersion", "name", "args", "prevResult"}

// readDocument reads the configuration from standard input. skel would decode
// all of it twice more for two keys, which with thousands of routes takes as
// long as the kernel does to add them: it is left these two to read. What is no
// object it gets as it is, for its error.
func readDocument() (document, error) {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return document{}, err
	}
	if len(data) > large {
		debug.SetGCPercent(rarely)
	}
	doc, ok := parseDocument(data)
	if !ok {
		return doc, replaceStdin(data)
	}
	head := jsonappend.Open(nil)
	for _, key := range []string{"cniVersion", "name"} {
		if v, ok := doc.Get(key); ok {
			head.Raw(key, v.Raw)
		}
	}
	return doc, replaceStdin(head.Close())
}

// A process that handles thousands of routes ends soon: to collect garbage half
// as often saves a seventh of its time, for some MiB.
const (
	large  = 64 << 10
	rarely = 200 // GOGC
)

// replaceStdin gives the process another standard input.
func replaceStdin(data []byte) error {
	from, err := Feed(data)
	if err == nil {
		os.Stdin = from
	}
	return err
}

// Feed is a file to read data from, for a standard input.
func Feed(data []byte) (*os.File, error) {
	from, to, err := Pipe()
	if err != nil {
		return nil, err
	}
	write := func() {
		_, _ = to.Write(data)
		_ = to.Close()
	}
	const always = 4096 // PIPE_BUF: that much a pipe holds without a reader
	if len(data) <= always {
		write()
	} else {
		go write()
	}
	return from, nil
}
