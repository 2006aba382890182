package stress

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cni-netops/plugins/internal/plugintest"
	"github.com/cni-netops/plugins/internal/record"
)

// crowded are two calls for the pod: one keeps its records in a folder where the
// attachment of another pod has one as well, the other where there are n more of
// such attachments.
func (w *sweep) crowded(tb testing.TB, n int) (quiet, crowded plugintest.Call) {
	tb.Helper()
	tmpfs := tb.TempDir()
	mount(tb, tmpfs, "")
	other := w.newPod(tb, "other")
	quiet, crowded = in(w.call(), filepath.Join(tmpfs, "quiet")), in(w.call(), filepath.Join(tmpfs, "crowded"))
	for _, dir := range []string{"quiet", "crowded"} {
		c := in(w.subject.call(tb, other), filepath.Join(tmpfs, dir))
		c.OK("ADD")
		tb.Cleanup(func() { c.OK("DEL") })
		if dir == "crowded" {
			crowd(tb, filepath.Join(tmpfs, dir), w.plugin, record.Key{Network: "net", ContainerID: c.Env["CNI_CONTAINERID"], IfName: w.ifName}, n, func(*record.Record) {})
		}
	}
	return quiet, crowded
}

// crowd records n attachments like the one that there is: of a pod that lives,
// with routes and neighbours of their own, and with its rules and sysctls; each is
// changed before it is written.
func crowd(tb testing.TB, root, plugin string, like record.Key, n int, change func(*record.Record)) {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	store := record.NewStore(root, plugin)
	entries, err := store.Entries(like)
	must(err)
	if len(entries) != 1 {
		tb.Fatalf("%d records of %s", len(entries), like)
	}
	for i := range n {
		r := entries[0].Record
		r.ContainerID = fmt.Sprintf("other-%d", i)
		host := &r.Done.Host
		host.Routes, host.Neighs = slices.Clone(host.Routes), slices.Clone(host.Neighs)
		for j := range host.Routes {
			host.Routes[j].Dst = netip.PrefixFrom(another(host.Routes[j].Dst.Addr(), i), host.Routes[j].Dst.Bits())
		}
		for j := range host.Neighs {
			host.Neighs[j].IP = another(host.Neighs[j].IP, i)
		}
		change(&r)
		lock, err := store.Lock(fmt.Sprintf("netns-%d", 1<<40+i))
		must(err)
		e, err := store.Create(lock, r, nil)
		must(err)
		must(e.Finish())
		lock.Unlock()
	}
}

// another is an address like that one, for an attachment of that number.
func another(ip netip.Addr, number int) netip.Addr {
	b := ip.AsSlice()
	b[1], b[2] = byte(number>>8), byte(number)
	changed, _ := netip.AddrFromSlice(b)
	return changed
}
