package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-netops/plugins/internal/netops/netopstest"
	"github.com/cni-netops/plugins/internal/plugintest"
)

// cell tells whether one reaches another, and by which of the pod's interfaces:
// it is a UDP echo, of which these have seen
//
//	eth0        question and answer, both at eth0, and the answer has arrived
//	net1/eth0   the question at net1, the answer at eth0, and it has arrived
//	(eth0)      the question only, at eth0
//	(eth0/net1) both, but no answer has arrived
//	-           neither
//	chance      the pod has several default routes: no telling by which it sends
type cell struct {
	l        *lab
	id       string
	from, to place
	src, dst netip.Addr // src is not valid until the kernel has chosen, unless it is bound
	bound    bool
	answered bool
	sent     string // the interfaces by which the pod has sent
	text     string
}

var cells atomic.Int64

// patience is how long an echo may take. On a machine in use a cell that does
// not say what it should is given more, once.
const (
	patience = 300 * time.Millisecond
	again    = 2 * time.Second
	echoPort = 7
)

// columns of those that the pod reaches, and rows of those that reach it.
func (l *lab) others() []string {
	if l.guarded {
		return []string{"peer", "far", "other", "lan1", "lan2", outside}
	}
	return []string{"peer", "lan1", "lan2", "lan3", outside}
}

// podDevs are the interfaces on which the pod has an address of a family.
func (l *lab) podDevs(six bool) []string {
	devs := []string{"eth0"}
	for n := range lansOf {
		if dev := fmt.Sprint("net", n+1); of(l.placeOf(dev), six).IsValid() {
			devs = append(devs, dev)
		}
	}
	return devs
}

// placeOf is the pod's place on one of its interfaces.
func (l *lab) placeOf(dev string) place {
	if dev == "eth0" {
		return l.places["pod"]
	}
	return l.places["pod."+dev]
}

// look draws the matrix as it is now.
func (l *lab) look(wait time.Duration) string {
	l.t.Helper()
	var text strings.Builder
	var all []*cell
	var draw []func()
	for _, six := range []bool{false, true} {
		name := map[bool]string{false: "ipv4", true: "ipv6"}[six]
		if l.families != dual && string(l.families) != name {
			continue
		}
		in, inRows := l.inward(six)
		out, outRows := l.outward(six)
		all = append(all, slices.Concat(slices.Concat(in...), slices.Concat(out...))...)
		draw = append(draw, func() {
			grid(&text, name+" to pod", l.podDevs(six), inRows, in)
			grid(&text, name+" pod to", l.targets(), outRows, out)
		})
	}
	l.run(all, wait)
	l.markChances(all)
	for _, d := range draw {
		d()
	}
	return text.String()
}

// inward are those who ask the pod.
func (l *lab) inward(six bool) (rows [][]*cell, names []string) {
	names = append([]string{"node"}, l.others()...)
	for _, name := range names {
		from := l.places[name]
		if name == "node" {
			from = l.places["node1"]
		}
		var row []*cell
		for _, dev := range l.podDevs(six) {
			var src netip.Addr
			if name == outside { // or it would ask from an address on the LAN
				src = of(from, six)
			}
			row = append(row, l.newCell(from, l.placeOf(dev), src, six))
		}
		rows = append(rows, row)
	}
	return rows, names
}

func (l *lab) targets() []string { return append([]string{"node1", "node2", service}, l.others()...) }

// outward is the pod that asks: from no address in particular, and from each of
// its own.
func (l *lab) outward(six bool) (rows [][]*cell, names []string) {
	names = append([]string{"any"}, l.podDevs(six)...)
	for _, name := range names {
		from := l.placeOf(name)
		var src netip.Addr
		if name == "any" {
			from = l.placeOf("eth0")
		} else {
			src = of(from, six)
		}
		var row []*cell
		for _, target := range l.targets() {
			row = append(row, l.newCell(from, l.places[target], src, six))
		}
		rows = append(rows, row)
	}
	return rows, names
}

// of is one's address of a family; not valid without one.
func of(p place, six bool) netip.Addr {
	i := slices.IndexFunc(p.addrs, func(a netip.Addr) bool { return a.Is6() == six })
	if i < 0 {
		return netip.Addr{}
	}
	return p.addrs[i]
}

func (l *lab) newCell(from, to place, src netip.Addr, six bool) *cell {
	return &cell{l: l, id: fmt.Sprintf("cell %06d", cells.Add(1)), from: from, to: to, src: src, dst: of(to, six), bound: src.IsValid()}
}

// run asks in all cells at once, and tells what came of it.
func (l *lab) run(all []*cell, wait time.Duration) {
	l.t.Helper()
	l.forget()
	shut := l.echo(all)
	defer shut()
	l.meetGateway(all)
	seen, whole := l.watch(all, wait)
	for range 3 {
		if whole {
			break
		}
		seen, whole = l.watch(all, wait) // the machine was too busy to keep all
	}
	if !whole {
		l.t.Fatal("too busy a machine: packets were lost")
	}
	for _, c := range all {
		c.judge(seen)
	}
}

// watch asks in all cells, and returns what the pod's interfaces have seen.
func (l *lab) watch(all []*cell, wait time.Duration) (seen []netopstest.Datagram, whole bool) {
	l.t.Helper()
	for _, c := range all {
		c.answered = false
	}
	stop := l.pod.Sniff()
	l.askAll(all, wait)
	return stop()
}

// meetGateway has the pod resolve its overlay gateway for its overlay address.
// Asked for another one first, which the node would not route back there, a
// strict node stays silent, and all else that goes by there has to wait.
func (l *lab) meetGateway(all []*cell) {
	l.t.Helper()
	var first []*cell
	for _, c := range all {
		if c.bound && c.src == of(l.places["pod"], c.src.Is6()) && c.to.ns == l.peer {
			first = append(first, c)
		}
	}
	l.askAll(first, patience/3)
}

func (l *lab) askAll(all []*cell, wait time.Duration) {
	l.t.Helper()
	asked := map[*netopstest.NS][]*cell{}
	for _, c := range all {
		asked[c.from.ns] = append(asked[c.from.ns], c)
	}
	var done sync.WaitGroup
	for ns, list := range asked {
		// One visit for all sockets of a namespace; they stay in it.
		ns.Enter(func() {
			for _, c := range list {
				if conn, err := c.dial(); err == nil {
					done.Go(func() { c.ask(conn, wait) })
				}
			}
		})
	}
	done.Wait()
}

// forget drops what has been learnt of neighbours: who was reached a moment ago
// may be so although he does not answer any more. (A filter of sources also
// drops requests of address resolution.)
func (l *lab) forget() {
	l.t.Helper()
	const stay = netlink.NUD_PERMANENT | netlink.NUD_NOARP
	for _, ns := range append([]*netopstest.NS{l.node, l.gw, l.pod, l.peer}, l.lans...) {
		ns.Enter(func() { // dozens of times in a test: a process for each would take the most of it
			known, err := netlink.NeighList(0, netlink.FAMILY_ALL)
			for _, n := range known {
				if err == nil && n.State&stay == 0 {
					err = netlink.NeighDel(&n)
				}
				if errors.Is(err, unix.ENOENT) { // meanwhile
					err = nil
				}
			}
			if err != nil {
				l.t.Error(err)
			}
		})
	}
}

// echo answers at every address that is asked, from that address.
func (l *lab) echo(all []*cell) (shut func()) {
	l.t.Helper()
	var open []*net.UDPConn
	var answering sync.WaitGroup
	served := map[netip.Addr]bool{}
	for _, c := range all {
		if served[c.dst] {
			continue
		}
		served[c.dst] = true
		c.to.ns.Enter(func() {
			conn := listen(l.t, netip.AddrPortFrom(c.dst, echoPort))
			open = append(open, conn)
			answering.Go(func() { answer(conn) })
		})
	}
	return func() {
		for _, conn := range open {
			_ = conn.Close()
		}
		answering.Wait() // until then an address is in use
	}
}

// listen waits for an address to be free: a process that another test is about to
// start has the last echo's socket, too, until it is executed.
func listen(t *testing.T, at netip.AddrPort) (conn *net.UDPConn) {
	t.Helper()
	plugintest.Until(t, func() bool {
		var err error
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil && !errors.Is(err, unix.EADDRINUSE) {
			t.Fatal(err)
		}
		return err == nil
	})
	return conn
}

// Questions and answers are told apart by what stands before the cell's ID.
const (
	question = "? "
	reply    = "! "
)

func answer(conn *net.UDPConn) {
	buffer := make([]byte, 100)
	for {
		size, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		if id, ok := strings.CutPrefix(string(buffer[:size]), question); ok {
			_, _ = conn.WriteToUDPAddrPort([]byte(reply+id), from)
		}
	}
}

// dial fails where the kernel knows no way.
func (c *cell) dial() (*net.UDPConn, error) {
	var local *net.UDPAddr
	if c.src.IsValid() {
		local = net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.src, 0))
	}
	conn, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.dst, echoPort)))
	if err == nil {
		c.src = conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	}
	return conn, err
}

func (c *cell) ask(conn *net.UDPConn, wait time.Duration) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(wait))
	if _, err := conn.Write([]byte(question + c.id)); err != nil {
		return
	}
	buffer := make([]byte, 100)
	for {
		size, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if string(buffer[:size]) == reply+c.id {
			c.answered = true
			return
		}
	}
}

// judge tells what the pod's interfaces have seen.
func (c *cell) judge(seen []netopstest.Datagram) {
	ways := func(what string) string {
		var devs []string
		for _, d := range seen {
			if d.Payload == what+c.id && !slices.Contains(devs, d.Dev) {
				devs = append(devs, d.Dev)
			}
		}
		slices.Sort(devs)
		return strings.Join(devs, "+")
	}
	asked, replied := ways(question), ways(reply)
	switch {
	case asked == "" && replied == "":
		c.text = "-"
	case asked == replied || replied == "":
		c.text = asked
	default:
		c.text = asked + "/" + replied
	}
	if !c.answered && c.text != "-" {
		c.text = "(" + c.text + ")"
	}
	c.sent = asked
	if c.to.ns == c.l.pod {
		c.sent = replied
	}
}

// markChances marks the cells in which the pod sends by one of several default
// routes of one metric. IPv6 merges these into a multipath route; IPv4 takes the
// first whose gateway seems to live (fib_select_default in
// net/ipv4/fib_semantics.c).
func (l *lab) markChances(all []*cell) {
	l.t.Helper()
	several := map[bool]bool{
		false: strings.Count(l.pod.IP("-4 route show default"), "default") > 1,
		true:  strings.Contains(l.pod.IP("-6 route show default"), "nexthop"),
	}
	var asked []*cell
	var lines []string
	for _, c := range all {
		if !several[c.dst.Is6()] {
			continue
		}
		// Whether a question gets as far as to a pod that does not answer depends
		// on whether the pod has sent anything by there.
		if c.sent == "" {
			c.text = "-"
		}
		line := "route get fibmatch " + c.dst.String()
		if c.to.ns == l.pod {
			line = fmt.Sprintf("route get fibmatch %s from %s", c.src, c.dst)
		} else if c.bound {
			line += " from " + c.src.String()
		}
		asked, lines = append(asked, c), append(lines, line)
	}
	if asked == nil {
		return
	}
	routes := strings.Split(strings.TrimSpace(l.pod.Print(lines...)), "\n")
	if len(routes) != len(asked) {
		l.t.Fatalf("%d routes for\n%s\n%s", len(routes), strings.Join(lines, "\n"), strings.Join(routes, "\n"))
	}
	for i, c := range asked {
		if strings.HasPrefix(routes[i], "default") && !strings.Contains(routes[i], "table") {
			c.text = "chance"
		}
	}
}

// grid writes a table.
func grid(text *strings.Builder, title string, columns, names []string, rows [][]*cell) {
	const first, other = 14, 12
	line := fmt.Sprintf("%-*s", first, title)
	for _, c := range columns {
		line += fmt.Sprintf(" %-*s", other, c)
	}
	fmt.Fprintln(text, strings.TrimRight(line, " "))
	for i, row := range rows {
		line := fmt.Sprintf("%-*s", first, "  "+names[i])
		for _, c := range row {
			line += fmt.Sprintf(" %-*s", other, c.text)
		}
		fmt.Fprintln(text, strings.TrimRight(line, " "))
	}
}

// state is all that an attachment could have left behind in a namespace.
func (l *lab) state(ns *netopstest.NS) string {
	l.t.Helper()
	return dump(l.t, ns) + "# ip link\n" + ns.IP("-br link show")
}

// view is what a moment of a test looks like.
type view struct{ matrix, pod, node string }

func (l *lab) view() view { return view{l.look(patience), l.state(l.pod), l.state(l.node)} }

// returned fails the test unless all is as it was.
func (l *lab) returned(moment string, before view) {
	l.t.Helper()
	now := l.view()
	if now.matrix != before.matrix {
		now.matrix = l.look(again)
	}
	for _, diff := range []string{diffLines(before.matrix, now.matrix), diffLines(before.pod, now.pod), diffLines(before.node, now.node)} {
		if diff != "" {
			l.t.Errorf("%s: not as before (-want +got):\n%s", moment, diff)
		}
	}
}

// The matrix of each topology, before and after the ADD of each interface; when
// that has gone again all is as it was before it came.
func TestSweepMatrix(t *testing.T) {
	for i, tt := range []struct {
		overlay       overlay
		pod, underlay families
	}{
		{calico, ipv4, ipv4}, {calico, ipv6, ipv6}, {calico, dual, dual},
		{bridge, ipv4, ipv4}, {bridge, ipv6, ipv6}, {bridge, dual, dual},
		{calico, dual, ipv4}, {bridge, dual, ipv6},
	} {
		if (i+1)%netopstest.Sample(t, 2) != 0 {
			continue
		}
		name := fmt.Sprintf("%s_%s_%s", tt.overlay, tt.pod, tt.underlay)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, tt.overlay, tt.pod)
			l.underlay = tt.underlay
			l.goThrough(readGolden(t, "matrix", name))
		})
	}
}

// goThrough adds an interface on each LAN, and takes them away again.
func (l *lab) goThrough(g *golden) {
	l.t.Helper()
	var undo []func()
	for lan := range lansOf {
		earlier := l.view()
		ifname, prev := l.attach(lan + 1)
		l.checkMatrix(g, "before ADD of "+ifname, l.view().matrix)
		a := l.add(ifname, prev, "")
		l.checkMatrix(g, "after ADD of "+ifname, l.look(patience))
		undo = append(undo, func() {
			l.del(a)
			l.detach(ifname)
			l.returned("after DEL of "+ifname, earlier)
		})
	}
	g.write()
	for _, back := range slices.Backward(undo) {
		back()
	}
	if left := plugintest.Left(l.t, l.stateDir); left != nil {
		l.t.Errorf("left: %v", left)
	}
}

// checkMatrix compares a matrix with what is written. What differs is looked at
// once more, with more time: the machine may be busy.
func (l *lab) checkMatrix(g *golden, title, got string) {
	l.t.Helper()
	if *update {
		got = l.look(again)
	}
	diff := g.diff(title, got)
	if diff != "" {
		l.t.Logf("%s, at first (-want +got):\n%s", title, diff)
		diff = g.diff(title, l.look(again))
	}
	if diff != "" {
		l.t.Errorf("%s (-want +got):\n%s", title, diff)
	}
}

// diffLines tells in which lines texts differ; of matrices these are the rows.
func diffLines(want, got string) string {
	was, is := strings.Split(want, "\n"), strings.Split(got, "\n")
	if len(was) != len(is) {
		return cmp.Diff(was, is)
	}
	var diff strings.Builder
	for i := range was {
		if was[i] != is[i] {
			fmt.Fprintf(&diff, "-%s\n+%s\n", was[i], is[i])
		}
	}
	return diff.String()
}
