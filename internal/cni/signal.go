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

// UntilSignal ends the context at SIGTERM or SIGINT. It is called only around
// kernel changes: registering costs start-up time. It is never unregistered: when
// the changes are made, their result must still be printed.
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
