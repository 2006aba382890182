package acd

import (
	"context"
	"testing"
	"time"
)

// What a probe costs beside waiting: a conflict is found at once.
func BenchmarkTaken(b *testing.B) {
	l := newLAN(b)
	pod, _ := l.node("pod"), l.node("other", "10.9.0.7/24", "fd00:9::7/64")
	addrs := parsed(append(ten("fd00:9::%d"), "10.9.0.7"))
	for b.Loop() {
		if c, err := Probe(context.Background(), pod.ns, "net1", addrs, time.Minute, 1); c == nil || err != nil {
			b.Fatal(c, err)
		}
	}
}

func BenchmarkAnnounce(b *testing.B) {
	l := newLAN(b)
	pod, _ := l.node("pod"), l.node("other")
	addrs := parsed([]string{"10.9.0.7", "fd00:9::7", "fe80::7"})
	for b.Loop() {
		if err := Announce(context.Background(), pod.ns, "net1", addrs); err != nil {
			b.Fatal(err)
		}
	}
}
