package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// cache is where libcni keeps results between ADD and DEL.
const cache = "/run/libcni"

// chain is a network configuration, and the runtime that uses it.
type chain struct {
	*stage
	*libcni.NetworkConfigList
	runtime *libcni.CNIConfig
}

// chain reads a configuration as a runtime does. Its plugins are looked for in
// CNI_PATH.
func (s *stage) chain(conflist string) chain {
	list, err := libcni.ConfListFromBytes([]byte(conflist))
	if err != nil {
		fatal(err)
	}
	runner := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: s}, PluginDecoder: version.PluginDecoder{}}
	paths := filepath.SplitList(os.Getenv("CNI_PATH"))
	return chain{s, list, libcni.NewCNIConfigWithCacheDir(paths, cache, runner)}
}

// upTo is the chain of the first n plugins.
func (c chain) upTo(n int) chain {
	list := *c.NetworkConfigList
	list.Plugins = list.Plugins[:n:n]
	return chain{c.stage, &list, c.runtime}
}

// append puts a plugin at the end of the chain.
func (c chain) append(plugin string) {
	conf, err := libcni.NetworkPluginConfFromBytes([]byte(plugin))
	if err != nil {
		fatal(err)
	}
	c.Plugins = append(c.Plugins, conf)
}

// inject is plugin i's part of the chain as the plugin gets to read it.
func (c chain) inject(i int, further map[string]any) *libcni.PluginConfig {
	further["name"], further["cniVersion"] = c.Name, c.CNIVersion
	conf, err := libcni.InjectConf(c.Plugins[i], further)
	if err != nil {
		fatal(err)
	}
	return conf
}

// pod is a pod with the interface that a chain makes, and the addresses that
// the runtime asks for, where the chain lets it.
type pod struct {
	name, ifName string
	ips          []string
}

func (p pod) netns() string { return "/run/netns/" + p.name }

func (p pod) args() *libcni.RuntimeConf {
	conf := &libcni.RuntimeConf{ContainerID: p.name, NetNS: p.netns(), IfName: p.ifName}
	if p.ips != nil {
		conf.CapabilityArgs = map[string]any{"ips": p.ips}
	}
	return conf
}

func (c chain) tryAdd(p pod) error {
	_, err := c.runtime.AddNetworkList(context.Background(), c.NetworkConfigList, p.args())
	return err
}

// add promises an ADD.
func (c chain) add(p pod) { c.succeeds(c.tryAdd(p), "ADD of the whole chain") }

// mustAdd makes an attachment that the story needs.
func (c chain) mustAdd(p pod) types.Result {
	result, err := c.runtime.AddNetworkList(context.Background(), c.NetworkConfigList, p.args())
	if err != nil {
		fatal(fmt.Errorf("ADD of %s: %w", p.name, err))
	}
	return result
}

// check promises that CHECK finds everything in place.
func (c chain) check(p pod) {
	err := c.runtime.CheckNetworkList(context.Background(), c.NetworkConfigList, p.args())
	c.succeeds(err, "CHECK finds everything in place")
}

// drifted promises that the CHECK of plugin i names what does not hold.
func (c chain) drifted(i int, p pod, names ...string) {
	conf := c.inject(i, map[string]any{})
	err := c.runtime.CheckNetwork(context.Background(), conf, p.args())
	c.fails(err, 106, "CHECK of "+conf.Network.Type, names...)
}

// del promises a DEL, and another: runtimes repeat it.
func (c chain) del(p pod) {
	for _, what := range []string{"DEL", "DEL again, as runtimes do"} {
		err := c.runtime.DelNetworkList(context.Background(), c.NetworkConfigList, p.args())
		c.succeeds(err, what)
	}
}

// delOnly promises the DEL of plugin i of the chain.
func (c chain) delOnly(i int, p pod) {
	conf := c.inject(i, map[string]any{})
	err := c.runtime.DelNetwork(context.Background(), conf, p.args())
	c.succeeds(err, "DEL of "+conf.Network.Type)
}

// mustDel removes an attachment that the story needs no more.
func (c chain) mustDel(p pod) {
	if err := c.runtime.DelNetworkList(context.Background(), c.NetworkConfigList, p.args()); err != nil {
		fatal(fmt.Errorf("DEL of %s: %w", p.name, err))
	}
}

// forget makes libcni forget an attachment.
func (c chain) forget(p pod) {
	if err := os.Remove(filepath.Join(cache, "results", c.Name+"-"+p.name+"-"+p.ifName)); err != nil {
		fatal(err)
	}
}

// gc promises a GC, where only these are still valid.
func (c chain) gc(valid ...pod) {
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, p := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: p.name, IfName: p.ifName})
	}
	c.succeeds(c.runtime.GCNetworkList(context.Background(), c.NetworkConfigList, args), "GC")
}

// status promises that the next ADD can work.
func (c chain) status() {
	c.succeeds(c.runtime.GetStatusNetworkList(context.Background(), c.NetworkConfigList), "STATUS: ready for the next ADD")
}

// plan shows what plugin i would do after what came before it, if anything did.
func (c chain) plan(i int, p pod, prev types.Result) {
	further := map[string]any{}
	if prev != nil {
		further["prevResult"] = prev
	}
	conf := c.inject(i, further)
	name := conf.Network.Type
	binary, err := invoke.FindInPath(name, c.runtime.Path)
	if err != nil {
		fatal(err)
	}
	cmd := exec.Command(binary, "plan")
	cmd.Env = append(os.Environ(), "CNI_CONTAINERID="+p.name, "CNI_NETNS="+p.netns(), "CNI_IFNAME="+p.ifName)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(conf.Bytes), c
	c.command(name, "plan < conf.json")
	out, err := cmd.Output()
	c.show(string(out))
	c.succeeds(err, "the plan of "+name)
}

// showsOnNode shows what plugin i has on the node for a pod, and promises that it
// says so.
func (c chain) showsOnNode(i int, p pod, says ...string) {
	name := c.Plugins[i].Network.Type
	binary, err := invoke.FindInPath(name, c.runtime.Path)
	if err != nil {
		fatal(err)
	}
	c.command(name, "show", p.netns())
	out, err := exec.Command(binary, "show", p.netns()).CombinedOutput()
	c.show(string(out))
	c.succeeds(err, "what is on the node, and for whom")
	for _, text := range says {
		c.promise(strings.Contains(string(out), text), "it says "+text)
	}
}

func (s *stage) succeeds(err error, what string) {
	if err != nil {
		s.show(err.Error())
	}
	s.promise(err == nil, what)
}

// fails promises a failure with this code that names each of these.
func (s *stage) fails(err error, code uint, what string, names ...string) {
	if err == nil {
		s.promise(false, what+" fails")
		return
	}
	s.show(err.Error())
	failure := new(types.Error)
	s.promise(errors.As(err, &failure) && failure.Code == code, fmt.Sprintf("%s fails with code %d", what, code))
	for _, name := range names {
		s.promise(strings.Contains(err.Error(), name), "it names "+name)
	}
}
