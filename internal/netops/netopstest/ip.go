package netopstest

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// IP runs ip(8) commands in the namespace, those that follow each other with the
// same options in one process, and returns what was printed. The test fails at
// the first command that does.
func (n *NS) IP(lines ...string) string {
	n.tb.Helper()
	if !slices.ContainsFunc(lines, func(l string) bool { return !list.MatchString(l) }) {
		return n.lists(lines)
	}
	return n.runLines(lines)
}

func (n *NS) runLines(lines []string) string {
	n.tb.Helper()
	var out strings.Builder
	for len(lines) > 0 {
		options, first := splitOptions(lines[0])
		batch := []string{first}
		for lines = lines[1:]; len(lines) > 0; lines = lines[1:] {
			next, command := splitOptions(lines[0])
			if !slices.Equal(next, options) {
				break
			}
			batch = append(batch, command)
		}
		out.WriteString(n.run(options, batch))
	}
	return out.String()
}

// splitOptions is a line's options, and the command after them.
func splitOptions(line string) (options []string, command string) {
	words := strings.Fields(line)
	n := 0
	for n < len(words) && strings.HasPrefix(words[n], "-") {
		n++
	}
	return words[:n], strings.Join(words[n:], " ")
}

// run starts one ip(8) for all commands. A list in which the kernel was interrupted may
// lack something: where there are only lists, which change nothing, they are read again.
func (n *NS) run(options, commands []string) string {
	n.tb.Helper()
	changes := slices.ContainsFunc(commands, func(c string) bool { return !strings.Contains(c, " show") })
	for {
		cmd := exec.Command("ip", append(slices.Clip(options), strings.Fields(commands[0])...)...)
		if len(commands) > 1 {
			cmd = exec.Command("ip", append(slices.Clip(options), "-batch", "-")...)
			cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
		}
		var complaint strings.Builder
		cmd.Stderr = &complaint
		var out []byte
		var err error
		// Cheaper than ip -n, which makes a mount namespace, too.
		n.Enter(func() { out, err = cmd.Output() })
		if err != nil {
			n.tb.Fatalf("ip %s in namespace %q: %v: %s%s\n%s", strings.Join(options, " "), n.Name, err, out, complaint.String(), strings.Join(commands, "\n"))
		}
		if changes || !strings.Contains(complaint.String(), "Dump was interrupted") {
			return string(out)
		}
	}
}

// Batch runs many commands of both families by one ip(8), which takes the family
// from the addresses.
func (n *NS) Batch(lines ...string) {
	n.tb.Helper()
	n.run(nil, strings.Split(strings.ReplaceAll(strings.Join(lines, "\n"), "-6 ", ""), "\n"))
}

// Dump is all the routing of the namespace as ip(8) shows it, for comparing
// what was before with what is after, when it has settled. Of links it does not tell
// whether they have a carrier: that comes a moment after they are up.
func (n *NS) Dump() string {
	n.tb.Helper()
	n.Settle()
	routes, rules := cutRules(n.IP("-4 -d route show table all", "-4 -d rule show"))
	routes6, rules6 := cutRules(n.IP("-6 -d route show table all", "-6 -d rule show"))
	dump := "# ip route show table all\n" + routes + "# ip -6 route show table all\n" + routes6 + "# ip rule\n" + rules + rules6
	return strings.ReplaceAll(dump, " linkdown", "")
}

// cutRules parts a list of routes from the rules that follow it: "32766:\tfrom
// all lookup main".
func cutRules(out string) (routes, rules string) {
	at := regexp.MustCompile(`(?m)^\d+:\t`).FindStringIndex(out)
	if at == nil {
		return out, ""
	}
	return out[:at[0]], out[at[0]:]
}

// Unordered is a dump with what IPv6 keeps no order of sorted: the routes of
// one metric, and the next hops of one route.
func Unordered(dump string) []string {
	lines := strings.Split(dump, "\n")
	six := 0
	for i, l := range lines {
		if strings.HasPrefix(l, "# ip -6") {
			six = i
		}
	}
	var joined []string
	for _, l := range lines[six:] {
		if strings.HasPrefix(l, "\t") && len(joined) > 0 {
			hops := append(strings.Split(joined[len(joined)-1], "\t"), strings.TrimPrefix(l, "\t"))
			slices.Sort(hops[1:])
			joined[len(joined)-1] = strings.Join(hops, "\t")
		} else {
			joined = append(joined, l)
		}
	}
	slices.Sort(joined)
	return append(lines[:six:six], joined...)
}

// Print runs many lines of ip(8) commands, as Batch does, and returns what they
// print, in one line each.
func (n *NS) Print(lines ...string) string {
	n.tb.Helper()
	return n.run([]string{"-oneline"}, lines)
}

// IPWith is IP with the same options for all commands.
func (n *NS) IPWith(options string, commands ...string) string {
	n.tb.Helper()
	var lines []string
	for _, c := range commands {
		lines = append(lines, options+" "+c)
	}
	return n.IP(lines...)
}
