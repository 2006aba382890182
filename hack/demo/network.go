package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// node is the namespace that the demo runs in, and the plugins with it.
const node = ""

// namespaces makes further ones, called as ip-netns(8) does.
func (s *stage) namespaces(names ...string) {
	s.ip(node, "link set lo up")
	for _, name := range names {
		s.ip(node, "netns add "+name)
		s.ip(name, "link set lo up")
	}
}

// ip runs ip(8) with each line's words in a namespace, unseen.
func (s *stage) ip(ns string, lines ...string) {
	for _, line := range lines {
		if out, err := exec.Command("ip", in(ns, line)...).CombinedOutput(); err != nil {
			fatal(fmt.Errorf("ip %s: %w: %s", strings.Join(in(ns, line), " "), err, out))
		}
	}
}

func in(ns, line string) []string {
	words := strings.Fields(line)
	if ns == node {
		return words
	}
	return append([]string{"-n", ns}, words...)
}

// showIP runs ip(8) where the reader sees it.
func (s *stage) showIP(ns, line string) {
	s.command("ip", in(ns, line)...)
	out, err := exec.Command("ip", in(ns, line)...).CombinedOutput()
	s.show(string(out))
	if err != nil {
		fatal(err)
	}
}

// cable links two namespaces by a pair of interfaces.
func (s *stage) cable(ns, dev, peerNS, peer string) {
	s.ip(node, "link add "+dev+"~ type veth peer name "+peer+"~~")
	for _, end := range []struct{ ns, temporary, dev string }{{ns, dev + "~", dev}, {peerNS, peer + "~~", peer}} {
		if end.ns != node {
			s.ip(node, "link set "+end.temporary+" netns "+end.ns)
		}
		s.ip(end.ns, "link set "+end.temporary+" name "+end.dev, "link set "+end.dev+" up")
	}
}

// address gives an interface addresses that can be used at once.
func (s *stage) address(ns, dev string, prefixes ...string) {
	for _, p := range prefixes {
		if strings.Contains(p, ":") {
			p += " nodad"
		}
		s.ip(ns, "address add "+p+" dev "+dev)
	}
}

// routers makes namespaces that pass packets on, as the node does, too. They use their addresses at
// once: without duplicate address detection nobody waits for them.
func (s *stage) routers(names ...string) {
	const settings = `cd /proc/sys/net
echo 1 | tee ipv4/ip_forward ipv6/conf/all/forwarding
echo 0 | tee ipv6/conf/default/accept_dad`
	s.namespaces(names...)
	for _, name := range append(names, node) {
		command := within(name, "sh", "-ec", settings)
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			fatal(fmt.Errorf("make %s a router: %w: %s", called(name), err, out))
		}
	}
}

// within is a command in a namespace.
func within(ns string, command ...string) []string {
	if ns == node {
		return command
	}
	return append([]string{"ip", "netns", "exec", ns}, command...)
}

func called(ns string) string {
	if ns == node {
		return "the host"
	}
	return ns
}

// reaches promises that a ping from a namespace is answered.
func (s *stage) reaches(ns, addr, whom string) {
	s.promise(s.ping(ns, addr), fmt.Sprintf("%s reaches %s, %s", called(ns), addr, whom))
}

// misses promises that it is not.
func (s *stage) misses(ns, addr, whom string) {
	s.promise(!s.ping(ns, addr), fmt.Sprintf("%s does not reach %s, %s", called(ns), addr, whom))
}

// ping shows the lines that tell, of what ping(8) prints.
func (s *stage) ping(ns, addr string) bool {
	command := within(ns, "ping", "-c", "1", "-W", "1", addr)
	s.command(command[0], command[1:]...)
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "64 bytes") || strings.HasPrefix(line, "From ") ||
			strings.HasPrefix(line, "ping: ") || strings.Contains(line, " received,") {
			s.show(line)
		}
	}
	return err == nil
}

// routing is all that a namespace's routes and rules say, for comparing.
func (s *stage) routing(ns string) string {
	var all strings.Builder
	for _, line := range []string{"-d route", "-6 -d route", "rule", "-6 rule"} {
		out, err := exec.Command("ip", in(ns, line)...).CombinedOutput()
		if err != nil {
			fatal(fmt.Errorf("ip %s in %s: %w: %s", line, ns, err, out))
		}
		all.Write(out)
	}
	return all.String()
}
