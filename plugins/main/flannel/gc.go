package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// gc deletes the attachments of the network that are no longer valid, and then
// lets the delegate do its own. The first of these goes by what is kept, and
// needs no flanneld.
func gc(ctx context.Context, r *cni.Request) error {
	c, invalid := read(r)
	valid, given, err := r.Valid()
	if err != nil {
		return err
	}
	k := keeper{c.dataDir}
	var failed []error
	if given {
		failed = collect(ctx, r, k, valid)
	}
	sweep(k.dir, time.Now())
	return errors.Join(append(failed, delegateGC(ctx, r, c, invalid))...)
}

// collect deletes what is kept for attachments that are not valid, and goes on
// after a failure.
func collect(ctx context.Context, r *cni.Request, k keeper, valid []cni.Attachment) []error {
	own, old, err := k.list(r.Config.Network)
	failed := []error{err}
	for _, a := range own {
		if slices.Contains(valid, a) {
			continue
		}
		if e, err := k.findOwn(a); err != nil {
			failed = append(failed, err)
		} else if e.raw != nil {
			failed = append(failed, collectOne(ctx, r, e))
		}
	}
	for _, a := range old {
		if !slices.ContainsFunc(valid, func(v cni.Attachment) bool { return v.ContainerID == a.ContainerID }) {
			failed = append(failed, collectOld(ctx, r, k, a))
		}
	}
	return failed
}

// collectOld deletes what the older plugin has left of a container. What is
// none of its files is left alone: the administrator may have put it there.
func collectOld(ctx context.Context, r *cni.Request, k keeper, a cni.Attachment) error {
	e, err := k.findOld(a)
	if err != nil {
		r.Warn("passing over a file", "error", err)
		return nil
	}
	if e == nil || e.empty() {
		return nil
	}
	e.IfName = "eth0" // it does not say which; this is what runtimes call the first
	return collectOne(ctx, r, e)
}

// collectOne deletes an attachment whose namespace is gone (CNI 1.1, section
// 2, GC).
func collectOne(ctx context.Context, r *cni.Request, e *kept) error {
	err := undo(ctx, r, e, strictjson.Object{}, "CNI_CONTAINERID="+e.ContainerID, "CNI_IFNAME="+e.IfName, "CNI_NETNS=")
	if err != nil {
		return fmt.Errorf("%s of container %s: %w", e.IfName, e.ContainerID, err)
	}
	return nil
}

// delegateGC lets the delegate do its own GC. It needs a configuration for
// that; what it has attached can be deleted without.
func delegateGC(ctx context.Context, r *cni.Request, c config, invalid error) error {
	var j job
	if invalid == nil {
		j, invalid = prepare(r, c)
	}
	if invalid != nil && !errors.Is(invalid, errNotFound) {
		r.Warn("the delegate's own GC is left out", "error", invalid)
		return nil
	} else if invalid != nil {
		return invalid
	}
	conf, _ := strictjson.NewValue(j.conf, "", &strictjson.Problems{}).Object()
	_, err := j.run(ctx, "GC", overlay(conf, c.given, cni.AttachmentKeys...))
	if knowsNot(err) {
		return nil
	}
	return err
}
