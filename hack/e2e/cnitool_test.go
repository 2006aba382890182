package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cnitool attaches namespaces: its containers have no more than that. It has ADD
// say of them what its user wants, where (name) is the container's name.
type cnitool struct {
	args     string
	lastGoes bool // first: DEL takes the networks in reverse order
}

// multus says some things twice.
const multus = "IgnoreUnknown=true;K8S_POD_NAMESPACE=e2e;K8S_POD_NAME=(name);K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1;" +
	"IgnoreUnknown=1;K8S_POD_NAMESPACE=e2e;K8S_POD_NAME=(name);K8S_POD_INFRA_CONTAINER_ID=c1"

func (cnitool) name() string { return "cnitool" }

func (cnitool) newest() string { return "1.1.0" }

func (c cnitool) configure() error {
	problems := []error{os.Setenv("NETCONFPATH", filepath.Join(dir, "cnitool"))}
	for name, list := range conflists(c.newest()) {
		problems = append(problems, write(filepath.Join("cnitool", name+".conflist"), list))
	}
	return errors.Join(problems...)
}

func (c cnitool) removeAll() {
	files, _ := filepath.Glob(filepath.Join(dir, "*.networks"))
	for _, file := range files {
		_ = c.remove(strings.TrimSuffix(filepath.Base(file), ".networks"))
	}
}

func (cnitool) log() string { return "" }

// call calls for each network of a container, which has to be remembered: other
// runtimes do it themselves.
func (c cnitool) call(verb, container, args string) error {
	networks, err := os.ReadFile(filepath.Join(dir, container+".networks"))
	if err != nil {
		return err
	}
	var calls []func() error
	for i, network := range strings.Fields(string(networks)) {
		calls = append(calls, func() error { return c.callOne(verb, container, args, i, network) })
	}
	if verb == "del" && c.lastGoes {
		slices.Reverse(calls)
	}
	var problems []error
	for _, f := range calls {
		problems = append(problems, f())
	}
	return errors.Join(problems...)
}

// callOne calls for one of them. After an ADD that fails it calls DEL, which
// cnitool leaves to its user.
func (c cnitool) callOne(verb, container, args string, i int, network string) error {
	kind := "eth"
	if underlays[strings.TrimSuffix(network, "-"+older)] != nil {
		kind = "net" // as Multus has it
	}
	_, err := run("env", "CNI_ARGS="+args, fmt.Sprint("CNI_IFNAME=", kind, i), "cnitool", verb, network, "/run/netns/"+container)
	if err != nil && verb == "add" {
		err = errors.Join(err, c.callOne("del", container, "", i, network))
	}
	return err
}

func (c cnitool) start(container string, networks ...string) error {
	if _, err := run("ip", "netns", "add", container); err != nil {
		return err
	}
	if err := write(container+".networks", strings.Join(networks, " ")); err != nil {
		return err
	}
	return c.call("add", container, strings.ReplaceAll(c.args, "(name)", container))
}

func (cnitool) exec(container string, words ...string) (string, error) {
	return run(append([]string{"ip", "netns", "exec", container}, words...)...)
}

func (c cnitool) reload(container string) error {
	return errors.Join(c.call("status", container, ""), c.call("check", container, ""))
}

func (c cnitool) stop(container string) error { return c.call("del", container, "") }

func (c cnitool) remove(container string) error {
	err := c.stop(container)
	if _, gone := os.Stat("/run/netns/" + container); gone == nil {
		_, failed := run("ip", "netns", "del", container)
		err = errors.Join(err, failed)
	}
	return errors.Join(err, c.stop(container))
}
