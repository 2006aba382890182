package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// cnitool attaches namespaces: its containers have no more than that. It has ADD
// say of them what its user wants, where (name) is the container's name.
type cnitool struct{ args string }

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

func (cnitool) removeAll() {}

func (cnitool) log() string { return "" }

// call calls for each network of a container, which has to be remembered: other
// runtimes do it themselves.
func (cnitool) call(verb, container, args string) error {
	networks, err := os.ReadFile(filepath.Join(dir, container+".networks"))
	if err != nil {
		return err
	}
	var problems []error
	for i, network := range strings.Fields(string(networks)) {
		_, err := run("env", "CNI_ARGS="+args, fmt.Sprint("CNI_IFNAME=eth", i), "cnitool", verb, network, "/run/netns/"+container)
		problems = append(problems, err)
	}
	return errors.Join(problems...)
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
