package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// recordsRoot is where our plugins keep what they did.
const recordsRoot = "/run/cni"

// records are the files that our plugins keep now.
func (s *stage) records() []string {
	var paths []string
	err := filepath.WalkDir(recordsRoot, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		fatal(err)
	}
	return paths
}

func (s *stage) showRecords() {
	s.command("find", recordsRoot, "-type f")
	s.show(strings.Join(s.records(), "\n"))
}

// nothingLeft promises that a pod's routing is as it was, and no record there.
func (s *stage) nothingLeft(p pod, before string) {
	s.showIP(p.name, "route")
	s.promise(s.routing(p.name) == before, "the pod's routes and rules are what they were before ADD")
	s.showRecords()
	s.promise(len(s.records()) == 0, "no record is left on the node")
}
