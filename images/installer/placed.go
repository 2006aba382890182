package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// placed remembers what an installer has placed: that much it may remove. With
// a file it remembers beyond a restart of its container.
type placed struct {
	file string
	sums map[string]string // SHA-256, by plugin
}

func openPlaced(file string) (*placed, error) {
	p := &placed{file, map[string]string{}}
	if file == "" {
		return p, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &p.sums)
	}
	if err != nil {
		return nil, fmt.Errorf("read --state %s: %w", file, err)
	}
	return p, nil
}

func (p *placed) add(name, sum string) error {
	p.sums[name] = sum
	if p.file == "" {
		return nil
	}
	text, err := json.Marshal(p.sums)
	if err == nil {
		err = os.WriteFile(p.file+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(p.file+".new", p.file)
	}
	if err != nil {
		return fmt.Errorf("write --state: %w", err)
	}
	return nil
}

// forget is for when nothing is placed any more.
func (p *placed) forget() error {
	if p.file == "" {
		return nil
	}
	if err := os.Remove(p.file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
