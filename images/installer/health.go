package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

const maxConnections = 64

// health is what a kubelet's probes are told.
type health struct {
	patience time.Duration

	mu   sync.Mutex
	good time.Time // when the last look succeeded
	err  error     // of the last look
}

func newHealth(interval time.Duration) *health {
	// A look that is late, or fails for a moment, is no reason to be restarted.
	return &health{patience: 3*interval + 10*time.Second, good: time.Now(), err: errors.New("nothing is installed yet")}
}

// note notes how a look ended.
func (h *health) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	if err == nil {
		h.good = time.Now()
	}
}

// ready is nil while all plugins are in their places.
func (h *health) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// alive is nil unless looks fail, or do not take place, for long.
func (h *health) alive() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if since := time.Since(h.good); since > h.patience {
		return fmt.Errorf("no look has succeeded for %s: %w", since.Round(time.Second), h.err)
	}
	return nil
}

// serve answers at an address, if there is one, for as long as the process
// lives.
func (h *health) serve(address string) error {
	if address == "" {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("serve /healthz and /readyz: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", probe(h.alive))
	mux.Handle("GET /readyz", probe(h.ready))
	// Whoever reaches the pod can open connections: a few at a time, for a moment
	// each, do not cost the memory that the container has.
	server := &http.Server{Handler: mux, ReadTimeout: time.Second, WriteTimeout: time.Second, MaxHeaderBytes: 8 << 10}
	server.SetKeepAlivesEnabled(false)
	go func() { _ = server.Serve(netutil.LimitListener(listener, maxConnections)) }()
	return nil
}

func probe(ask func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := ask(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
}
