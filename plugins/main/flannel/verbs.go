package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/internal/strictjson"
)

// job is what a request asks of a delegate.
type job struct {
	config
	program
	keeper keeper
	env    subnetEnv
	conf   []byte // generated
}

// read decodes the configuration.
func read(r *cni.Request) (c config, err error) {
	err = r.Strict(func(pc *cni.Config) { c = decode(pc, runtime.GOOS) })
	return c, err
}

// readForPod decodes the configuration for a verb that works in a pod.
func readForPod(r *cni.Request) (config, error) {
	c, err := read(r)
	if err == nil {
		err = requirePod(r)
	}
	return c, err
}

// readFolders decodes what DEL needs.
func readFolders(r *cni.Request) (c config) {
	r.Lenient(func(pc *cni.Config) {
		c.given = pc.Object
		decodeFolders(&c, pc, runtime.GOOS)
	})
	return c
}

// prepare generates the delegate's configuration and finds the delegate.
func prepare(r *cni.Request, c config) (job, error) {
	env, err := readSubnetEnv(c.subnetFile, runtime.GOOS)
	if err != nil {
		return job{}, err
	}
	n := node{goos: runtime.GOOS, has: onPath}
	p, err := look(r, delegateType(c, n))
	return job{c, p, keeper{c.dataDir}, env, generate(c, env, n)}, err
}

// asked is the attachment that is asked for, as it is kept.
func asked(r *cni.Request) cni.Attachment {
	a := r.Config.Attachment
	a.ContainerID = scratchID(a, runtime.GOOS)
	return a
}

// add keeps the configuration, and lets the delegate do the work and print the
// result.
func add(ctx context.Context, r *cni.Request) error {
	c, err := readForPod(r)
	if err != nil {
		return err
	}
	// Beside the rest: to be told of signals takes as long to set up.
	caught := make(chan context.Context, 1)
	go func() { caught <- cni.UntilSignal(ctx) }()
	j, err := prepare(r, c)
	if err != nil {
		return err
	}
	ctx = <-caught
	a := asked(r)
	if err := settle(ctx, r, j.keeper, a); err != nil {
		return err
	}
	warnOfSharing(r, j)
	e, err := j.keeper.save(a, j.conf)
	if err != nil {
		return err
	}
	if err := j.add(ctx); err != nil {
		// From now on another signal ends it.
		giveUp(cni.UntilSignal(context.WithoutCancel(ctx)), r, e, j, err)
		return err
	}
	return nil
}

// joins reports whether the container joined another one's attachment, which
// is that one's to delete.
func joins(r *cni.Request, a cni.Attachment) bool {
	return a.ContainerID != r.Config.ContainerID
}

// settle deletes what an earlier ADD of this attachment has left that was
// killed, or whose DEL never came.
func settle(ctx context.Context, r *cni.Request, k keeper, a cni.Attachment) error {
	e, err := k.findOwn(a)
	if err == nil && e.raw != nil && !joins(r, a) {
		r.Warn("deleting what an earlier ADD of this attachment has left", "kept", e.path)
		err = undo(ctx, r, e, strictjson.Object{})
	}
	if err != nil {
		return fmt.Errorf("delete what an earlier ADD has left: %w", err)
	}
	return nil
}

// add calls the delegate and prints its result.
func (j job) add(ctx context.Context) error {
	stdout, err := j.run(ctx, "ADD", j.conf)
	if err == nil {
		stdout, err = j.result(stdout)
	}
	if err != nil {
		return err
	}
	if _, err := os.Stdout.Write(stdout); err != nil {
		return cni.Errorf(types.ErrIOFailure, "print the result: %w", err)
	}
	return nil
}

// giveUp takes back what the delegate has done of an ADD that failed. What
// cannot be taken back now stays for DEL. A delegate that could not be started
// has done nothing.
func giveUp(ctx context.Context, r *cni.Request, e *kept, j job, why error) {
	var err error
	if !errors.Is(why, errNotStarted) {
		_, err = j.run(ctx, "DEL", j.conf)
	}
	switch {
	case joins(r, e.Attachment): // the file is another's
	case err == nil:
		err = e.remove()
	case oneLine(err) == oneLine(why):
		err = errors.Join(err, e.refuse(why))
	}
	if err != nil {
		r.Warn("what a failed ADD has done could not be taken back; DEL will try again", "kept", e.path, "error", err)
	}
}

// del lets the delegate take back what ADD did, by the configuration that was
// kept. Without one there is nothing to do.
func del(ctx context.Context, r *cni.Request) error {
	c := readFolders(r)
	e, err := keeper{c.dataDir}.find(asked(r))
	if err != nil || e == nil {
		return err
	}
	if v, ok := c.given.Get(keyPrevResult); ok && v.Raw[0] != '{' {
		r.Warn("prevResult is no object, and not passed on")
		c.given = strictjson.Object{}
	}
	return undo(ctx, r, e, c.given)
}

// undo deletes one attachment. A failure keeps the configuration, for another
// attempt; unless the delegate says again what it said when it would not add
// the attachment: it has done nothing, and never will.
func undo(ctx context.Context, r *cni.Request, e *kept, by strictjson.Object, env ...string) error {
	if e.empty() {
		r.Warn("what ADD has kept is empty: nothing is known of what it did", "kept", e.path)
		return e.remove()
	}
	conf, p, err := e.delegate(r)
	if err != nil {
		return err
	}
	raw := e.raw
	if by.Has(keyPrevResult) {
		raw = overlay(conf.Object, by, keyVersion, keyPrevResult)
	}
	_, err = p.run(ctx, "DEL", raw, env...)
	switch {
	case err != nil && e.refusal != "" && oneLine(err) == e.refusal:
		r.Warn("the delegate would not add this attachment, and will not delete it", "kept", e.path, "error", err)
	case err != nil:
		return cni.Errorf(cni.Code(err), "%w\nADD has kept its configuration in %s", err, e.path)
	case e.stays(r):
		return nil
	}
	return e.remove()
}

// stays reports whether the file is not this attachment's to remove. That of the
// older plugin does not tell the interface: runtimes call a container's first
// one eth0, and a DEL of another one, which may come twice, is not to cost it
// its address.
func (e *kept) stays(r *cni.Request) bool {
	asked := r.Config.ContainerID // GC asks for none
	return asked != "" && joins(r, e.Attachment) || e.old() && e.IfName != "eth0"
}

// delegate is what to call by what was kept.
func (e *kept) delegate(r *cni.Request) (keptConfig, program, error) {
	conf, err := e.config()
	if err != nil {
		return conf, program{}, err
	}
	p, err := look(r, conf.typ)
	return conf, p, err
}

// check lets the delegate judge what it did.
func check(ctx context.Context, r *cni.Request) error {
	c, err := readForPod(r)
	if err != nil {
		return err
	}
	a := asked(r)
	e, err := keeper{c.dataDir}.find(a)
	if err != nil {
		return err
	}
	if e == nil || e.empty() {
		return cni.Errorf(cni.CodeDrift, "no configuration is kept for %s of container %s in %s", a.IfName, a.ContainerID, c.dataDir)
	}
	conf, p, err := e.delegate(r)
	if err != nil {
		return err
	}
	_, err = p.run(ctx, "CHECK", overlay(conf.Object, c.given, keyVersion, keyPrevResult))
	return err
}

// status tells whether the next ADD can work.
func status(ctx context.Context, r *cni.Request) error {
	c, err := read(r)
	if err != nil {
		return cni.Errorf(types.ErrInvalidNetworkConfig, "%w", err) // for an unknown key too
	}
	j, err := prepare(r, c)
	if err == nil {
		err = j.keeper.writable()
	}
	if err != nil {
		return cni.Errorf(types.ErrPluginNotAvailable, "%w", err)
	}
	_, err = j.run(ctx, "STATUS", j.conf)
	var told *toldError
	switch {
	case err == nil, knowsNot(err):
		return nil
	case errors.As(err, &told):
		return err
	}
	return cni.Errorf(types.ErrPluginNotAvailable, "%w", err)
}

// plan prints what ADD would delegate with.
func plan(_ context.Context, r *cni.Request) error {
	c, err := readForPod(r)
	if err != nil {
		return err
	}
	j, err := prepare(r, c)
	if err != nil {
		return err
	}
	warnOfSharing(r, j)
	_, err = fmt.Printf("%s\n", j.conf)
	return err
}
