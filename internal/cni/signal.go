package cni

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// errSignal is why a change was given up.
var errSignal = errors.New("interrupted by a signal")

func interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, errSignal)
}

// UntilSignal ends the context at SIGTERM or SIGINT. It is called as late as
// can be, for what it costs, and never ended: when the change is made, its
// result is to be told.
func UntilSignal(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		cancel(errSignal)
	}()
	return ctx
}
