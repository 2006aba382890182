package kubernetes

import (
	"fmt"
	"strings"
	"testing"
)

// service has a node port, and a backend.
func service(name, app, policy string, port int) object {
	return object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name},
		"spec": object{"type": "NodePort", "externalTrafficPolicy": policy, "selector": object{"app": app},
			"ports": []object{{"port": 80, "nodePort": port}}}}
}

const localPort, clusterPort = 30081, 30082

// A pod of router's is the backend of services, whatever address clients come
// from, and is itself a client of one.
func TestServices(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		serve(t, pod("web", "underlay"), pod("client", "underlay"), pod("plain", ""))
		apply(t, service("local", "web", "Local", localPort), service("cluster", "web", "Cluster", clusterPort))
		for _, name := range []string{"local", "cluster"} {
			address, err := kubectl("get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
			ok(t, err)
			for _, client := range []string{"client", "plain", "node"} {
				ok(t, fetches(client, address, 80))
			}
		}
		for _, port := range []int{localPort, clusterPort} {
			for _, client := range []string{"router", "world"} {
				ok(t, fetches(client, nodeAddress, port))
			}
		}
		shown(t, way{"router", "", "", "the pod is the backend of services, NodePort Local and Cluster, and a client of them"})
	})
}

// fetches waits until a pod, the node or a machine around it gets the page of the
// pod web. kube-proxy takes its time.
func fetches(client, address string, port int) error {
	// wget would look the port of http up in files that the image does not have.
	words := []string{"busybox", "sh", "-c", fmt.Sprintf(`printf 'GET /index.html HTTP/1.0\r\n\r\n' | busybox nc -w 5 %s %d`, address, port)}
	switch client {
	case "node":
	case "router", "world":
		words = append([]string{"ip", "netns", "exec", client}, words...)
	default:
		words = append([]string{"kubectl", "exec", client, "--"}, words...)
	}
	return await(fmt.Sprintf("%s reaches %s:%d", client, address, port), func() error {
		page, err := run(words...)
		if err == nil && !strings.HasSuffix(page, "\nweb\n") {
			err = fmt.Errorf("the page is %q", page)
		}
		return err
	})
}
