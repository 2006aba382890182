package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pod is one with the networks of an annotation, which serves its name by HTTP.
func pod(name, networks string) object {
	return object{"apiVersion": "v1", "kind": "Pod",
		"metadata": object{"name": name, "labels": object{"app": name}, "annotations": object{"k8s.v1.cni.cncf.io/networks": networks}},
		"spec": object{"automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 1, "dnsPolicy": "Default",
			"containers": []object{{"name": "pod", "image": podImage,
				"command": []string{"/bin/sh", "-c", "mkdir -p /www && hostname > /www/index.html && exec httpd -f -h /www"}}}}}
}

// network is the NetworkAttachmentDefinition of a chain.
func network(name string, plugins ...string) object {
	config := fmt.Sprintf(`{ "cniVersion": "1.0.0", "name": %q, "plugins": [ %s ] }`, name, strings.Join(plugins, ", "))
	return object{"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
		"metadata": object{"name": name}, "spec": object{"config": config}}
}

// object is one of the API.
type object = map[string]any

// apply makes objects as they should be, and removes them when the test ends.
func apply(t *testing.T, objects ...object) {
	t.Helper()
	text, err := json.Marshal(object{"apiVersion": "v1", "kind": "List", "items": objects})
	ok(t, err)
	file := filepath.Join(t.TempDir(), "objects.json")
	ok(t, os.WriteFile(file, text, 0o600))
	_, err = kubectl("apply", "-f", file)
	ok(t, err)
	t.Cleanup(func() {
		if _, err := kubectl("delete", "-f", file, "--ignore-not-found", "--timeout=10m"); err != nil {
			t.Error(err)
		}
	})
}

// serve makes pods, and waits until they serve.
func serve(t *testing.T, pods ...object) {
	t.Helper()
	apply(t, pods...)
	ready(t, pods...)
}

func ready(t *testing.T, pods ...object) {
	t.Helper()
	words := []string{"wait", "--for=condition=Ready", "--timeout=10m"}
	for _, p := range pods {
		words = append(words, "pod/"+name(p))
	}
	_, err := kubectl(words...)
	ok(t, err)
}

func name(o object) string { return o["metadata"].(object)["name"].(string) }

// remove deletes objects, and waits until they are gone.
func remove(t *testing.T, objects ...object) {
	t.Helper()
	for _, o := range objects {
		_, err := kubectl("delete", o["kind"].(string), name(o), "--wait=false")
		ok(t, err)
	}
	for _, o := range objects {
		_, err := kubectl("wait", "--for=delete", "--timeout=10m", o["kind"].(string)+"/"+name(o))
		ok(t, err)
	}
}

// A way is traffic that only goes through by one of the plugins. Where to is the
// beginning of an address, it is the pod's.
type way struct {
	by    string // plugin without which it does not go, if any
	from  string // pod, node, router or world
	to    string
	shows string
}

// goes tries a way of a pod.
func (w way) goes(pod string) error {
	to := w.to
	if strings.HasSuffix(to, ".") {
		address, err := addressOf(pod, to)
		if err != nil {
			return err
		}
		to = address
	}
	ping := []string{"ping", "-c", "1", "-W", "5", to}
	var err error
	switch w.from {
	case "pod":
		_, err = inPod(pod, ping...)
	case "node":
		_, err = run(ping...)
	default:
		_, err = run(append([]string{"ip", "netns", "exec", w.from}, ping...)...)
	}
	return err
}

// addressOf is the address of a pod that begins so.
func addressOf(pod, begin string) (string, error) {
	addresses, err := inPod(pod, "ip", "addr")
	if err != nil {
		return "", err
	}
	_, rest, found := strings.Cut(addresses, "inet "+begin)
	last, _, _ := strings.Cut(rest, "/")
	if !found {
		return "", fmt.Errorf("%s has no address %s*: %s", pod, begin, addresses)
	}
	return begin + last, nil
}

func inPod(pod string, words ...string) (string, error) {
	return kubectl(append([]string{"exec", pod, "--"}, words...)...)
}

// allGo tries ways of a pod, and tells of all that do not go.
func allGo(pod string, ways []way) error {
	var problems []error
	for _, w := range ways {
		if err := w.goes(pod); err != nil {
			problems = append(problems, fmt.Errorf("%s: %s: %w", pod, w.shows, err))
		}
	}
	return errors.Join(problems...)
}

// eventOf waits for an event of a pod that has a text in it.
func eventOf(pod, wanted string) (found string, err error) {
	err = await("an event of "+pod+` has "`+wanted+`"`, func() error {
		text, err := kubectl("get", "events", "--field-selector=involvedObject.name="+pod, "-o", "json")
		var events struct{ Items []struct{ Message string } }
		if err := errors.Join(err, json.Unmarshal([]byte(text), &events)); err != nil {
			return err
		}
		for _, event := range events.Items {
			if found = event.Message; strings.Contains(found, wanted) {
				return nil
			}
		}
		return fmt.Errorf("the events are %v", events.Items)
	})
	return found, err
}

// leavesNothing runs a test on a node that has to be afterwards as it was.
func leavesNothing(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	before, explained := state(t), false
	succeeded := t.Run("pods", func(t *testing.T) {
		defer func() { // before the pods are removed
			if explained = t.Failed(); explained {
				explain()
			}
		}()
		f(t)
	})
	after := state(t)
	if after != before {
		t.Errorf("the node has now\n%s\nand had\n%s", after, before)
	}
	if (!succeeded || after != before) && !explained {
		explain()
	}
}

// state is what plugins change on a node and keep there.
func state(t *testing.T) string {
	t.Helper()
	var all []string
	for _, command := range []string{"ip -o route show table all proto 77", "ip -o -6 route show table all proto 77", "ip rule", "ip -6 rule",
		"ip -o neigh show nud permanent", "ip -o link show type veth"} {
		out, err := run(strings.Fields(command)...)
		ok(t, err)
		all = append(all, slices.Collect(strings.Lines(out))...)
	}
	out, err := run("find", "/run/cni", "/var/lib/cni", "-type", "f", "!", "-name", "lock", "!", "-name", "last_reserved_ip.*")
	ok(t, err)
	return strings.Join(append(all, slices.Sorted(strings.Lines(out))...), "")
}
